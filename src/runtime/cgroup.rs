//! Control groups (cgroups(7)), both versions: one that holds everything a job starts, and ones that limit it.
//!
//! A job's group lies below the group this process is in. Version 1: `freezer` holds the processes (the cheapest: 50 µs a job),
//! `memory` and `cpu` limit them and are made only when asked for. Version 2: one group does all.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::process::{self, ProcessStat};

const PROCESSES: &str = "cgroup.procs";
/// Microseconds in which a share of the processors is counted.
const CPU_PERIOD: u32 = 100_000;

/// The groups of this process that groups of jobs can be made in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cgroups {
    freezer: Option<PathBuf>,
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    unified: Option<PathBuf>,
}

/// The groups of one job. Dropping it leaves them as they are.
#[derive(Debug)]
pub(super) struct JobCgroup {
    tracking: Option<Tracking>,
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    limit: Option<u64>,
}

#[derive(Debug)]
struct Tracking {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The file through which a process with one thread moves itself. `tasks` needs no lock over all groups of the machine.
    fn mover(self) -> &'static str {
        match self {
            Version::One => "tasks",
            Version::Two => PROCESSES,
        }
    }
}

impl Cgroups {
    /// What this process may use; nothing of it is an error.
    pub(super) fn find() -> Self {
        let read = |path| fs_err::read_to_string(path).unwrap_or_default();
        let mut found = Self::parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        let usable = |folder: &PathBuf| {
            rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
                && rustix::fs::access(folder.join(PROCESSES), rustix::fs::Access::WRITE_OK).is_ok()
        };
        for folder in [&mut found.freezer, &mut found.memory, &mut found.cpu, &mut found.unified] {
            *folder = folder.take().filter(usable);
        }
        found
    }

    /// The folders as the two files say, whether they exist or not.
    fn parse(own: &str, mounts: &str) -> Self {
        let mut found = Self::default();
        for line in own.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if controllers.is_empty() {
                found.unified = mounted(mounts, None, path);
            }
            for controller in controllers.split(',') {
                let place = match controller {
                    "freezer" => &mut found.freezer,
                    "memory" => &mut found.memory,
                    "cpu" => &mut found.cpu,
                    _ => continue,
                };
                *place = mounted(mounts, Some(controller), path);
            }
        }
        found
    }

    /// Whether memory and processors of a job can be limited here; else why not.
    pub(super) fn limits(&self) -> Result<(), String> {
        if self.memory.is_some() && self.cpu.is_some() {
            return Ok(());
        }
        let Some(unified) = &self.unified else {
            return Err("no control group of this process can be written to".to_owned());
        };
        let read = |name| fs_err::read_to_string(unified.join(name)).unwrap_or_default();
        let has = |list: &str| {
            ["memory", "cpu"].iter().all(|word| list.split_ascii_whitespace().any(|w| w == *word))
        };
        if !has(&read("cgroup.controllers")) {
            return Err(format!("`{}` has no memory and cpu controllers", unified.display()));
        }
        if has(&read("cgroup.subtree_control")) {
            return Ok(());
        }
        fs_err::write(unified.join("cgroup.subtree_control"), "+memory +cpu").map_err(|_| {
            format!(
                "`{}` holds processes itself, so its memory and cpu controllers cannot be handed on to jobs",
                unified.display()
            )
        })
    }

    /// Makes the job's group and puts this process into it, so that the job is born inside; [`Self::leave`] follows at once.
    pub(super) fn enter(&self, name: &str) -> JobCgroup {
        let candidates = [(&self.freezer, Version::One), (&self.unified, Version::Two)];
        let tracking = candidates.into_iter().find_map(|(base, version)| {
            let folder = base.as_ref()?.join(name);
            make(&folder).ok()?;
            if fs_err::write(folder.join(version.mover()), "0").is_err() {
                fs_err::remove_dir(&folder).unwrap_or_default();
                return None;
            }
            Some(Tracking { folder, version })
        });
        JobCgroup { tracking, memory: None, cpu: None, limit: None }
    }

    /// Limits a job whose program was just started. `Err` is what could not be done, for a person.
    pub(super) fn limit(
        &self,
        group: &mut JobCgroup,
        name: &str,
        main: i32,
        memory: Option<u64>,
        cpu: Option<f64>,
    ) -> Result<(), String> {
        self.limits()?;
        let said = |what: &'static str| {
            move |error: std::io::Error| format!("{what} limit could not be set: {error}")
        };
        if let Some(base) = self.memory.as_ref().filter(|_| memory.is_some()) {
            let folder = base.join(name);
            make(&folder).map_err(said("the memory"))?;
            group.memory = Some(folder);
        }
        if let Some(base) = self.cpu.as_ref().filter(|_| cpu.is_some()) {
            let folder = base.join(name);
            make(&folder).map_err(said("the cpu"))?;
            group.cpu = Some(folder);
        }
        let unified =
            group.tracking.as_ref().filter(|t| t.version == Version::Two).map(|t| t.folder.clone());
        if let Some(bytes) = memory {
            let set = match (&group.memory, &unified) {
                (Some(folder), _) => limit_memory_one(folder, bytes),
                (None, Some(folder)) => limit_memory_two(folder, bytes),
                (None, None) => Err(ErrorKind::Unsupported.into()),
            };
            set.map_err(said("the memory"))?;
            group.limit = Some(bytes);
        }
        if let Some(cpu) = cpu {
            let quota = cpu_quota(cpu);
            let set = match (&group.cpu, &unified) {
                (Some(folder), _) => {
                    fs_err::write(folder.join("cpu.cfs_period_us"), CPU_PERIOD.to_string())
                        .and_then(|()| {
                            fs_err::write(folder.join("cpu.cfs_quota_us"), quota.to_string())
                        })
                }
                (None, Some(folder)) => {
                    fs_err::write(folder.join("cpu.max"), format!("{quota} {CPU_PERIOD}"))
                }
                (None, None) => Err(ErrorKind::Unsupported.into()),
            };
            set.map_err(said("the cpu"))?;
        }
        group.take_in(main);
        Ok(())
    }

    /// Takes this process out of the job's group. Without success the group is not used: it would hold the monitor.
    pub(super) fn leave(&self, group: &mut JobCgroup) {
        let Some(tracking) = &group.tracking else { return };
        let base = match tracking.version {
            Version::One => &self.freezer,
            Version::Two => &self.unified,
        };
        let left = base
            .as_ref()
            .is_some_and(|base| fs_err::write(base.join(tracking.version.mover()), "0").is_ok());
        if !left {
            group.tracking = None;
        }
    }
}

impl JobCgroup {
    /// The folder of the group that holds the job, when there is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        Some(&self.tracking.as_ref()?.folder)
    }

    /// Every folder of it, the one that holds all processes first.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let all = [self.folder(), self.memory.as_deref(), self.cpu.as_deref()];
        all.into_iter().flatten().map(Path::to_owned).collect()
    }

    /// Puts the program, and what it may have started since, into the limiting groups of version 1.
    fn take_in(&self, main: i32) {
        let mut inside = BTreeSet::new();
        loop {
            let mut new: BTreeSet<i32> = self.processes();
            new.insert(main);
            new.retain(|pid| !inside.contains(pid));
            if new.is_empty() {
                return;
            }
            for pid in &new {
                for folder in [&self.memory, &self.cpu].into_iter().flatten() {
                    // Fails only when the process has already ended.
                    fs_err::write(folder.join(PROCESSES), pid.to_string()).unwrap_or_default();
                }
            }
            inside.append(&mut new);
        }
    }

    /// Everything in the group now, dead ones that wait for their parent too.
    pub(super) fn processes(&self) -> BTreeSet<i32> {
        self.folder().map(process::in_cgroup).unwrap_or_default()
    }

    /// Kills everything in the group at once, so that nothing can get away by forking.
    pub(super) fn kill(&self) {
        let Some(tracking) = &self.tracking else { return };
        kill_group(&tracking.folder);
    }

    /// Processes of the job that were killed for lack of memory, and the limit in bytes.
    pub(super) fn out_of_memory(&self) -> Option<(u64, u64)> {
        let limit = self.limit?;
        let (folder, file) = match (&self.memory, &self.tracking) {
            (Some(folder), _) => (folder, "memory.oom_control"),
            (None, Some(tracking)) => (&tracking.folder, "memory.events"),
            (None, None) => return None,
        };
        let text = fs_err::read_to_string(folder.join(file)).ok()?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.parse().ok()?;
        (count > 0).then_some((count, limit))
    }

    /// Largest memory in use, bytes, where it was counted.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let path = match (&self.memory, &self.tracking) {
            (Some(folder), _) => folder.join("memory.max_usage_in_bytes"),
            (None, Some(Tracking { folder, version: Version::Two })) => folder.join("memory.peak"),
            _ => return None,
        };
        fs_err::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// Removes the groups; one that still holds a process stays and is empty sooner or later.
    pub(super) fn remove(&self) {
        for folder in self.folders() {
            fs_err::remove_dir(folder).unwrap_or_default();
        }
    }
}

/// Kills everything in a group of either version and everything that appears in it meanwhile.
pub(super) fn kill_group(folder: &Path) {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    if process::in_cgroup(folder).contains(&own) {
        return;
    }
    if fs_err::write(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // Frozen processes cannot fork; they die when they are thawed.
    let freezer = folder.join("freezer.state");
    fs_err::write(&freezer, "FROZEN").unwrap_or_default();
    for pid in process::in_cgroup(folder) {
        if let Some(process) = ProcessStat::read(pid) {
            process::signal(&process, Signal::KILL);
        }
    }
    fs_err::write(&freezer, "THAWED").unwrap_or_default();
}

fn make(folder: &Path) -> std::io::Result<()> {
    match fs_err::create_dir(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn limit_memory_one(folder: &Path, bytes: u64) -> std::io::Result<()> {
    fs_err::write(folder.join("memory.limit_in_bytes"), bytes.to_string())?;
    let swap = folder.join("memory.memsw.limit_in_bytes");
    if swap.exists() { fs_err::write(swap, bytes.to_string()) } else { Ok(()) }
}

fn limit_memory_two(folder: &Path, bytes: u64) -> std::io::Result<()> {
    fs_err::write(folder.join("memory.max"), bytes.to_string())?;
    let swap = folder.join("memory.swap.max");
    if swap.exists() { fs_err::write(swap, "0") } else { Ok(()) }
}

/// Microseconds of processor time per period; the kernel takes no less than 1 ms.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the nearest number that fits; less than one is raised"
)]
fn cpu_quota(cpu: f64) -> u64 {
    ((cpu * f64::from(CPU_PERIOD)).round() as u64).max(1000)
}

/// Where the group `path` is seen below a mount point; `None` is version 2 (proc(5), `mountinfo`).
fn mounted(mounts: &str, controller: Option<&str>, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
        let fits = match controller {
            None => kind == "cgroup2",
            Some(name) => kind == "cgroup" && options.split(',').any(|option| option == name),
        };
        if !fits {
            return None;
        }
        // In a container the mount shows only the container's own group: `root` is what is left away.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        Some(Path::new(point).join(below.strip_prefix("/").unwrap_or(below)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
36 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
39 31 0:34 /docker/abc /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:36 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
45 31 0:40 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn groups_are_found_below_their_mounts() {
        let own = "6:freezer:/\n4:memory:/docker/abc/x\n2:cpuacct,cpu:/user\n0::/a/b";
        let found = Cgroups::parse(own, MOUNTS);
        assert_eq!(found.freezer, Some("/sys/fs/cgroup/freezer".into()));
        assert_eq!(found.memory, Some("/sys/fs/cgroup/memory/x".into()));
        assert_eq!(found.cpu, Some("/sys/fs/cgroup/cpu,cpuacct/user".into()));
        assert_eq!(found.unified, Some("/sys/fs/cgroup/unified/a/b".into()));
        assert_eq!(Cgroups::parse("", MOUNTS), Cgroups::default());
        assert_eq!(Cgroups::parse(own, ""), Cgroups::default());
    }

    #[test]
    fn without_groups_limits_say_why() {
        assert!(Cgroups::default().limits().unwrap_err().contains("control group"));
    }

    #[test]
    fn processors_become_a_quota() {
        assert_eq!(cpu_quota(1.5), 150_000);
        assert_eq!(cpu_quota(0.0001), 1000);
    }
}
