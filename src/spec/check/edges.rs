//! Which stage needs which, with the place that says so.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::super::problem::Span;
use crate::names::StageName;

/// The edges of the DAG, from a stage to what it needs.
#[derive(Debug, Default)]
pub(super) struct Edges(HashMap<StageName, IndexMap<StageName, Span>>);

impl Edges {
    /// `stage` needs `needed`, as `span` says. The first place counts.
    pub(super) fn add(&mut self, stage: &StageName, needed: &StageName, span: Span) {
        self.0.entry(stage.clone()).or_default().entry(needed.clone()).or_insert(span);
    }

    /// `stage` does not need `needed`. The place that said so, if one did.
    pub(super) fn remove(&mut self, stage: &StageName, needed: &StageName) -> Option<Span> {
        self.0.get_mut(stage)?.shift_remove(needed)
    }

    /// What a stage needs.
    pub(super) fn of(&self, stage: &StageName) -> impl Iterator<Item = (&StageName, &Span)> {
        self.0.get(stage).into_iter().flatten()
    }
}
