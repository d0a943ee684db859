//! What the driver itself reads from a journal.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use crate::engine::attempt::GPUS;
use crate::engine::run::{Pins, TaskFacts, task_number};
use crate::event::RunEvent;
use crate::names::TaskId;
use crate::plan::{Graph, TaskIndex};
use crate::state::Recorded;

/// How long the run was being done since it was made or last opened again. The time between two owners does not
/// count: nobody could do anything then.
pub(super) fn time_spent(journal: &[Recorded]) -> Duration {
    let opened = journal
        .iter()
        .rposition(|record| matches!(record.event, RunEvent::Reopened { .. }))
        .unwrap_or(0);
    let pairs = journal[opened..].windows(2);
    let spent = pairs
        .filter(|pair| !matches!(pair[1].event, RunEvent::TakenOver { .. }))
        .map(|pair| pair[1].at.saturating_sub(pair[0].at))
        .sum();
    Duration::from_millis(spent)
}

/// What the inputs from outside of each task hold.
pub(super) fn pinned(graph: &Graph, journal: &[Recorded]) -> HashMap<TaskIndex, Pins> {
    let pinned = journal.iter().filter_map(|record| match &record.event {
        RunEvent::OutsidePinned { task, inputs } => Some((graph.find(task)?, inputs.clone())),
        _ => None,
    });
    pinned.collect()
}

/// The attempts that other hosts than `here` started, with their hosts.
pub(super) fn elsewhere(
    graph: &Graph,
    journal: &[Recorded],
    here: &str,
) -> HashMap<(TaskIndex, u32), String> {
    let started = journal.iter().filter_map(|record| match &record.event {
        RunEvent::AttemptStarted { task, attempt, host, .. } if host != here => {
            Some(((graph.find(task)?, *attempt), host.clone()))
        }
        _ => None,
    });
    started.collect()
}

/// The attempts whose jobs are over.
pub(super) fn ended(graph: &Graph, journal: &[Recorded]) -> HashSet<(TaskIndex, u32)> {
    let ended = journal.iter().filter_map(|record| match &record.event {
        RunEvent::AttemptEnded { task, attempt, .. } => Some((graph.find(task)?, *attempt)),
        _ => None,
    });
    ended.collect()
}

/// Graphics processors that attempts without an end hold, as their folders say.
pub(super) fn held_gpus(
    graph: &Graph,
    facts: &[TaskFacts],
    journal: &[Recorded],
    run_folder: &Path,
) -> BTreeMap<TaskIndex, Vec<u32>> {
    if facts.iter().all(|facts| facts.gpu == 0) {
        return BTreeMap::new();
    }
    let mut live: HashMap<&TaskId, u32> = HashMap::new();
    for record in journal {
        match &record.event {
            RunEvent::AttemptStarted { task, attempt, .. } => {
                live.insert(task, *attempt);
            }
            RunEvent::TaskDone { task, .. }
            | RunEvent::TaskFailed { task, .. }
            | RunEvent::TaskCancelled { task }
            | RunEvent::RetryScheduled { task, .. } => {
                live.remove(task);
            }
            _ => {}
        }
    }
    let read = |(task, attempt): (&TaskId, u32)| {
        let task = graph.find(task)?;
        let folder = run_folder.join(format!("{}-{attempt}", task_number(task)));
        let text = fs_err::read_to_string(folder.join(GPUS)).ok()?;
        Some((task, text.split(',').filter_map(|number| number.parse().ok()).collect()))
    };
    live.into_iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Owner;

    #[test]
    fn only_time_with_an_owner_counts() {
        let by = || Owner { host: String::new(), pid: 1, user: String::new() };
        let wish = || RunEvent::StopWished { by: String::new(), kill: false };
        let record = |at, event| Recorded { seq: 1, at, epoch: 1, event };
        let mut journal = vec![
            record(1_000, wish()),
            record(3_000, wish()),
            record(900_000, RunEvent::TakenOver { by: by(), epoch: 2 }),
            record(901_000, wish()),
        ];
        assert_eq!(time_spent(&journal), Duration::from_secs(3));
        journal.push(record(950_000, RunEvent::Reopened { by: by(), epoch: 3 }));
        journal.push(record(950_500, wish()));
        assert_eq!(time_spent(&journal), Duration::from_millis(500));
        assert_eq!(time_spent(&[]), Duration::ZERO);
    }
}
