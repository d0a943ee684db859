//! What another machine needs to go on with a run, as artifacts of a shared store: the tree, and what lies in the run's folder.
//!
//! Both are stored before the run's rows are made, and are named in its first event. The tree is found again by a record whose key
//! names it, so that the next run of the same code stores nothing.

use std::collections::BTreeMap;
use std::path::Path;

use super::clock;
use super::error::CliError;
use super::images;
use super::kept;
use super::launch::pin_name;
use super::place::{self, Place};
use super::screen::Screen;
use crate::digest::Digest;
use crate::event::{KeptParts, KeyParts, Outputs};
use crate::names::{OutputName, RunId};
use crate::source::{self, Snapshot};
use crate::state::RunRow;
use crate::store::{Lookup, Record, Refused, Traffic};
use crate::words::visible;
use crate::workspace::remove_folder;

/// What the files of a tree do not tell of it, in the folder of a run.
const TREES: &str = "trees";

/// The output under which the record of a tree names its artifact.
const TREE: &str = "tree";

/// Stores what another machine needs of a new run with this folder, unless the store is of this home alone or only read.
/// A crash midway leaves artifacts that nothing names, which gc removes.
pub(crate) async fn keep(
    place: &Place,
    run: RunId,
    snapshot: &Snapshot,
    screen: Screen,
) -> Result<Option<KeptParts>, CliError> {
    if !place.shares_store() || place.settings.read_only_store {
        return Ok(None);
    }
    let code = match keep_tree(place, run, snapshot).await? {
        Ok(code) => Some(code),
        Err(refused) => {
            screen.warn(&format!(
                "no other machine can go on with this run, since its code cannot be kept in the store: {}",
                visible(&refused.to_string())
            ));
            None
        }
    };
    let folder = place.home.run(run);
    let trees =
        if code.is_some() { tokio::task::block_in_place(|| snapshot.odd_trees())? } else { None };
    let definition = take_in(place, |copy| {
        if let Some(trees) = &trees {
            fs_err::write(copy.join(TREES), trees)?;
        }
        for name in [kept::FILE, kept::LAUNCH, images::FILE] {
            if folder.join(name).exists() {
                fs_err::copy(folder.join(name), copy.join(name))?;
            }
        }
        Ok(())
    })
    .await?;
    place.store.sync().await?;
    match definition {
        Ok(definition) => Ok(Some(KeptParts { code, definition })),
        Err(refused) => Err(CliError::Io(std::io::Error::other(refused))),
    }
}

/// The artifact of the tree, stored unless it is whole there already.
async fn keep_tree(
    place: &Place,
    run: RunId,
    snapshot: &Snapshot,
) -> Result<Result<Digest, Refused>, CliError> {
    let parts = tree_parts(&snapshot.id.tree);
    let key = parts.key();
    if let Lookup::Hit(record) = place.store.look_up(&key).await?
        && let Some(tree) = record.outputs.get(TREE)
    {
        return Ok(Ok(*tree));
    }
    let tree = match take_in(place, |copy| Ok(snapshot.write_all(copy)?)).await? {
        Ok(tree) => tree,
        Err(refused) => return Ok(Err(refused)),
    };
    let output: OutputName =
        TREE.parse().map_err(|error| CliError::Io(std::io::Error::other(error)))?;
    let record = Record {
        format: 1,
        key,
        parts,
        outputs: Outputs::from([(output, tree)]),
        metrics: BTreeMap::new(),
        values: BTreeMap::new(),
        seconds: 0.0,
        peak_memory: 0,
        made_by: run,
        made_at: clock::now(),
        made_on: Some(place.who()),
    };
    place.store.put_record(record, false).await?;
    Ok(Ok(tree))
}

/// What the record of a tree is found by.
fn tree_parts(tree: &str) -> KeyParts {
    KeyParts::of_no_stage(vec!["flowrun tree".to_owned(), tree.to_owned()])
}

/// Takes a folder that `write` fills into the store.
async fn take_in(
    place: &Place,
    write: impl FnOnce(&Path) -> Result<(), CliError>,
) -> Result<Result<Digest, Refused>, CliError> {
    let copy = fresh_folder(place)?;
    let taken = async {
        tokio::task::block_in_place(|| write(&copy))?;
        Ok(place.store.take_in(&copy, &Traffic::default()).await?)
    }
    .await;
    remove_folder(&copy)?;
    taken
}

fn fresh_folder(place: &Place) -> Result<std::path::PathBuf, CliError> {
    Ok(tempfile::Builder::new().prefix("shared-").tempdir_in(place.home.temporary())?.keep())
}

/// Fetches what lies in the folder of a run that another machine made; nothing when it is here, or was never shared.
///
/// The pipeline file comes last, so that a folder with it is whole.
pub(crate) async fn fetch_definition(place: &Place, row: &RunRow) -> Result<(), CliError> {
    let folder = place.home.run(row.id);
    let Some(parts) = &row.created.kept else { return Ok(()) };
    if folder.join(kept::FILE).exists() {
        return Ok(());
    }
    let copy = export(place, &parts.definition).await?;
    super::home::make_private(&folder)?;
    for name in [TREES, images::FILE, kept::LAUNCH, kept::FILE] {
        if copy.join("kept").join(name).exists() {
            fs_err::rename(copy.join("kept").join(name), folder.join(name))?;
        }
    }
    Ok(remove_folder(&copy)?)
}

/// The code of a run: from the mirror of this home, else from the store. `None`: neither has it.
pub(crate) async fn fetch_code(place: &Place, row: &RunRow) -> Result<Option<Snapshot>, CliError> {
    let Some(code) = row.created.kept.as_ref().and_then(|kept| kept.code) else { return Ok(None) };
    let copy = export(place, &code).await?;
    let sources = place::source(&place.home, &place.settings.caller);
    let trees = fs_err::read(place.home.run(row.id).join(TREES)).ok();
    let adopted = tokio::task::block_in_place(|| {
        let kept = copy.join("kept");
        let snapshot = source::adopt(&sources, &row.created.snapshot, &kept, trees.as_deref())?;
        snapshot.pin(&pin_name(row.id))?;
        Ok::<_, CliError>(snapshot)
    });
    remove_folder(&copy)?;
    adopted.map(Some)
}

/// A fresh folder with the artifact as `kept` in it.
async fn export(place: &Place, artifact: &Digest) -> Result<std::path::PathBuf, CliError> {
    let copy = fresh_folder(place)?;
    match place.store.export(artifact, &copy.join("kept"), &Traffic::default()).await {
        Ok(()) => Ok(copy),
        Err(error) => {
            remove_folder(&copy)?;
            Err(error.into())
        }
    }
}
