//! Draft → [`Pipeline`]: every name resolved, every rule that needs more than one key.

mod cycles;
mod edges;
mod hooks;
mod inputs;
mod names;
mod places;
mod services;
mod stages;

use std::collections::HashSet;

use indexmap::IndexMap;

use super::draft::Draft;
use super::pipeline::{Pipeline, Stage};
use super::problem::Problem;
use super::reader::Reader;
use crate::names::{ParamName, StageName};

/// Checks a draft. `None` only when something was reported.
pub(super) fn check(draft: &Draft, reader: &mut Reader<'_>) -> Option<Pipeline> {
    let hooks = hooks::hooks(draft, reader);
    stages::twice(&draft.defaults, reader);
    let mut stages: IndexMap<StageName, Stage> = IndexMap::new();
    let mut edges = edges::Edges::default();
    for (name, stage) in &draft.stages {
        if stage.broken {
            continue;
        }
        let site = names::Site { draft, hooks: &hooks, name, stage };
        stages.insert(name.clone(), stages::stage(&site, reader, &mut edges));
    }
    hooks::verified(draft, &hooks, reader, &mut edges, &mut stages);
    cycles::report(draft, &edges, reader);
    services::distinct(draft, reader);
    unused_params(draft, &stages, reader);
    let params = draft
        .params
        .iter()
        .filter_map(|(name, (param, _))| Some((name.clone(), param.clone()?)))
        .collect();
    let role = |wanted: hooks::Role| {
        hooks.iter().find(|(_, role)| **role == wanted).map(|(name, _)| name.clone())
    };
    Some(Pipeline {
        name: draft.name.clone()?,
        source: draft.source.clone(),
        params,
        stages,
        on_failure: role(hooks::Role::OnFailure),
        on_exit: role(hooks::Role::OnExit),
        timeout: draft.timeout,
        volumes: draft.volumes.clone(),
        unavailable: Vec::new(),
        needs_containers: Vec::new(),
        warnings: Vec::new(),
        container_keys: draft.container_keys.iter().map(ToString::to_string).collect(),
    })
}

/// A parameter that no stage names reaches no stage: mostly a forgotten `params: [x]`.
fn unused_params(draft: &Draft, stages: &IndexMap<StageName, Stage>, reader: &mut Reader<'_>) {
    let mut used: HashSet<&str> =
        stages.values().flat_map(|stage| &stage.params).map(ParamName::as_str).collect();
    // A gate is no part of what its service runs, so its params are not the stage's.
    let services = draft.stages.values().filter_map(|stage| stage.service.as_ref());
    for path in services.flat_map(|service| &service.gate).flat_map(|gate| &gate.paths) {
        if let [root, name, ..] = path.value.parts.as_slice()
            && root == "params"
        {
            used.insert(name);
        }
    }
    for (name, (param, span)) in &draft.params {
        if param.is_some() && !used.contains(name.as_str()) {
            reader.warn(
                Problem::new(
                    "unused-param",
                    *span,
                    format!("no stage names the parameter `{name}`"),
                )
                .help(format!("add `params: [{name}]` to the stages that read it")),
            );
        }
    }
}
