//! A plan as text: for people, for graph tools, for machines. Pure: no terminal is asked anything.

mod diagram;
mod json;
mod service;
mod tree;

pub use diagram::{dot, mermaid};
pub use json::json;
pub use tree::tree;

use std::ops::Range;

use super::causes::from_words;
use super::graph::{Graph, Part, TaskIndex};
use super::verdict::{Plan, Verdict};
use super::why;
use crate::names::StageName;
use crate::spec::Pipeline;
use crate::spec::pipeline::{Input, Stage};

/// The verdict's word, as in `-o json`.
pub fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Reuse { .. } => "reuse",
        Verdict::Run { .. } => "run",
        Verdict::Unchanged { .. } => "unchanged",
        Verdict::RollOut { .. } => "rollout",
        Verdict::Keep { .. } => "keep",
        Verdict::Depends { .. } => "depends",
        Verdict::Skip => "skip",
        Verdict::Fail { .. } => "fail",
        Verdict::Out => "out",
    }
}

/// Why a task has its verdict, as a fragment; nothing for what needs no reason.
pub fn detail(pipeline: &Pipeline, graph: &Graph, plan: &Plan, index: TaskIndex) -> Option<String> {
    let stage = &pipeline.stages[&graph.tasks[index].id.stage];
    match &plan.verdicts[index] {
        Verdict::Reuse { key } => {
            let shared = plan.shared.as_ref()?;
            let (run, made) = shared.made.get(key)?;
            Some(from_words(*run, Some(made), Some(shared.now)))
        }
        Verdict::Out => None,
        Verdict::Run { why, .. } => Some(why::words(why)),
        Verdict::Unchanged { number, adjust, .. } => {
            Some(service::unchanged(&stage.name, *number, adjust))
        }
        Verdict::RollOut { why, gate } => {
            Some(service::rollout(stage.service()?, plan.in_containers, why, *gate))
        }
        Verdict::Keep { gate } => Some(service::kept(gate)),
        Verdict::Depends { on } => Some(service::depends(pipeline, plan, stage, on)),
        Verdict::Skip => Some(service::skipped_by(plan, &graph.tasks[index].needs).map_or_else(
            || {
                let when: Vec<&str> = stage.when.iter().map(|one| one.source.as_str()).collect();
                format!("its `when` is false: {}", when.join(" and "))
            },
            |(need, word)| format!("`{}` is {word}", graph.tasks[need].id.stage),
        )),
        Verdict::Fail { why } => Some(why.clone()),
    }
}

/// What a stage takes from another: `train.model` for each output, else just `train`.
fn used_of(stage: &Stage, from: &StageName) -> Vec<String> {
    let outputs: Vec<String> = stage
        .inputs
        .values()
        .filter_map(|input| match input {
            Input::Output { stage, output, .. } if stage == from => {
                Some(format!("`{from}.{output}`"))
            }
            _ => None,
        })
        .collect();
    if outputs.is_empty() { vec![format!("`{from}`")] } else { outputs }
}

/// `a`, `a or b`, `a, b or c`.
fn listed(names: &[String], joiner: &str) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} {joiner} {last}", first.join(", ")),
    }
}

/// Tasks of one stage that are shown as one.
struct Row {
    tasks: Range<TaskIndex>,
    label: String,
    detail: Option<String>,
}

/// More copies in a row than this with the same verdict and reason are shown as one.
const FOLD_FROM: usize = 6;

/// The rows of a stage that are in the run.
fn rows(pipeline: &Pipeline, graph: &Graph, plan: &Plan, stage: &StageName) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut alike: Vec<(Range<TaskIndex>, Option<String>)> = Vec::new();
    for index in graph.copies(stage).filter(|index| graph.tasks[*index].part != Part::Out) {
        let detail = detail(pipeline, graph, plan, index);
        match alike.last_mut() {
            Some((tasks, same))
                if *same == detail
                    && tasks.end == index
                    && word(&plan.verdicts[tasks.start]) == word(&plan.verdicts[index]) =>
            {
                tasks.end = index + 1;
            }
            _ => alike.push((index..index + 1, detail)),
        }
    }
    for (tasks, detail) in alike {
        if tasks.len() < FOLD_FROM {
            rows.extend(tasks.map(|index| Row {
                tasks: index..index + 1,
                label: graph.tasks[index].label.clone(),
                detail: detail.clone(),
            }));
        } else {
            let label = format!(
                "{} … {} ({} copies)",
                graph.tasks[tasks.start].label,
                graph.tasks[tasks.end - 1].label,
                tasks.len()
            );
            rows.push(Row { tasks, label, detail });
        }
    }
    rows
}

#[cfg(test)]
mod tests;
