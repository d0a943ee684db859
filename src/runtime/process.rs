//! Processes as `/proc` shows them: who they are beyond their number, who belongs to a job, and signals that cannot hit a stranger.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// The variable in the environment of everything that a job starts.
pub(super) const JOB_VARIABLE: &str = "FLOWRUN_JOB";

/// How long it is waited for until processes stand still, and the pause between two looks.
const UNTIL_HELD: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_millis(1);

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
    /// Processor time so far, clock ticks.
    pub(super) cpu: u64,
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
            cpu: fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?,
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

/// The children of this process, dead ones too; also those it took over as a subreaper.
pub(super) fn own_children() -> Vec<i32> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    children_of(own).unwrap_or_else(|| {
        all().iter().filter(|process| process.parent == own).map(|process| process.pid).collect()
    })
}

/// The job named in the environment that a process was started with; nothing also when it may not be read.
pub(super) fn job_of(pid: i32) -> Option<String> {
    let environment = fs_err::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|variable| {
        let value = variable.strip_prefix(JOB_VARIABLE.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

/// The living ones of `roots` and of all their descendants. Looks only at these where the kernel lists children.
pub(super) fn with_descendants(roots: BTreeSet<i32>) -> Vec<ProcessStat> {
    let mut found = BTreeSet::new();
    let mut next: Vec<i32> = roots.into_iter().collect();
    let mut every = None;
    while let Some(pid) = next.pop() {
        if !found.insert(pid) {
            continue;
        }
        if let Some(children) = children_of(pid) {
            next.extend(children);
        } else {
            let every = every.get_or_insert_with(all);
            next.extend(every.iter().filter(|stat| stat.parent == pid).map(|stat| stat.pid));
        }
    }
    found.into_iter().filter_map(ProcessStat::read).filter(ProcessStat::is_alive).collect()
}

/// The children of all threads of a process; nothing when the kernel has no such list (CONFIG_PROC_CHILDREN).
fn children_of(pid: i32) -> Option<Vec<i32>> {
    let Ok(threads) = fs_err::read_dir(format!("/proc/{pid}/task")) else {
        return Some(Vec::new());
    };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs_err::read_to_string(thread.path().join("children")) {
            Ok(list) => found
                .extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            // The thread has just ended, and then its folder is gone too.
            Err(_) if !thread.path().exists() => {}
            Err(_) => return None,
        }
    }
    Some(found)
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

/// Stops all that `living` lists, until it lists nobody new once all of them stand still, and gives them all: who stands still bears
/// no child, so none is missed.
///
/// To be told to go on ([`Signal::CONT`]) by the caller. One that does not stand still, as it belongs to another user or waits
/// for a disk, is waited for a moment only.
pub(super) async fn hold(living: impl Fn() -> Vec<ProcessStat>) -> Vec<ProcessStat> {
    let mut held = BTreeSet::new();
    let mut waited = Duration::ZERO;
    let mut stood = false;
    loop {
        let processes = living();
        let known = held.len();
        for process in &processes {
            if held.insert((process.pid, process.start_time)) {
                signal(process, Signal::STOP);
            }
        }
        let nobody_new = held.len() == known;
        if (stood && nobody_new) || waited >= UNTIL_HELD {
            return processes;
        }
        stood = nobody_new && processes.iter().all(|process| stands(process.pid));
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
}

/// Whether no thread of it does anything.
fn stands(pid: i32) -> bool {
    let Ok(threads) = fs_err::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs_err::read(thread.path().join("stat")).ok();
        let stat = stat.and_then(|stat| ProcessStat::parse(&stat));
        stat.is_none_or(|stat| matches!(stat.state, 'T' | 't' | 'Z' | 'X'))
    })
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
                start_time: 12345,
                cpu: 11
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
    fn descendants_are_found_over_generations() {
        let script = "sleep 1000 & wait";
        let mut child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let family = loop {
            let family = with_descendants([own].into());
            if family.iter().any(|process| process.parent == pid) {
                break family;
            }
        };
        assert!(family.iter().any(|process| process.pid == own));
        for process in with_descendants([pid].into()) {
            assert!(family.iter().any(|one| one.pid == process.pid) || process.pid == pid);
            signal(&process, Signal::KILL);
        }
        child.wait().unwrap();
        assert_eq!(with_descendants([pid].into()), []);
    }
}
