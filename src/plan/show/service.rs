//! What a plan says of services, as fragments.

use super::{listed, used_of};
use crate::event::{FieldChange, Reason};
use crate::names::{StageName, TaskId};
use crate::plan::graph::TaskIndex;
use crate::plan::release::GateAnswer;
use crate::plan::rollout_words::{gate_words, in_place_words};
use crate::plan::verdict::{Gate, Plan, Verdict};
use crate::plan::why;
use crate::release::replaced_in_place;
use crate::spec::Pipeline;
use crate::spec::pipeline::{Service, Stage};
use crate::words::count;

/// `serve@3`, and what changes without a rollout.
pub(super) fn unchanged(stage: &StageName, number: u64, adjust: &[FieldChange]) -> String {
    format!("{stage}@{number}{}", in_place_words(adjust))
}

/// Why it rolls out, and what happens on the way.
pub(super) fn rollout(
    service: &Service,
    in_containers: bool,
    why: &[FieldChange],
    gate: Gate,
) -> String {
    let why = if why.is_empty() {
        "first release".to_owned()
    } else {
        why::words(&Reason::Changed(why.to_vec()))
    };
    with_steps(why, service, in_containers, gate)
}

/// Why the live release stays.
pub(super) fn kept(gate: &GateAnswer) -> String {
    gate_words(gate.failed.as_deref(), &gate.values)
}

/// What something that needs tasks which are not over yet hangs on.
pub(super) fn depends(pipeline: &Pipeline, plan: &Plan, stage: &Stage, on: &[TaskId]) -> String {
    let mut stages: Vec<&StageName> = on.iter().map(|task| &task.stage).collect();
    stages.dedup();
    let service_of = |name: &StageName| pipeline.stages.get(name).and_then(Stage::service);
    let (services, others): (Vec<&StageName>, Vec<&StageName>) =
        stages.into_iter().partition(|name| service_of(name).is_some());
    let verb = if stage.service().is_some() { "rolls out" } else { "runs" };
    let named: Vec<String> = others.into_iter().flat_map(|from| used_of(stage, from)).collect();
    let unless: Vec<String> = services
        .into_iter()
        .map(|name| {
            let gated = service_of(name).is_some_and(|service| !service.gate.is_empty());
            format!("`{name}` is {}", if gated { "kept" } else { "skipped" })
        })
        .collect();
    let mut words = verb.to_owned();
    if !named.is_empty() {
        let changes = if named.len() == 1 { "changes" } else { "change" };
        words += &format!(" if {} {changes}", listed(&named, "or"));
    }
    if !unless.is_empty() {
        let comma = if named.is_empty() { "" } else { "," };
        words += &format!("{comma} unless {}", listed(&unless, "or"));
    }
    match stage.service() {
        None => words,
        Some(service) => {
            let gate = if service.gate.is_empty() { Gate::None } else { Gate::Open };
            with_steps(words, service, plan.in_containers, gate)
        }
    }
}

/// The need that keeps a task from running: skipped itself, or a service that is kept.
pub(super) fn skipped_by(plan: &Plan, needs: &[TaskIndex]) -> Option<(TaskIndex, &'static str)> {
    needs.iter().find_map(|need| match &plan.verdicts[*need] {
        Verdict::Skip => Some((*need, "skipped")),
        Verdict::Keep { .. } => Some((*need, "kept")),
        _ => None,
    })
}

/// Why a service is replaced in place, if it is: requests fail meanwhile. Containers may all listen on one port.
pub(super) fn in_place(service: &Service, in_containers: bool) -> Option<&'static str> {
    replaced_in_place(!service.volumes.is_empty(), service.listen.is_some() && !in_containers)
}

fn with_steps(first: String, service: &Service, in_containers: bool, gate: Gate) -> String {
    let mut parts = vec![first];
    if let Some(why) = in_place(service, in_containers) {
        let one = if service.replicas > 1 { ", so it has one replica" } else { "" };
        parts.push(format!("replaced in place: {why}{one}"));
    }
    match gate {
        Gate::None => {}
        Gate::Holds => parts.push("gate: holds".to_owned()),
        Gate::Open => parts.push(format!("gate: {}", count(service.gate.len(), "expression"))),
    }
    if let Some(verify) = &service.verify {
        parts.push(format!("verify: {verify}"));
    }
    parts.join("; ")
}

/// A line for each service that is live and not in the file any more.
pub(super) fn leaving(plan: &Plan) -> Vec<String> {
    let line = |name: &StageName| format!("`{name}` leaves the file: it will be taken down");
    plan.leaving.iter().map(line).collect()
}
