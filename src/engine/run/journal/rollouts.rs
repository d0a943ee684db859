//! What a journal says of services.

use crate::engine::run::task::Outcome;
use crate::names::{ReleaseId, TaskId};
use crate::plan::TaskIndex;

use super::{Past, Reader, RolloutPast};

impl Reader<'_> {
    pub(super) fn rollout_started(
        &mut self,
        task: &TaskId,
        release: ReleaseId,
    ) -> Result<(), String> {
        let task = self.beginning(task)?;
        if !self.services.contains_key(&task) {
            return Err(format!("{} is no service", self.graph.tasks[task].label));
        }
        self.folded.tasks[task].past = Past::RollingOut { release, step: RolloutPast::Started };
        Ok(())
    }

    /// From here on the `verify` task may run, whatever became of it in an earlier rollout.
    pub(super) fn rollout_prepared(
        &mut self,
        task: &TaskId,
        release: ReleaseId,
    ) -> Result<(), String> {
        let (task, step) = self.rollout(task, release)?;
        if step != RolloutPast::Started {
            return Err(format!("release {release} was prepared twice"));
        }
        if let Some(verify) = self.services[&task].verify {
            self.folded.tasks[verify].start_afresh();
            self.folded.verify_failures.remove(&verify);
        }
        self.folded.tasks[task].past = Past::RollingOut { release, step: RolloutPast::Prepared };
        Ok(())
    }

    pub(super) fn verified(
        &mut self,
        task: &TaskId,
        release: ReleaseId,
        passed: bool,
    ) -> Result<(), String> {
        let (task, step) = self.rollout(task, release)?;
        if step != RolloutPast::Prepared {
            return Err(format!("release {release} was verified before it was prepared"));
        }
        self.verify_is_over(task)?;
        let step = RolloutPast::Verified { passed };
        self.folded.tasks[task].past = Past::RollingOut { release, step };
        Ok(())
    }

    pub(super) fn rollout_promoted(
        &mut self,
        task: &TaskId,
        release: ReleaseId,
    ) -> Result<(), String> {
        let (task, step) = self.rollout(task, release)?;
        let verify = self.services[&task].verify;
        match step {
            RolloutPast::Verified { passed: true } => {}
            RolloutPast::Prepared if verify.is_none() => {}
            _ => return Err(format!("release {release} was promoted before it was verified")),
        }
        self.end(task, Outcome::Done);
        Ok(())
    }

    pub(super) fn rollout_abandoned(
        &mut self,
        task: &TaskId,
        release: ReleaseId,
        why: &str,
    ) -> Result<(), String> {
        let (task, step) = self.rollout(task, release)?;
        if matches!(step, RolloutPast::Abandoned { .. }) {
            return Err(format!("release {release} was abandoned twice"));
        }
        self.verify_is_over(task)?;
        let step = RolloutPast::Abandoned { why: why.to_owned() };
        self.folded.tasks[task].past = Past::RollingOut { release, step };
        Ok(())
    }

    /// A task that is no `verify` task, or whose service waits for it.
    pub(super) fn may_verify(&self, task: TaskIndex) -> Result<(), String> {
        let Some(service) = self.verifies.get(&task) else { return Ok(()) };
        match self.folded.tasks[*service].past {
            Past::RollingOut { step: RolloutPast::Prepared, .. } => Ok(()),
            _ => Err(format!(
                "{} began and no release of {} was prepared",
                self.graph.tasks[task].label, self.graph.tasks[*service].label
            )),
        }
    }

    fn verify_is_over(&self, service: TaskIndex) -> Result<(), String> {
        let Some(verify) = self.services[&service].verify else { return Ok(()) };
        match self.folded.tasks[verify].past {
            Past::Running { .. } | Past::Over { .. } => {
                Err(format!("{} still ran", self.graph.tasks[verify].label))
            }
            _ => Ok(()),
        }
    }

    fn rollout(
        &mut self,
        task: &TaskId,
        release: ReleaseId,
    ) -> Result<(TaskIndex, RolloutPast), String> {
        let task = self.open(task)?;
        match &self.folded.tasks[task].past {
            Past::RollingOut { release: now, step } if *now == release => Ok((task, step.clone())),
            _ => Err(format!("release {release} was not started")),
        }
    }
}
