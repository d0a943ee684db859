//! One job from its start to its report.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use wait4::ResUse;

use super::holder::Holder;
use super::spawn::Spawned;
use crate::event::{JobEnd, Usage};
use crate::names::JobName;
use crate::runtime::process::{self, ProcessStat};
use crate::runtime::{JobReport, settle};

/// How long what is left behind may do nothing before it is ended, and how long it may go on in all: `cmd > >(tee log)` leaves a `tee`
/// that is about to end by itself, and what it still has to write may be an output.
const IDLE: Duration = Duration::from_millis(200);
const LEFT_ALONE: Duration = Duration::from_secs(2);

/// How often it is looked whether the rest of a job has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A job to look after.
pub(super) struct Supervised {
    pub(super) name: JobName,
    pub(super) spawned: Spawned,
    pub(super) exit: oneshot::Receiver<ResUse>,
    pub(super) stop: mpsc::UnboundedReceiver<StopRequest>,
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
}

/// Somebody wants a job to end.
pub(super) struct StopRequest {
    /// Without grace.
    pub(super) kill: bool,
    /// What its report shall say, if it is the first to want it.
    pub(super) end: JobEnd,
}

/// Where a job stands.
enum Phase {
    /// The program runs and may; until then when it has a timeout.
    Running { timeout_at: Option<Instant> },
    /// All of it was asked to end and has until then.
    Ending { kill_at: Instant },
    /// All of it was killed.
    Killed,
}

/// What a program left behind, as long as it may end by itself.
struct LeftBehind {
    cpu: u64,
    idle_from: Instant,
    end_at: Instant,
}

impl LeftBehind {
    fn now() -> Self {
        Self { cpu: 0, idle_from: Instant::now(), end_at: Instant::now() + LEFT_ALONE }
    }

    /// Until when it is left alone, as it does what it does now.
    fn until(&mut self, rest: &[ProcessStat]) -> Instant {
        let cpu = rest.iter().map(|process| process.cpu).sum();
        if cpu != self.cpu || rest.iter().any(|process| matches!(process.state, 'R' | 'D')) {
            (self.cpu, self.idle_from) = (cpu, Instant::now());
        }
        self.end_at.min(self.idle_from + IDLE)
    }
}

/// Looks after a job until nothing of it lives and all it wrote is in its log.
///
/// Plan: read the pipes and wait for the first of exit, stop and timeout; when the program has ended, give the rest a moment
/// (after a stop: what is left of the grace), kill what is left then, and read the pipes to their end.
pub(super) async fn supervise(holder: &Holder, mut job: Supervised) -> JobReport {
    let started = Instant::now();
    let mut phase = Phase::Running { timeout_at: job.timeout.map(|after| started + after) };
    let mut wanted: Option<JobEnd> = None;
    let mut stopping = true;
    let mut exited: Option<(Option<ResUse>, Duration)> = None;
    let mut left_behind = None;
    let (killed, left) = loop {
        if exited.is_some() {
            let rest = rest_of(holder, &job);
            if rest.is_empty() {
                break (0, 0);
            }
            // The rest of a job that was stopped has the grace that is left, else a moment to end by itself.
            let until = match phase {
                Phase::Running { .. } => {
                    left_behind.get_or_insert_with(LeftBehind::now).until(&rest)
                }
                Phase::Ending { kill_at } => kill_at,
                Phase::Killed => Instant::now(),
            };
            if Instant::now() >= until {
                break kill_rest(holder, &job).await;
            }
        }
        let deadline = match phase {
            Phase::Running { timeout_at } if exited.is_none() => timeout_at,
            Phase::Ending { kill_at } => Some(kill_at),
            _ => None,
        };
        tokio::select! {
            biased;
            exit = &mut job.exit, if exited.is_none() => exited = Some((exit.ok(), started.elapsed())),
            request = job.stop.recv(), if stopping => {
                match request {
                    None => stopping = false,
                    Some(StopRequest { kill, end }) => {
                        // A program that has ended by itself keeps its own end.
                        if exited.is_none() {
                            wanted.get_or_insert(end);
                        }
                        phase = ask_to_end(holder, &job, phase, kill, exited.is_none()).await;
                    }
                }
            }
            () = sleep_until(deadline) => {
                if let (Phase::Running { .. }, Some(after)) = (&phase, job.timeout) {
                    wanted.get_or_insert(JobEnd::TimedOut { after });
                    phase = ask_to_end(holder, &job, phase, false, true).await;
                } else {
                    phase = ask_to_end(holder, &job, phase, true, exited.is_none()).await;
                }
            }
            () = tokio::time::sleep(LOOK_EVERY), if exited.is_some() => {}
            () = job.spawned.pipes.readable() => {
                job.spawned.pipes.read_once(&mut holder.buffer.borrow_mut());
            }
        }
    };
    let (result, wall) = exited.unwrap_or((None, started.elapsed()));
    report(holder, job, result, wall, wanted, killed, left)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Sends TERM or KILL to all of the job; TERM only once.
async fn ask_to_end(
    holder: &Holder,
    job: &Supervised,
    phase: Phase,
    kill: bool,
    main_lives: bool,
) -> Phase {
    if kill {
        kill_all(job, &everyone(holder, job, main_lives));
        return Phase::Killed;
    }
    match phase {
        Phase::Running { .. } => {
            let everyone = process::hold(|| everyone(holder, job, main_lives)).await;
            for signal in [Signal::TERM, Signal::CONT] {
                for process in &everyone {
                    process::signal(process, signal);
                }
            }
            Phase::Ending { kill_at: Instant::now() + job.grace }
        }
        later => later,
    }
}

fn kill_all(job: &Supervised, processes: &[ProcessStat]) {
    if let Some(group) = &job.spawned.cgroup {
        group.kill();
    }
    for process in processes {
        process::signal(process, Signal::KILL);
    }
}

/// Everything of the job that lives. Every process of it descends from its program, or came to this process when its parent
/// ended, or from such a one; its group, when it has one, has them all.
fn everyone(holder: &Holder, job: &Supervised, main_lives: bool) -> Vec<ProcessStat> {
    let mut roots = in_group(job);
    roots.append(&mut holder.strays_of(&job.name, job.spawned.main));
    if main_lives {
        roots.insert(job.spawned.main);
    }
    roots.remove(&rustix::process::getpid().as_raw_nonzero().get());
    process::with_descendants(roots)
}

/// What lives of a job whose program has ended.
fn rest_of(holder: &Holder, job: &Supervised) -> Vec<ProcessStat> {
    everyone(holder, job, false)
}

fn in_group(job: &Supervised) -> BTreeSet<i32> {
    job.spawned.cgroup.as_ref().map(super::super::cgroup::JobCgroup::processes).unwrap_or_default()
}

/// Kills what is left until nothing is. Returns how many there were, and how many would not go.
async fn kill_rest(holder: &Holder, job: &Supervised) -> (usize, usize) {
    let mut killed = BTreeSet::new();
    let give_up = Instant::now() + settle::UNTIL_GONE;
    loop {
        let rest = rest_of(holder, job);
        if rest.is_empty() || Instant::now() >= give_up {
            return (killed.len(), rest.len());
        }
        kill_all(job, &rest);
        killed.extend(rest.iter().map(|process| (process.pid, process.start_time)));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn report(
    holder: &Holder,
    job: Supervised,
    result: Option<ResUse>,
    wall: Duration,
    wanted: Option<JobEnd>,
    killed: usize,
    left: usize,
) -> JobReport {
    let Spawned { pipes, cgroup, mut remarks, .. } = job.spawned;
    if let Some(why) = pipes.finish(&mut holder.buffer.borrow_mut()) {
        remarks.push(format!("the log is not complete: {why}"));
    }
    let ended = match result {
        None => JobEnd::Lost { why: "its exit status was taken by somebody else".to_owned() },
        Some(result) => match (result.status.code(), result.status.signal()) {
            (Some(code), _) => JobEnd::Exited(code),
            (None, signal) => JobEnd::Signalled(signal.unwrap_or_default()),
        },
    };
    let out_of_memory = cgroup.as_ref().and_then(super::super::cgroup::JobCgroup::out_of_memory);
    let end = match (wanted, out_of_memory) {
        (Some(wanted), _) => wanted,
        (None, Some((count, _))) if ended == JobEnd::Exited(0) => {
            let processes = if count == 1 { "1 process" } else { &format!("{count} processes") };
            remarks.push(format!("{processes} of it ran out of memory and got killed"));
            ended
        }
        (None, Some((_, limit))) => JobEnd::OutOfMemory { limit },
        (None, None) => {
            match killed {
                0 => {}
                1 => remarks.push("1 process that it left behind was stopped".to_owned()),
                more => remarks.push(format!("{more} processes that it left behind were stopped")),
            }
            ended
        }
    };
    if left > 0 {
        let processes = if left == 1 { "1 process" } else { &format!("{left} processes") };
        remarks.push(format!("{processes} of it could not be stopped"));
    }
    let counted = cgroup.as_ref().and_then(super::super::cgroup::JobCgroup::peak_memory);
    let usage = Usage {
        peak_memory: counted.or(result.map(|result| result.rusage.maxrss)).unwrap_or_default(),
        cpu_ms: result.map_or(0, |r| milliseconds(r.rusage.utime + r.rusage.stime)),
        wall_ms: milliseconds(wall),
    };
    if let Some(group) = &cgroup {
        group.remove();
    }
    JobReport { end, usage, remarks }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
