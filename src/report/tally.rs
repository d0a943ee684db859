//! What a run's events have said so far, as reports need it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::services::KnownService;
use crate::event::{JobEnd, Movement, Notice, RunEvent, Waiting};
use crate::names::{ReleaseId, RunId, StageName, TaskId};
use crate::words::{bytes, duration, log_line, millis};

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
    /// The services of its pipeline.
    services: BTreeMap<StageName, KnownService>,
    /// Numbers of releases that were named so far.
    numbers: BTreeMap<ReleaseId, u64>,
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
    /// Of a service: the release that is rolled out, or was.
    pub(super) release: Option<ReleaseId>,
    /// Of a service: why its release was given up.
    pub(super) given_up: Option<String>,
    /// Of a service that was kept: the release that stays live.
    pub(super) kept: Option<ReleaseId>,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    Waiting,
    Running,
    Retrying,
    /// A service whose new release is started, verified and switched to.
    RollingOut,
    Done,
    /// A service whose new release answers.
    Live,
    Reused,
    /// A service whose gate kept the live release.
    Kept,
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
        let mut tally = Self {
            run,
            tasks: Vec::new(),
            places: BTreeMap::new(),
            needs,
            jobs,
            stopping: false,
            services: BTreeMap::new(),
            numbers: BTreeMap::new(),
        };
        for (id, label) in tasks {
            let expected = durations.get(&id).copied();
            tally.add(id, label, expected);
        }
        tally
    }

    /// Says what is known of the pipeline's services before the run begins.
    #[must_use]
    pub fn with_services(mut self, services: BTreeMap<StageName, KnownService>) -> Self {
        self.numbers.extend(services.values().filter_map(|service| service.live));
        self.services = services;
        self
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
            release: None,
            given_up: None,
            kept: None,
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

    /// What is known of a service.
    pub(super) fn service(&self, id: &TaskId) -> Option<&KnownService> {
        self.services.get(&id.stage)
    }

    /// The number of a release, when it was named.
    pub(super) fn number(&self, release: ReleaseId) -> Option<u64> {
        self.numbers.get(&release).copied()
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
            RunEvent::GateDecided { task, passed: false, live, .. } => {
                self.task(task).kept = *live;
                (task, Stand::Kept)
            }
            RunEvent::RolloutStarted { task, release, number, .. } => {
                self.numbers.insert(*release, *number);
                let task = self.task(task);
                task.release = Some(*release);
                (task.since, task.given_up, task.step) = (Some(at), None, None);
                (&task.id.clone(), Stand::RollingOut)
            }
            RunEvent::RolloutPrepared { task, .. } => {
                self.task(task).step = Some("ready".to_owned());
                return;
            }
            RunEvent::Verified { task, passed, .. } => {
                self.task(task).step = passed.then(|| "verified".to_owned());
                return;
            }
            RunEvent::RolloutPromoted { task, .. } => (task, Stand::Live),
            RunEvent::RolloutAbandoned { task, why, .. } => {
                self.task(task).given_up = Some(why.clone());
                return;
            }
            RunEvent::RolloutUnchanged { task, release, number, .. } => {
                self.numbers.insert(*release, *number);
                (task, Stand::Reused)
            }
            // A service that went live is over already.
            RunEvent::TaskDone { task, .. }
                if self.find(task).is_some_and(|task| task.stand == Stand::Live) =>
            {
                return;
            }
            RunEvent::TaskDone { task, .. } => (task, Stand::Done),
            RunEvent::Created(_)
            | RunEvent::TakenOver { .. }
            | RunEvent::Picked { .. }
            | RunEvent::LiveSeen { .. }
            | RunEvent::OutsidePinned { .. }
            | RunEvent::GateDecided { .. }
            | RunEvent::Left { .. }
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
            let stays = [Stand::Done, Stand::Live, Stand::Reused, Stand::Kept, Stand::Skipped];
            if !stays.contains(&task.stand) {
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
            Notice::Moving { task, how_far } => {
                let step = how_far.as_ref().map(movement_words);
                let task = self.task(task);
                task.waits = None;
                task.step = step;
            }
            Notice::Adopted { .. }
            | Notice::Away { .. }
            | Notice::Back { .. }
            | Notice::Remark(_) => {}
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
                Some(since) if task.is_active() => {
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
            (Stand::Live, "live"),
            (Stand::Reused, "reused"),
            (Stand::Kept, "kept"),
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
        !self.is_active() && !matches!(self.stand, Stand::Waiting | Stand::Retrying)
    }

    /// Something of it runs.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.stand, Stand::Running | Stand::RollingOut)
    }
}

/// `uploading: 1.2 GiB of 3.1 GiB, 96 MiB/s, 20.0s to go`; or instead of the rate for how long nothing moved.
pub(super) fn movement_words(movement: &Movement) -> String {
    const LONG: Duration = Duration::from_secs(5);
    let Movement { up, bytes: sum, total, per_second, still_for } = *movement;
    let way = if up { "uploading" } else { "downloading" };
    let far = format!("{way}: {} of {}", bytes(sum), bytes(total));
    if still_for >= LONG && sum < total {
        return format!("{far}, no byte for {}", duration(millis(still_for) / 1000 * 1000));
    }
    let left = total.saturating_sub(sum).checked_div(per_second).unwrap_or(0);
    let left = if left > 0 { format!(", {} to go", duration(left * 1000)) } else { String::new() };
    format!("{far}, {}/s{left}", bytes(per_second))
}

/// The best name without the pipeline: copies are numbered.
fn label_of(id: &TaskId) -> String {
    if id.copy == 1 { id.stage.to_string() } else { format!("{}[{}]", id.stage, id.copy) }
}
