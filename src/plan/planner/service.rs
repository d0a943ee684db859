//! The verdict of a service whose behaviour is known.

use super::Planner;
use crate::event::Reason;
use crate::plan::graph::{Part, PlannedTask};
use crate::plan::release::{adjustments, release_changes};
use crate::plan::verdict::{Gate, Verdict};
use crate::plan::why;
use crate::spec::pipeline::{Service, Stage};

impl Planner<'_> {
    /// In the order of a run: a live release that behaves the same, the gate, the rollout.
    pub(super) fn service(&self, stage: &Stage, service: &Service, task: &PlannedTask) -> Verdict {
        let behaviour = match self.context.behaviour(self.pipeline, task, &self.resolved) {
            Ok(behaviour) => behaviour,
            Err(error) => return Verdict::Fail { why: error.to_string() },
        };
        let live = self.resolved.live.get(&stage.name);
        let why = match live {
            None => Vec::new(),
            Some(live) if live.behaviour.digest() == behaviour.digest() => {
                return Verdict::Unchanged {
                    release: live.id,
                    number: live.number,
                    adjust: adjustments(live, service),
                };
            }
            Some(live) => release_changes(&live.behaviour, &behaviour),
        };
        if task.part == Part::ReuseOnly {
            let why = if why.is_empty() {
                "nothing of it is live".to_owned()
            } else {
                why::words(&Reason::Changed(why))
            };
            let why = format!(
                "not selected and it would be rolled out ({why}): run without `--only` and `--from`, or select it too"
            );
            return Verdict::Fail { why };
        }
        if service.gate.is_empty() {
            return Verdict::RollOut { why, gate: Gate::None };
        }
        if !service.gate.iter().all(|gate| self.knows(&gate.references.results)) {
            return Verdict::RollOut { why, gate: Gate::Open };
        }
        match self.context.gate(self.pipeline, task, &self.resolved) {
            Ok(gate) if gate.passed => Verdict::RollOut { why, gate: Gate::Holds },
            Ok(gate) => Verdict::Keep { gate: Box::new(gate) },
            Err(error) => Verdict::Fail { why: error.to_string() },
        }
    }
}
