//! Doing what the machine commands, and taking in what came of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::sleep;

use crate::digest::Key;
use crate::engine::clock;
use crate::engine::run::{Circumstance, Command, Grant, Input};
use crate::engine::tail::Tail;
use crate::event::{Failure, JobEnd, Notice, RunOutcome, Stream, Usage};
use crate::plan::TaskIndex;
use crate::runtime::{Job, JobReport};

use super::driver::Driver;
use super::live::{Happened, Live, LiveStage};
use crate::engine::error::EngineError;

/// How long to wait before looking again at a key that another run computes.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The same in a store that lies elsewhere, where each look is a request.
const LOOK_AGAIN_FAR: Duration = Duration::from_secs(2);

/// No pause between two attempts is longer: 5 minutes and a fifth.
const LONGEST_PAUSE: Duration = Duration::from_mins(6);

impl Driver<'_> {
    /// Does one command, or puts it on its way.
    pub(super) fn act(&mut self, command: Command) {
        match command {
            Command::Resolve { task } => {
                let (attempts, now) = (Arc::clone(&self.attempts), clock::now());
                let inputs = self.inputs_of(task);
                self.wait_for(async move {
                    let resolved = Box::new(attempts.resolve(task, inputs, now).await?);
                    Ok(Happened::Resolved { task, resolved })
                });
            }
            Command::Claim { task, key } => {
                let (attempts, now) = (Arc::clone(&self.attempts), clock::now());
                self.wait_for(async move {
                    let (answer, claim) = attempts.claim(task, key, now).await?;
                    Ok(Happened::Claimed { task, key, answer, claim })
                });
            }
            Command::AwaitClaim { task, key } => {
                self.waiters.entry(key).or_default().push(task);
                let shared = self.attempts.settings.shared_store;
                let pause = if shared { LOOK_AGAIN_FAR } else { LOOK_AGAIN };
                self.wait_for(async move {
                    sleep(pause).await;
                    Ok(Happened::Input(Input::ClaimFree { task }))
                });
            }
            Command::Start { task, attempt, grant, outcome, .. } => {
                self.prepare(task, attempt, grant, outcome);
            }
            Command::Adopt { task, attempt, key } => match self.elsewhere.get(&(task, attempt)) {
                Some(host) => self.lose(task, attempt, &host.clone()),
                None => self.adopt(task, attempt, key),
            },
            Command::Collect { task, attempt, key, usage } => {
                self.collect(task, attempt, key, usage);
            }
            Command::Sleep { task, until } => {
                // A clock that was put back between two owners does not make the pause longer.
                let pause = clock::until(until).min(LONGEST_PAUSE);
                self.wait_for(async move {
                    sleep(pause).await;
                    Ok(Happened::Input(Input::BackoffOver { task }))
                });
            }
            Command::StopJob { task, attempt, kill } => self.stop_job(task, attempt, kill),
            Command::Release { task } => self.release(task),
            Command::Prepare { task, release } => self.prepare_release(task, release),
            Command::Promote { task, release, if_live_is } => {
                self.promote(task, release, if_live_is);
            }
            Command::Abandon { task, release, why, log_of } => {
                self.abandon(task, release, why, log_of);
            }
            Command::Tell { task, why } => {
                let task = self.attempts.graph.tasks[task].id.clone();
                self.report.notice(clock::now(), &Notice::Waiting { task, why });
            }
        }
    }

    /// Takes in what a future came back with.
    pub(super) fn happened(&mut self, happened: Happened) {
        match happened {
            Happened::Nothing => {}
            Happened::Input(input) => self.inputs.push(input),
            Happened::Wished(wish) => self.wished(wish),
            Happened::Resolved { task, resolved } => {
                if let Some(parts) = resolved.parts {
                    self.parts.insert(task, parts);
                }
                if self.pinned.get(&task) != Some(&resolved.pins) {
                    self.inputs.push(Input::Pinned { task, inputs: resolved.pins });
                }
                let live = self.saw_live(task, resolved.live);
                self.inputs.push(Input::Resolved { task, resolution: resolved.resolution, live });
            }
            Happened::Claimed { task, key, answer, claim } => {
                if let Some(claim) = claim {
                    self.claims.insert(task, (key, claim));
                    self.claimed.push(task);
                }
                self.inputs.push(Input::Claimed { task, answer });
            }
            Happened::Reclaimed { task, key, claim } => {
                if let Some(claim) = claim.filter(|_| self.run.is_live(task)) {
                    self.claims.insert(task, (key, claim));
                }
            }
            Happened::Prepared { task, attempt, job } => self.prepared(task, attempt, job),
            Happened::Started { task, attempt } => self.started(task, attempt),
            Happened::Adoption { task, attempt, running } => {
                if running {
                    let id = self.attempts.graph.tasks[task].id.clone();
                    self.report.notice(clock::now(), &Notice::Adopted { task: id, attempt });
                }
                if let Some(live) = self.live.get_mut(&task) {
                    live.stage = LiveStage::Running;
                }
                // The candidate of one that verifies may have gone with the process that rolled it out.
                let was_seen = running && self.candidate_of(task).is_none();
                let beside = if was_seen { Circumstance::Usual } else { Circumstance::Unseen };
                self.wait_for_job(task, attempt, beside);
            }
            Happened::JobEnded { task, attempt, report, beside } => {
                self.job_ended(task, attempt, report, beside);
            }
        }
    }

    pub(super) fn wait_for(
        &mut self,
        future: impl Future<Output = Result<Happened, EngineError>> + Send + 'static,
    ) {
        self.light.push(future.boxed());
    }

    fn prepare(
        &mut self,
        task: TaskIndex,
        attempt: u32,
        grant: Grant,
        outcome: Option<RunOutcome>,
    ) {
        let attempts = Arc::clone(&self.attempts);
        let inputs = self.inputs_of(task);
        let (job, folder) = (attempts.job(task, attempt), attempts.folder(task, attempt));
        let candidate = self.candidate_of(task);
        let given_up = self.heavy.spawn(async move {
            let job = attempts.prepare(task, attempt, &grant, &inputs, outcome, candidate).await?;
            Ok(Happened::Prepared { task, attempt, job: job.map(Box::new) })
        });
        let tail = Tail::new(&folder);
        let stage = LiveStage::Preparing(given_up);
        self.live.insert(task, Live { attempt, job, stage, tail });
    }

    fn prepared(&mut self, task: TaskIndex, attempt: u32, job: Result<Box<Job>, Failure>) {
        let Some(live) = self.live.get_mut(&task).filter(|live| live.attempt == attempt) else {
            return;
        };
        match job {
            Ok(job) => {
                live.stage = LiveStage::Starting { stop: None };
                let (attempts, epoch) = (Arc::clone(&self.attempts), self.epoch);
                self.wait_for(async move {
                    // The process may have slept since the start was journalled, and the run be somebody else's by now.
                    attempts.state.confirm(attempts.run, epoch).await?;
                    attempts
                        .patience
                        .mend(|| async { Ok(attempts.runtime.start(&job).await?) })
                        .await?;
                    Ok(Happened::Started { task, attempt })
                });
            }
            Err(failure) => {
                self.live.remove(&task);
                self.inputs.push(Input::LaunchFailed { task, attempt, failure });
            }
        }
    }

    fn started(&mut self, task: TaskIndex, attempt: u32) {
        let Some(live) = self.live.get_mut(&task).filter(|live| live.attempt == attempt) else {
            return;
        };
        let stop = match live.stage {
            LiveStage::Starting { stop } => stop,
            LiveStage::Preparing(_) | LiveStage::Finding | LiveStage::Running => None,
        };
        live.stage = LiveStage::Running;
        self.wait_for_job(task, attempt, Circumstance::Usual);
        if let Some(kill) = stop {
            self.stop_job(task, attempt, kill);
        }
    }

    fn wait_for_job(&mut self, task: TaskIndex, attempt: u32, mut beside: Circumstance) {
        let attempts = Arc::clone(&self.attempts);
        let (job, folder) = (attempts.job(task, attempt), attempts.folder(task, attempt));
        let inputs = self.inputs_of(task);
        self.wait_for(async move {
            let report = attempts
                .patience
                .mend(|| async { Ok(attempts.runtime.wait(&job, &folder).await?) })
                .await?;
            // One that ended well is looked at when its outputs are collected; of a lost one nobody knows what it did.
            if !report.end.is_success()
                && !matches!(report.end, JobEnd::Lost { .. })
                && let Some(input) = attempts.spoilt_input(task, attempt, &inputs).await
            {
                beside = Circumstance::SpoiltInput(input);
            }
            Ok(Happened::JobEnded { task, attempt, report, beside })
        });
    }

    /// An attempt of another host is lost: only there could its job be found and its work folder be read.
    fn lose(&mut self, task: TaskIndex, attempt: u32, host: &str) {
        let why = format!("it ran on host `{host}`, and the run goes on here");
        let (end, usage, at) = (JobEnd::Lost { why }, Usage::default(), clock::now());
        let beside = Circumstance::Usual;
        self.inputs.push(Input::JobEnded { task, attempt, end, usage, at, beside });
    }

    /// Watches a job of an earlier process. Its claim went with that process; it is taken again if nobody has it by now.
    fn adopt(&mut self, task: TaskIndex, attempt: u32, key: Option<Key>) {
        let attempts = Arc::clone(&self.attempts);
        let (job, folder) = (attempts.job(task, attempt), attempts.folder(task, attempt));
        let tail = Tail::new(&folder);
        let stage = LiveStage::Finding;
        self.live.insert(task, Live { attempt, job: job.clone(), stage, tail });
        if let Some(key) = key {
            let attempts = Arc::clone(&attempts);
            self.wait_for(async move {
                let holder = attempts.holder();
                // Without it another run may do the same work; that is no reason to stop this one.
                let claim = attempts.store.claim(&key, &holder).await.ok().and_then(Result::ok);
                Ok(Happened::Reclaimed { task, key, claim })
            });
        }
        self.wait_for(async move {
            let running = attempts
                .patience
                .mend(|| async { Ok(attempts.runtime.is_running(&job).await?) })
                .await?;
            Ok(Happened::Adoption { task, attempt, running })
        });
    }

    fn job_ended(
        &mut self,
        task: TaskIndex,
        attempt: u32,
        report: JobReport,
        beside: Circumstance,
    ) {
        let Some(live) = self.live.remove(&task) else { return };
        let (now, planned) = (clock::now(), &self.attempts.graph.tasks[task]);
        let id = &planned.id;
        let show = &mut |stream: Stream, text: String| {
            self.report.notice(now, &Notice::Line { task: id.clone(), attempt, stream, text });
        };
        live.tail.finish(show);
        for remark in report.remarks {
            let remark = format!("{}: {remark}", planned.label);
            self.report.notice(now, &Notice::Remark(remark));
        }
        let (end, usage) = (report.end, report.usage);
        self.inputs.push(Input::JobEnded { task, attempt, end, usage, at: now, beside });
    }

    fn collect(&mut self, task: TaskIndex, attempt: u32, key: Option<Key>, usage: Usage) {
        let attempts = Arc::clone(&self.attempts);
        let inputs = self.inputs_of(task);
        // A stage may remove its own folder; one that an earlier process left and that is not here lies in another home.
        let is_elsewhere = self.elsewhere.contains_key(&(task, attempt));
        let is_inherited = self.inherited.contains(&(task, attempt));
        self.heavy.spawn(async move {
            if is_elsewhere || (is_inherited && !attempts.folder(task, attempt).exists()) {
                let why = "its outputs lie on the host where it ran".to_owned();
                let result = Err(Failure::Job(JobEnd::Lost { why }));
                let at = clock::now();
                return Ok(Happened::Input(Input::Collected { task, attempt, result, at }));
            }
            let result = attempts.finish(task, attempt, key, &inputs, usage, clock::now()).await?;
            Ok(Happened::Input(Input::Collected { task, attempt, result, at: clock::now() }))
        });
    }

    /// What is only being prepared is given up; what is being started is stopped once it is; what runs is asked to stop.
    fn stop_job(&mut self, task: TaskIndex, attempt: u32, kill: bool) {
        let Some(live) = self.live.get_mut(&task).filter(|live| live.attempt == attempt) else {
            return;
        };
        match &mut live.stage {
            LiveStage::Preparing(given_up) => {
                given_up.abort();
                self.live.remove(&task);
                let (end, usage, at) = (JobEnd::Cancelled, Usage::default(), clock::now());
                let beside = Circumstance::Usual;
                self.inputs.push(Input::JobEnded { task, attempt, end, usage, at, beside });
            }
            LiveStage::Starting { stop } => *stop = Some(kill),
            LiveStage::Finding | LiveStage::Running => {
                let (attempts, job) = (Arc::clone(&self.attempts), live.job.clone());
                self.wait_for(async move {
                    attempts
                        .patience
                        .mend(|| async { Ok(attempts.runtime.stop(&job, kill).await?) })
                        .await?;
                    Ok(Happened::Nothing)
                });
            }
        }
    }

    /// Shows new lines of what runs.
    pub(super) fn look_at_logs(&mut self) {
        let now = clock::now();
        for (task, live) in &mut self.live {
            if !matches!(live.stage, LiveStage::Running) {
                continue;
            }
            let id = &self.attempts.graph.tasks[*task].id;
            let attempt = live.attempt;
            live.tail.look(&mut |stream, text| {
                self.report.notice(now, &Notice::Line { task: id.clone(), attempt, stream, text });
            });
        }
    }

    /// The attempt is over: whoever waits for the key looks again at once.
    pub(super) fn give_back_claim(&mut self, task: TaskIndex) {
        if let Some((key, claim)) = self.claims.remove(&task) {
            drop(claim);
            let waiters = self.waiters.remove(&key).unwrap_or_default();
            self.inputs.extend(waiters.into_iter().map(|task| Input::ClaimFree { task }));
        }
    }

    /// Gives back claims of tasks that were not started after all, because nothing new may start any more.
    pub(super) fn give_back_unused_claims(&mut self) {
        for task in std::mem::take(&mut self.claimed) {
            if !self.run.is_live(task) {
                self.give_back_claim(task);
            }
        }
    }
}
