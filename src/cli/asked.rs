//! What is asked for: which stages of a checked pipeline, with which code and params, and whether that can be.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::CliError;
use super::load::{Params, PipelineFile};
use super::settings::Settings;
use crate::event::Selection;
use crate::names::StageName;
use crate::plan::graph::Part;
use crate::plan::{Graph, KeyContext};
use crate::source::Snapshot;
use crate::spec::Pipeline;
use crate::spec::pipeline::Stage;
use crate::words::bytes;

/// What is asked for: a checked pipeline with its code, and which of it.
#[derive(Clone)]
pub(crate) struct Asked {
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
}

impl Asked {
    /// Makes the graph.
    pub(crate) fn new(
        file: PipelineFile,
        pipeline: Arc<Pipeline>,
        snapshot: Snapshot,
        params: Params,
        selection: Selection,
    ) -> Self {
        let graph = Graph::new(&pipeline, &selection);
        Self { file, pipeline, snapshot, params, selection, graph }
    }

    /// What decides keys, as far as it is known before anything is prepared: what stages see of the code.
    pub(super) fn key_context(&self) -> KeyContext {
        let files = Arc::clone(&self.snapshot.files);
        KeyContext::new(files, self.snapshot.id.base.clone(), self.file.name.clone())
    }

    /// The stages that may run.
    pub(crate) fn stages_that_may_run(&self) -> BTreeSet<StageName> {
        self.stages_of_run().map(|stage| stage.name.clone()).collect()
    }

    /// The first stage that may run and has no image.
    pub(crate) fn stage_without_image(&self) -> Option<&StageName> {
        self.stages_of_run().find(|stage| stage.image.is_none()).map(|stage| &stage.name)
    }

    /// Refuses stages that ask for more than there is.
    pub(crate) fn check_resources(&self, settings: &Settings) -> Result<(), CliError> {
        let mut too_much: Vec<String> = Vec::new();
        for stage in self.stages_of_run() {
            let ask = &stage.resources;
            if let Some(cpu) = ask.cpu.filter(|cpu| *cpu > settings.cpu) {
                too_much.push(format!(
                    "stage `{}` asks for {cpu} processors of {}",
                    stage.name, settings.cpu
                ));
            }
            if let Some(memory) = ask.memory.filter(|memory| *memory > settings.memory) {
                let (ask, have) = (bytes(memory), bytes(settings.memory));
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

    /// What stands in `files` and matches nothing, by stage.
    pub(crate) fn idle_globs(&self) -> Vec<(&StageName, String)> {
        let context = self.key_context();
        let idle = context.idle_globs(&self.pipeline).into_iter();
        idle.map(|(stage, glob)| (stage, glob.to_owned())).collect()
    }

    /// Refuses what only containers can do.
    pub(super) fn check_local(&self) -> Result<(), CliError> {
        if self.pipeline.needs_containers.is_empty() {
            return Ok(());
        }
        Err(CliError::Problems(Box::new(self.file.problems(&self.pipeline.needs_containers))))
    }

    /// The stages of the run, with hooks and what a rollout calls, also those whose results must be there already.
    pub(crate) fn stages_of_run(&self) -> impl Iterator<Item = &Stage> {
        self.pipeline.stages.values().filter(|stage| self.may_run(stage))
    }

    /// The stages that may be started, with hooks and what a rollout calls; not those whose results must be there already.
    pub(crate) fn stages_to_run(&self) -> impl Iterator<Item = &Stage> {
        let is_started = |part| !matches!(part, Part::Out | Part::ReuseOnly);
        let stages = self.pipeline.stages.values();
        stages.filter(move |stage| self.is_called(stage, is_started))
    }

    /// Whether a task of the stage is in the run, or a hook or a rollout may call it.
    pub(super) fn may_run(&self, stage: &Stage) -> bool {
        self.is_called(stage, |part| part != Part::Out)
    }

    /// The same where only tasks with such a part count.
    fn is_called(&self, stage: &Stage, counts: impl Fn(Part) -> bool) -> bool {
        let is_in = |stage: &StageName| {
            self.graph.copies(stage).any(|task| counts(self.graph.tasks[task].part))
        };
        let is_hook = [&self.pipeline.on_failure, &self.pipeline.on_exit]
            .into_iter()
            .any(|hook| hook.as_ref() == Some(&stage.name));
        let verifies = || {
            let mut services = self.pipeline.stages.values().filter(|one| is_in(&one.name));
            services.any(|one| {
                one.service().is_some_and(|service| service.verify.as_ref() == Some(&stage.name))
            })
        };
        is_hook || is_in(&stage.name) || (stage.outside_dag && verifies())
    }
}
