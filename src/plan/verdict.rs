//! What a run would do, and why, as far as records reach.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::graph::Part;
use super::release::GateAnswer;
pub use super::told::told;
use super::why;
use crate::digest::Key;
use crate::event::{FieldChange, KeyParts, Maker, Reason};
use crate::names::{ReleaseId, RunId, StageName, TaskId};
use crate::spec::pipeline::{Cache, Stage};
use crate::store::{Lookup, Record};

/// What would happen to every task.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The tasks, as in the graph.
    pub verdicts: Vec<Verdict>,
    /// Services that are live and not in the file any more: a run that ends well takes them down.
    pub leaving: Vec<StageName>,
    /// Where results come from, when machines share the store.
    pub shared: Option<SharedResults>,
    /// Stages are containers, each with ports of its own.
    pub in_containers: bool,
}

/// The results of a shared store that a plan would take.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedResults {
    /// The store, as people know it.
    pub place: String,
    /// When it was asked, Unix milliseconds.
    pub now: u64,
    /// The run that made each result, and who did.
    pub made: BTreeMap<Key, (RunId, Maker)>,
}

impl SharedResults {
    /// Of the store at `place`, asked at `now` (Unix milliseconds); nothing is found yet.
    pub fn new(place: String, now: u64) -> Self {
        Self { place, now, made: BTreeMap::new() }
    }

    /// Takes in what a look-up found.
    pub fn saw(&mut self, found: &Lookup) {
        if let Lookup::Hit(record) = found {
            let maker = Maker { on: record.made_on.clone(), at: record.made_at };
            self.made.insert(record.key, (record.made_by, maker));
        }
    }
}

/// What would happen to one task.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Its key has a record.
    Reuse {
        /// The key.
        key: Key,
    },
    /// It runs.
    Run {
        /// None where it is not known yet, and for what is never cached.
        key: Option<Key>,
        /// Why.
        why: Reason,
    },
    /// The service's live release behaves the same: nothing restarts and no gate is asked.
    Unchanged {
        /// The live release.
        release: ReleaseId,
        /// Its number.
        number: u64,
        /// Replicas and route as far as they differ: changed in place.
        adjust: Vec<FieldChange>,
    },
    /// The service gets a new release.
    RollOut {
        /// What differs from the live release; empty for the first.
        why: Vec<FieldChange>,
        /// What is known of its gate.
        gate: Gate,
    },
    /// The service would get a new release, but its gate is false: the live release stays.
    Keep {
        /// What the gate says.
        gate: Box<GateAnswer>,
    },
    /// It needs what runs first: it runs, or is rolled out, if that gives something new.
    Depends {
        /// What has to end first, in task order; shared by the copies of a stage.
        on: Arc<[TaskId]>,
    },
    /// `when` is false, here or above.
    Skip,
    /// It would fail: an expression has no value, it is outside the selection and has no record.
    Fail {
        /// A fragment.
        why: String,
    },
    /// Not in this run.
    Out,
}

/// What is known of the gate of a service before the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It has none.
    None,
    /// It holds.
    Holds,
    /// It is asked once what it names is there.
    Open,
}

/// How many tasks have each verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field counts the verdict of its name")]
pub struct Counts {
    pub reuse: usize,
    pub run: usize,
    pub unchanged: usize,
    pub rollout: usize,
    pub keep: usize,
    pub depends: usize,
    pub skip: usize,
    pub fail: usize,
    pub out: usize,
}

impl Plan {
    /// How many tasks have each verdict.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for verdict in &self.verdicts {
            match verdict {
                Verdict::Reuse { .. } => counts.reuse += 1,
                Verdict::Run { .. } => counts.run += 1,
                Verdict::Unchanged { .. } => counts.unchanged += 1,
                Verdict::RollOut { .. } => counts.rollout += 1,
                Verdict::Keep { .. } => counts.keep += 1,
                Verdict::Depends { .. } => counts.depends += 1,
                Verdict::Skip => counts.skip += 1,
                Verdict::Fail { .. } => counts.fail += 1,
                Verdict::Out => counts.out += 1,
            }
        }
        counts
    }

    /// Whether an `apply` would start or take down anything, or fail trying (`plan --exit-code`).
    pub fn would_run(&self) -> bool {
        let counts = self.counts();
        let adjusts = |verdict: &Verdict| matches!(verdict, Verdict::Unchanged { adjust, .. } if !adjust.is_empty());
        counts.run + counts.rollout + counts.depends + counts.fail > 0
            || !self.leaving.is_empty()
            || self.verdicts.iter().any(adjusts)
    }
}

/// A task whose key is known, and what is asked about it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Its stage.
    pub stage: &'a Stage,
    /// What the selection says.
    pub part: Part,
    /// What its key is the digest of.
    pub parts: &'a KeyParts,
    /// The parts of the last finished task of the same stage and copy.
    pub before: Option<&'a KeyParts>,
    /// Unix milliseconds.
    pub now: u64,
}

impl Question<'_> {
    /// The verdict where no record can change it: the task is never cached, or forced.
    pub fn answer_without_record(&self, key: Key) -> Option<Verdict> {
        match (self.stage.not_cached(), self.part) {
            (_, Part::Out) => Some(Verdict::Out),
            (Some(_), Part::ReuseOnly) => Some(Verdict::Fail { why: NEVER_CACHED.to_owned() }),
            (Some(why), _) => Some(Verdict::Run { key: None, why: Reason::NotCached(why) }),
            (None, Part::Forced) => Some(Verdict::Run { key: Some(key), why: Reason::Forced }),
            (None, _) => None,
        }
    }

    /// The verdict, given what the store found for the key. The engine and `plan` both ask here.
    pub fn answer(&self, key: Key, found: &Lookup) -> Verdict {
        if let Some(verdict) = self.answer_without_record(key) {
            return verdict;
        }
        let why = match found {
            Lookup::Hit(record) => match expired(self.stage, record, self.now) {
                None => return Verdict::Reuse { key },
                Some(age) => Reason::Expired { age },
            },
            Lookup::Miss => reason(self.parts, self.before),
            Lookup::Broken { missing } => Reason::RecordBroken { missing: missing.clone() },
        };
        let cache_only = self.stage.batch().is_some_and(|batch| batch.cache == Cache::Only);
        if self.part == Part::ReuseOnly {
            let why = format!(
                "not selected and has no record ({}): run without `--only` and `--from`, or select it too",
                why::words(&why)
            );
            Verdict::Fail { why }
        } else if cache_only {
            let why = format!("`cache: only` and it has no record ({})", why::words(&why));
            Verdict::Fail { why }
        } else {
            Verdict::Run { key: Some(key), why }
        }
    }
}

pub(super) const NEVER_CACHED: &str =
    "not selected and never cached: run without `--only` and `--from`, or select it too";

/// The age of a record that is older than `cache: <duration>` of the stage allows.
fn expired(stage: &Stage, record: &Record, now: u64) -> Option<Duration> {
    let Cache::For(limit) = stage.batch()?.cache else {
        return None;
    };
    let age = Duration::from_millis(now.saturating_sub(record.made_at));
    (age > limit).then_some(age)
}

/// Why a task that has no record must run, given what it was before.
pub fn reason(parts: &KeyParts, before: Option<&KeyParts>) -> Reason {
    let Some(before) = before else {
        return Reason::FirstTime;
    };
    let changes = why::changes(before, parts);
    if changes.is_empty() { Reason::NoRecord } else { Reason::Changed(changes) }
}

#[cfg(test)]
mod tests;
