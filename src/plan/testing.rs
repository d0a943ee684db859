//! Pipelines, contexts and records built by hand, for the tests of this module.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;

use super::around::{Around, OutsideFact};
use super::graph::{Graph, PlannedTask};
use super::key::KeyContext;
use super::planner::plan;
use super::verdict::Plan;
use crate::digest::{Digest, Key};
use crate::event::{KeyParts, Metrics, Outputs, Selection};
use crate::names::{RunId, StageName, TaskId};
use crate::release::Release;
use crate::scalar::Scalar;
use crate::source::{Mode, SourceFile};
use crate::spec::Template;
use crate::spec::expression::{Expression, Piece, References};
use crate::spec::pipeline::{
    Batch, Cache, Command, EnvironmentSpec, Input, Pick, Pipeline, Resources, Retries, Stage,
    StageKind,
};
use crate::store::{Lookup, Record};

/// A name of any kind.
pub(super) fn name<N: std::str::FromStr>(text: &str) -> N
where
    N::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

pub(super) fn task_id(stage: &str, copy: u32) -> TaskId {
    TaskId { stage: name(stage), copy }
}

pub(super) fn literal(text: &str) -> Template {
    Template(vec![Piece::Literal(text.to_owned())])
}

/// A text with one expression that names the results of a stage. Its inside cannot be evaluated.
pub(super) fn naming(stage: &str) -> Expression {
    Expression {
        source: format!("{stage}.metrics.score > 1"),
        references: References { results: vec![name(stage)], ..References::default() },
    }
}

/// A stage that runs its own name in a shell and has one output `out`.
pub(super) struct Draft(pub(super) Stage);

pub(super) fn stage(text: &str) -> Draft {
    let mut outputs = IndexMap::new();
    outputs.insert(name("out"), format!("data/{text}.txt"));
    Draft(Stage {
        image: None,
        pull: crate::spec::pipeline::Pull::default(),
        container: crate::spec::pipeline::ContainerSpec::default(),
        args: None,
        secrets: indexmap::IndexMap::new(),
        name: name(text),
        needs: Vec::new(),
        when: Vec::new(),
        run: Some(Command::Shell(literal(&format!("make {text}")))),
        inputs: IndexMap::new(),
        params: Vec::new(),
        files: None,
        workdir: ".".to_owned(),
        env: IndexMap::new(),
        environment: EnvironmentSpec::default(),
        resources: Resources::default(),
        kind: StageKind::Batch(Batch {
            outputs,
            metrics: None,
            values: None,
            matrix: IndexMap::new(),
            pick: None,
            cache: Cache::On,
            retries: Retries::default(),
            timeout: None,
        }),
        outside_dag: false,
        names_run_identity: false,
        uses_service: false,
    })
}

impl Draft {
    pub(super) fn batch(&mut self) -> &mut Batch {
        match &mut self.0.kind {
            StageKind::Batch(batch) => batch,
            StageKind::Service(_) => unreachable!("drafts are batch stages"),
        }
    }

    /// Waits for these without using what they give.
    pub(super) fn needs(mut self, stages: &[&str]) -> Self {
        self.0.needs.extend(stages.iter().map(|stage| name::<StageName>(stage)));
        self
    }

    /// Takes the output `out` of these as an input of the same name.
    pub(super) fn takes(mut self, stages: &[&str]) -> Self {
        for from in stages {
            let input = Input::Output { stage: name(from), output: name("out"), path: None };
            self.0.inputs.insert(name(from), input);
        }
        self.needs(stages)
    }

    pub(super) fn without_outputs(mut self) -> Self {
        self.batch().outputs.clear();
        self
    }

    pub(super) fn cache(mut self, cache: Cache) -> Self {
        self.batch().cache = cache;
        self
    }

    pub(super) fn matrix(mut self, axes: &[(&str, &[&str])]) -> Self {
        for (axis, values) in axes {
            let values = values.iter().map(|value| Scalar::plain(value)).collect();
            self.batch().matrix.insert(name(axis), values);
        }
        self
    }

    pub(super) fn pick_max(mut self, metric: &str) -> Self {
        self.batch().metrics = Some("metrics.json".to_owned());
        self.batch().pick = Some(Pick { metric: metric.to_owned(), largest: true });
        self
    }

    /// Runs only if an expression over another stage's metrics holds.
    pub(super) fn when(mut self, stage: &str) -> Self {
        self.0.when.push(naming(stage));
        self.needs(&[stage])
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Stage)) -> Self {
        change(&mut self.0);
        self
    }
}

pub(super) fn pipeline(stages: impl IntoIterator<Item = Draft>) -> Pipeline {
    Pipeline {
        container_keys: Vec::new(),
        name: name("test"),
        source: None,
        params: IndexMap::new(),
        stages: stages.into_iter().map(|draft| (draft.0.name.clone(), draft.0)).collect(),
        on_failure: None,
        on_exit: None,
        timeout: None,
        volumes: indexmap::IndexSet::new(),
        unavailable: Vec::new(),
        needs_containers: Vec::new(),
        warnings: Vec::new(),
    }
}

/// Plain files with contents of their own; `paths` are sorted.
pub(super) fn files(paths: &[&str]) -> Arc<Vec<SourceFile>> {
    assert!(paths.is_sorted());
    let file = |path: &&str| SourceFile {
        path: (*path).to_owned(),
        mode: Mode::File,
        blob: Digest::of(path.as_bytes()).hex()[..40].to_owned(),
    };
    Arc::new(paths.iter().map(file).collect())
}

pub(super) fn context() -> KeyContext {
    KeyContext::new(
        files(&["pipeline.yaml", "train.py"]),
        String::new(),
        "pipeline.yaml".to_owned(),
    )
}

/// Names of stages → a selection field.
pub(super) fn names(stages: &[&str]) -> std::collections::BTreeSet<StageName> {
    stages.iter().map(|stage| name(stage)).collect()
}

/// Milliseconds at which every record of [`World`] was made.
pub(super) const MADE_AT: u64 = 1_000_000;

/// A store and a history that answer by key: what was run has a record.
#[derive(Default)]
pub(super) struct World {
    pub(super) records: BTreeMap<Key, Record>,
    pub(super) history: BTreeMap<TaskId, KeyParts>,
    pub(super) broken: BTreeMap<Key, Vec<Digest>>,
    pub(super) live: BTreeMap<StageName, Release>,
    pub(super) outside: BTreeMap<Digest, OutsideFact>,
    pub(super) looked_up: usize,
    /// Outputs are the same whatever the key: early cut-off.
    pub(super) same_outputs: bool,
}

impl World {
    pub(super) fn plan(&mut self, pipeline: &Pipeline, context: &KeyContext) -> Plan {
        self.plan_selected(pipeline, context, &Selection::default())
    }

    pub(super) fn plan_selected(
        &mut self,
        pipeline: &Pipeline,
        context: &KeyContext,
        selection: &Selection,
    ) -> Plan {
        let graph = Graph::new(pipeline, selection);
        let (records, broken) = (&self.records, &self.broken);
        let looked_up = &mut self.looked_up;
        let around = Around { live: self.live.clone(), outside: self.outside.clone() };
        plan(pipeline, &graph, context, &around, &self.history, MADE_AT + 5_000, &mut |key| {
            *looked_up += 1;
            match (broken.get(key), records.get(key)) {
                (Some(missing), _) => Lookup::Broken { missing: missing.clone() },
                (None, Some(record)) => Lookup::Hit(Box::new(record.clone())),
                (None, None) => Lookup::Miss,
            }
        })
    }

    /// Does what a run would do: every task gets a record, unless its key has one, and a place in the history.
    /// `metric` gives the `score` of a task.
    pub(super) fn run(
        &mut self,
        pipeline: &Pipeline,
        context: &KeyContext,
        metric: &dyn Fn(&TaskId) -> Option<f64>,
    ) {
        let graph = Graph::new(pipeline, &Selection::default());
        let mut resolved = super::ResolvedInputs::default();
        for position in super::stages::StageGraph::of(pipeline).order() {
            let stage = &pipeline.stages[position];
            let mut results = Vec::new();
            for index in graph.copies(&stage.name) {
                let task = &graph.tasks[index];
                if stage.service().is_some() {
                    self.release(pipeline, context, task, &resolved);
                    continue;
                }
                resolved.live = self.live.clone();
                let around = Around { live: BTreeMap::new(), outside: self.outside.clone() };
                resolved.outside = around.fetched().collect();
                let Ok(parts) = context.key_parts(pipeline, task, &resolved) else { continue };
                let key = parts.key();
                let record = self.records.entry(key).or_insert_with(|| {
                    let seed = if self.same_outputs { String::new() } else { key.to_string() };
                    record(key, &parts, &seed, metric(&task.id).map(|score| ("score", score)))
                });
                results.push((task.id.copy, record.clone()));
                self.history.insert(task.id.clone(), parts);
            }
            let winner = match stage.batch().and_then(|batch| batch.pick.as_ref()) {
                Some(pick) => super::pick_winner(
                    pick,
                    results.iter().map(|(copy, record)| (*copy, &record.metrics)),
                )
                .map(|(copy, _)| copy),
                None => Some(1),
            };
            if let Some((_, record)) = results.into_iter().find(|(copy, _)| Some(*copy) == winner) {
                let result = super::key::StageResult {
                    outputs: record.outputs,
                    metrics: record.metrics,
                    values: record.values,
                };
                resolved.stages.insert(stage.name.clone(), result);
            }
        }
    }
}

impl World {
    /// Does what a run would do with a service whose gate passes.
    fn release(
        &mut self,
        pipeline: &Pipeline,
        context: &KeyContext,
        task: &PlannedTask,
        resolved: &super::ResolvedInputs,
    ) {
        let Ok(behaviour) = context.behaviour(pipeline, task, resolved) else { return };
        let before = self.live.get(&task.id.stage);
        if before.is_some_and(|live| live.behaviour.digest() == behaviour.digest()) {
            return;
        }
        let service = pipeline.stages[&task.id.stage].service().unwrap();
        let mut release =
            crate::release::testing::release(before.map_or(1, |live| live.number + 1));
        release.behaviour = behaviour;
        release.notes.replicas = service.replicas;
        release.notes.route.clone_from(&service.route);
        let metrics = resolved.stages.iter().map(|(name, of)| (name.clone(), of.metrics.clone()));
        release.notes.metrics = metrics.collect();
        self.live.insert(task.id.stage.clone(), release);
    }
}

/// A pipeline as it stands in a file.
pub(super) fn read(text: &str) -> Pipeline {
    crate::spec::load("pipeline.yaml", text.as_bytes()).unwrap()
}

/// A record of a key whose outputs are decided by `seed`.
fn record(key: Key, parts: &KeyParts, seed: &str, metric: Option<(&str, f64)>) -> Record {
    let outputs: Outputs = parts
        .outputs
        .keys()
        .map(|output| (output.clone(), Digest::of(format!("{output} of {seed}").as_bytes())))
        .collect();
    let metrics: Metrics =
        metric.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Record {
        format: 1,
        key,
        parts: parts.clone(),
        outputs,
        metrics,
        values: BTreeMap::new(),
        seconds: 1.0,
        peak_memory: 0,
        made_by: RunId::new(MADE_AT, 1),
        made_at: MADE_AT,
        made_on: None,
    }
}
