//! What a run would do, and why, as far as records reach.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::graph::{Graph, Part, PlannedTask, TaskIndex};
use super::key::{KeyContext, ResolvedInputs, StageResult};
use super::pick::pick_winner;
use super::scope::{executed, expressions};
use super::stages::StageGraph;
pub use super::told::told;
use super::why;
use crate::digest::Key;
use crate::event::{KeyParts, Reason};
use crate::names::{StageName, TaskId};
use crate::spec::Pipeline;
use crate::spec::pipeline::{Cache, Input, Stage};
use crate::store::{Lookup, Record};

/// What would happen to every task.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The tasks, as in the graph.
    pub verdicts: Vec<Verdict>,
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
    /// It needs what runs first: it runs if that gives something new.
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

/// How many tasks have each verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field counts the verdict of its name")]
pub struct Counts {
    pub reuse: usize,
    pub run: usize,
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
                Verdict::Depends { .. } => counts.depends += 1,
                Verdict::Skip => counts.skip += 1,
                Verdict::Fail { .. } => counts.fail += 1,
                Verdict::Out => counts.out += 1,
            }
        }
        counts
    }

    /// Whether an `apply` would start anything, or fail trying (`plan --exit-code`).
    pub fn would_run(&self) -> bool {
        let counts = self.counts();
        counts.run + counts.depends + counts.fail > 0
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

const NEVER_CACHED: &str =
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

/// Follows records as far as they reach. `lookup` answers by key; `history` is what reasons compare with; `now` is in
/// Unix milliseconds.
///
/// Stages are walked once, each after all it needs, and a stage is judged by the stages it needs, not by their copies.
pub fn plan(
    pipeline: &Pipeline,
    graph: &Graph,
    context: &KeyContext,
    history: &BTreeMap<TaskId, KeyParts>,
    now: u64,
    lookup: &mut dyn FnMut(&Key) -> Lookup,
) -> Plan {
    let mut planner = Planner {
        pipeline,
        graph,
        context,
        history,
        now,
        lookup,
        resolved: ResolvedInputs::default(),
        outlooks: BTreeMap::new(),
        verdicts: vec![Verdict::Out; graph.tasks.len()],
    };
    for position in StageGraph::of(pipeline).order() {
        if let Some((_, stage)) = pipeline.stages.get_index(position) {
            planner.stage(stage);
        }
    }
    Plan { verdicts: planner.verdicts }
}

/// What is known of a whole stage once its copies are judged.
enum Outlook {
    Out,
    /// Every copy is reused; what it gave is resolved.
    Known,
    /// Something of it runs, or may run.
    Open {
        /// It surely is not skipped.
        certain: bool,
    },
    Skipped,
    Failed,
}

/// What the stages above say of every copy of a stage.
enum Above {
    Failed(StageName),
    Skipped,
    /// Its key is known.
    Known,
    /// What decides its key, or whether it runs at all, has to end first.
    Open {
        on: Arc<[TaskId]>,
        certain: bool,
    },
}

struct Planner<'a> {
    pipeline: &'a Pipeline,
    graph: &'a Graph,
    context: &'a KeyContext,
    history: &'a BTreeMap<TaskId, KeyParts>,
    now: u64,
    lookup: &'a mut dyn FnMut(&Key) -> Lookup,
    resolved: ResolvedInputs,
    outlooks: BTreeMap<&'a StageName, Outlook>,
    verdicts: Vec<Verdict>,
}

impl<'a> Planner<'a> {
    fn stage(&mut self, stage: &'a Stage) {
        let above = self.above(stage);
        let mut given: Vec<(u32, StageResult)> = Vec::new();
        let mut certain = true;
        for index in self.graph.copies(&stage.name) {
            let task = &self.graph.tasks[index];
            let (verdict, result) = if task.part == Part::Out {
                (Verdict::Out, None)
            } else {
                self.task(stage, task, &above)
            };
            certain &= match &verdict {
                Verdict::Depends { .. } => {
                    matches!(above, Above::Open { certain: true, .. })
                        && stage.when.iter().all(|when| self.knows(&when.references.results))
                }
                _ => true,
            };
            given.extend(result.map(|result| (task.id.copy, result)));
            self.verdicts[index] = verdict;
        }
        let outlook = self.outlook(stage, given, certain);
        self.outlooks.insert(&stage.name, outlook);
    }

    fn above(&self, stage: &Stage) -> Above {
        let outlook = |need: &StageName| self.outlooks.get(need);
        let failed = stage.needs.iter().find(|need| matches!(outlook(need), Some(Outlook::Failed)));
        if let Some(need) = failed {
            return Above::Failed(need.clone());
        }
        if stage.needs.iter().any(|need| matches!(outlook(need), Some(Outlook::Skipped))) {
            return Above::Skipped;
        }
        let deciding = deciding(stage);
        let mut on: Vec<TaskIndex> = Vec::new();
        let mut all_certain = true;
        for need in &stage.needs {
            if let Some(Outlook::Open { certain }) = outlook(need)
                && (!certain || deciding.contains(need))
            {
                all_certain &= certain;
                on.extend(self.graph.copies(need).filter(|index| {
                    matches!(self.verdicts[*index], Verdict::Run { .. } | Verdict::Depends { .. })
                }));
            }
        }
        if on.is_empty() {
            return Above::Known;
        }
        on.sort_unstable();
        let on = on.into_iter().map(|index| self.graph.tasks[index].id.clone()).collect();
        Above::Open { on, certain: all_certain }
    }

    fn knows(&self, stages: &[StageName]) -> bool {
        stages.iter().all(|stage| self.resolved.stages.contains_key(stage))
    }

    /// The verdict of one task in the run, and what it gave when it is reused.
    fn task(
        &mut self,
        stage: &Stage,
        task: &PlannedTask,
        above: &Above,
    ) -> (Verdict, Option<StageResult>) {
        match above {
            Above::Failed(need) => {
                return (
                    Verdict::Fail { why: format!("it needs `{need}`, which would fail") },
                    None,
                );
            }
            Above::Skipped => return (Verdict::Skip, None),
            Above::Known | Above::Open { .. } => {}
        }
        let is_open = matches!(above, Above::Open { .. });
        let (open, known): (Vec<_>, Vec<_>) =
            stage.when.iter().partition(|when| is_open && !self.knows(&when.references.results));
        let holds =
            self.context.all_hold(self.pipeline, task, &self.resolved, &mut known.into_iter());
        match holds {
            Ok(true) => {}
            Ok(false) => return (Verdict::Skip, None),
            Err(error) => return (Verdict::Fail { why: error.to_string() }, None),
        }
        if let Above::Open { on, certain } = above {
            let verdict = match (stage.not_cached(), task.part) {
                (Some(_), Part::ReuseOnly) => Verdict::Fail { why: NEVER_CACHED.to_owned() },
                (Some(why), _) if open.is_empty() && *certain => {
                    Verdict::Run { key: None, why: Reason::NotCached(why) }
                }
                (None, Part::Forced) if open.is_empty() && *certain => {
                    Verdict::Run { key: None, why: Reason::Forced }
                }
                _ => Verdict::Depends { on: Arc::clone(on) },
            };
            return (verdict, None);
        }
        let parts = match self.context.key_parts(self.pipeline, task, &self.resolved) {
            Ok(parts) => parts,
            Err(error) => return (Verdict::Fail { why: error.to_string() }, None),
        };
        let question = Question {
            stage,
            part: task.part,
            parts: &parts,
            before: self.history.get(&task.id),
            now: self.now,
        };
        let key = parts.key();
        if let Some(verdict) = question.answer_without_record(key) {
            return (verdict, None);
        }
        let found = (self.lookup)(&key);
        let verdict = question.answer(key, &found);
        let result = match (&verdict, found) {
            (Verdict::Reuse { .. }, Lookup::Hit(record)) => {
                let Record { outputs, metrics, values, .. } = *record;
                Some(StageResult { outputs, metrics, values })
            }
            _ => None,
        };
        (verdict, result)
    }

    /// Sums a stage up, and resolves what it gave when every copy is reused.
    fn outlook(
        &mut self,
        stage: &Stage,
        mut given: Vec<(u32, StageResult)>,
        certain: bool,
    ) -> Outlook {
        let copies = self.graph.copies(&stage.name);
        let any = |wanted: fn(&Verdict) -> bool| self.verdicts[copies.clone()].iter().any(wanted);
        if any(|verdict| matches!(verdict, Verdict::Fail { .. })) {
            return Outlook::Failed;
        }
        if any(|verdict| matches!(verdict, Verdict::Skip)) {
            return Outlook::Skipped;
        }
        if any(|verdict| matches!(verdict, Verdict::Run { .. } | Verdict::Depends { .. })) {
            return Outlook::Open { certain };
        }
        if any(|verdict| matches!(verdict, Verdict::Out)) {
            return Outlook::Out;
        }
        let winner = match stage.batch().and_then(|batch| batch.pick.as_ref()) {
            Some(pick) => {
                let copies = given.iter().map(|(copy, result)| (*copy, &result.metrics));
                match pick_winner(pick, copies) {
                    Some((winner, _)) => winner,
                    None => return Outlook::Failed,
                }
            }
            // Nothing can be named of a matrix without `pick`.
            None if given.len() != 1 => return Outlook::Known,
            None => given[0].0,
        };
        given.retain(|(copy, _)| *copy == winner);
        self.resolved
            .stages
            .extend(given.into_iter().map(|(_, result)| (stage.name.clone(), result)));
        Outlook::Known
    }
}

/// The stages whose results decide a stage's key, or whether it runs.
fn deciding(stage: &Stage) -> BTreeSet<&StageName> {
    let inputs = stage.inputs.values().filter_map(|input| match input {
        Input::Output { stage, .. } => Some(stage),
        Input::Later => None,
    });
    let named = executed(stage).flat_map(expressions).chain(&stage.when);
    inputs.chain(named.flat_map(|expression| &expression.references.results)).collect()
}

#[cfg(test)]
mod tests;
