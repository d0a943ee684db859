//! How many bytes went to the store's place and came from there, and how many did not have to.

use std::collections::BTreeMap;

use crate::event::{Moved, RunEvent};
use crate::names::TaskId;
use crate::words::{bytes, list};

/// The bytes of every task of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MovedBytes(BTreeMap<TaskId, Moved>);

impl MovedBytes {
    /// Of a run's journal.
    pub fn of<'e>(events: impl IntoIterator<Item = &'e RunEvent>) -> Self {
        let mut of_tasks = BTreeMap::new();
        for event in events {
            if let RunEvent::TaskDone { task, moved, .. }
            | RunEvent::TaskReused { task, moved, .. } = event
            {
                of_tasks.insert(task.clone(), *moved);
            }
        }
        Self(of_tasks)
    }

    /// Of one task.
    pub(super) fn of_task(&self, task: &TaskId) -> Moved {
        self.0.get(task).copied().unwrap_or_default()
    }

    /// Of all tasks together.
    pub(super) fn total(&self) -> Moved {
        self.0.values().fold(Moved::default(), |sum, one| sum.and(*one))
    }

    /// The last line of a run whose store lies elsewhere; none when no byte had to go there or come from there, or could have.
    pub fn summary_line(&self, shared: bool) -> Option<String> {
        let total = self.total();
        let words = words(total);
        let tell = total.sent + total.received > 0 || shared;
        (tell && !words.is_empty()).then(|| format!("  {words}\n"))
    }
}

/// `sent 12 MiB and received 3 MiB; 1.1 GiB did not have to move`; empty when nothing did.
fn words(moved: Moved) -> String {
    let parts: Vec<String> = [(moved.sent, "sent"), (moved.received, "received")]
        .into_iter()
        .filter(|(amount, _)| *amount > 0)
        .map(|(amount, verb)| format!("{verb} {}", bytes(amount)))
        .collect();
    let spared =
        (moved.spared > 0).then(|| format!("{} did not have to move", bytes(moved.spared)));
    let went = (!parts.is_empty()).then(|| list(&parts));
    went.into_iter().chain(spared).collect::<Vec<_>>().join("; ")
}

/// `↑ 12 MiB ↓ 3 MiB, 1.1 GiB reused`; empty when nothing moved or could have.
pub(super) fn short_words(moved: Moved) -> String {
    let arrows: Vec<String> = [(moved.sent, "↑"), (moved.received, "↓")]
        .into_iter()
        .filter(|(amount, _)| *amount > 0)
        .map(|(amount, arrow)| format!("{arrow} {}", bytes(amount)))
        .collect();
    let reused = (moved.spared > 0).then(|| format!("{} reused", bytes(moved.spared)));
    let arrows = (!arrows.is_empty()).then(|| arrows.join(" "));
    arrows.into_iter().chain(reused).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{done, reused, task};

    fn with(event: RunEvent, bytes: Moved) -> RunEvent {
        match event {
            RunEvent::TaskDone { task, key, outputs, metrics, values, .. } => {
                RunEvent::TaskDone { task, key, outputs, metrics, values, moved: bytes }
            }
            RunEvent::TaskReused { task, key, from, outputs, metrics, values, made, .. } => {
                let moved = bytes;
                RunEvent::TaskReused { task, key, from, outputs, metrics, values, made, moved }
            }
            other => other,
        }
    }

    #[test]
    fn bytes_of_tasks_and_of_all() {
        let moved = |sent, received, spared| Moved { sent, received, spared };
        let events = [
            with(done(&task("train", 1)), moved(1 << 20, 3 << 20, 5 << 10)),
            with(reused(&task("prepare", 1)), moved(0, 0, 1 << 30)),
            RunEvent::RunTimedOut,
        ];
        let all = MovedBytes::of(&events);
        let shown = |name| short_words(all.of_task(&task(name, 1)));
        assert_eq!(shown("train"), "↑ 1 MiB ↓ 3 MiB, 5 KiB reused");
        assert_eq!(shown("prepare"), "1 GiB reused");
        assert_eq!(shown("evaluate"), "");
        assert_eq!(
            all.summary_line(false).unwrap(),
            "  sent 1 MiB and received 3 MiB; 1 GiB did not have to move\n"
        );
        let alone = MovedBytes::of(&events[1..]);
        assert_eq!(alone.summary_line(false), None, "nothing moves in a home's own store");
        assert!(alone.summary_line(true).is_some());
        assert_eq!(MovedBytes::default().summary_line(true), None);
    }
}
