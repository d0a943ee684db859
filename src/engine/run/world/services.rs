//! The part of the world that knows services: a made-up server, and what rollouts promise.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Failure, RunEvent};
use crate::names::{ReleaseId, TaskId};
use crate::plan::TaskIndex;
use crate::rollout::{Promotion, RolloutFailure};

use super::{Fate, World};
use crate::engine::run::{Asked, Command, Input, Resolution, Seen, ServiceFacts};

/// What the events said of services.
#[derive(Default)]
pub(super) struct SeenRollouts {
    /// By service: the release on its way, and how far it is.
    now: BTreeMap<TaskId, (ReleaseId, &'static str)>,
}

/// The server: what really happened, in every life.
pub(in crate::engine::run) struct Server {
    pub(in crate::engine::run) promoted: BTreeSet<ReleaseId>,
    abandoned: BTreeSet<ReleaseId>,
    made: u128,
}

impl Server {
    /// Lives of one run make no release twice.
    pub(super) fn of(life: u64) -> Self {
        let made = u128::from(life) * 1_000_000;
        Self { promoted: BTreeSet::new(), abandoned: BTreeSet::new(), made }
    }
}

impl SeenRollouts {
    pub(super) fn is_verifying(&self, service: &TaskId) -> bool {
        self.now.get(service).is_some_and(|(_, step)| *step == "prepared")
    }

    fn step(&mut self, task: &TaskId, of: ReleaseId, from: &[&str], to: &'static str) {
        let (release, step) = self.now.get_mut(task).expect("no release was started");
        assert!(*release == of && from.contains(step), "{to} after {step}");
        *step = to;
    }
}

impl World {
    /// What `RunEvent`s of services promise.
    pub(super) fn see_service(&mut self, event: &RunEvent, live: bool) {
        let graph = self.run.graph().clone();
        let verify_of = |task: &TaskId| {
            let facts = self.facts.services.get(&graph.find(task).unwrap())?;
            Some(graph.tasks[facts.verify?].id.clone())
        };
        match event {
            RunEvent::LiveSeen { live: seen, .. } => assert!(!seen.is_empty()),
            RunEvent::OutsidePinned { inputs, .. } => assert!(!inputs.is_empty()),
            RunEvent::GateDecided { task, passed, .. } => {
                self.assert_needs(&graph, task);
                assert!(!self.seen.rollouts.now.contains_key(task), "asked beside a rollout");
                if !passed {
                    self.ended(task, false);
                }
            }
            RunEvent::RolloutUnchanged { task, .. } => {
                self.assert_needs(&graph, task);
                self.ended(task, true);
            }
            RunEvent::RolloutStarted { task, release, .. } => {
                self.assert_needs(&graph, task);
                assert!(!self.seen.ended.contains_key(task), "{task:?} had ended");
                assert!(!self.seen.closing || !live, "{task:?} is new");
                let before = self.seen.rollouts.now.insert(task.clone(), (*release, "started"));
                assert!(before.is_none(), "two releases of {task:?} at once");
            }
            RunEvent::RolloutPrepared { task, release } => {
                self.seen.rollouts.step(task, *release, &["started"], "prepared");
                if let Some(verify) = verify_of(task) {
                    self.seen.ended.remove(&verify);
                }
            }
            RunEvent::Verified { task, release, passed } => {
                let verify = verify_of(task).expect("it has a verify task");
                assert!(!self.seen.live.contains(&verify), "it still runs");
                assert!(self.seen.ended.contains_key(&verify), "it never ran");
                let to = if *passed { "passed" } else { "refused" };
                self.seen.rollouts.step(task, *release, &["prepared"], to);
            }
            RunEvent::RolloutPromoted { task, release, .. } => {
                let from = if verify_of(task).is_some() { "passed" } else { "prepared" };
                self.seen.rollouts.step(task, *release, &[from], "promoted");
                assert!(!live || self.server.promoted.contains(release), "before the server did");
                self.seen.rollouts.now.remove(task);
                self.ended(task, true);
            }
            RunEvent::RolloutAbandoned { task, release, .. } => {
                if let Some(verify) = verify_of(task) {
                    assert!(!self.seen.live.contains(&verify), "it still runs");
                }
                let from = ["started", "prepared", "passed", "refused"];
                self.seen.rollouts.step(task, *release, &from, "abandoned");
            }
            _ => {}
        }
    }

    /// The task has ended badly, or begins anew: its release is gone for good by then.
    pub(super) fn rollout_is_over(&mut self, task: &TaskId, live: bool) {
        if let Some((release, step)) = self.seen.rollouts.now.remove(task) {
            assert_eq!(step, "abandoned", "{task:?} ended beside its rollout");
            assert!(!live || self.server.abandoned.contains(&release), "it was left running");
        }
    }

    /// Hooks begin or the run has ended: no release is on its way. Of one that was abandoned nothing more is to be said when its service had
    /// to be looked at again and nothing new could start.
    pub(super) fn rollouts_are_over(&mut self, live: bool) {
        for (task, (release, step)) in std::mem::take(&mut self.seen.rollouts.now) {
            assert_eq!(step, "abandoned", "ended beside {release} of {task:?}");
            let abandoned = self.server.abandoned.contains(&release);
            assert!(!live || abandoned, "{release} was left running");
        }
    }

    /// A service looks at its own live release, and who judges it as well.
    pub(super) fn live_seen_by(&self, task: TaskIndex) -> Seen {
        let judges = |(service, facts): (&TaskIndex, &ServiceFacts)| {
            let sees = *service == task || facts.judges.contains(&task);
            sees.then(|| (self.run.graph().tasks[*service].id.stage.clone(), None))
        };
        self.facts.services.iter().filter_map(judges).collect()
    }

    pub(super) fn answer_of_server(&mut self, command: &Command) -> Option<Input> {
        let fate = self.fate;
        Some(match command {
            Command::Release { task } => {
                let mut dice = fate.of(*task, 0, 4);
                let made = if dice.percent(fate.refuse) {
                    Err(Failure::Environment { log: "no such package".to_owned() })
                } else {
                    self.server.made += 1;
                    let number = u64::try_from(self.server.made).unwrap();
                    Ok((ReleaseId::new(0, self.server.made), number))
                };
                Input::ReleaseMade { task: *task, made }
            }
            Command::Prepare { task, release } => {
                self.assert_step(*task, *release, &["started"]);
                let mut dice = fate.of(*task, 0, 5);
                let result = if dice.percent(fate.bad_rollout) { Err(failure()) } else { Ok(()) };
                Input::Prepared { task: *task, release: *release, result }
            }
            Command::Promote { task, release, .. } => {
                self.assert_step(*task, *release, &["prepared", "passed"]);
                let judged = !self.facts.services[task].judges.is_empty();
                let promotion = if self.server.promoted.contains(release) {
                    Promotion::Promoted(None)
                } else if self.dice.percent(fate.live_is) && (!judged || fate.stop > 0) {
                    Promotion::LiveIs(None)
                } else if fate.of(*task, 0, 6).percent(fate.bad_rollout) {
                    Promotion::Failed(failure())
                } else {
                    assert!(!self.server.abandoned.contains(release), "it was abandoned");
                    self.server.promoted.insert(*release);
                    Promotion::Promoted(None)
                };
                Input::PromotionEnded { task: *task, release: *release, promotion }
            }
            Command::Abandon { task, release, .. } => {
                self.assert_step(*task, *release, &["abandoned"]);
                assert!(!self.server.promoted.contains(release), "it is live");
                self.server.abandoned.insert(*release);
                Input::Abandoned { task: *task, release: *release, log: Vec::new() }
            }
            _ => return None,
        })
    }

    /// The server is asked only for what is journalled; an answer that nobody waits for any more is none.
    fn assert_step(&self, task: TaskIndex, release: ReleaseId, steps: &[&str]) {
        let id = &self.run.graph().tasks[task].id;
        if let Some((now, step)) = self.seen.rollouts.now.get(id)
            && *now == release
            && *step != "abandoned"
        {
            assert!(steps.contains(step), "{steps:?} while it is {step}");
        }
    }
}

fn failure() -> RolloutFailure {
    RolloutFailure { why: "replica 1 never listened".to_owned(), log: vec!["bye".to_owned()] }
}

impl Fate {
    /// Of a service; of a task that is none there is nothing.
    pub(super) fn release(&self, task: TaskIndex) -> Resolution {
        let mut dice = self.of(task, 0, 7);
        let asked = dice.percent(50);
        let asked =
            asked.then(|| Box::new(Asked { failed: None, values: BTreeMap::new(), live: None }));
        if dice.percent(self.skip) {
            Resolution::Skip { when: "false".to_owned() }
        } else if dice.percent(self.refuse) {
            Resolution::Failed(Failure::Expression { why: "no such name".to_owned() })
        } else if dice.percent(self.hit) {
            Resolution::Unchanged { release: ReleaseId::new(0, 0), number: 1, changed: Vec::new() }
        } else if dice.percent(self.keep) {
            let failed = Some("false".to_owned());
            Resolution::Kept(Box::new(Asked { failed, values: BTreeMap::new(), live: None }))
        } else {
            Resolution::Release { why: Vec::new(), asked }
        }
    }
}
