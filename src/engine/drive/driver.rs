//! The loop and what it holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::pending;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::digest::Key;
use crate::engine::Report;
use crate::engine::attempt::{Attempts, Candidates, Environments, Outsides, who_sees_what};
use crate::engine::clock;
use crate::engine::mend::{Patience, is_of_absent_store};
use crate::engine::results::Results;
use crate::engine::run::{Command, Facts, Input, Pins, Run, ServiceFacts, Step, TaskFacts};
use crate::event::{KeyParts, Notice, Part, RunEvent, RunOutcome};
use crate::names::StageName;
use crate::plan::TaskIndex;
use crate::release::Release;
use crate::rollout::Rollout;
use crate::runtime::Runtime;
use crate::state::{State, Wish};
use crate::store::{Claim, Store, Traffic};
use crate::workspace::temporary;

use super::cleaner::{Cleaner, Remove};
use super::live::{Happened, Live};
use super::lookout::Lookout;
use super::pinning::Pinning;
use super::{RunOrder, Stop, journal};
use crate::engine::error::EngineError;

/// Events that nothing waits for are journalled after this long, so that what follows at once shares their transaction.
const LINGER: Duration = Duration::from_millis(4);

/// No more events than this wait.
const LINGERING: usize = 512;

/// How often logs of running jobs are looked at; a line shall be on the screen within 200 ms.
const LOOK: Duration = Duration::from_millis(80);

/// How often the state is asked for wishes of other processes.
const ASK_WISH: Duration = Duration::from_millis(500);

type Happening = BoxFuture<'static, Result<Happened, EngineError>>;

/// A run being done.
pub(super) struct Driver<'a> {
    pub(super) attempts: Arc<Attempts>,
    pub(super) epoch: u64,
    pub(super) report: &'a mut dyn Report,
    pub(super) run: Run,
    pub(super) results: Results,
    /// What waits, or answers at its first poll.
    pub(super) light: FuturesUnordered<Happening>,
    /// What reads and writes files for long: on other threads. Given up when the driver is dropped.
    pub(super) heavy: JoinSet<Result<Happened, EngineError>>,
    pub(super) live: HashMap<TaskIndex, Live>,
    pub(super) claims: HashMap<TaskIndex, (Key, Claim)>,
    /// Claimed since the last step.
    pub(super) claimed: Vec<TaskIndex>,
    /// Who waits for a key that another task, maybe of this run, computes.
    pub(super) waiters: HashMap<Key, Vec<TaskIndex>>,
    /// Attempts of earlier processes on other hosts, with the host.
    pub(super) elsewhere: HashMap<(TaskIndex, u32), String>,
    /// Attempts that ended under an earlier process.
    pub(super) inherited: HashSet<(TaskIndex, u32)>,
    /// Of tasks that were resolved and not started yet.
    pub(super) parts: HashMap<TaskIndex, KeyParts>,
    /// Live releases that tasks saw when they were resolved last.
    pub(super) live_seen: HashMap<TaskIndex, BTreeMap<StageName, Release>>,
    /// What the inputs from outside of tasks hold, as the journal says.
    pub(super) pinned: HashMap<TaskIndex, Pins>,
    /// Services whose releases are being prepared.
    pub(super) preparing: HashMap<TaskIndex, AbortHandle>,
    pub(super) inputs: Vec<Input>,
    /// Said and not journalled, with the key parts to remember beside them.
    events: Vec<RunEvent>,
    event_parts: Vec<KeyParts>,
    /// Asked for and waiting for the journal.
    gated: Vec<Command>,
    pub(super) notices: mpsc::UnboundedReceiver<Notice>,
    remarks: mpsc::UnboundedReceiver<String>,
    pub(super) state: Lookout,
    pub(super) store: Lookout,
    /// What the caller wishes, once the run goes.
    pub(super) stop: watch::Receiver<Stop>,
    cleaner: Cleaner,
    time_left: Option<Duration>,
    asking_wish: bool,
    pub(super) pinning: Pinning,
}

impl<'a> Driver<'a> {
    /// Recovers the run from its journal. Nothing is done before [`Driver::go`]. `live_seen`: what the journal says tasks saw of
    /// live releases.
    pub(super) fn take_up(
        order: RunOrder,
        state: State,
        store: Arc<dyn Store>,
        runtime: Arc<dyn Runtime>,
        rollout: Arc<dyn Rollout>,
        live_seen: HashMap<TaskIndex, BTreeMap<StageName, Release>>,
        report: &'a mut dyn Report,
    ) -> Result<Self, EngineError> {
        let RunOrder { run, epoch, pipeline, graph, journal: events, settings, .. } = order;
        let graph = Arc::new(graph);
        let tasks = TaskFacts::of(&pipeline, &graph);
        let services = ServiceFacts::of(&pipeline, &graph);
        let verifies =
            services.iter().filter_map(|(task, facts)| Some((facts.verify?, *task))).collect();
        let run_folder = settings.runs.join(run.to_string());
        let facts = Facts {
            run,
            host: settings.host.clone(),
            now: clock::now(),
            jobs: settings.jobs,
            cpu: settings.cpu,
            memory: settings.memory,
            gpus: settings.gpus.clone(),
            keep_going: settings.keep_going,
            held_gpus: journal::held_gpus(&graph, &tasks, &events, &run_folder),
            picks: TaskFacts::picks(&pipeline),
            services,
            tasks,
        };
        let (machine, step) = Run::recover(Arc::clone(&graph), facts, &events)
            .map_err(|why| EngineError::Journal { run, why: why.to_string() })?;
        let pinned = journal::pinned(&graph, &events);
        let outside = Outsides::new(settings.outside.clone(), Arc::clone(&store), &pinned);
        let mut results = Results::default();
        for record in &events {
            results.absorb(&pipeline, &record.event);
        }
        let time_left =
            pipeline.timeout.map(|all| all.saturating_sub(journal::time_spent(&events)));
        let inherited = journal::ended(&graph, &events);
        let elsewhere = journal::elsewhere(&graph, &events, &settings.host);
        let (sender, notices) = mpsc::unbounded_channel();
        let store_weather = store.weather();
        let state_lookout = Lookout::new(Part::State, state.place(), &state.weather());
        let store_lookout = Lookout::new(Part::Store, &store.place_name(), &store_weather);
        let patience = Patience::new(store_weather, settings.store_patience);
        let traffic = graph.tasks.iter().map(|_| Traffic::default()).collect();
        let mut driver = Self {
            attempts: Arc::new(Attempts {
                run,
                sees: who_sees_what(&pipeline),
                verifies,
                rollout,
                candidates: Candidates::default(),
                pipeline,
                graph,
                context: order.context,
                snapshot: order.snapshot,
                definitions: order.environments,
                history: order.history,
                settings,
                state,
                store,
                runtime,
                patience,
                notices: sender,
                environments: Environments::default(),
                temporary: OnceCell::new_with(temporary::named(&run_folder)),
                outside,
                traffic,
            }),
            epoch,
            report,
            run: machine,
            results,
            light: FuturesUnordered::new(),
            heavy: JoinSet::new(),
            live: HashMap::new(),
            claims: HashMap::new(),
            claimed: Vec::new(),
            waiters: HashMap::new(),
            elsewhere,
            inherited,
            parts: HashMap::new(),
            live_seen,
            pinned,
            preparing: HashMap::new(),
            inputs: Vec::new(),
            events: Vec::new(),
            event_parts: Vec::new(),
            gated: Vec::new(),
            notices,
            remarks: order.remarks,
            state: state_lookout,
            store: store_lookout,
            stop: watch::channel(Stop::No).1,
            cleaner: Cleaner::default(),
            time_left,
            asking_wish: false,
            pinning: Pinning::new(),
        };
        driver.hear(step);
        Ok(driver)
    }

    /// Does the run until its end.
    ///
    /// When the machinery fails, what happened until then is journalled if that can still be done, and what the
    /// run has made is pinned. Whoever lost the run to another process does nothing more.
    pub(super) async fn go(
        mut self,
        stop: watch::Receiver<Stop>,
    ) -> Result<RunOutcome, EngineError> {
        self.stop = stop;
        let ended = self.work().await;
        match &ended {
            Ok(_) => {
                let run_folder = self.attempts.run_folder();
                self.cleaner.run_ended(run_folder).await;
            }
            Err(EngineError::State(_) | EngineError::Left) => {}
            Err(error) => {
                // The first error is the one to tell; these two are best efforts for `resume`. A store that was waited for in vain is
                // not waited for once more.
                self.note_left(error);
                if self.flush().await.is_ok() && !is_of_absent_store(error) {
                    drop(self.pin().await);
                }
                self.cleaner.finish().await;
            }
        }
        ended
    }

    /// An end that is not journalled yet is said again by whoever goes on; after one that is, there is nothing to go on with.
    fn note_left(&mut self, error: &EngineError) {
        let said = self.events.len();
        self.events.retain(|event| !matches!(event, RunEvent::Ended { .. }));
        let is_over = self.run.outcome().is_some() && self.events.len() == said;
        if !is_over {
            self.events.push(RunEvent::Left { why: error.to_string() });
        }
    }

    /// The loop: take in all that has happened, let the machine say what follows, journal it, act, wait for more.
    /// Reads and pauses begin before the journal is written, effects after. Events that nothing waits for linger a
    /// little. When nothing is under way and the run has not ended, that is a bug with a name and never a hang.
    async fn work(&mut self) -> Result<RunOutcome, EngineError> {
        let mut stop = self.stop.clone();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ask_wish = interval(ASK_WISH);
        ask_wish.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut timeout = self.time_left.map(|left| Instant::now() + left);
        let mut caller_is_there = true;
        self.stop_wished(*stop.borrow_and_update());
        loop {
            self.settle().await?;
            if let Some(outcome) = self.run.outcome() {
                self.flush().await?;
                return Ok(outcome);
            }
            if self.heavy.is_empty()
                && self.light.is_empty()
                && let Some(why) = self.run.stuck()
            {
                return Err(EngineError::Stuck(why));
            }
            tokio::select! {
                Some(happened) = self.light.next(), if !self.light.is_empty() => {
                    self.happened(happened?);
                }
                Some(joined) = self.heavy.join_next(), if !self.heavy.is_empty() => {
                    self.joined(joined)?;
                }
                Some(notice) = self.notices.recv() => self.report.notice(clock::now(), &notice),
                Some(remark) = self.remarks.recv() => {
                    self.report.notice(clock::now(), &Notice::Remark(remark));
                }
                notice = self.state.change() => self.report.notice(clock::now(), &notice),
                notice = self.store.change() => self.report.notice(clock::now(), &notice),
                changed = stop.changed(), if caller_is_there => match changed {
                    Ok(()) => self.stop_wished(*stop.borrow_and_update()),
                    Err(_) => caller_is_there = false,
                },
                () = sleep(LINGER), if !self.events.is_empty() => self.flush().await?,
                _ = look.tick(), if !self.live.is_empty() => self.look_at_logs(),
                _ = ask_wish.tick() => self.ask_wish(),
                () = sleep_or_never(timeout) => {
                    timeout = None;
                    self.inputs.push(Input::RunTimedOut);
                }
            }
        }
    }

    /// Takes in everything that is ready, and what follows from it at once.
    async fn settle(&mut self) -> Result<(), EngineError> {
        loop {
            while self.inputs.len() < LINGERING
                && let Some(Some(happened)) = self.light.next().now_or_never()
            {
                self.happened(happened?);
            }
            while let Some(joined) = self.heavy.try_join_next() {
                self.joined(joined)?;
            }
            if !self.inputs.is_empty() {
                let step = self.run.steps(std::mem::take(&mut self.inputs));
                self.hear(step);
                self.give_back_unused_claims();
            } else if self.gated.is_empty() {
                return Ok(());
            }
            if !self.gated.is_empty() || self.events.len() >= LINGERING {
                self.flush().await?;
                for command in std::mem::take(&mut self.gated) {
                    self.act(command);
                }
            }
        }
    }

    fn joined(
        &mut self,
        joined: Result<Result<Happened, EngineError>, JoinError>,
    ) -> Result<(), EngineError> {
        match joined {
            Ok(happened) => self.happened(happened?),
            // Given up by `stop_job`, which has told the machine.
            Err(error) if error.is_cancelled() => {}
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
        Ok(())
    }

    /// What later stages see of results, and who may go on, follows from an event at once; the rest waits for the journal.
    fn hear(&mut self, step: Step) {
        for event in step.events {
            self.results.absorb(&self.attempts.pipeline, &event);
            match &event {
                RunEvent::OutsidePinned { task, inputs } => {
                    if let Some(task) = self.attempts.graph.find(task) {
                        self.pinned.insert(task, inputs.clone());
                    }
                }
                RunEvent::TaskReused { task, .. } | RunEvent::AttemptStarted { task, .. } => {
                    let task = self.attempts.graph.find(task);
                    let parts = task.and_then(|task| self.parts.remove(&task));
                    self.event_parts.extend(parts);
                }
                RunEvent::TaskDone { task, .. }
                | RunEvent::TaskFailed { task, .. }
                | RunEvent::TaskCancelled { task }
                | RunEvent::RetryScheduled { task, .. } => {
                    if let Some(task) = self.attempts.graph.find(task) {
                        self.give_back_claim(task);
                    }
                }
                _ => {}
            }
            self.events.push(event);
        }
        for command in step.commands {
            if command.is_free() {
                self.act(command);
            } else {
                self.gated.push(command);
            }
        }
    }

    /// Journals what was said, then reports it and removes what is needed no more.
    async fn flush(&mut self) -> Result<(), EngineError> {
        if self.events.is_empty() {
            return Ok(());
        }
        if matches!(self.events.last(), Some(RunEvent::Ended { .. })) {
            self.pin().await?;
        }
        let now = clock::now();
        self.append(now).await?;
        self.event_parts.clear();
        // What was said on the way to an event is shown before it.
        while let Ok(notice) = self.notices.try_recv() {
            self.report.notice(now, &notice);
        }
        for event in std::mem::take(&mut self.events) {
            self.report.event(now, &event);
            self.clean_up(&event);
        }
        self.pinning.lags();
        Ok(())
    }

    /// Writes what was said.
    async fn append(&mut self, now: u64) -> Result<(), EngineError> {
        let (attempts, epoch) = (Arc::clone(&self.attempts), self.epoch);
        let (events, parts) = (take(&mut self.events), take(&mut self.event_parts));
        let append =
            async { Ok(attempts.state.append(attempts.run, epoch, now, &events, &parts).await?) };
        let done = self.attend(Box::pin(append)).await;
        (self.events, self.event_parts) = (events, parts);
        done
    }

    /// After a journalled end: the `TMPDIR` of the attempt, and the work folder of one that ended well. That of a bad end stays
    /// for `debug`; logs stay always.
    fn clean_up(&mut self, event: &RunEvent) {
        match event {
            RunEvent::AttemptEnded { task, attempt, .. } => {
                if let (Some(of_run), Some(task)) =
                    (self.attempts.temporary.get(), self.attempts.graph.find(task))
                    && let Some(name) = self.attempts.folder(task, *attempt).file_name()
                {
                    self.cleaner.remove(Remove::Folder(of_run.join(name)));
                }
            }
            RunEvent::TaskDone { task, .. } if !self.attempts.settings.keep_work => {
                if let Some(task) = self.attempts.graph.find(task) {
                    let folder = self.attempts.folder(task, self.run.attempts(task));
                    self.cleaner.remove(Remove::Work(folder));
                }
            }
            _ => {}
        }
    }

    fn stop_wished(&mut self, stop: Stop) {
        let kill = match stop {
            Stop::No => return,
            Stop::Gently => false,
            Stop::Now => true,
        };
        self.inputs.push(Input::StopWished { by: "interrupt".to_owned(), kill });
    }

    fn ask_wish(&mut self) {
        self.pin_early();
        if std::mem::replace(&mut self.asking_wish, true) {
            return;
        }
        let (attempts, epoch) = (Arc::clone(&self.attempts), self.epoch);
        self.light.push(
            async move {
                attempts.state.confirm(attempts.run, epoch).await?;
                Ok(Happened::Wished(attempts.state.wished(attempts.run).await?))
            }
            .boxed(),
        );
    }

    pub(super) fn wished(&mut self, wish: Option<Wish>) {
        self.asking_wish = false;
        if let Some(wish) = wish {
            let kill = wish == Wish::Kill;
            self.inputs.push(Input::StopWished { by: "cancel".to_owned(), kill });
        }
    }
}

async fn sleep_or_never(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
