//! `--only --from --until --force` → what each stage's part in a run is.

use std::collections::BTreeSet;

use super::graph::Part;
use super::stages::StageGraph;
use crate::event::{NotCached, Selection};
use crate::names::{StageName, suggest};
use crate::spec::Pipeline;
use crate::words::short_list;

/// How many stages a message names.
const NAMED: usize = 20;

/// A selection that names what cannot be selected.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownStage {
    /// There is no such stage; the nearest one, if any is near.
    #[error("there is no stage `{name}`")]
    NotThere { name: String, suggestion: Option<StageName> },
    /// One copy of a matrix was named.
    #[error("`{name}` is one copy of a stage")]
    OneCopy { name: String, stage: StageName },
    /// The stage is called by `on_failure`, `on_exit` or `verify`.
    #[error("stage `{stage}` is called by {caller} and cannot be selected")]
    Hook { stage: StageName, caller: &'static str },
}

impl UnknownStage {
    /// What to write instead, one imperative sentence.
    pub fn help(&self, pipeline: &Pipeline) -> String {
        match self {
            Self::NotThere { suggestion: Some(near), .. } => format!("did you mean `{near}`?"),
            Self::OneCopy { stage, .. } => {
                format!("name `{stage}`, which means all its copies")
            }
            Self::NotThere { suggestion: None, .. } | Self::Hook { .. } => {
                let stages = pipeline.stages.values().filter(|stage| !stage.outside_dag);
                let names: Vec<String> = stages.map(|stage| format!("`{}`", stage.name)).collect();
                format!("use one of {}", short_list(&names, NAMED))
            }
        }
    }
}

/// A selection from the texts of a command line; every name is checked.
pub fn resolve_selection(
    pipeline: &Pipeline,
    only: &[String],
    from: &[String],
    until: &[String],
    force: &[String],
) -> Result<Selection, UnknownStage> {
    let names = |texts: &[String]| -> Result<BTreeSet<StageName>, UnknownStage> {
        texts.iter().map(|text| stage_named(pipeline, text)).collect()
    };
    Ok(Selection {
        only: names(only)?,
        from: names(from)?,
        until: names(until)?,
        force: names(force)?,
    })
}

fn stage_named(pipeline: &Pipeline, text: &str) -> Result<StageName, UnknownStage> {
    if let Some(stage) = pipeline.stages.get(text) {
        if !stage.outside_dag {
            return Ok(stage.name.clone());
        }
        let caller = if pipeline.on_failure.as_ref() == Some(&stage.name) {
            "`on_failure`"
        } else if pipeline.on_exit.as_ref() == Some(&stage.name) {
            "`on_exit`"
        } else {
            "`verify`"
        };
        return Err(UnknownStage::Hook { stage: stage.name.clone(), caller });
    }
    let plain = text.split('[').next().unwrap_or(text).trim();
    if plain.len() < text.len()
        && let Some(stage) = pipeline.stages.get(plain)
    {
        return Err(UnknownStage::OneCopy { name: text.to_owned(), stage: stage.name.clone() });
    }
    let selectable = pipeline
        .stages
        .values()
        .filter(|stage| !stage.outside_dag)
        .map(|stage| stage.name.as_str());
    let suggestion = suggest(plain, selectable)
        .and_then(|near| pipeline.stages.get(near))
        .map(|stage| stage.name.clone());
    Err(UnknownStage::NotThere { name: text.to_owned(), suggestion })
}

/// The part of every stage, by its position in the file.
///
/// Each of `only`, `from` and `until` that is given narrows what is wanted; what `force` names is wanted in any case.
/// A stage outside the selection that gives nothing (no outputs, metrics or values) is not waited for: there is
/// nothing of it to reuse.
pub(super) fn parts(pipeline: &Pipeline, graph: &StageGraph, selection: &Selection) -> Vec<Part> {
    let positions = |names: &BTreeSet<StageName>| -> Vec<usize> {
        names.iter().filter_map(|name| pipeline.stages.get_index_of(name)).collect()
    };
    let outside: Vec<bool> = pipeline.stages.values().map(|stage| stage.outside_dag).collect();
    let mut wanted: Vec<bool> = outside.iter().map(|outside| !outside).collect();
    let mut narrow = |reached: Vec<bool>| {
        for (wanted, reached) in wanted.iter_mut().zip(reached) {
            *wanted &= reached;
        }
    };
    if !selection.only.is_empty() {
        let only: BTreeSet<usize> = positions(&selection.only).into_iter().collect();
        narrow((0..outside.len()).map(|position| only.contains(&position)).collect());
    }
    if !selection.from.is_empty() {
        narrow(graph.downstream(positions(&selection.from).into_iter()));
    }
    if !selection.until.is_empty() {
        narrow(graph.upstream(positions(&selection.until).into_iter(), |_| true));
    }

    let mut again = vec![false; outside.len()];
    for position in positions(&selection.from) {
        again[position] = wanted[position];
    }
    for position in positions(&selection.force) {
        wanted[position] = !outside[position];
        again[position] = wanted[position];
    }

    let gives_nothing: Vec<bool> = pipeline
        .stages
        .values()
        .map(|stage| stage.not_cached() == Some(NotCached::NoOutputs))
        .collect();
    let starts = (0..wanted.len()).filter(|position| wanted[*position]);
    let needed = graph.upstream(starts, |position| wanted[position] || !gives_nothing[position]);

    (0..outside.len())
        .map(|position| {
            if again[position] {
                Part::Forced
            } else if wanted[position] {
                Part::Wanted
            } else if needed[position] {
                Part::ReuseOnly
            } else {
                Part::Out
            }
        })
        .collect()
}
