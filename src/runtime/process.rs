//! Processes as `/proc` shows them: who they are beyond their number, who belongs to a job, and signals that cannot hit a stranger.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// The variable in the environment of everything that a job starts.
pub(super) const JOB_VARIABLE: &str = "FLOWRUN_JOB";

/// One process of one boot of one machine; a later process with the same number is another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessIdentity {
    /// Its number.
    pub(super) pid: i32,
    /// When it was started, in clock ticks since the boot.
    pub(super) start_time: u64,
    /// The boot of the machine.
    pub(super) boot: String,
}

impl ProcessIdentity {
    /// The identity of a process that exists now.
    pub(super) fn of(pid: i32, boot: &str) -> Option<Self> {
        let stat = ProcessStat::read(pid)?;
        Some(Self { pid, start_time: stat.start_time, boot: boot.to_owned() })
    }
}

/// The identity of this boot of the machine.
pub(super) fn boot_id() -> std::io::Result<String> {
    Ok(fs_err::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What `/proc/<pid>/stat` says (proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessStat {
    pub(super) pid: i32,
    /// `Z` and `X` are dead and only wait for their parent.
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) start_time: u64,
}

impl ProcessStat {
    pub(super) fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs_err::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    fn parse(stat: &[u8]) -> Option<Self> {
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let head =
            std::str::from_utf8(&stat[..stat.iter().position(|byte| *byte == b' ')?]).ok()?;
        let rest = std::str::from_utf8(stat.get(close + 2..)?).ok()?;
        let fields: Vec<&str> = rest.split(' ').collect();
        Some(Self {
            pid: head.parse().ok()?,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }

    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// Every process that can be seen. Costs about 10 µs for each: not for the usual way of a job.
pub(super) fn all() -> Vec<ProcessStat> {
    let Ok(entries) = fs_err::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(ProcessStat::read)
        .collect()
}

/// The children of this process, dead ones too; also those it took over as a subreaper. The caller has one thread only.
pub(super) fn own_children() -> Vec<i32> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    match fs_err::read_to_string(format!("/proc/{own}/task/{own}/children")) {
        Ok(children) => {
            children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
        }
        // A kernel without CONFIG_PROC_CHILDREN.
        Err(_) => all().iter().filter(|process| process.parent == own).map(|p| p.pid).collect(),
    }
}

/// The job named in the environment that a process was started with; nothing also when it may not be read.
pub(super) fn job_of(pid: i32) -> Option<String> {
    let environment = fs_err::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|variable| {
        let value = variable.strip_prefix(JOB_VARIABLE.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

/// The living ones of `roots` and of all their descendants.
pub(super) fn with_descendants(
    mut roots: BTreeSet<i32>,
    processes: &[ProcessStat],
) -> Vec<ProcessStat> {
    loop {
        let before = roots.len();
        for process in processes {
            if roots.contains(&process.parent) {
                roots.insert(process.pid);
            }
        }
        if roots.len() == before {
            break;
        }
    }
    let living = |process: &&ProcessStat| roots.contains(&process.pid) && process.is_alive();
    processes.iter().filter(living).copied().collect()
}

/// Sends a signal to exactly this process; nothing happens when it is gone, also when its number was given to another one.
pub(super) fn signal(process: &ProcessStat, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    // While the descriptor is open it means one process, so the check holds until the signal is sent.
    if let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty())
        && ProcessStat::read(process.pid).is_some_and(|now| now.start_time == process.start_time)
    {
        // Fails only when the process has ended, or belongs to somebody else by now.
        pidfd_send_signal(descriptor, signal).unwrap_or_default();
    }
}

/// The processes in a control group.
pub(super) fn in_cgroup(folder: &Path) -> BTreeSet<i32> {
    let processes = fs_err::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    processes.lines().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_also_with_a_hostile_program_name() {
        let line = b"42 (a) R (b c) S 1 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 1";
        let stat = ProcessStat::parse(line).unwrap();
        assert_eq!(
            stat,
            ProcessStat {
                pid: 42,
                state: 'S',
                parent: 1,
                group: 40,
                session: 39,
                start_time: 12345
            }
        );
        assert_eq!(ProcessStat::parse(b"42 (torn"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        assert!(all().iter().any(|process| process.pid == own && process.is_alive()));
        assert!(ProcessIdentity::of(own, "boot").is_some());
        assert_eq!(ProcessIdentity::of(i32::MAX, "boot"), None);
    }

    #[test]
    fn descendants_follow_parents_in_any_order() {
        let process = |pid, parent, state| ProcessStat {
            pid,
            state,
            parent,
            group: 1,
            session: 1,
            start_time: 1,
        };
        let all = [process(5, 4, 'S'), process(4, 3, 'Z'), process(3, 1, 'S'), process(9, 1, 'S')];
        let found = with_descendants([3].into(), &all);
        assert_eq!(found.iter().map(|process| process.pid).collect::<Vec<_>>(), [5, 3]);
    }
}
