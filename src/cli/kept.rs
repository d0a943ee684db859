//! What a run's folder keeps so that the run can be continued: the pipeline file as it was, and how it was called.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use fs_err::OpenOptions;
use fs_err::os::unix::fs::OpenOptionsExt;
use serde::{Deserialize, Serialize};

use super::error::CliError;
use super::load::PipelineFile;
use super::place::{self, Place};
use super::prepare::Prepared;
use crate::digest::Digest;
use crate::names::StageName;
use crate::plan::KeyContext;
use crate::source::{self, Snapshot, SourceFile};
use crate::spec::Pipeline;
use crate::state::RunRow;

const FILE: &str = "pipeline.yaml";
const LAUNCH: &str = "launch.json";

/// How a run was launched. Version 1; new fields keep the version and have a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Launch {
    version: u32,
    /// The pipeline file's name in its folder.
    name: String,
    /// How it is called in messages.
    shown: String,
    keep_going: bool,
}

/// Keeps the file in a fresh run folder, durably. Before the run's rows are made, so that no run is without it; a crash
/// before the rows leaves a folder that `gc` removes.
pub(crate) fn keep(folder: &Path, file: &PipelineFile, keep_going: bool) -> Result<(), CliError> {
    let launch =
        Launch { version: 1, name: file.name.clone(), shown: file.shown.clone(), keep_going };
    let launch = serde_json::to_vec(&launch).map_err(std::io::Error::from)?;
    for (name, bytes) in [(FILE, file.bytes.as_slice()), (LAUNCH, &launch)] {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    Ok(())
}

/// The file of a run, checked against the digest in its row; and whether it was launched with `--keep-going`.
fn kept(folder: &Path, digest: Digest) -> Result<(PipelineFile, bool), CliError> {
    let bytes = fs_err::read(folder.join(FILE)).map_err(|error| {
        CliError::missing(
            format!("the file the run was made with cannot be read: {error}"),
            "start a new run with `flowrun apply`",
        )
    })?;
    let launch: Option<Launch> = fs_err::read(folder.join(LAUNCH))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let (name, shown, keep_going) = match launch {
        Some(launch) => (launch.name, launch.shown, launch.keep_going),
        None => (FILE.to_owned(), FILE.to_owned(), false),
    };
    let file = PipelineFile { bytes, shown, name };
    if file.digest() != digest {
        return Err(CliError::missing(
            format!("`{}` is not the file the run was made with", folder.join(FILE).display()),
            "start a new run with `flowrun apply`",
        ));
    }
    Ok((file, keep_going))
}

/// What a run was made of.
pub(crate) struct Code {
    file: PipelineFile,
    pipeline: Arc<Pipeline>,
    snapshot: Snapshot,
    keep_going: bool,
}

/// Reads what a run was made of: its file as it was, and its tree.
pub(crate) fn code(place: &Place, row: &RunRow) -> Result<Code, CliError> {
    let (file, keep_going) = kept(&place.home.run(row.id), row.created.file)?;
    let pipeline = Arc::new(file.check()?);
    let sources = place::source(&place.home, &place.settings.caller);
    let snapshot = source::open(&sources, &row.created.snapshot)?;
    Ok(Code { file, pipeline, snapshot, keep_going })
}

impl Code {
    /// The files a stage sees, sorted by path; none when the file has no such stage.
    pub(crate) fn stage_files(&self, stage: &StageName) -> Vec<SourceFile> {
        if !self.pipeline.stages.contains_key(stage) {
            return Vec::new();
        }
        let context = KeyContext::new(
            BTreeMap::new(),
            Arc::clone(&self.snapshot.files),
            self.snapshot.id.base.clone(),
            self.file.name.clone(),
            BTreeMap::new(),
            BTreeMap::new(),
        );
        context.stage_files(&self.pipeline, stage).into_iter().cloned().collect()
    }
}

/// Makes a run ready to go on: same commit, file and params. Also says whether it was launched with `--keep-going`.
pub(crate) fn reopen(place: &Place, row: &RunRow) -> Result<(Prepared, bool), CliError> {
    let Code { file, pipeline, snapshot, keep_going } = code(place, row)?;
    let prepared = Prepared::new(
        file,
        pipeline,
        snapshot,
        row.created.params.clone(),
        row.created.selection.clone(),
        &place::environment(&place.home, &place.settings.caller),
    )?;
    Ok((prepared, keep_going))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = PipelineFile {
            bytes: b"a: \xff".to_vec(),
            shown: "x/p.yaml".into(),
            name: "p.yaml".into(),
        };
        keep(folder.path(), &file, true).unwrap();
        let (back, keep_going) = kept(folder.path(), file.digest()).unwrap();
        assert_eq!(
            (back.bytes, back.shown, back.name),
            (file.bytes.clone(), file.shown.clone(), file.name.clone())
        );
        assert!(keep_going);
        assert!(keep(folder.path(), &file, true).is_err(), "a run's file is never replaced");
    }

    #[test]
    fn a_changed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = PipelineFile { bytes: b"a".to_vec(), shown: "p".into(), name: "p".into() };
        keep(folder.path(), &file, false).unwrap();
        assert!(kept(folder.path(), Digest::of(b"b")).is_err());
    }
}
