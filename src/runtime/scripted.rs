//! A runtime for tests of what uses one: every job does what a script says, at once and without a process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Job, JobReport, Runtime, RuntimeError, settle};
use crate::event::{JobEnd, Usage};
use crate::names::JobName;

/// What a job does.
#[derive(Debug, Clone)]
pub struct Script {
    /// Files that it writes before it ends, with paths in the job's directory.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// What happens.
    pub behaviour: Behaviour,
}

/// What happens to a job.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// `wait` is pending this many times (each wakes itself) and then reports.
    Ends {
        /// How often.
        polls: u32,
        /// The report of every `wait`.
        report: JobReport,
    },
    /// Runs until it is stopped; then it is `Cancelled`.
    Hangs,
    /// The first `wait` says the first, later ones the second: a runtime that contradicts itself.
    AnswersTwice {
        /// Of the first `wait`.
        first: JobReport,
        /// Of every later one.
        then: JobReport,
    },
    /// The runtime itself fails to start it.
    FailsToStart(String),
    /// It starts, and the runtime itself fails when asked for its end.
    FailsToWait(String),
}

impl Script {
    /// Ends at once with this code.
    pub fn exits(code: i32) -> Self {
        Self::ends(JobEnd::Exited(code))
    }

    /// Ends at once like this, a lost job too.
    pub fn ends(end: JobEnd) -> Self {
        let usage = Usage { peak_memory: 0, cpu_ms: 0, wall_ms: 0 };
        let report = JobReport { end, usage, remarks: Vec::new() };
        Self { files: Vec::new(), behaviour: Behaviour::Ends { polls: 0, report } }
    }

    /// Runs until it is stopped.
    pub fn hangs() -> Self {
        Self { files: Vec::new(), behaviour: Behaviour::Hangs }
    }

    /// Writes a file too.
    #[must_use]
    pub fn writing(mut self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.into(), bytes.into()));
        self
    }

    /// Ends only after `wait` was pending this often.
    #[must_use]
    pub fn after(mut self, count: u32) -> Self {
        if let Behaviour::Ends { polls, .. } = &mut self.behaviour {
            *polls = count;
        }
        self
    }
}

/// Decides what a job does, when it is started.
pub type Director = Box<dyn Fn(&Job) -> Script + Send + Sync>;

/// A runtime that follows scripts.
pub struct ScriptedRuntime {
    director: Director,
    stage: Mutex<Stage>,
}

#[derive(Default)]
struct Stage {
    started: Vec<Job>,
    stops: Vec<(JobName, bool)>,
    acts: HashMap<JobName, Act>,
}

enum Act {
    Plays {
        behaviour: Behaviour,
        stopped: Arc<Notify>,
    },
    /// Every later `wait` says this.
    Over(JobReport),
}

impl ScriptedRuntime {
    /// Every job does what `director` says when it is started.
    pub fn new(director: impl Fn(&Job) -> Script + Send + Sync + 'static) -> Self {
        Self { director: Box::new(director), stage: Mutex::default() }
    }

    /// Jobs that were started, in order; a second start of a name is none.
    pub fn started(&self) -> Vec<Job> {
        self.stage().started.clone()
    }

    /// Stops that were asked for, in order, with their `kill`.
    pub fn stops(&self) -> Vec<(JobName, bool)> {
        self.stage().stops.clone()
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self, job: &JobName, report: &JobReport) {
        self.stage().acts.insert(job.clone(), Act::Over(report.clone()));
    }
}

#[async_trait]
impl Runtime for ScriptedRuntime {
    async fn start(&self, job: &Job) -> Result<(), RuntimeError> {
        let script = {
            let mut stage = self.stage();
            if stage.acts.contains_key(&job.name) {
                return Ok(());
            }
            let script = (self.director)(job);
            if let Behaviour::FailsToStart(why) = script.behaviour {
                return Err(RuntimeError::Monitor(why));
            }
            stage.started.push(job.clone());
            let stopped = Arc::new(Notify::new());
            let act = Act::Plays { behaviour: script.behaviour.clone(), stopped };
            stage.acts.insert(job.name.clone(), act);
            script
        };
        for (path, bytes) in script.files {
            let path = job.directory.join(path);
            if let Some(folder) = path.parent() {
                fs_err::create_dir_all(folder)?;
            }
            fs_err::write(path, bytes)?;
        }
        Ok(())
    }

    async fn wait(&self, job: &JobName, _folder: &Path) -> Result<JobReport, RuntimeError> {
        let (behaviour, stopped) = match self.stage().acts.get(job) {
            Some(Act::Plays { behaviour, stopped }) => (behaviour.clone(), stopped.clone()),
            Some(Act::Over(report)) => return Ok(report.clone()),
            None => (
                Behaviour::Ends {
                    polls: 0,
                    report: settle::lost("it was never started".to_owned()),
                },
                Arc::default(),
            ),
        };
        let report = match behaviour {
            Behaviour::Ends { polls, report } => {
                pending(polls).await;
                report
            }
            Behaviour::Hangs => {
                stopped.notified().await;
                // Another one who waits is woken by this one.
                stopped.notify_one();
                Script::cancelled()
            }
            Behaviour::AnswersTwice { first, then } => {
                self.over(job, &then);
                return Ok(first);
            }
            Behaviour::FailsToStart(why) | Behaviour::FailsToWait(why) => {
                return Err(RuntimeError::Monitor(why));
            }
        };
        let mut stage = self.stage();
        if let Some(Act::Over(first)) = stage.acts.get(job) {
            return Ok(first.clone());
        }
        stage.acts.insert(job.clone(), Act::Over(report.clone()));
        Ok(report)
    }

    async fn stop(&self, job: &JobName, kill: bool) -> Result<(), RuntimeError> {
        let mut stage = self.stage();
        stage.stops.push((job.clone(), kill));
        if let Some(Act::Plays { behaviour, stopped }) = stage.acts.get(job) {
            stopped.notify_one();
            if !matches!(behaviour, Behaviour::Hangs) {
                drop(stage);
                self.over(job, &Script::cancelled());
            }
        }
        Ok(())
    }

    async fn is_running(&self, job: &JobName) -> Result<bool, RuntimeError> {
        Ok(matches!(self.stage().acts.get(job), Some(Act::Plays { .. })))
    }
}

impl Script {
    fn cancelled() -> JobReport {
        let usage = Usage { peak_memory: 0, cpu_ms: 0, wall_ms: 0 };
        JobReport { end: JobEnd::Cancelled, usage, remarks: Vec::new() }
    }
}

async fn pending(mut times: u32) {
    std::future::poll_fn(|context| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
