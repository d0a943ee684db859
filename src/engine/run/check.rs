//! Every promise of the machine in one place, to be asked after any step.

use crate::event::RunOutcome;
use crate::plan::graph::Part;

use super::task::{Outcome, RolloutStep, TaskState};
use super::{Phase, Run};

impl Run {
    /// What does not hold, if anything. Reads everything: for tests.
    ///
    /// No task is ahead of its needs; what is held is what there is at most and each graphics processor is held once;
    /// counters agree with states; an ended run has nothing under way and an outcome that fits its tasks.
    pub fn check(&self) -> Result<(), String> {
        let mut open = 0;
        let mut live = 0;
        let mut queued = 0;
        for (index, (task, planned)) in self.tasks.iter().zip(&self.graph.tasks).enumerate() {
            let state = &task.state;
            let say = |what: &str| Err(format!("{} {what}: {state:?}", planned.label));
            queued += usize::from(matches!(state, TaskState::Queued { .. }));
            if self.is_hook(index) {
                let begun = state.is_under_way() || matches!(state, TaskState::Queued { .. });
                if begun && !matches!(self.phase, Phase::Hooks { .. }) {
                    return say("is a hook and runs beside the tasks");
                }
                continue;
            }
            if let Some(service) = self.verifies(index) {
                let service = &self.tasks[service].state;
                let verifying =
                    matches!(service, TaskState::RollingOut { step: RolloutStep::Verifying, .. });
                let busy = state.is_under_way() || matches!(state, TaskState::Queued { .. });
                if busy != verifying {
                    return say(&format!("does not fit its service {service:?}"));
                }
                continue;
            }
            if planned.part == Part::Out {
                if !matches!(state, TaskState::Out) {
                    return say("is not in this run");
                }
                continue;
            }
            open += usize::from(!matches!(state, TaskState::Ended(_)));
            live += usize::from(state.is_live());
            let missing = planned
                .needs
                .iter()
                .filter(|&&need| {
                    !self.tasks[need].state.has_result() && self.graph.tasks[need].part != Part::Out
                })
                .count();
            match state {
                TaskState::Out => return say("is in this run"),
                TaskState::Waiting { unmet } if *unmet != missing => {
                    return say(&format!("lacks {missing} needs"));
                }
                TaskState::Waiting { unmet: 0 } if !self.drained => return say("was forgotten"),
                TaskState::Ended(Outcome::Blocked { by })
                    if !matches!(self.tasks[*by].state, TaskState::Ended(Outcome::Failed)) =>
                {
                    return say("is blocked by what did not fail");
                }
                TaskState::Waiting { .. }
                | TaskState::Ended(
                    Outcome::Blocked { .. }
                    | Outcome::Failed
                    | Outcome::Skipped { .. }
                    | Outcome::Cancelled,
                ) => {}
                _ if missing > 0 => return say(&format!("is ahead of {missing} needs")),
                TaskState::Running { attempt, .. } | TaskState::Collecting { attempt, .. }
                    if *attempt != task.attempts =>
                {
                    return say("runs an old attempt");
                }
                _ => {}
            }
        }
        if (open, live) != (self.open, self.live) {
            return Err(format!(
                "{open} tasks are open and {live} live, counted were {} and {}",
                self.open, self.live
            ));
        }
        for stage in &self.picked {
            if stage.decided && stage.missing > 0 {
                return Err(format!("`{}` was picked before its copies ended", stage.stage));
            }
        }
        self.pool.check(self.tasks.iter().filter_map(|task| task.state.grant()), queued)?;
        if let Some(stuck) = self.stuck() {
            return Err(stuck);
        }
        match self.phase {
            Phase::Ended(outcome) => self.check_end(outcome),
            Phase::Tasks | Phase::Hooks { .. } => Ok(()),
        }
    }

    fn check_end(&self, outcome: RunOutcome) -> Result<(), String> {
        if let Some(index) = self.tasks.iter().position(|task| {
            let state = &task.state;
            state.is_under_way() || state.is_live() || matches!(state, TaskState::Queued { .. })
        }) {
            let (label, state) = (&self.graph.tasks[index].label, &self.tasks[index].state);
            return Err(format!("the run ended before {label}: {state:?}"));
        }
        let fits = match outcome {
            RunOutcome::Done => self.open == 0 && !self.failed && !self.cancelled && !self.kept,
            RunOutcome::Failed => self.failed || self.timed_out,
            RunOutcome::Cancelled => self.stop.is_some(),
            RunOutcome::Kept => self.open == 0 && self.kept && !self.failed,
        };
        if fits { Ok(()) } else { Err(format!("the run ended {outcome:?}")) }
    }
}
