//! What a run would do, and why, as far as records reach.

use std::collections::BTreeMap;

use super::graph::Graph;
use super::key::KeyContext;
use crate::digest::Key;
use crate::event::{KeyParts, Reason, RunEvent};
use crate::names::TaskId;
use crate::spec::Pipeline;
use crate::store::Lookup;

/// What would happen to every task.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The tasks, as in the graph.
    pub verdicts: Vec<Verdict>,
}

/// What would happen to one task.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Its key has a record.
    Reuse { key: Key },
    /// It runs.
    Run { key: Option<Key>, why: Reason },
    /// It needs what runs first: it runs if that gives something new.
    Depends { on: Vec<TaskId> },
    /// `when` is false, here or above.
    Skip,
    /// It would fail: an expression has no value, it is outside the selection and has no record.
    Fail { why: String },
    /// Not in this run.
    Out,
}

/// Follows records as far as they reach. `lookup` answers by key; `history` is what reasons compare with.
pub fn plan(
    pipeline: &Pipeline,
    graph: &Graph,
    context: &KeyContext,
    history: &BTreeMap<TaskId, KeyParts>,
    lookup: &mut dyn FnMut(&Key) -> Lookup,
) -> Plan {
    let _ = (pipeline, graph, context, history, lookup);
    todo!()
}

/// Why a task that has no record must run, given what it was before.
pub fn reason(parts: &KeyParts, before: Option<&KeyParts>) -> Reason {
    let _ = (parts, before);
    todo!()
}

/// Why a task ran, was reused, skipped or failed, from a run's journal: for `flowrun why` and `status`.
pub fn told(events: &[RunEvent], task: &TaskId) -> Vec<String> {
    let _ = (events, task);
    todo!()
}
