//! Making a work folder, before the job.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::below::{Below, join, look, make_folders, make_parent, parts, remove_folder};
use super::{InputPlace, WorkFolder, WorkOrder, WorkspaceError};
use crate::event::Failure;
use crate::names::InputName;
use crate::source::SourceError;
use crate::store::{Placed, Store, artifact};

/// The repo's files.
pub(super) const WORK: &str = "work";
/// Inputs that are placed nowhere else.
pub(super) const INPUTS: &str = "inputs";
/// `HOME`.
pub(super) const HOME: &str = "home";

/// Either a value or why the work folder cannot be as the stage asks for.
type Asked<T> = Result<Result<T, Failure>, WorkspaceError>;

/// Makes the work folder afresh (what is there from a crashed try is removed first).
///
/// Afterwards the repo files, the inputs, the parents of outputs, metrics and values, `workdir` and an empty home are there. A failure is a
/// mistake in the stage; what was made until then is removed by the next call.
pub async fn prepare(order: &WorkOrder<'_>, store: &dyn Store) -> Asked<WorkFolder> {
    let write = |folder: &Path| order.snapshot.write_files(order.files, folder);
    prepare_with(order, store, write).await
}

pub(super) async fn prepare_with(
    order: &WorkOrder<'_>,
    store: &dyn Store,
    write_files: impl FnOnce(&Path) -> Result<(), SourceError> + Send,
) -> Asked<WorkFolder> {
    if let Some(why) = clash(order) {
        return Ok(Err(Failure::WorkFolder { why }));
    }
    let work = make_fresh(order.attempt)?;
    write_files(&work)?;
    let base = match make_folders(&work, &order.snapshot.id.base)? {
        Ok(base) => base,
        Err(part) => return Ok(Err(not_a_folder(&part, "the base"))),
    };
    let mut folder = WorkFolder {
        directory: base.clone(),
        home: order.attempt.join(HOME),
        base,
        inputs: std::collections::BTreeMap::default(),
        outputs: std::collections::BTreeMap::default(),
        placed: std::collections::BTreeMap::default(),
    };
    for (name, input) in order.inputs {
        match place_input(order, store, &folder.base, name, input).await? {
            Ok((path, placed)) => {
                folder.inputs.insert(name.clone(), path);
                folder.placed.insert(name.clone(), placed);
            }
            Err(failure) => return Ok(Err(failure)),
        }
    }
    for (name, path) in order.outputs {
        match make_parent(&folder.base, path)? {
            Ok(place) => folder.outputs.insert(name.clone(), place),
            Err(part) => return Ok(Err(not_a_folder(&part, &format!("output `{name}`")))),
        };
    }
    for (what, path) in [("the metrics file", order.metrics), ("the values file", order.values)] {
        if let Some(path) = path
            && let Err(part) = make_parent(&folder.base, path)?
        {
            return Ok(Err(not_a_folder(&part, what)));
        }
    }
    folder.directory = match look(&folder.base, order.workdir)? {
        Below::There(place, metadata) if metadata.is_dir() => place,
        Below::Nothing => {
            let path = order.workdir;
            let why = format!(
                "folder `{path}` (`workdir`) does not exist in the snapshot, or `files` leaves it out"
            );
            return Ok(Err(Failure::WorkFolder { why }));
        }
        _ => return Ok(Err(not_a_folder(order.workdir, "`workdir`"))),
    };
    Ok(Ok(folder))
}

/// Makes `work/` and `home/` empty, whatever was there; removes `inputs/`.
fn make_fresh(attempt: &Path) -> io::Result<PathBuf> {
    let work = attempt.join(WORK);
    match fs_err::create_dir(&work) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove(attempt)?;
            fs_err::create_dir(&work)?;
        }
        result => result?,
    }
    let home = attempt.join(HOME);
    fs_err::create_dir(&home)?;
    fs_err::set_permissions(&home, std::fs::Permissions::from_mode(0o700))?;
    Ok(work)
}

/// Removes the work folder, the inputs and the home of an attempt; its logs stay. Read-only files and folders are no obstacle, links are
/// not followed. `work/` goes last, so that a crash midway is noticed by the next `prepare`.
pub fn remove(attempt: &Path) -> io::Result<()> {
    [INPUTS, HOME, WORK].iter().try_for_each(|name| remove_folder(&attempt.join(name)))
}

/// Two inputs that would lie at one path, or one inside the other.
fn clash(order: &WorkOrder<'_>) -> Option<String> {
    let mut seen: Vec<(&InputName, Vec<&str>)> = Vec::new();
    for (name, input) in order.inputs {
        let Some(path) = &input.path else { continue };
        let Some(place) = parts(path).filter(|place| !place.is_empty()) else {
            return Some(format!(
                "input `{name}` has the path `{path}`, which is not below the base"
            ));
        };
        if let Some((other, _)) =
            seen.iter().find(|(_, there)| place.starts_with(there) || there.starts_with(&place))
        {
            return Some(format!(
                "inputs `{other}` and `{name}` would lie at one path, or one inside the other; give one another `path`"
            ));
        }
        seen.push((name, place));
    }
    None
}

async fn place_input(
    order: &WorkOrder<'_>,
    store: &dyn Store,
    base: &Path,
    name: &InputName,
    input: &InputPlace,
) -> Asked<(PathBuf, Vec<Placed>)> {
    let target = match &input.path {
        None => target_in_inputs(order, store, name, input, true).await?,
        Some(path) => {
            let target = match make_parent(base, path)? {
                Ok(target) => target,
                Err(part) => return Ok(Err(not_a_folder(&part, &format!("input `{name}`")))),
            };
            if fs_err::symlink_metadata(&target).is_ok() {
                let why = format!(
                    "input `{name}` would lie over `{path}`, which the repo has; give it another `path`, or leave it out of `files`"
                );
                return Ok(Err(Failure::WorkFolder { why }));
            }
            target
        }
    };
    let placed = store.place(&input.digest, &target, false, order.traffic).await?;
    Ok(Ok((target, placed)))
}

/// Where an input without a path of its own lies. With `make`, its parents are made.
pub(super) async fn target_in_inputs(
    order: &WorkOrder<'_>,
    store: &dyn Store,
    name: &InputName,
    input: &InputPlace,
    make: bool,
) -> Result<PathBuf, WorkspaceError> {
    let target = order.attempt.join(INPUTS).join(name.as_str());
    let is_file = artifact::is_file(&store.entries(&input.digest).await?);
    let parent = if is_file { target.as_path() } else { target.parent().unwrap_or(&target) };
    if make {
        fs_err::create_dir_all(parent)?;
    }
    Ok(if is_file { join(&target, &input.file_name) } else { target })
}

fn not_a_folder(part: &str, whose: &str) -> Failure {
    let why = format!(
        "`{part}` is a file or a link in the work folder, so {whose} cannot lie there; use a path through real folders"
    );
    Failure::WorkFolder { why }
}
