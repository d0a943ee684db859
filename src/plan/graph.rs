//! Stages and matrices → tasks and edges, within a selection.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexMap;

use super::selection;
pub use super::selection::UnknownStage;
use super::stages::StageGraph;
use crate::event::Selection;
use crate::names::{AxisName, StageName, TaskId};
use crate::scalar::Scalar;
use crate::spec::Pipeline;
use crate::spec::pipeline::Stage;

/// A task's position in [`Graph::tasks`]; its number is this + 1.
pub type TaskIndex = usize;

/// The tasks of a run. Numbers cover the whole file, whatever is selected.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Every task of the file, file order, copies in matrix order.
    pub tasks: Vec<PlannedTask>,
    /// Task of `on_failure`.
    pub on_failure: Option<TaskIndex>,
    /// Task of `on_exit`.
    pub on_exit: Option<TaskIndex>,
    /// By the task of a service: the task of its `verify`.
    verifiers: BTreeMap<TaskIndex, TaskIndex>,
    by_stage: BTreeMap<StageName, Range<TaskIndex>>,
}

/// One task.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedTask {
    /// Its identity.
    pub id: TaskId,
    /// `train[trees=100]`.
    pub label: String,
    /// Values of its matrix copy in axis order.
    pub matrix: Vec<(AxisName, Scalar)>,
    /// Tasks it needs: all copies of every stage it needs, save those that give nothing and are not selected.
    /// Ascending; copies of one stage share it.
    pub needs: Arc<[TaskIndex]>,
    /// Tasks that need it, hooks excepted. Ascending; copies of one stage share it.
    pub needed_by: Arc<[TaskIndex]>,
    /// Longest remaining path within the run, in tasks, this one included: larger starts first.
    pub depth: u32,
    /// What the selection says.
    pub part: Part,
}

/// What a selection says of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Wanted: reused or run.
    Wanted,
    /// Wanted and run even when its key has a record (`--force`; also what `--from` names).
    Forced,
    /// Not wanted itself, but something wanted needs it: reused, else failed (`--only`, above `--from`).
    ReuseOnly,
    /// Not in this run at all (also hooks until they are called).
    Out,
}

impl Part {
    /// Whether it may be computed or released.
    pub fn is_wanted(self) -> bool {
        matches!(self, Self::Wanted | Self::Forced)
    }
}

impl Graph {
    /// The graph of a pipeline within a selection (whose stages exist).
    pub fn new(pipeline: &Pipeline, selection: &Selection) -> Self {
        let stages = StageGraph::of(pipeline);
        let parts = selection::parts(pipeline, &stages, selection);
        let depths = depths(&stages, &parts);
        let copies: Vec<Vec<Vec<(AxisName, Scalar)>>> =
            pipeline.stages.values().map(matrix_copies).collect();
        let ranges = ranges(&copies);

        let mut tasks = Vec::with_capacity(ranges.last().map_or(0, |range| range.end));
        for ((position, stage), copies) in pipeline.stages.values().enumerate().zip(copies) {
            let mut need_stages: Vec<usize> = stage
                .needs
                .iter()
                .filter_map(|need| pipeline.stages.get_index_of(need))
                .filter(|need| parts[position] == Part::Out || parts[*need] != Part::Out)
                .collect();
            need_stages.sort_unstable();
            need_stages.dedup();
            let mut user_stages: Vec<usize> = stages
                .needed_by(position)
                .filter(|user| !pipeline.stages[*user].outside_dag)
                .filter(|user| parts[*user] == Part::Out || parts[position] != Part::Out)
                .collect();
            user_stages.sort_unstable();
            user_stages.dedup();
            let needs: Arc<[TaskIndex]> =
                need_stages.iter().flat_map(|need| ranges[*need].clone()).collect();
            let needed_by: Arc<[TaskIndex]> =
                user_stages.iter().flat_map(|user| ranges[*user].clone()).collect();
            for (copy, matrix) in (1..).zip(copies) {
                tasks.push(PlannedTask {
                    id: TaskId { stage: stage.name.clone(), copy },
                    label: label(&stage.name, &matrix),
                    matrix,
                    needs: Arc::clone(&needs),
                    needed_by: Arc::clone(&needed_by),
                    depth: depths[position],
                    part: parts[position],
                });
            }
        }
        let hook = |name: &Option<StageName>| {
            let position = pipeline.stages.get_index_of(name.as_ref()?)?;
            Some(ranges[position].start)
        };
        let (on_failure, on_exit) = (hook(&pipeline.on_failure), hook(&pipeline.on_exit));
        let verifiers = pipeline.stages.values().enumerate().filter_map(|(position, stage)| {
            Some((ranges[position].start, hook(&stage.service()?.verify)?))
        });
        Self::from_tasks(tasks, on_failure, on_exit).with_verifiers(verifiers.collect())
    }

    /// The same with these `verify` tasks, by the task of their service.
    #[must_use]
    pub fn with_verifiers(mut self, verifiers: BTreeMap<TaskIndex, TaskIndex>) -> Self {
        self.verifiers = verifiers;
        self
    }

    /// A graph of ready-made tasks; copies of one stage stand together, in order.
    pub fn from_tasks(
        tasks: Vec<PlannedTask>,
        on_failure: Option<TaskIndex>,
        on_exit: Option<TaskIndex>,
    ) -> Self {
        let mut by_stage: BTreeMap<StageName, Range<TaskIndex>> = BTreeMap::new();
        for (index, task) in tasks.iter().enumerate() {
            by_stage
                .entry(task.id.stage.clone())
                .and_modify(|range| range.end = index + 1)
                .or_insert(index..index + 1);
        }
        Self { tasks, on_failure, on_exit, verifiers: BTreeMap::new(), by_stage }
    }

    /// The task that tries the new replicas of a service before they go live. Like a hook it is [`Part::Out`] and nothing needs
    /// it; what it needs itself, its service needs too.
    pub fn verify_of(&self, service: TaskIndex) -> Option<TaskIndex> {
        self.verifiers.get(&service).copied()
    }

    /// All copies of a stage; none for a stage that is not there.
    pub fn copies(&self, stage: &StageName) -> Range<TaskIndex> {
        self.by_stage.get(stage).cloned().unwrap_or_default()
    }

    /// The task with this id.
    pub fn find(&self, id: &TaskId) -> Option<TaskIndex> {
        let before = usize::try_from(id.copy.checked_sub(1)?).ok()?;
        self.copies(&id.stage).nth(before)
    }
}

/// The longest remaining path of every stage, over what is in the run.
fn depths(stages: &StageGraph, parts: &[Part]) -> Vec<u32> {
    let mut depths = vec![1; parts.len()];
    for position in stages.order().into_iter().rev() {
        let below = stages
            .needed_by(position)
            .filter(|user| parts[*user] != Part::Out)
            .map(|user| depths[user])
            .max();
        depths[position] = 1 + below.unwrap_or(0);
    }
    depths
}

fn ranges<T>(copies: &[Vec<T>]) -> Vec<Range<TaskIndex>> {
    let mut end = 0;
    copies
        .iter()
        .map(|copies| {
            let start = end;
            end += copies.len();
            start..end
        })
        .collect()
}

/// Every combination of a stage's axes, the last axis varying fastest; without a matrix the one empty combination.
fn matrix_copies(stage: &Stage) -> Vec<Vec<(AxisName, Scalar)>> {
    let no_axes = IndexMap::new();
    let axes = stage.batch().map_or(&no_axes, |batch| &batch.matrix);
    axes.iter().fold(vec![Vec::new()], |rows, (axis, values)| {
        rows.iter()
            .flat_map(|row| {
                values.iter().map(move |value| {
                    let mut longer = row.clone();
                    longer.push((axis.clone(), value.clone()));
                    longer
                })
            })
            .collect()
    })
}

fn label(stage: &StageName, matrix: &[(AxisName, Scalar)]) -> String {
    if matrix.is_empty() {
        return stage.to_string();
    }
    let values: Vec<String> =
        matrix.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    format!("{stage}[{}]", values.join(","))
}

#[cfg(test)]
mod tests;
