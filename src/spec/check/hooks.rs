//! Stages named by `on_failure`, `on_exit` and `verify`: they stand outside the DAG.

use std::collections::{BTreeSet, HashSet};

use indexmap::IndexMap;

use super::super::draft::{Draft, DraftStage};
use super::super::pipeline::Stage;
use super::super::problem::{Problem, Span};
use super::super::reader::{Reader, Spanned};
use super::edges::Edges;
use super::names::find_stage;
use crate::names::StageName;

/// Why a stage stands outside the DAG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    OnFailure,
    OnExit,
    Verify,
}

impl Role {
    /// The key that names it.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::OnFailure => "on_failure",
            Self::OnExit => "on_exit",
            Self::Verify => "verify",
        }
    }
}

/// Every stage outside the DAG with its one role.
pub(super) fn hooks(draft: &Draft, reader: &mut Reader<'_>) -> IndexMap<StageName, Role> {
    let mut named: Vec<(&Spanned<String>, Role)> = Vec::new();
    named.extend(draft.on_failure.iter().map(|name| (name, Role::OnFailure)));
    named.extend(draft.on_exit.iter().map(|name| (name, Role::OnExit)));
    let services = draft.stages.values().filter_map(|stage| stage.service.as_ref());
    named.extend(
        services.filter_map(|service| service.verify.as_ref()).map(|name| (name, Role::Verify)),
    );
    let mut hooks = IndexMap::new();
    for (name, role) in named {
        let Some((stage_name, stage)) = find_stage(draft, reader, &name.value, name.span) else {
            continue;
        };
        if hooks.contains_key(stage_name) {
            let message = format!(
                "stage `{stage_name}` is named twice by `on_failure`, `on_exit` or `verify`"
            );
            reader.report(
                Problem::new("hook-twice", name.span, message)
                    .help("write a stage of its own for each"),
            );
            continue;
        }
        hooks.insert(stage_name.clone(), role);
        check(reader, stage_name, stage, role, name.span);
    }
    hooks
}

fn check(reader: &mut Reader<'_>, name: &StageName, stage: &DraftStage, role: Role, span: Span) {
    let key = role.key();
    if stage.service.is_some() {
        let message = format!("`{key}` names `{name}`, which is a service");
        reader
            .report(Problem::new("hook-is-service", span, message).help("name a stage that ends"));
    }
    let mut refuse = |span: Span, what: &str| {
        let message = format!("stage `{name}` is named by `{key}` and cannot have {what}");
        reader.report(
            Problem::new("hook-in-dag", span, message)
                .help(format!("remove it, or write another stage for `{key}`")),
        );
    };
    if let Some(span) = stage.matrix_span {
        refuse(span, "`matrix`");
    }
    if role == Role::Verify {
        return;
    }
    // These run whatever became of the others, so nothing can wait for them, nor they for anything.
    if let Some(need) = stage.needs.first() {
        refuse(need.span, "`needs`");
    }
    if let Some(input) = stage.inputs.values().next() {
        refuse(input.span, "`inputs`");
    }
    for key in &stage.batch_keys {
        if ["outputs", "metrics", "values"].contains(&key.value) {
            refuse(key.span, &format!("`{}`", key.value));
        }
    }
}

/// Gives every service the needs of its `verify` stage: those must be done before its rollout begins.
///
/// In `edges` the service then needs its `verify` stage, so that a circle which leads through it is shown with it.
pub(super) fn verified(
    draft: &Draft,
    hooks: &IndexMap<StageName, Role>,
    reader: &mut Reader<'_>,
    edges: &mut Edges,
    stages: &mut IndexMap<StageName, Stage>,
) {
    let mut seen: HashSet<&StageName> = HashSet::new();
    for (service, stage) in stages.iter_mut() {
        let draft_service = draft.stages.get(service).and_then(|stage| stage.service.as_ref());
        let verify = draft_service.and_then(|service| service.verify.as_ref());
        let Some(Spanned { value: verify, span }) = verify else { continue };
        let Some((verify, Role::Verify)) = hooks.get_key_value(verify.as_str()) else { continue };
        if !seen.insert(verify) {
            continue;
        }
        if let Some(span) = edges.remove(verify, service) {
            let message = format!("stage `{verify}` verifies `{service}` and cannot need it");
            reader.report(Problem::new("verify-needs-service", span, message).help(format!(
                "read the candidate's address from `$FLOWRUN_SERVICE_{}_URL`",
                service.variable()
            )));
        }
        // By their places in the file: in its order, and none twice.
        let own = stage.needs.iter().chain(edges.of(verify).map(|(needed, _)| needed));
        let places: BTreeSet<usize> =
            own.filter_map(|needed| draft.stages.get_index_of(needed)).collect();
        stage.needs = places
            .into_iter()
            .filter_map(|place| draft.stages.get_index(place).map(|(name, _)| name.clone()))
            .collect();
        edges.add(service, verify, *span);
    }
}
