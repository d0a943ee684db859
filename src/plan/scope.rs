//! The values that the expressions of a task can name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::graph::PlannedTask;
use super::key::{KeyContext, Paths, ResolvedInputs, StageResult};
use crate::scalar::Scalar;
use crate::spec::expression::{Expression, Piece};
use crate::spec::pipeline::{Command, Stage};
use crate::spec::{Scope, Template};

/// What stands for values that differ from run to run.
#[derive(Clone, Copy)]
pub(super) enum Places<'a> {
    /// For keys: a mark that says which path or identity is meant.
    Marks,
    /// For execution: these paths, and the run's own identity.
    Real(&'a Paths),
}

/// Around a mark. No text of a pipeline file holds this character, so a mark is never taken for a written path.
const MARK: char = '\u{1a}';

/// Every `${{ … }}` in what the stage executes.
pub(super) fn executed(stage: &Stage) -> impl Iterator<Item = &Template> {
    let command: &[Template] = match &stage.run {
        Some(Command::Shell(text)) => std::slice::from_ref(text),
        Some(Command::List(words)) => words,
        None => &[],
    };
    command.iter().chain(stage.env.values())
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

/// A text with its marks written as the expressions they stand for: for people.
pub(super) fn without_marks(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (number, piece) in text.split(MARK).enumerate() {
        if number % 2 == 1 {
            shown.push_str("${{ ");
            shown.push_str(piece);
            shown.push_str(" }}");
        } else {
            shown.push_str(piece);
        }
    }
    shown
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
        let identity = matches!(field, "id" | "commit") && matches!(places, Places::Marks);
        let value = match context.run.get(field) {
            _ if identity => mark("run", field),
            Some(value) => value.clone(),
            None => Scalar::Text(String::new()),
        };
        scope.set_scalar("run", field, &value);
    }
    let outputs = stage.batch().into_iter().flat_map(|batch| batch.outputs.keys());
    let of = |paths: fn(&Paths) -> &BTreeMap<String, String>, root: &str, name: &str| match places {
        Places::Marks => Some(mark(root, name)),
        Places::Real(real) => paths(real).get(name).cloned().map(Scalar::Text),
    };
    for name in stage.inputs.keys() {
        if let Some(value) = of(|paths| &paths.inputs, "inputs", name.as_str()) {
            scope.set_scalar("inputs", name.as_str(), &value);
        }
    }
    for name in outputs {
        if let Some(value) = of(|paths| &paths.outputs, "outputs", name.as_str()) {
            scope.set_scalar("outputs", name.as_str(), &value);
        }
    }
    let named = executed(stage).flat_map(expressions).chain(&stage.when);
    for name in named.flat_map(|expression| &expression.references.results) {
        if let Some(result) = resolved.stages.get(name)
            && !scope.roots.contains_key(name.as_str())
        {
            set_result(&mut scope, name.as_str(), result);
        }
    }
    scope
}

fn mark(root: &str, name: &str) -> Scalar {
    Scalar::Text(format!("{MARK}{root}.{name}{MARK}"))
}

fn set_result(scope: &mut Scope, stage: &str, result: &StageResult) {
    let metrics: Map<String, Value> =
        result.metrics.iter().map(|(name, value)| (name.clone(), number(*value))).collect();
    let mut values = Map::new();
    for (name, value) in &result.values {
        values.insert(name.clone(), value.to_json());
        scope.spelled.insert(format!("{stage}.values.{name}"), value.to_string());
    }
    let mut both = Map::new();
    both.insert("metrics".to_owned(), Value::Object(metrics));
    both.insert("values".to_owned(), Value::Object(values));
    scope.roots.insert(stage.to_owned(), Value::Object(both));
}

/// A metric as JSON: a whole one without a fraction, so that `--trees ${{ x.metrics.trees }}` reads `100`, not `100.0`.
fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        return Value::from(value as i64);
    }
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_as_expressions() {
        let Scalar::Text(mark) = mark("inputs", "dataset") else { unreachable!() };
        assert_eq!(without_marks(&format!("cat '{mark}'")), "cat '${{ inputs.dataset }}'");
        assert_eq!(without_marks("plain"), "plain");
    }

    #[test]
    fn whole_metrics_have_no_fraction() {
        assert_eq!(number(100.0).to_string(), "100");
        assert_eq!(number(0.25).to_string(), "0.25");
        assert_eq!(number(1e300).to_string(), "1e+300");
    }
}
