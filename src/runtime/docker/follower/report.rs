//! How a container that was followed has ended: its report, and what a restart of the engine may have done to it.

use std::time::Duration;

use bollard::models::ContainerState;

use super::{Follower, PAUSES, clean};
use crate::event::{JobEnd, Stream, Usage};
use crate::runtime::JobReport;
use crate::runtime::docker::container::Found;
use crate::runtime::docker::end::{Ending, Torn, job_end};
use crate::runtime::docker::uptime::{Uptime, booted};
use crate::runtime::docker::{DockerError, clock, output};
use crate::runtime::secret_files;
use crate::runtime::settle::lost;

/// The pauses, milliseconds, after which an engine is asked again for a kill for lack of memory: it may tell it after the end.
const UNTIL_TOLD: [u64; 3] = [50, 200, 750];

/// Why a job may have ended that neither itself nor flowrun ended.
const ENGINE: &str = "the Docker Engine was restarted while it ran";
const MACHINE: &str = "the machine was restarted while it ran";

impl Follower {
    /// Writes how it ended and removes it.
    pub(super) async fn report(mut self, mut found: Found) -> Result<JobReport, DockerError> {
        let state = found.0.state.take().unwrap_or_default();
        let started = state.started_at.as_deref().and_then(clock::milliseconds);
        let finished = state.finished_at.as_deref().and_then(clock::milliseconds);
        let torn = if self.wanted.is_none() { self.torn(started).await? } else { None };
        let out_of_memory = self.ran_out_of_memory(&state, started).await;
        let (end, mut remarks) = job_end(Ending {
            wanted: self.wanted.take(),
            code: state.exit_code.unwrap_or_default(),
            out_of_memory,
            limit: self.job.memory_limit,
            torn,
        });
        if self.is_unmaskable {
            remarks.push(
                "the rest of its log was not kept, as secrets in it could not be masked".to_owned(),
            );
        }
        let usage = Usage {
            peak_memory: self.usage.peak_memory,
            cpu_ms: self.usage.cpu_ms,
            wall_ms: started.zip(finished).map_or(0, |(from, to)| to.saturating_sub(from)),
        };
        if let Err(why) = self.docker.give_back(&self.job).await? {
            remarks.push(format!("what its user made cannot be given back to you: {why}"));
        }
        if self.is_cut {
            remarks.push("the log is not complete: the engine's own breaks off".to_owned());
        }
        if let Some(why) = self.log.finish(clock::now()) {
            remarks.push(format!("the log is not complete: {why}"));
        }
        let report = self.files.end(&JobReport { end, usage, remarks })?;
        clean(&self.docker, &self.job).await;
        secret_files::remove(&self.job.name, &self.job.folder).unwrap_or_default();
        Ok(report)
    }

    /// Whether the kernel killed something of it for lack of memory. The engine's flag misses what it hears after the end, the counters
    /// what came after the last look.
    async fn ran_out_of_memory(&self, state: &ContainerState, started: Option<u64>) -> bool {
        if state.oom_killed == Some(true) || self.usage.out_of_memory {
            return true;
        }
        let pauses = match (&self.wanted, state.exit_code, self.job.memory_limit) {
            (None, Some(137), _) => &UNTIL_TOLD[..],
            (None, Some(0), Some(_)) => &[],
            (None, _, Some(_)) => &UNTIL_TOLD[..1],
            _ => return false,
        };
        let mut pauses = pauses.iter();
        loop {
            if self.docker.told_out_of_memory(self.job.name.as_str(), started).await {
                return true;
            }
            let Some(pause) = pauses.next() else { return false };
            tokio::time::sleep(Duration::from_millis(*pause)).await;
        }
    }

    /// The same of one whose program cannot be started.
    pub(in crate::runtime::docker) async fn not_startable(
        mut self,
        code: i32,
        why: &str,
    ) -> Result<JobReport, DockerError> {
        output::append(&mut self.log, Stream::Stderr, format!("{why}\n").as_bytes());
        self.log.finish(clock::now());
        let usage = Usage { peak_memory: 0, cpu_ms: 0, wall_ms: 0 };
        let end = JobEnd::Exited(code);
        let report = self.files.end(&JobReport { end, usage, remarks: Vec::new() })?;
        clean(&self.docker, &self.job).await;
        secret_files::remove(&self.job.name, &self.job.folder).unwrap_or_default();
        Ok(report)
    }

    /// The same of one that is not there any more.
    pub(super) fn lost(self, why: &str) -> Result<JobReport, DockerError> {
        self.log.finish(clock::now());
        let report = self.files.end(&lost(why.to_owned()))?;
        secret_files::remove(&self.job.name, &self.job.folder).unwrap_or_default();
        Ok(report)
    }

    /// What a restart may have done to a container that has ended and was started at `began`, Unix milliseconds. An engine that
    /// goes down just now is waited for: it ends its containers while it still answers on old connections.
    async fn torn(&self, began: Option<u64>) -> Result<Option<Torn>, DockerError> {
        let is_before = |moment: u64| began.is_some_and(|began| began < moment);
        if booted().is_some_and(is_before) {
            return Ok(Some(Torn { why: MACHINE.to_owned(), asked: true }));
        }
        let mut pauses = PAUSES.iter();
        let restarted = loop {
            match self.docker.uptime().await {
                Uptime::Since(moment) => break is_before(moment),
                Uptime::Unknown => break self.torn,
                Uptime::Down => {
                    let Some(pause) = pauses.next() else {
                        return Err(DockerError::absent("it went away"));
                    };
                    tokio::time::sleep(Duration::from_millis(*pause)).await;
                }
            }
        };
        let keeps = self.docker.traits().await?.keeps_containers;
        let torn = restarted && (self.torn || !keeps);
        Ok(torn.then(|| Torn { why: ENGINE.to_owned(), asked: !keeps }))
    }
}
