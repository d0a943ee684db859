//! The values that the expressions of a task can name.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::graph::PlannedTask;
use super::key::{KeyContext, Paths, ResolvedInputs, StageResult};
use super::marks::mark;
use super::{live, results};
use crate::names::InputName;
use crate::scalar::Scalar;
use crate::spec::expression::{Expression, Piece};
use crate::spec::pipeline::{Command, Input, ReadyProbe, Stage};
use crate::spec::{Scope, Template};

/// What stands for values that differ from run to run.
#[derive(Clone, Copy)]
pub(super) enum Places<'a> {
    /// For keys and releases: a mark that says which value is meant.
    Marks,
    /// For execution: these paths, and the run's own identity.
    Real(&'a Paths),
    /// To see whether an expression leaves marks alone: [`trial`] in place of each.
    Trial,
}

/// What stands for a mark on trial: nothing that changes texts leaves it as it is.
pub(super) fn trial(name: &str) -> String {
    format!("/Trial of/{name}")
}

impl Places<'_> {
    /// What stands for a value by its name; none for real ones.
    fn stand_in(self, name: &str) -> Option<Scalar> {
        match self {
            Self::Marks => Some(mark(name)),
            Self::Trial => Some(Scalar::Text(trial(name))),
            Self::Real(_) => None,
        }
    }
}

/// Every text with `${{ … }}` in what the stage executes; of a service also what asks whether it is ready.
pub(super) fn executed(stage: &Stage) -> impl Iterator<Item = &Template> {
    let ready = stage.service().and_then(|service| match &service.ready {
        ReadyProbe::Run(command) => Some(command),
        ReadyProbe::Http(_) | ReadyProbe::Tcp => None,
    });
    let commands = stage.run.iter().chain(ready);
    let words = commands.flat_map(|command| match command {
        Command::Shell(text) => std::slice::from_ref(text),
        Command::List(words) => words,
    });
    words.chain(stage.args.iter().flatten()).chain(stage.env.values())
}

/// Every expression that decides whether and how the stage runs. The gate of a service is none of them.
pub(super) fn named(stage: &Stage) -> impl Iterator<Item = &Expression> {
    executed(stage).flat_map(expressions).chain(&stage.when)
}

/// The expressions of a template.
pub(super) fn expressions(template: &Template) -> impl Iterator<Item = &Expression> {
    template.0.iter().filter_map(|piece| match piece {
        Piece::Literal(_) => None,
        Piece::Expression(expression) => Some(expression),
    })
}

/// The text of a template without expressions.
pub(super) fn literal(template: &Template) -> Option<String> {
    template
        .0
        .iter()
        .map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::Expression(_) => None,
        })
        .collect()
}

/// The scope of one task. Of other stages it holds those whose results the stage's expressions name, as far as they
/// are resolved.
pub(super) fn scope(
    context: &KeyContext,
    stage: &Stage,
    task: &PlannedTask,
    resolved: &ResolvedInputs,
    places: Places<'_>,
) -> Scope {
    let mut scope = Scope::default();
    for root in ["params", "matrix", "run", "inputs", "outputs", "services"] {
        scope.roots.insert(root.to_owned(), Value::Object(Map::new()));
    }
    scope.roots.insert("live".to_owned(), Value::Null);
    scope.roots.insert("port".to_owned(), Value::Null);
    scope.roots.insert("target".to_owned(), Value::String(String::new()));

    for (name, value) in &context.params {
        scope.set_scalar("params", name.as_str(), value);
    }
    for (axis, value) in &task.matrix {
        scope.set_scalar("matrix", axis.as_str(), value);
    }
    for field in ["id", "commit", "ref", "dirty", "base"] {
        let identity = matches!(field, "id" | "commit");
        let stand_in = identity.then(|| places.stand_in(&format!("run.{field}"))).flatten();
        let value = match (stand_in, context.run.get(field)) {
            (Some(mark), _) => mark,
            (None, Some(value)) => value.clone(),
            (None, None) => Scalar::Text(String::new()),
        };
        scope.set_scalar("run", field, &value);
    }
    if stage.service().is_some()
        && let Some(port) = places.stand_in("port")
    {
        scope.roots.insert("port".to_owned(), port.to_json());
    }
    let value = |real: fn(&Paths) -> &BTreeMap<String, String>, root: &str, name: &str| match places
    {
        Places::Real(paths) => real(paths).get(name).cloned().map(Scalar::Text),
        Places::Marks | Places::Trial => places.stand_in(&format!("{root}.{name}")),
    };
    for (name, input) in &stage.inputs {
        if is_absent(name, input, resolved) {
            set_none(&mut scope, "inputs", name.as_str());
        } else if let Some(value) = value(|paths| &paths.inputs, "inputs", name.as_str()) {
            scope.set_scalar("inputs", name.as_str(), &value);
        }
    }
    for name in stage.batch().into_iter().flat_map(|batch| batch.outputs.keys()) {
        if let Some(value) = value(|paths| &paths.outputs, "outputs", name.as_str()) {
            scope.set_scalar("outputs", name.as_str(), &value);
        }
    }
    let gate = stage.service().map(|service| service.gate.as_slice()).unwrap_or_default();
    for references in named(stage).chain(gate).map(|expression| &expression.references) {
        for name in &references.results {
            if let Some(result) = resolved.stages.get(name)
                && !scope.roots.contains_key(name.as_str())
            {
                set_result(&mut scope, name.as_str(), result);
            }
        }
        for name in &references.services {
            if let Some(url) = context.service_urls.get(name) {
                set_url(&mut scope, name.as_str(), url);
            }
        }
    }
    live::set_named(&mut scope, resolved, named(stage));
    scope
}

/// Whether an input is one of the live release and there is none.
fn is_absent(name: &InputName, input: &Input, resolved: &ResolvedInputs) -> bool {
    let Input::Live { service, input, optional } = input else { return false };
    matches!(live::input(resolved, name, service, input, *optional), Ok(None))
}

fn set_none(scope: &mut Scope, root: &str, name: &str) {
    if let Some(Value::Object(object)) = scope.roots.get_mut(root) {
        object.insert(name.to_owned(), Value::Null);
    }
}

fn set_url(scope: &mut Scope, service: &str, url: &str) {
    if let Some(Value::Object(services)) = scope.roots.get_mut("services") {
        services.insert(service.to_owned(), json!({ "url": url }));
    }
}

fn set_result(scope: &mut Scope, stage: &str, result: &StageResult) {
    let metrics = results::of_metrics(&result.metrics);
    let values = results::of_values(scope, stage, &result.values);
    scope.roots.insert(stage.to_owned(), results::both(metrics, values));
}
