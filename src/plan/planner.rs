//! The walk over the stages that gives every task its verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::around::Around;
use super::graph::{Graph, Part, PlannedTask, TaskIndex};
use super::key::{KeyContext, ResolvedInputs, StageResult};
use super::pick::pick_winner;
use super::scope::named;
use super::stages::StageGraph;
use super::verdict::{Gate, NEVER_CACHED, Plan, Question, Verdict};
use crate::digest::Key;
use crate::event::{FieldChange, KeyParts, Reason};
use crate::names::{InputName, StageName, TaskId};
use crate::spec::Pipeline;
use crate::spec::pipeline::{Input, Stage};
use crate::store::{Lookup, Record};

mod service;

/// Follows records as far as they reach. `around` is what lies outside the run; `lookup` answers by key; `history` is what reasons compare with; `now` is in Unix milliseconds.
///
/// Stages are walked once, each after all it needs, and a stage is judged by the stages it needs, not by their copies.
pub fn plan(
    pipeline: &Pipeline,
    graph: &Graph,
    context: &KeyContext,
    around: &Around,
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
        resolved: ResolvedInputs {
            live: around.live.clone(),
            outside: around.fetched().collect(),
            ..ResolvedInputs::default()
        },
        around,
        outlooks: BTreeMap::new(),
        verdicts: vec![Verdict::Out; graph.tasks.len()],
    };
    for position in StageGraph::of(pipeline).order() {
        if let Some((_, stage)) = pipeline.stages.get_index(position) {
            planner.stage(stage);
        }
    }
    let is_service =
        |name: &StageName| pipeline.stages.get(name).is_some_and(|stage| stage.service().is_some());
    let leaving = around.live.keys().filter(|name| !is_service(name)).cloned().collect();
    let in_containers = !context.images.is_empty();
    Plan { verdicts: planner.verdicts, leaving, shared: None, in_containers }
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
    around: &'a Around,
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
                        && stage.service().is_none_or(|service| service.gate.is_empty())
                }
                Verdict::RollOut { gate, .. } => *gate != Gate::Open,
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
                on.extend(self.graph.copies(need).filter(|index| is_open(&self.verdicts[*index])));
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
                _ if stage.service().is_some() => Verdict::Depends { on: Arc::clone(on) },
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
        if let Some((input, changed)) = self.around.not_fetched(stage) {
            return (not_fetched(stage, task, input, changed), None);
        }
        if let Some(service) = stage.service() {
            return (self.service(stage, service, task), None);
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
        if any(|verdict| matches!(verdict, Verdict::Skip | Verdict::Keep { .. })) {
            return Outlook::Skipped;
        }
        if any(is_open) {
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

/// The verdict of a task whose key is known once an input is fetched. `changed`: it is not what was fetched last.
fn not_fetched(stage: &Stage, task: &PlannedTask, input: &InputName, changed: bool) -> Verdict {
    if task.part == Part::ReuseOnly {
        let why = format!(
            "not selected, and its input `{input}` has to be fetched to know whether it has a record: run without `--only` and `--from`, or select it too"
        );
        return Verdict::Fail { why };
    }
    if let Some(service) = stage.service() {
        let field = format!("inputs.{input}");
        let why = vec![FieldChange { field, was: None, is: None }];
        let gate = if service.gate.is_empty() { Gate::None } else { Gate::Open };
        return Verdict::RollOut { why, gate };
    }
    let why = match (stage.not_cached(), task.part) {
        (Some(why), _) => Reason::NotCached(why),
        (None, Part::Forced) => Reason::Forced,
        (None, _) => Reason::NotFetched { input: input.clone(), changed },
    };
    Verdict::Run { key: None, why }
}

/// Whether something is done, or may be.
fn is_open(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Run { .. } | Verdict::RollOut { .. } | Verdict::Depends { .. })
}

/// The stages whose results decide a stage's key, or whether it runs.
fn deciding(stage: &Stage) -> BTreeSet<&StageName> {
    let inputs = stage.inputs.values().filter_map(|input| match input {
        Input::Output { stage, .. } => Some(stage),
        Input::Live { .. } | Input::Outside { .. } | Input::Later => None,
    });
    inputs.chain(named(stage).flat_map(|expression| &expression.references.results)).collect()
}

#[cfg(test)]
mod tests;
