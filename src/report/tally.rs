//! What a run's events have said so far, as reports need it.

use std::collections::{BTreeMap, VecDeque};

use crate::event::{JobEnd, Notice, RunEvent, Waiting};
use crate::names::{RunId, StageName, TaskId};
use crate::words::log_line;

/// Log lines kept of each running task, for the screen and for a failure.
const TAIL: usize = 10;

/// A run as it goes. Fold the journal of an earlier flowrun in first ([`Tally::fold`]), then give it to a report.
#[derive(Debug, Clone)]
pub struct Tally {
    pub(super) run: RunId,
    /// In task-number order.
    pub(super) tasks: Vec<Followed>,
    places: BTreeMap<TaskId, usize>,
    /// By stage, the stages it needs.
    needs: BTreeMap<StageName, Vec<StageName>>,
    /// Tasks at once, for the ETA.
    jobs: u32,
    /// Somebody asked it to stop.
    pub(super) stopping: bool,
}

/// One task.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    pub(super) id: TaskId,
    pub(super) label: String,
    /// Seconds it took before.
    pub(super) expected: Option<f64>,
    pub(super) stand: Stand,
    /// Of the newest attempt.
    pub(super) attempt: u32,
    /// When the newest attempt started.
    pub(super) since: Option<u64>,
    /// How the newest attempt ended.
    pub(super) end: Option<JobEnd>,
    /// What is being made ready for it.
    pub(super) step: Option<String>,
    pub(super) waits: Option<Waiting>,
    /// Its last log lines, shown as they are.
    pub(super) tail: VecDeque<String>,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    Waiting,
    Running,
    Retrying,
    Done,
    Reused,
    Failed,
    Skipped,
    Blocked,
    Cancelled,
}

impl Tally {
    /// A run of these tasks (id and label, in task-number order; only those that are in the run), with what each stage needs and
    /// the seconds that tasks took before.
    pub fn new(
        run: RunId,
        tasks: impl IntoIterator<Item = (TaskId, String)>,
        needs: BTreeMap<StageName, Vec<StageName>>,
        durations: &BTreeMap<TaskId, f64>,
        jobs: u32,
    ) -> Self {
        let mut tally =
            Self { run, tasks: Vec::new(), places: BTreeMap::new(), needs, jobs, stopping: false };
        for (id, label) in tasks {
            let expected = durations.get(&id).copied();
            tally.add(id, label, expected);
        }
        tally
    }

    fn add(&mut self, id: TaskId, label: String, expected: Option<f64>) -> usize {
        let place = self.tasks.len();
        self.places.insert(id.clone(), place);
        self.tasks.push(Followed {
            id,
            label,
            expected,
            stand: Stand::Waiting,
            attempt: 0,
            since: None,
            end: None,
            step: None,
            waits: None,
            tail: VecDeque::new(),
        });
        place
    }

    fn task(&mut self, id: &TaskId) -> &mut Followed {
        let place = match self.places.get(id) {
            Some(place) => *place,
            // A hook that the caller did not count.
            None => self.add(id.clone(), label_of(id), None),
        };
        &mut self.tasks[place]
    }

    /// What is known of a task.
    pub(super) fn find(&self, id: &TaskId) -> Option<&Followed> {
        self.places.get(id).map(|place| &self.tasks[*place])
    }

    /// Its name for people.
    pub fn label(&self, id: &TaskId) -> String {
        self.find(id).map_or_else(|| label_of(id), |task| task.label.clone())
    }

    /// Takes an event in. For a journal that was written before: events alone, no report.
    pub fn fold(&mut self, at: u64, event: &RunEvent) {
        let (id, stand) = match event {
            RunEvent::AttemptStarted { task, attempt, .. } => {
                let task = self.task(task);
                task.attempt = *attempt;
                task.since = Some(at);
                task.end = None;
                task.step = None;
                task.tail.clear();
                (&task.id.clone(), Stand::Running)
            }
            RunEvent::AttemptEnded { task, end, .. } => {
                self.task(task).end = Some(end.clone());
                return;
            }
            RunEvent::RetryScheduled { task, .. } => (task, Stand::Retrying),
            RunEvent::TaskReused { task, .. } => (task, Stand::Reused),
            RunEvent::TaskSkipped { task, .. } => (task, Stand::Skipped),
            RunEvent::TaskBlocked { task, .. } => (task, Stand::Blocked),
            RunEvent::TaskDone { task, .. } => (task, Stand::Done),
            RunEvent::TaskFailed { task, .. } => (task, Stand::Failed),
            RunEvent::TaskCancelled { task } => (task, Stand::Cancelled),
            RunEvent::StopWished { .. } | RunEvent::RunTimedOut => {
                self.stopping = true;
                return;
            }
            RunEvent::Reopened { .. } => {
                self.reopen();
                return;
            }
            RunEvent::Created(_)
            | RunEvent::TakenOver { .. }
            | RunEvent::Picked { .. }
            | RunEvent::Ended { .. } => return,
        };
        let task = self.task(id);
        task.stand = stand;
        task.waits = None;
        if stand != Stand::Running {
            task.step = None;
        }
    }

    fn reopen(&mut self) {
        self.stopping = false;
        for task in &mut self.tasks {
            if !matches!(task.stand, Stand::Done | Stand::Reused | Stand::Skipped) {
                task.stand = Stand::Waiting;
            }
        }
    }

    /// Takes a notice in.
    pub(super) fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Line { task, text, .. } => {
                let task = self.task(task);
                task.step = None;
                if task.tail.len() == TAIL {
                    task.tail.pop_front();
                }
                task.tail.push_back(log_line(text).into_owned());
            }
            Notice::Waiting { task, why } => self.task(task).waits = Some(why.clone()),
            Notice::Preparing { task, step } => {
                let task = self.task(task);
                task.waits = None;
                task.step = Some(log_line(step).into_owned());
            }
            Notice::Adopted { .. } | Notice::Remark(_) => {}
        }
    }

    /// Labels of the tasks that a task needs and that are not over.
    pub(super) fn missing(&self, task: &Followed) -> Vec<String> {
        let Some(needs) = self.needs.get(&task.id.stage) else { return Vec::new() };
        let missing =
            self.tasks.iter().filter(|one| !one.is_over() && needs.contains(&one.id.stage));
        missing.map(|one| one.label.clone()).collect()
    }

    /// Tasks that stand like this.
    pub(super) fn count(&self, stand: Stand) -> usize {
        self.tasks.iter().filter(|task| task.stand == stand).count()
    }

    /// Tasks that are over.
    pub(super) fn over(&self) -> usize {
        self.tasks.iter().filter(|task| task.is_over()).count()
    }

    /// Milliseconds until the end, from what tasks took before: their sum shared out over `--jobs`, but no less than the longest.
    /// `false` when some task has never been measured, so it is a lower bound. None when nothing is known.
    pub(super) fn remaining(&self, now: u64) -> Option<(u64, bool)> {
        let (mut sum, mut longest, mut complete, mut known) = (0.0, 0.0_f64, true, false);
        for task in self.tasks.iter().filter(|task| !task.is_over()) {
            let Some(expected) = task.expected else {
                complete = false;
                continue;
            };
            known = true;
            let spent = match task.since {
                Some(since) if task.stand == Stand::Running => {
                    std::time::Duration::from_millis(now.saturating_sub(since)).as_secs_f64()
                }
                _ => 0.0,
            };
            let left = (expected - spent).max(0.0);
            sum += left;
            longest = longest.max(left);
        }
        let seconds = (sum / f64::from(self.jobs.max(1))).max(longest);
        let left = std::time::Duration::try_from_secs_f64(seconds).ok()?;
        known.then_some((u64::try_from(left.as_millis()).unwrap_or(u64::MAX), complete))
    }

    /// `3 done, 5 reused, 1 failed`, without what is zero.
    pub(super) fn counts(&self) -> String {
        let words = [
            (Stand::Done, "done"),
            (Stand::Reused, "reused"),
            (Stand::Failed, "failed"),
            (Stand::Skipped, "skipped"),
            (Stand::Blocked, "blocked"),
            (Stand::Cancelled, "cancelled"),
        ];
        let counts: Vec<String> = words
            .iter()
            .map(|(stand, word)| (self.count(*stand), word))
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        counts.join(", ")
    }
}

impl Followed {
    pub(super) fn is_over(&self) -> bool {
        !matches!(self.stand, Stand::Waiting | Stand::Running | Stand::Retrying)
    }
}

/// The best name without the pipeline: copies are numbered.
fn label_of(id: &TaskId) -> String {
    if id.copy == 1 { id.stage.to_string() } else { format!("{}[{}]", id.stage, id.copy) }
}
