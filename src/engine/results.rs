//! What finished stages gave, as later stages see it.

use std::collections::{BTreeSet, HashMap};

use crate::event::{KeptParts, RunEvent};
use crate::names::{StageName, TaskId};
use crate::plan::ResolvedInputs;
use crate::plan::key::StageResult;
use crate::spec::Pipeline;

use crate::digest::Digest;

use super::attempt::Reported;

/// Built from events, old and new.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// Per stage: its only copy's, or the winner's.
    stages: HashMap<StageName, StageResult>,
    /// Copies of stages with `pick` that was not decided yet.
    copies: HashMap<TaskId, StageResult>,
    /// What came from outside.
    outside: BTreeSet<Digest>,
    /// What the run itself is made of.
    kept: Vec<Digest>,
}

impl Results {
    pub(super) fn absorb(&mut self, pipeline: &Pipeline, event: &RunEvent) {
        match event {
            RunEvent::Created(created) => {
                self.kept = created.kept.iter().flat_map(KeptParts::artifacts).collect();
            }
            RunEvent::TaskReused { task, outputs, metrics, values, .. }
            | RunEvent::TaskDone { task, outputs, metrics, values, .. } => {
                let result = StageResult {
                    outputs: outputs.clone(),
                    metrics: metrics.clone(),
                    values: values.clone(),
                };
                let batch = pipeline.stages.get(&task.stage).and_then(|stage| stage.batch());
                if batch.is_some_and(|batch| !batch.matrix.is_empty()) {
                    self.copies.insert(task.clone(), result);
                } else {
                    self.stages.insert(task.stage.clone(), result);
                }
            }
            RunEvent::Picked { stage, copy, .. } => {
                let task = TaskId { stage: stage.clone(), copy: *copy };
                if let Some(result) = self.copies.get(&task) {
                    self.stages.insert(stage.clone(), result.clone());
                }
            }
            RunEvent::OutsidePinned { inputs, .. } => {
                self.outside.extend(inputs.values().map(|pin| pin.artifact));
            }
            _ => {}
        }
    }

    /// What a stage may name: the results of what it needs.
    pub(super) fn seen_by(&self, pipeline: &Pipeline, stage: &StageName) -> ResolvedInputs {
        let needs = pipeline.stages.get(stage).map(|stage| stage.needs.as_slice());
        let found = needs
            .unwrap_or_default()
            .iter()
            .filter_map(|need| Some((need.clone(), self.stages.get(need)?.clone())));
        ResolvedInputs { stages: found.collect(), ..ResolvedInputs::default() }
    }

    /// What the stages of the run reported: all of them, as the gate of a later run may name any.
    pub(super) fn reported(&self) -> Reported {
        let metrics = self.stages.iter().filter(|(_, result)| !result.metrics.is_empty());
        let values = self.stages.iter().filter(|(_, result)| !result.values.is_empty());
        Reported {
            metrics: metrics
                .map(|(stage, result)| (stage.clone(), result.metrics.clone()))
                .collect(),
            values: values.map(|(stage, result)| (stage.clone(), result.values.clone())).collect(),
        }
    }

    /// Every artifact of the run, each once.
    pub(super) fn artifacts(&self) -> Vec<Digest> {
        let all = self.stages.values().chain(self.copies.values());
        let made = all.flat_map(|result| result.outputs.values());
        let mut digests: Vec<Digest> =
            made.chain(&self.outside).chain(&self.kept).copied().collect();
        digests.sort_unstable();
        digests.dedup();
        digests
    }
}
