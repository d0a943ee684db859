//! What the machine needs to know beside graph and journal.

use std::collections::BTreeMap;

use crate::event::NotCached;
use crate::names::{RunId, StageName};
use crate::plan::graph::Part;
use crate::plan::{Graph, TaskIndex};
use crate::spec::Pipeline;
use crate::spec::pipeline::{Cache, Input, Pick, Retries};

use super::schedule::Request;

/// Fixed while one process does the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The run.
    pub run: RunId,
    /// This host's name, for the journal.
    pub host: String,
    /// Unix milliseconds at recovery.
    pub now: u64,
    /// Tasks at once; at least 1 is taken.
    pub jobs: u32,
    /// Processors to share out.
    pub cpu: f64,
    /// Bytes of memory to share out.
    pub memory: u64,
    /// Graphics processors to hand out.
    pub gpus: Vec<u32>,
    /// After a failure, go on with what does not need the failed task.
    pub keep_going: bool,
    /// By task, as in the graph.
    pub tasks: Vec<TaskFacts>,
    /// Stages with `pick`.
    pub picks: BTreeMap<StageName, Pick>,
    /// Graphics processors that attempts of an earlier process hold.
    pub held_gpus: BTreeMap<TaskIndex, Vec<u32>>,
    /// The tasks that are services.
    pub services: BTreeMap<TaskIndex, ServiceFacts>,
}

/// What is fixed for a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    /// The task of its `verify`.
    pub verify: Option<TaskIndex>,
    /// Tasks that have an input of its live release (`{live}`): what they said of it holds for that release only.
    pub judges: Vec<TaskIndex>,
}

/// What is fixed for one task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskFacts {
    /// Processors; none: one slot of `jobs` only.
    pub cpu: Option<f64>,
    /// Bytes; none: not counted.
    pub memory: Option<u64>,
    /// Graphics processors.
    pub gpu: u32,
    /// After the first attempt.
    pub retries: Retries,
    /// Why it must not run, when a missing record is a failure.
    pub reuse_only: Option<&'static str>,
}

impl TaskFacts {
    /// Of every task of a graph.
    pub fn of(pipeline: &Pipeline, graph: &Graph) -> Vec<Self> {
        graph
            .tasks
            .iter()
            .map(|task| {
                let Some(stage) = pipeline.stages.get(&task.id.stage) else {
                    return Self::default();
                };
                let batch = stage.batch();
                let only = batch.is_some_and(|batch| batch.cache == Cache::Only);
                let reuse_only = if task.part == Part::ReuseOnly {
                    Some(match stage.not_cached() {
                        None if batch.is_none() => {
                            "it is outside the selection and its live release is another"
                        }
                        None => "it is outside the selection and its key has no record",
                        Some(NotCached::NoOutputs) => {
                            "it is outside the selection and has no outputs to reuse"
                        }
                        Some(_) => "it is outside the selection and never cached",
                    })
                } else {
                    only.then_some("`cache: only`, and its key has no record")
                };
                Self {
                    cpu: stage.resources.cpu,
                    memory: stage.resources.memory,
                    gpu: stage.resources.gpu,
                    retries: batch.map(|batch| batch.retries.clone()).unwrap_or_default(),
                    reuse_only,
                }
            })
            .collect()
    }

    /// The stages of a pipeline that have `pick`.
    pub fn picks(pipeline: &Pipeline) -> BTreeMap<StageName, Pick> {
        pipeline
            .stages
            .values()
            .filter_map(|stage| Some((stage.name.clone(), stage.batch()?.pick.clone()?)))
            .collect()
    }
}

impl ServiceFacts {
    /// Of every service of a graph.
    pub fn of(pipeline: &Pipeline, graph: &Graph) -> BTreeMap<TaskIndex, Self> {
        let mut services: BTreeMap<TaskIndex, Self> = BTreeMap::new();
        for stage in pipeline.stages.values() {
            if stage.service().is_some() {
                services.extend(graph.copies(&stage.name).map(|task| {
                    (task, Self { verify: graph.verify_of(task), judges: Vec::new() })
                }));
            }
        }
        if services.is_empty() {
            return services;
        }
        for stage in pipeline.stages.values() {
            for input in stage.inputs.values() {
                let Input::Live { service, .. } = input else { continue };
                for task in graph.copies(service) {
                    if let Some(facts) = services.get_mut(&task) {
                        facts.judges.extend(graph.copies(&stage.name));
                    }
                }
            }
        }
        services
    }
}

impl Facts {
    /// What the next attempt of a task asks for, after so many attempts that ended for lack of memory.
    ///
    /// Each of those multiplies the memory, up to `on_oom.max` and what the machine has.
    pub(super) fn request(&self, task: TaskIndex, out_of_memory: u32) -> Request {
        let facts = &self.tasks[task];
        let memory = match (facts.memory, &facts.retries.on_oom) {
            (Some(memory), Some(on_oom)) if out_of_memory > 0 => {
                let factor = on_oom.factor.max(1.0).powf(f64::from(out_of_memory));
                let most = on_oom.max.unwrap_or(u64::MAX).min(self.memory).max(memory);
                whole(precise(memory) * factor).min(most)
            }
            (memory, _) => memory.unwrap_or(0),
        };
        Request { cpu: thousandths(facts.cpu.unwrap_or(0.0)), memory, gpu: facts.gpu }
    }
}

/// Processors as whole thousandths, so that sums are exact.
pub(super) fn thousandths(cpu: f64) -> u64 {
    whole((cpu * 1000.0).round())
}

#[expect(clippy::cast_precision_loss, reason = "a byte more or less of a request is no matter")]
fn precise(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what a too large or negative request should do"
)]
fn whole(value: f64) -> u64 {
    value as u64
}
