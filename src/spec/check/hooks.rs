//! Stages named by `on_failure`, `on_exit` and `verify`: they stand outside the DAG.

use indexmap::IndexMap;

use super::super::draft::{Draft, DraftStage};
use super::super::problem::{Problem, Span};
use super::super::reader::{Reader, Spanned};
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
