//! Stages and matrices → tasks and edges, within a selection.

use crate::event::Selection;
use crate::names::{AxisName, StageName, TaskId};
use crate::scalar::Scalar;
use crate::spec::Pipeline;

/// A task's position in [`Graph::tasks`]; its number is this + 1.
pub type TaskIndex = usize;

/// The tasks of a run. Numbers cover the whole file, whatever is selected.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Every task of the file, file order, copies in matrix order.
    pub tasks: Vec<PlannedTask>,
    /// Task of `on_failure`, `on_exit`.
    pub on_failure: Option<TaskIndex>,
    /// Task of `on_exit`.
    pub on_exit: Option<TaskIndex>,
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
    /// Tasks it needs: all copies of every stage it needs.
    pub needs: Vec<TaskIndex>,
    /// Tasks that need it.
    pub needed_by: Vec<TaskIndex>,
    /// Longest remaining path, in tasks, this one included: larger starts first.
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

/// A selection that names what is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no stage `{name}`{}", .suggestion.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
pub struct UnknownStage {
    /// What was asked for.
    pub name: String,
    /// The nearest stage.
    pub suggestion: Option<StageName>,
}

impl Graph {
    /// The graph of a pipeline within a selection (whose stages exist).
    pub fn new(pipeline: &Pipeline, selection: &Selection) -> Self {
        let _ = (pipeline, selection);
        todo!()
    }

    /// All copies of a stage.
    pub fn copies(&self, stage: &StageName) -> impl Iterator<Item = TaskIndex> + '_ {
        let stage = stage.clone();
        self.tasks
            .iter()
            .enumerate()
            .filter(move |(_, task)| task.id.stage == stage)
            .map(|(index, _)| index)
    }

    /// The task with this id.
    pub fn find(&self, id: &TaskId) -> Option<TaskIndex> {
        self.tasks.iter().position(|task| &task.id == id)
    }
}
