//! Starts the program of a job.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit};

use super::clock;
use super::pipes::Pipes;
use crate::event::Stream;
use crate::runtime::Job;
use crate::runtime::cgroup::{Cgroups, JobCgroup};
use crate::runtime::job_folder::{Order, StartedProcess};
use crate::runtime::log::{LogWriter, Masks};
use crate::runtime::process::{JOB_VARIABLE, ProcessIdentity};
use crate::runtime::program::{self, NotStartable};
use crate::runtime::secret_files;

/// A program that runs.
pub(super) struct Spawned {
    pub(super) main: i32,
    pub(super) pipes: Pipes,
    pub(super) cgroup: Option<JobCgroup>,
    pub(super) remarks: Vec<String>,
    /// Where those of its secrets lie that it reads from files, by variable.
    pub(super) secret_files: Vec<(String, PathBuf)>,
}

/// Why nothing runs.
pub(super) enum SpawnFailure {
    /// The job's own fault; its log says why.
    Program(NotStartable),
    /// The machine's.
    Machine(std::io::Error),
}

/// The place in which jobs are started.
pub(super) struct Surroundings {
    pub(super) cgroups: Option<Cgroups>,
    pub(super) boot: String,
    pub(super) open_files: Rlimit,
}

/// Starts the program and notes its process in the job's order.
///
/// A crash right after the start leaves a program without the note; its environment carries the job's name.
pub(super) fn spawn(
    job: &Job,
    mut order: Order,
    surroundings: &Surroundings,
) -> Result<Spawned, SpawnFailure> {
    let masks = Masks::of(&job.secrets).map_err(SpawnFailure::Machine)?;
    let secrets =
        secret_files::make(&job.name, &job.folder, &job.secrets).map_err(SpawnFailure::Machine)?;
    let secret_files = secrets.files;
    let mut log = LogWriter::keeping(&job.folder, job.log_cap, job.log_keep);
    log.mask(&masks);
    let started = program::find(job).map_err(SpawnFailure::Program).and_then(|path| {
        let mut command = Command::new(path);
        command
            .arg0(&job.command[0])
            .args(&job.command[1..])
            .env_clear()
            .envs(&job.env)
            .envs(secrets.variables)
            .env(JOB_VARIABLE, job.name.as_str())
            .current_dir(&job.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut group = surroundings.cgroups.as_ref().map(|groups| groups.enter(job.name.as_str()));
        let child = command.spawn();
        if let (Some(groups), Some(group)) = (&surroundings.cgroups, &mut group) {
            groups.leave(group);
        }
        child.map(|child| (child, group)).map_err(|error| refusal(job, error))
    });
    let (mut child, mut cgroup) = match started {
        Ok(started) => started,
        Err(failure) => {
            if let SpawnFailure::Program(NotStartable { why, .. }) = &failure {
                log.append(clock::now(), Stream::Stderr, format!("flowrun: {why}\n").as_bytes());
                log.finish(clock::now());
            }
            return Err(failure);
        }
    };
    let main = i32::try_from(child.id()).unwrap_or(i32::MAX);
    let mut remarks = Vec::new();
    if let Err(error) =
        rustix::process::prlimit(Pid::from_raw(main), Resource::Nofile, surroundings.open_files)
        && error != Errno::SRCH
    {
        remarks.push(format!("the limit of open files could not be set: {error}"));
    }
    if let (Some(groups), Some(group)) = (&surroundings.cgroups, &mut cgroup)
        && (job.memory_limit.is_some() || job.cpu_limit.is_some())
        && groups.limits().is_ok()
        && let Err(why) =
            groups.limit(group, job.name.as_str(), main, job.memory_limit, job.cpu_limit)
    {
        remarks.push(why);
    }
    if let Some(identity) = ProcessIdentity::of(main, &surroundings.boot) {
        let folders = cgroup.as_ref().map(JobCgroup::folders).unwrap_or_default();
        let note = StartedProcess { main: identity, cgroups: folders };
        if let Err(error) = order.note_process(&note) {
            remarks.push(format!("the job's process could not be noted: {error}"));
        }
    }
    match take_pipes(&mut child, log) {
        Ok(pipes) => Ok(Spawned { main, pipes, cgroup, remarks, secret_files }),
        Err(error) => {
            // Nobody could hear it, so it must not go on. Both fail only when it has ended already.
            drop((child.kill(), child.wait()));
            Err(SpawnFailure::Machine(error))
        }
    }
}

fn take_pipes(child: &mut std::process::Child, log: LogWriter) -> std::io::Result<Pipes> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(std::io::Error::other("a program without its pipes"));
    };
    Pipes::new(OwnedFd::from(stdout), OwnedFd::from(stderr), log)
}

/// Tells a program that cannot be executed from a machine that cannot start any.
fn refusal(job: &Job, error: std::io::Error) -> SpawnFailure {
    let program = &job.command[0];
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let refuse = |code, why: &str| {
        SpawnFailure::Program(NotStartable { code, why: format!("`{program}` {why}") })
    };
    match errno {
        Some(Errno::NOENT) => refuse(127, "cannot be run: the interpreter it names does not exist"),
        Some(Errno::ACCESS | Errno::PERM) => refuse(126, "cannot be run: permission denied"),
        Some(Errno::NOEXEC) => {
            refuse(126, "cannot be run: it is neither a program nor a script with `#!`")
        }
        Some(Errno::TOOBIG) => {
            refuse(126, "cannot be run: its arguments and variables are too long")
        }
        Some(Errno::TXTBSY) => refuse(126, "cannot be run: it is open for writing"),
        None if error.kind() == std::io::ErrorKind::InvalidInput => {
            refuse(126, "cannot be run: a variable holds a NUL character")
        }
        _ => SpawnFailure::Machine(error),
    }
}
