//! A checked pipeline and a snapshot → everything a run or a plan needs to know before it starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::CliError;
use super::load::{Params, PipelineFile};
use super::settings::Settings;
use crate::environment::{Definition, EnvironmentSettings};
use crate::event::{Created, JOURNAL_VERSION, Selection, SnapshotId};
use crate::names::StageName;
use crate::plan::graph::Part;
use crate::plan::{Graph, KeyContext};
use crate::scalar::Scalar;
use crate::source::Snapshot;
use crate::spec::Pipeline;
use crate::spec::pipeline::{EnvironmentSpec, Stage};

/// What is fixed before a run starts.
#[derive(Clone)]
pub(crate) struct Prepared {
    /// The file.
    pub(crate) file: PipelineFile,
    /// What it says.
    pub(crate) pipeline: Arc<Pipeline>,
    /// The code.
    pub(crate) snapshot: Snapshot,
    /// Every parameter's value.
    pub(crate) params: Params,
    /// Which stages were asked for.
    pub(crate) selection: Selection,
    /// The tasks within the selection.
    pub(crate) graph: Graph,
    /// Per stage with `run`.
    pub(crate) environments: BTreeMap<StageName, Definition>,
}

impl Prepared {
    /// Builds the graph and resolves the environments of all stages that may run.
    pub(crate) fn new(
        file: PipelineFile,
        pipeline: Arc<Pipeline>,
        snapshot: Snapshot,
        params: Params,
        selection: Selection,
        environment: &EnvironmentSettings,
    ) -> Result<Self, CliError> {
        let graph = Graph::new(&pipeline, &selection);
        let environments = environments(&pipeline, &graph, &snapshot, environment)?;
        Ok(Self { file, pipeline, snapshot, params, selection, graph, environments })
    }

    /// What a new run of this is made of.
    pub(crate) fn created(&self, cause: &str) -> Created {
        Created {
            version: JOURNAL_VERSION,
            pipeline: self.pipeline.name.clone(),
            snapshot: self.snapshot.id.clone(),
            file: self.file.digest(),
            params: self.params.clone(),
            selection: self.selection.clone(),
            cause: cause.to_owned(),
        }
    }

    /// What decides keys, for the run with this id (empty for a plan) of this snapshot.
    pub(crate) fn key_context(&self, run: &str, snapshot: &SnapshotId) -> KeyContext {
        let text = |value: &str| Scalar::Text(value.to_owned());
        let platform = |definition: &Definition| {
            format!(
                "{}/{} python {}",
                std::env::consts::OS,
                std::env::consts::ARCH,
                definition.python
            )
        };
        let environments = self
            .environments
            .iter()
            .map(|(stage, one)| (stage.clone(), (one.digest(), platform(one))))
            .collect();
        let run = BTreeMap::from([
            ("id".to_owned(), text(run)),
            ("commit".to_owned(), text(snapshot.commit.as_deref().unwrap_or_default())),
            ("ref".to_owned(), text(snapshot.reference.as_deref().unwrap_or_default())),
            ("dirty".to_owned(), Scalar::Bool(snapshot.dirty)),
            ("base".to_owned(), text(&snapshot.base)),
        ]);
        KeyContext::new(
            self.params.clone(),
            Arc::clone(&self.snapshot.files),
            snapshot.base.clone(),
            self.file.name.clone(),
            environments,
            run,
        )
    }

    /// Refuses stages that ask for more than there is.
    pub(crate) fn check_resources(&self, settings: &Settings) -> Result<(), CliError> {
        let wanted = self.pipeline.stages.values().filter(|stage| self.may_run(stage));
        let mut too_much: Vec<String> = Vec::new();
        for stage in wanted {
            let ask = &stage.resources;
            if let Some(cpu) = ask.cpu.filter(|cpu| *cpu > settings.cpu) {
                too_much.push(format!(
                    "stage `{}` asks for {cpu} processors of {}",
                    stage.name, settings.cpu
                ));
            }
            if let Some(memory) = ask.memory.filter(|memory| *memory > settings.memory) {
                let (ask, have) =
                    (crate::words::bytes(memory), crate::words::bytes(settings.memory));
                too_much.push(format!("stage `{}` asks for {ask} of memory of {have}", stage.name));
            }
            if ask.gpu as usize > settings.graphics.len() {
                let have = settings.graphics.len();
                too_much.push(format!(
                    "stage `{}` asks for {} graphics processors of {have}",
                    stage.name, ask.gpu
                ));
            }
        }
        if too_much.is_empty() {
            return Ok(());
        }
        Err(CliError::Failed {
            message: too_much.join("; "),
            help: Some("lower `resources` of the stage, or raise `--cpu` or `--memory`".into()),
        })
    }

    fn may_run(&self, stage: &Stage) -> bool {
        may_run(&self.pipeline, &self.graph, stage)
    }
}

/// Whether a task of the stage is in the run, or a hook may call it.
fn may_run(pipeline: &Pipeline, graph: &Graph, stage: &Stage) -> bool {
    let is_hook = [&pipeline.on_failure, &pipeline.on_exit]
        .into_iter()
        .any(|hook| hook.as_ref() == Some(&stage.name));
    is_hook || graph.copies(&stage.name).any(|task| graph.tasks[task].part != Part::Out)
}

fn environments(
    pipeline: &Pipeline,
    graph: &Graph,
    snapshot: &Snapshot,
    settings: &EnvironmentSettings,
) -> Result<BTreeMap<StageName, Definition>, CliError> {
    let read = |path: &str| {
        let base = &snapshot.id.base;
        let path = if base.is_empty() { path.to_owned() } else { format!("{base}/{path}") };
        String::from_utf8(snapshot.read(&path).ok()??).ok()
    };
    let mut known: Vec<(&EnvironmentSpec, Definition)> = Vec::new();
    let mut environments = BTreeMap::new();
    for stage in pipeline.stages.values() {
        if stage.run.is_none() || stage.batch().is_none() || !may_run(pipeline, graph, stage) {
            continue;
        }
        let spec = &stage.environment;
        let definition = if let Some((_, one)) = known.iter().find(|(seen, _)| *seen == spec) {
            one.clone()
        } else {
            let one = Definition::resolve(
                settings,
                spec.python.as_deref(),
                &spec.requirements,
                spec.requirements_file.as_deref(),
                &read,
            )
            .map_err(|error| CliError::Environment { stage: stage.name.clone(), error })?;
            known.push((spec, one.clone()));
            one
        };
        environments.insert(stage.name.clone(), definition);
    }
    Ok(environments)
}
