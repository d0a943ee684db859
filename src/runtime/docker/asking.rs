//! Asks every process of a container to end, as on this machine, where an engine tells the first one only.
//!
//! The processes are seen from outside. When the main one would just die of TERM, the container's init would end with it and the
//! kernel would kill all others at once, without the time that they are promised; so it is held (stopped) until it is
//! the last one, and asked then: TERM ends a stopped process without a step of it. Who adopts a container in the middle does the same again.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::{Pid, Signal, test_kill_process};

use super::container::Found;
use crate::runtime::process::{self, ProcessStat};

/// How long it is waited for until a first process can take signals, and the pause between two looks. Before that the kernel
/// throws them away.
const UNTIL_TAKEN: Duration = Duration::from_secs(1);
/// How long it is waited for until the init of a container has begun its command.
const UNTIL_BEGUN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// What becomes of a signal that a process is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is caught or waited for.
    Taken,
    /// It ends the process.
    Deadly,
    /// Nothing comes of it.
    Ignored,
}

/// The main process of a container, which waits for all others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    first: i32,
    main: ProcessStat,
}

/// What came of asking.
#[derive(Debug)]
pub(super) enum Asked {
    /// All were asked; one may be held.
    All(Option<Held>),
    /// They cannot be reached from here: they belong to another user, or to another machine, or there are none.
    Nobody,
}

/// Sends TERM to all processes of a container but its init.
pub(super) async fn ask_all(found: &Found) -> Asked {
    let mut waited = Duration::ZERO;
    let (first, main) = loop {
        let Some(first) = first_process(found) else { return Asked::Nobody };
        let children = others(first).into_iter().filter(|one| one.parent == first);
        if let Some(main) = children.min_by_key(|one| (one.start_time, one.pid)) {
            break (first, main);
        }
        // An engine says that it runs before the init is there, which would not hear of it yet.
        if waited >= UNTIL_BEGUN {
            return Asked::Nobody;
        }
        tokio::time::sleep(PAUSE).await;
        waited += PAUSE;
    };
    if Pid::from_raw(main.pid).is_none_or(|pid| test_kill_process(pid).is_err()) {
        return Asked::Nobody;
    }
    // A shell blocks signals for a moment, also the one that is stopped while it waits: once deadly is deadly.
    let is_deadly = || fate(main.pid, Signal::TERM) == Some(Fate::Deadly);
    let was_deadly = is_deadly();
    let others = process::hold(|| others(first)).await;
    let is_held = others.len() > 1 && (was_deadly || is_deadly());
    for signal in [Signal::TERM, Signal::CONT] {
        for one in others.iter().filter(|one| !is_held || one.pid != main.pid) {
            process::signal(one, signal);
        }
    }
    Asked::All(is_held.then_some(Held { first, main }))
}

impl Held {
    /// Asks it too when it is the last one. Whether it was.
    pub(super) fn ask_when_last(&self) -> bool {
        let is_last = others(self.first).iter().all(|one| one.pid == self.main.pid);
        if is_last {
            process::signal(&self.main, Signal::TERM);
            process::signal(&self.main, Signal::CONT);
        }
        is_last
    }
}

/// Waits until the first process of a container does something with a signal, or does not for long.
pub(super) async fn until_taken(found: &Found, signal: &str) {
    let (Some(first), Some(signal)) = (first_process(found), named(signal)) else { return };
    let mut waited = Duration::ZERO;
    while waited < UNTIL_TAKEN && matches!(fate(first, signal), Some(fate) if fate != Fate::Taken) {
        tokio::time::sleep(PAUSE).await;
        waited += PAUSE;
    }
}

/// The first process of a container as this machine numbers it, if the container is of this machine.
fn first_process(found: &Found) -> Option<i32> {
    let pid = found.0.state.as_ref()?.pid.and_then(|pid| i32::try_from(pid).ok())?;
    let groups = fs_err::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.contains(found.0.id.as_deref()?).then_some(pid)
}

/// All living processes but the first: whatever loses its parent becomes a child of the first one.
fn others(first: i32) -> Vec<ProcessStat> {
    let all = process::with_descendants(BTreeSet::from([first]));
    all.into_iter().filter(|one| one.pid != first).collect()
}

fn fate(pid: i32, signal: Signal) -> Option<Fate> {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).ok()?;
    fate_in(&status, signal)
}

/// From `/proc/<pid>/status` (proc(5)): masks in hex, the lowest bit for signal 1.
fn fate_in(status: &str, signal: Signal) -> Option<Fate> {
    let has = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mask = u64::from_str_radix(line.trim(), 16).ok()?;
        Some(mask >> (signal.as_raw() - 1) & 1 == 1)
    };
    Some(match (has("SigCgt")? || has("SigBlk")?, has("SigIgn")?) {
        (true, _) => Fate::Taken,
        (false, true) => Fate::Ignored,
        (false, false) => Fate::Deadly,
    })
}

/// The signals by which images want to be stopped, nearly always.
fn named(signal: &str) -> Option<Signal> {
    match signal.strip_prefix("SIG").unwrap_or(signal) {
        "TERM" => Some(Signal::TERM),
        "INT" => Some(Signal::INT),
        "QUIT" => Some(Signal::QUIT),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_tell_what_becomes_of_a_signal() {
        let status = |blocked: &str, ignored: &str, caught: &str| {
            format!("Name:\tx\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n")
        };
        let (none, term) = ("0000000000000000", "0000000000004000");
        let fate = |text: String| fate_in(&text, Signal::TERM);
        assert_eq!(fate(status(none, none, none)), Some(Fate::Deadly));
        assert_eq!(fate(status(none, term, none)), Some(Fate::Ignored));
        assert_eq!(fate(status(none, none, term)), Some(Fate::Taken));
        assert_eq!(fate(status(term, none, none)), Some(Fate::Taken));
        assert_eq!(fate(String::new()), None);
        assert_eq!(fate_in(&status(none, none, term), Signal::INT), Some(Fate::Deadly));
    }
}
