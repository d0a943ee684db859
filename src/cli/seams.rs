//! Stand-ins for functions that other modules are about to have under the same names.

use std::path::Path;
use std::sync::Arc;

use super::error::CliError;
use super::home::Home;
use crate::event::{Selection, SnapshotId, Stream};
use crate::plan::{Graph, Plan, Verdict};
use crate::runtime::Runtime;
use crate::source::SourceSettings;
use crate::spec::{Pipeline, Problem, Problems};
use crate::state::StateError;
use crate::store::Store;

/// `Problems::render`, `Problems::to_json`.
pub(crate) trait ProblemsShown {
    fn render(&self, colour: bool) -> String;
    fn to_json(&self) -> serde_json::Value;
}

impl ProblemsShown for Problems {
    fn render(&self, _colour: bool) -> String {
        self.list.iter().map(|one| format!("error: {}: {}\n", self.file, one.message)).collect()
    }

    fn to_json(&self) -> serde_json::Value {
        let list: Vec<_> = self.list.iter().map(|one| serde_json::json!({"code": one.code, "message": one.message, "help": one.help})).collect();
        serde_json::json!({"file": self.file, "problems": list})
    }
}

/// `Problems::render_warnings`.
pub(crate) fn render_warnings(problems: &Problems, _colour: bool) -> String {
    problems
        .list
        .iter()
        .map(|one| format!("warning: {}: {}\n", problems.file, one.message))
        .collect()
}

/// `Pipeline::ignored_on_local`.
pub(crate) trait IgnoredOnLocal {
    fn ignored_on_local(&self) -> Vec<String>;
}

impl IgnoredOnLocal for Pipeline {
    fn ignored_on_local(&self) -> Vec<String> {
        Vec::new()
    }
}

/// `spec::read_file`.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Problems> {
    fs_err::read(path).map_err(|error| Problems {
        file: path.display().to_string(),
        text: String::new(),
        list: vec![Problem {
            code: "unreadable",
            message: error.to_string(),
            help: None,
            span: None,
            label: None,
        }],
    })
}

/// `spec::schema`.
pub(crate) fn schema() -> serde_json::Value {
    serde_json::json!({"$schema": "https://json-schema.org/draft/2020-12/schema"})
}

/// `plan::resolve_selection`.
pub(crate) fn resolve_selection(
    pipeline: &Pipeline,
    only: &[String],
    from: &[String],
    until: &[String],
    force: &[String],
) -> Result<Selection, String> {
    let names = |texts: &[String]| -> Result<std::collections::BTreeSet<_>, String> {
        texts
            .iter()
            .map(|text| match pipeline.stages.get(text.as_str()) {
                Some(stage) => Ok(stage.name.clone()),
                None => Err(format!("there is no stage `{text}`")),
            })
            .collect()
    };
    Ok(Selection {
        only: names(only)?,
        from: names(from)?,
        until: names(until)?,
        force: names(force)?,
    })
}

/// `plan::show`.
pub(crate) mod show {
    use super::{Graph, Pipeline, Plan, Verdict};

    pub(crate) fn tree(_: &Pipeline, graph: &Graph, plan: &Plan, _colour: bool) -> String {
        let lines = graph.tasks.iter().zip(&plan.verdicts);
        lines
            .map(|(task, verdict): (_, &Verdict)| format!("{} {verdict:?}\n", task.label))
            .collect()
    }

    pub(crate) fn dot(pipeline: &Pipeline, graph: &Graph, plan: &Plan) -> String {
        tree(pipeline, graph, plan, false)
    }

    pub(crate) fn mermaid(pipeline: &Pipeline, graph: &Graph, plan: &Plan) -> String {
        tree(pipeline, graph, plan, false)
    }

    pub(crate) fn json(pipeline: &Pipeline, graph: &Graph, plan: &Plan) -> serde_json::Value {
        tree(pipeline, graph, plan, false).into()
    }
}

/// `state::lock::RunLock`.
pub(crate) struct RunLock {
    _file: fs_err::File,
}

impl RunLock {
    pub(crate) fn try_acquire(folder: &Path) -> Result<Option<Self>, StateError> {
        let broken = |why: std::io::Error| StateError::Database {
            place: folder.display().to_string(),
            why: why.to_string(),
        };
        fs_err::create_dir_all(folder).map_err(broken)?;
        let file = fs_err::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(broken)?;
        Ok(file.file().try_lock().is_ok().then_some(Self { _file: file }))
    }
}

/// `state::lock::owner_alive`.
pub(crate) fn owner_alive(folder: &Path) -> bool {
    let Ok(file) = fs_err::File::open(folder.join("lock")) else { return false };
    file.file().try_lock_shared().is_err()
}

/// `store::dir::DirStore::open`.
pub(crate) fn open_store(folder: &Path) -> Result<Arc<dyn Store>, CliError> {
    Err(CliError::missing(
        format!("the store at `{}` cannot be opened", folder.display()),
        "wait for the merge",
    ))
}

/// `runtime::local::LocalRuntime`.
pub(crate) fn local_runtime(
    _home: &Home,
    run: crate::names::RunId,
) -> Result<Arc<dyn Runtime>, CliError> {
    Err(CliError::missing(format!("run {run} has no runtime"), "wait for the merge"))
}

/// `LocalRuntime::limits_available`: the reason when not.
pub(crate) fn limits_available() -> Result<(), String> {
    Err("unknown".into())
}

/// `runtime::seal_inherited_descriptors`.
pub(crate) fn seal_inherited_descriptors() {}

/// `source::unpin`.
pub(crate) fn unpin_snapshot(
    _settings: &SourceSettings,
    _id: &SnapshotId,
    _name: &str,
) -> Result<(), CliError> {
    Ok(())
}

/// `runtime::log_lines::LogEntry`.
pub(crate) struct LogEntry {
    pub(crate) at: u64,
    text: String,
    stream: Stream,
}

impl LogEntry {
    pub(crate) fn text(&self) -> String {
        self.text.clone()
    }

    pub(crate) fn stream(&self) -> Stream {
        self.stream
    }
}

/// `runtime::log_lines::read_entries`.
pub(crate) fn read_entries(folder: &Path) -> std::io::Result<Vec<LogEntry>> {
    let text = fs_err::read_to_string(folder.join("stdout"))?;
    Ok(text
        .lines()
        .map(|line| LogEntry { at: 0, text: line.into(), stream: Stream::Stdout })
        .collect())
}

/// `runtime::log_lines::LogFollower`.
pub(crate) struct LogFollower(Option<Vec<LogEntry>>);

impl LogFollower {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(read_entries(folder).ok())
    }

    #[expect(clippy::unused_async, reason = "as the real one")]
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Vec<LogEntry>>> {
        Ok(self.0.take())
    }
}
