//! What a run's folder keeps so that the run can be continued: the pipeline file as it was, and how it was called.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use fs_err::OpenOptions;
use fs_err::os::unix::fs::OpenOptionsExt;
use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::error::CliError;
use super::ground::{self, Reopen, RuntimeKind};
use super::load::PipelineFile;
use super::place::{self, Place};
use super::prepare::Prepared;
use super::screen::Screen;
use super::shared_run;
use crate::digest::Digest;
use crate::event::Created;
use crate::names::StageName;
use crate::plan::KeyContext;
use crate::secret::SecretUse;
use crate::source::{self, Snapshot, SourceFile};
use crate::spec::Pipeline;
use crate::state::RunRow;

/// The pipeline file as it was, in the run's folder.
pub(crate) const FILE: &str = "pipeline.yaml";
/// How the run was launched, beside it.
pub(crate) const LAUNCH: &str = "launch.json";

/// How a run was launched. Version 1; new fields keep the version and have a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Launch {
    version: u32,
    /// The pipeline file's name in its folder.
    name: String,
    /// How it is called in messages.
    shown: String,
    keep_going: bool,
    #[serde(default)]
    runtime: RuntimeKind,
}

/// Keeps the file in a fresh run folder, durably. Before the run's rows are made, so that no run is without it; a crash
/// before the rows leaves a folder that `gc` removes.
pub(crate) fn keep(
    folder: &Path,
    file: &PipelineFile,
    keep_going: bool,
    runtime: RuntimeKind,
) -> Result<(), CliError> {
    let (name, shown) = (file.name.clone(), file.shown.clone());
    let launch = Launch { version: 1, name, shown, keep_going, runtime };
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
    let (name, shown, keep_going) = match launch(folder) {
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

fn launch(folder: &Path) -> Option<Launch> {
    serde_json::from_slice(&fs_err::read(folder.join(LAUNCH)).ok()?).ok()
}

/// Where the stages of the run with this folder run.
pub(crate) fn runtime(folder: &Path) -> RuntimeKind {
    launch(folder).map(|launch| launch.runtime).unwrap_or_default()
}

/// What a run was made of.
pub(crate) struct Code {
    file: PipelineFile,
    pipeline: Arc<Pipeline>,
    snapshot: Snapshot,
    keep_going: bool,
}

/// Reads what a run was made of: its file as it was, and its tree. What another machine made is fetched from the store.
pub(crate) async fn code(place: &Place, row: &RunRow) -> Result<Code, CliError> {
    shared_run::fetch_definition(place, row).await?;
    let sources = place::source(&place.home, &place.settings.caller);
    let (file, keep_going) = kept(&place.home.run(row.id), row.created.file)?;
    let pipeline = Arc::new(file.check()?);
    let snapshot =
        match tokio::task::block_in_place(|| source::open(&sources, &row.created.snapshot)) {
            Ok(snapshot) => snapshot,
            Err(error) => shared_run::fetch_code(place, row).await?.ok_or(error)?,
        };
    Ok(Code { file, pipeline, snapshot, keep_going })
}

impl Code {
    /// The secrets a stage takes, by variable; none when the file has no such stage.
    pub(crate) fn stage_secrets(&self, stage: &StageName) -> Vec<(String, SecretUse)> {
        let stage = self.pipeline.stages.get(stage);
        let secrets = stage.into_iter().flat_map(|stage| &stage.secrets);
        secrets.map(|(variable, takes)| (variable.clone(), takes.clone())).collect()
    }

    /// The files a stage sees, sorted by path; none when the file has no such stage.
    pub(crate) fn stage_files(&self, stage: &StageName) -> Vec<SourceFile> {
        if !self.pipeline.stages.contains_key(stage) {
            return Vec::new();
        }
        let files = Arc::clone(&self.snapshot.files);
        let context = KeyContext::new(files, self.snapshot.id.base.clone(), self.file.name.clone());
        context.stage_files(&self.pipeline, stage).into_iter().cloned().collect()
    }
}

/// Makes a run ready for `why`: same commit, file, params and images. Also says whether it was launched with `--keep-going`.
pub(crate) async fn reopen(
    place: &Place,
    row: &RunRow,
    why: Reopen,
    screen: Screen,
) -> Result<(Prepared, bool), CliError> {
    let Code { file, pipeline, snapshot, keep_going } = code(place, row).await?;
    let Created { params, selection, .. } = row.created.clone();
    let asked = Asked::new(file, pipeline, snapshot, params, selection);
    if why == Reopen::GoOn {
        asked.check_resources(&place.settings)?;
    }
    let ground = ground::of_run(place, &asked, &place.home.run(row.id), why, screen).await?;
    Ok((Prepared::of(place, asked, ground)?, keep_going))
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
        keep(folder.path(), &file, true, RuntimeKind::Docker).unwrap();
        assert_eq!(runtime(folder.path()), RuntimeKind::Docker);
        let (back, keep_going) = kept(folder.path(), file.digest()).unwrap();
        assert_eq!(
            (back.bytes, back.shown, back.name),
            (file.bytes.clone(), file.shown.clone(), file.name.clone())
        );
        assert!(keep_going);
        let again = keep(folder.path(), &file, true, RuntimeKind::Local);
        assert!(again.is_err(), "a run's file is never replaced");
    }

    #[test]
    fn a_run_of_an_older_flowrun_is_local() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(runtime(folder.path()), RuntimeKind::Local);
        let launch = r#"{"version":1,"name":"p.yaml","shown":"p.yaml","keep_going":false}"#;
        fs_err::write(folder.path().join(LAUNCH), launch).unwrap();
        assert_eq!(runtime(folder.path()), RuntimeKind::Local);
    }

    #[test]
    fn a_changed_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = PipelineFile { bytes: b"a".to_vec(), shown: "p".into(), name: "p".into() };
        keep(folder.path(), &file, false, RuntimeKind::Local).unwrap();
        assert!(kept(folder.path(), Digest::of(b"b")).is_err());
    }
}
