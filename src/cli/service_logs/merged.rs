//! The logs of many starts as one, by time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::event::JobEnd;
use crate::names::ReleaseId;
use crate::plan::causes::end_words;
use crate::rollout::folders::StartFolder;
use crate::runtime::log::LogPosition;
use crate::runtime::log_lines::{LogEntry, LogFollower};
use crate::runtime::{job_report, started_at};

/// The logs of all starts of a service that are shown.
pub(super) struct MergedLog {
    pub(super) sources: Vec<Source>,
    seen: BTreeSet<(ReleaseId, u32, u32)>,
    replica: Option<u32>,
}

/// The log of one start.
pub(super) struct Source {
    from: Origin,
    follower: Option<LogFollower>,
    /// Read and not given out, each with its time.
    items: VecDeque<(u64, What)>,
    last: u64,
}

/// One start of one replica of one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// Of the release.
    pub(super) number: Option<u64>,
    pub(super) replica: u32,
    pub(super) start: u32,
}

/// Something to show.
pub(super) struct Item {
    /// Unix milliseconds.
    pub(super) at: u64,
    pub(super) from: Origin,
    pub(super) what: What,
}

pub(super) enum What {
    /// The start began: why.
    Started(String),
    /// It printed this.
    Entry(LogEntry),
}

impl MergedLog {
    /// Nothing yet; of this replica only, when one is named.
    pub(super) fn new(replica: Option<u32>) -> Self {
        Self { sources: Vec::new(), seen: BTreeSet::new(), replica }
    }

    /// Begins to read the starts of these releases that were not seen yet.
    pub(super) fn take(
        &mut self,
        all: &[StartFolder],
        releases: &BTreeSet<ReleaseId>,
        numbers: &BTreeMap<ReleaseId, u64>,
    ) {
        for (place, start) in all.iter().enumerate() {
            let is_wanted = releases.contains(&start.release)
                && self.replica.is_none_or(|replica| replica == start.replica);
            // Before its job is ordered there is nothing to read; it is looked at again.
            let Some(at) = started_at(&start.path).filter(|_| is_wanted) else { continue };
            if self.seen.insert((start.release, start.replica, start.start)) {
                let number = numbers.get(&start.release).copied();
                let before = place.checked_sub(1).map(|before| &all[before]);
                self.sources.push(Source::new(start, number, before, at));
            }
        }
    }

    /// The next thing to show, the oldest that is there. `all`: nobody waits for more, so unfinished last lines are given out too.
    pub(super) fn next(&mut self, all: bool) -> std::io::Result<Option<Item>> {
        for source in &mut self.sources {
            source.fill(all)?;
        }
        self.sources.retain(|source| !source.items.is_empty() || source.follower.is_some());
        let oldest = self.sources.iter_mut().filter(|source| !source.items.is_empty());
        let oldest = oldest.min_by_key(|source| source.items.front().map(|(at, _)| *at));
        Ok(oldest.and_then(|source| {
            let (at, what) = source.items.pop_front()?;
            Some(Item { at, from: source.from, what })
        }))
    }
}

impl Source {
    fn new(
        start: &StartFolder,
        number: Option<u64>,
        before: Option<&StartFolder>,
        at: u64,
    ) -> Self {
        let from = Origin { number, replica: start.replica, start: start.start };
        let same = |one: &&StartFolder| {
            one.release == start.release
                && one.replica == start.replica
                && one.start.checked_add(1) == Some(start.start)
        };
        let ended = before.filter(same).and_then(|before| job_report(&before.path));
        let said = boundary(from, ended.as_ref().map(|report| &report.end));
        Self {
            from,
            follower: Some(LogFollower::new(&start.path, LogPosition::default())),
            items: VecDeque::from([(at, What::Started(said))]),
            last: at,
        }
    }

    /// Reads some more when nothing is left to give out.
    fn fill(&mut self, all: bool) -> std::io::Result<()> {
        while self.items.is_empty() {
            let Some(mut follower) = self.follower.take() else { return Ok(()) };
            let mut entries = follower.look()?;
            let is_over = follower.is_over();
            if entries.is_empty() && all && !is_over {
                entries = follower.finish()?;
            } else if !is_over {
                self.follower = Some(follower);
            }
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                if let LogEntry::Line { at, .. } = &entry {
                    self.last = *at;
                }
                self.items.push_back((self.last, What::Entry(entry)));
            }
        }
        Ok(())
    }
}

/// `replica 1 started anew (exit code 1)`.
fn boundary(from: Origin, ended: Option<&JobEnd>) -> String {
    let Origin { number, replica, start } = from;
    let of = number.map(|number| format!(" of release {number}")).unwrap_or_default();
    if start <= 1 {
        return format!("replica {replica}{of} started");
    }
    let why = match ended {
        None => String::new(),
        Some(JobEnd::Cancelled) => " (it was stopped)".to_owned(),
        Some(end) => format!(" ({})", end_words(end)),
    };
    format!("replica {replica}{of} started anew{why}")
}
