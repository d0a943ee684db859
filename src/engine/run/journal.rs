//! Folding a journal: what it says of every task and of the run as a whole, or where it contradicts itself.

mod rollouts;

use std::collections::{BTreeMap, HashMap};

use crate::digest::Key;
use crate::event::{Failure, JobEnd, Metrics, RunEvent, RunOutcome, Skip, Usage};
use crate::names::{ReleaseId, StageName, TaskId};
use crate::plan::graph::Part;
use crate::plan::{Graph, TaskIndex};
use crate::state::Recorded;

use super::facts::ServiceFacts;
use super::task::Outcome;
use super::vocabulary::Seen;

/// What a journal says.
pub(super) struct Folded {
    pub(super) tasks: Vec<FoldedTask>,
    pub(super) stop: Option<bool>,
    pub(super) timed_out: bool,
    pub(super) hooks_begun: bool,
    pub(super) hooks_stopped: bool,
    pub(super) picked: Vec<StageName>,
    pub(super) ended: Option<RunOutcome>,
    pub(super) live_seen: BTreeMap<TaskIndex, Seen>,
    /// Why `verify` tasks failed.
    pub(super) verify_failures: BTreeMap<TaskIndex, Failure>,
}

/// What a journal says of a task.
#[derive(Default)]
pub(super) struct FoldedTask {
    pub(super) past: Past,
    pub(super) attempts: u32,
    pub(super) spent: u32,
    pub(super) lost: u32,
    pub(super) out_of_memory: u32,
    /// Of its result.
    pub(super) metrics: Metrics,
}

/// Where a journal leaves a task.
#[derive(Default)]
pub(super) enum Past {
    /// Nothing was said of it, or the run was opened again since.
    #[default]
    Fresh,
    /// Started, no end known.
    Running { attempt: u32, key: Option<Key> },
    /// The job ended, nothing was said after that.
    Over { attempt: u32, key: Option<Key>, end: JobEnd, usage: Usage },
    /// Unix milliseconds.
    BackingOff { until: u64 },
    /// A service's release is on its way.
    RollingOut { release: ReleaseId, step: RolloutPast },
    /// Over.
    Ended(Outcome),
}

/// Where a journal leaves a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RolloutPast {
    Started,
    Prepared,
    Verified { passed: bool },
    Abandoned { why: String },
}

/// Reads a journal from its begin. The error is a fragment with the number of the record.
pub(super) fn fold(
    graph: &Graph,
    services: &BTreeMap<TaskIndex, ServiceFacts>,
    journal: &[Recorded],
) -> Result<Folded, String> {
    let index = graph.tasks.iter().enumerate().map(|(index, task)| (&task.id, index)).collect();
    let mut reader = Reader {
        graph,
        services,
        verifies: verifies(services),
        index,
        folded: Folded {
            tasks: graph.tasks.iter().map(|_| FoldedTask::default()).collect(),
            stop: None,
            timed_out: false,
            hooks_begun: false,
            hooks_stopped: false,
            picked: Vec::new(),
            ended: None,
            live_seen: BTreeMap::new(),
            verify_failures: BTreeMap::new(),
        },
    };
    if journal.is_empty() {
        return Err("it is empty".to_owned());
    }
    for (record, seq) in journal.iter().zip(1..) {
        if record.seq != seq {
            return Err(format!("record {seq} is missing"));
        }
        reader.read(record).map_err(|why| format!("record {seq}: {why}"))?;
    }
    Ok(reader.folded)
}

/// The services by their `verify` tasks.
pub(super) fn verifies(
    services: &BTreeMap<TaskIndex, ServiceFacts>,
) -> BTreeMap<TaskIndex, TaskIndex> {
    services.iter().filter_map(|(service, facts)| Some((facts.verify?, *service))).collect()
}

struct Reader<'a> {
    graph: &'a Graph,
    services: &'a BTreeMap<TaskIndex, ServiceFacts>,
    verifies: BTreeMap<TaskIndex, TaskIndex>,
    index: HashMap<&'a TaskId, TaskIndex>,
    folded: Folded,
}

impl Reader<'_> {
    fn read(&mut self, record: &Recorded) -> Result<(), String> {
        let opens = matches!(record.event, RunEvent::Reopened { .. });
        if self.folded.ended.is_some() && !opens {
            return Err("something happened after the run ended".to_owned());
        }
        if (record.seq == 1) != matches!(record.event, RunEvent::Created(_)) {
            return Err("a journal begins with `created`, once".to_owned());
        }
        match &record.event {
            RunEvent::Created(_) | RunEvent::Left { .. } => {}
            RunEvent::TakenOver { .. } => self.taken_over(),
            RunEvent::Reopened { .. } => self.reopened(),
            RunEvent::TaskReused { task, metrics, .. } => {
                let task = self.beginning(task)?;
                self.folded.tasks[task].metrics.clone_from(metrics);
                self.end(task, Outcome::Reused);
            }
            RunEvent::TaskSkipped { task, why } => {
                let kept = match why {
                    Skip::When(_) => false,
                    Skip::Needs(need) => {
                        let need = self.find(need)?;
                        matches!(
                            self.folded.tasks[need].past,
                            Past::Ended(Outcome::Kept | Outcome::Skipped { kept: true })
                        )
                    }
                };
                let task = self.open(task)?;
                self.end(task, Outcome::Skipped { kept });
            }
            RunEvent::TaskBlocked { task, by } => {
                let by = self.find(by)?;
                let task = self.open(task)?;
                self.end(task, Outcome::Blocked { by });
            }
            RunEvent::AttemptStarted { task, attempt, key, .. } => {
                let task = self.beginning(task)?;
                let entry = &mut self.folded.tasks[task];
                if *attempt != entry.attempts + 1 {
                    return Err(format!("attempt {attempt} after {}", entry.attempts));
                }
                entry.attempts = *attempt;
                entry.past = Past::Running { attempt: *attempt, key: *key };
            }
            RunEvent::AttemptEnded { task, attempt, end, usage } => {
                let task = self.open(task)?;
                let entry = &mut self.folded.tasks[task];
                match entry.past {
                    Past::Running { attempt: live, key } if live == *attempt => {
                        let (end, usage) = (end.clone(), *usage);
                        entry.past = Past::Over { attempt: live, key, end, usage };
                    }
                    _ => return Err(format!("attempt {attempt} ended and did not run")),
                }
            }
            RunEvent::RetryScheduled { task, not_before } => {
                let task = self.open(task)?;
                let entry = &mut self.folded.tasks[task];
                let Past::Over { end, .. } = &entry.past else {
                    return Err("a retry of what did not end".to_owned());
                };
                match end {
                    JobEnd::Lost { .. } | JobEnd::Cancelled => entry.lost += 1,
                    end => {
                        entry.lost = 0;
                        entry.spent += 1;
                        entry.out_of_memory += u32::from(matches!(end, JobEnd::OutOfMemory { .. }));
                    }
                }
                entry.past = Past::BackingOff { until: *not_before };
            }
            RunEvent::TaskDone { task, metrics, .. } => {
                let task = self.open(task)?;
                let entry = &mut self.folded.tasks[task];
                if !matches!(&entry.past, Past::Over { end, .. } if end.is_success()) {
                    return Err("a task is done whose job did not end well".to_owned());
                }
                entry.metrics.clone_from(metrics);
                self.end(task, Outcome::Done);
            }
            RunEvent::TaskFailed { task, cause } => {
                let task = self.open(task)?;
                if self.verifies.contains_key(&task) {
                    self.folded.verify_failures.insert(task, cause.clone());
                }
                self.end(task, Outcome::Failed);
            }
            RunEvent::TaskCancelled { task } => {
                let task = self.open(task)?;
                self.end(task, Outcome::Cancelled);
            }
            RunEvent::Picked { stage, .. } => self.folded.picked.push(stage.clone()),
            RunEvent::StopWished { kill, .. } => {
                self.folded.hooks_stopped |= self.folded.hooks_begun;
                let killed = self.folded.stop.unwrap_or(false);
                self.folded.stop = Some(killed || *kill);
            }
            RunEvent::LiveSeen { task, live } => {
                let task = self.open(task)?;
                self.folded.live_seen.insert(task, live.clone());
            }
            // The driver reads what they hold.
            RunEvent::OutsidePinned { task, .. } => {
                self.open(task)?;
            }
            RunEvent::GateDecided { task, passed, .. } => {
                let task = self.beginning(task)?;
                if !passed {
                    self.end(task, Outcome::Kept);
                }
            }
            RunEvent::RolloutUnchanged { task, .. } => {
                let task = self.beginning(task)?;
                self.end(task, Outcome::Reused);
            }
            RunEvent::RolloutStarted { task, release, .. } => {
                self.rollout_started(task, *release)?;
            }
            RunEvent::RolloutPrepared { task, release } => self.rollout_prepared(task, *release)?,
            RunEvent::Verified { task, release, passed } => {
                self.verified(task, *release, *passed)?;
            }
            RunEvent::RolloutPromoted { task, release, .. } => {
                self.rollout_promoted(task, *release)?;
            }
            RunEvent::RolloutAbandoned { task, release, why } => {
                self.rollout_abandoned(task, *release, why)?;
            }
            RunEvent::RunTimedOut => self.folded.timed_out = true,
            RunEvent::Ended { outcome } => {
                self.tasks_are_over();
                self.folded.ended = Some(*outcome);
            }
        }
        Ok(())
    }

    /// A service whose release was given up, and that was to be looked at again, waits once nothing new may start.
    fn tasks_are_over(&mut self) {
        for entry in &mut self.folded.tasks {
            if matches!(entry.past, Past::RollingOut { step: RolloutPast::Abandoned { .. }, .. }) {
                entry.start_afresh();
            }
        }
    }

    /// A wish to stop died with the process that heard it, unless the run was already past its tasks.
    fn taken_over(&mut self) {
        if self.folded.stop.is_some() && !self.folded.hooks_begun {
            self.folded.stop = None;
            for entry in &mut self.folded.tasks {
                if matches!(entry.past, Past::Ended(Outcome::Cancelled)) {
                    entry.start_afresh();
                }
            }
        }
    }

    fn reopened(&mut self) {
        for (index, entry) in self.folded.tasks.iter_mut().enumerate() {
            let hook = is_hook(self.graph, index);
            let beside = hook || self.verifies.contains_key(&index);
            match entry.past {
                Past::Ended(outcome) if outcome.stays() && !beside => {}
                Past::Running { .. } | Past::Over { .. } => {}
                Past::Fresh
                | Past::BackingOff { .. }
                | Past::RollingOut { .. }
                | Past::Ended(_) => entry.start_afresh(),
            }
        }
        self.folded.stop = None;
        self.folded.timed_out = false;
        self.folded.hooks_begun = false;
        self.folded.hooks_stopped = false;
        self.folded.ended = None;
    }

    fn find(&mut self, task: &TaskId) -> Result<TaskIndex, String> {
        let found = *self.index.get(task).ok_or_else(|| format!("there is no task {task:?}"))?;
        let hook = is_hook(self.graph, found);
        let beside = hook || self.verifies.contains_key(&found);
        if self.graph.tasks[found].part == Part::Out && !beside {
            return Err(format!("{} is not in this run", self.graph.tasks[found].label));
        }
        if hook && !self.folded.hooks_begun {
            self.folded.hooks_begun = true;
            self.tasks_are_over();
        }
        Ok(found)
    }

    /// A task that has not ended.
    fn open(&mut self, task: &TaskId) -> Result<TaskIndex, String> {
        let found = self.find(task)?;
        if matches!(self.folded.tasks[found].past, Past::Ended(_)) {
            return Err(format!("{} had ended", self.graph.tasks[found].label));
        }
        Ok(found)
    }

    /// A task that may begin: nothing of it is live, and what it needs has results.
    fn beginning(&mut self, task: &TaskId) -> Result<TaskIndex, String> {
        let found = self.open(task)?;
        let planned = &self.graph.tasks[found];
        match &self.folded.tasks[found].past {
            Past::Fresh
            | Past::BackingOff { .. }
            | Past::Ended(_)
            | Past::RollingOut { step: RolloutPast::Abandoned { .. }, .. } => {}
            Past::Running { .. } | Past::Over { .. } | Past::RollingOut { .. } => {
                return Err(format!("{} began again while it ran", planned.label));
            }
        }
        self.may_verify(found)?;
        let missing = planned.needs.iter().find(|&&need| {
            !matches!(self.folded.tasks[need].past, Past::Ended(Outcome::Done | Outcome::Reused))
                && self.graph.tasks[need].part != Part::Out
        });
        match missing {
            Some(&need) if !is_hook(self.graph, found) => {
                Err(format!("{} began before {}", planned.label, self.graph.tasks[need].label))
            }
            _ => Ok(found),
        }
    }

    fn end(&mut self, task: TaskIndex, outcome: Outcome) {
        self.folded.tasks[task].past = Past::Ended(outcome);
    }
}

impl FoldedTask {
    /// Attempt numbers go on, everything else is as in a new run.
    fn start_afresh(&mut self) {
        *self = Self { attempts: self.attempts, ..Self::default() };
    }
}

fn is_hook(graph: &Graph, task: TaskIndex) -> bool {
    graph.on_failure == Some(task) || graph.on_exit == Some(task)
}
