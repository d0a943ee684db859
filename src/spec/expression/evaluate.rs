//! The value of an expression: minijinja, strict, with fuel, and with comparisons that refuse unlike things.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use minijinja::value::{Rest, Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value, filters};
use serde_json::Value as Json;

use super::token::{Builtin, Path, Tokens};
use super::{Scope, live};
use crate::names::suggest;
use crate::scalar::Scalar;

/// Instructions one evaluation may take: far more than a condition needs, a blink in time.
const FUEL: u64 = 50_000;
const COMPARE: &str = "__compare";

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.add_function(COMPARE, compare);
    // As tests, comparisons would go past `compare`.
    for test in [
        "eq",
        "equalto",
        "==",
        "ne",
        "!=",
        "lt",
        "lessthan",
        "<",
        "le",
        "<=",
        "gt",
        "greaterthan",
        ">",
        "ge",
        ">=",
        "sameas",
    ] {
        environment.remove_test(test);
    }
    environment.remove_global("debug");
    environment.add_filter("default", otherwise);
    environment.add_filter("d", otherwise);
    environment
});

/// Why the text is not an expression, if so.
pub(super) fn check(source: &str) -> Result<(), String> {
    if source.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    let tokens = Tokens::new(source);
    if is_one_name(&tokens, source) {
        return Ok(());
    }
    ENVIRONMENT.compile_expression_owned(source.to_owned()).map_err(|error| plain(&error))?;
    for (kind, name, _) in tokens.builtins() {
        let known = match kind {
            Builtin::Filter => !is_kind(
                ENVIRONMENT.empty_state().apply_filter(name, &[]),
                ErrorKind::UnknownFilter,
            ),
            Builtin::Test => {
                !is_kind(ENVIRONMENT.empty_state().perform_test(name, &[]), ErrorKind::UnknownTest)
            }
            Builtin::Function => ENVIRONMENT.globals().any(|(global, _)| global == name),
        };
        if !known {
            let what = match kind {
                Builtin::Filter => "filter",
                Builtin::Test => "test",
                Builtin::Function => "function",
            };
            return Err(format!("there is no {what} `{name}`"));
        }
    }
    compared(&tokens).map(drop)
}

/// Whether it is a dotted name and nothing else: most expressions are.
fn is_one_name(tokens: &Tokens<'_>, source: &str) -> bool {
    matches!(tokens.paths().as_slice(), [path] if path.dotted() == source.trim())
}

fn is_kind<T>(result: Result<T, Error>, kind: ErrorKind) -> bool {
    result.is_err_and(|error| error.kind() == kind)
}

fn compared(tokens: &Tokens<'_>) -> Result<String, String> {
    tokens
        .compare_with(COMPARE)
        .ok_or_else(|| "its comparisons need brackets around them".to_owned())
}

/// The value of an expression in a scope.
pub(super) fn evaluate(source: &str, scope: &Scope) -> Result<Json, String> {
    let tokens = Tokens::new(source);
    let paths = tokens.paths();
    // One name needs no machine, and by far most expressions are one name.
    if let [path] = paths.as_slice()
        && path.dotted() == source.trim()
    {
        return find(path, scope).cloned().ok_or_else(|| missing(path, scope));
    }
    let live = live::separate(source, &paths, scope);
    let compiled = ENVIRONMENT
        .compile_expression_owned(compared(&Tokens::new(&live.source))?)
        .map_err(|error| plain(&error))?;
    let roots = paths.iter().filter_map(|path| {
        let root = path.parts.first()?;
        Some((root.as_str(), scope.roots.get(root)?))
    });
    let mut context: BTreeMap<&str, &Json> = roots.collect();
    context.extend(live.values.iter().map(|(name, value)| (name.as_str(), *value)));
    let value = compiled.eval(Value::from(Serde(&context))).map_err(|error| {
        let undefined = error.kind() == ErrorKind::UndefinedError;
        let absent = paths.iter().find(|path| undefined && find(path, scope).is_none());
        let none = live.none.map(|path| format!("; `{}` is none", path.dotted()));
        absent.map_or_else(
            || format!("{}{}", plain(&error), none.unwrap_or_default()),
            |path| missing(path, scope),
        )
    })?;
    match value.kind() {
        ValueKind::Undefined => Err(paths
            .iter()
            .find(|path| find(path, scope).is_none())
            .map_or_else(|| "is not defined".to_owned(), |path| missing(path, scope))),
        ValueKind::Number if f64::try_from(value.clone()).is_ok_and(|n| !n.is_finite()) => {
            Err("is not a finite number".to_owned())
        }
        _ => serde_json::to_value(&value).map_err(|_| "is not a plain value".to_owned()),
    }
}

/// The value of a name. What a live release does not have is none, also when nothing is live.
pub(super) fn find<'a>(path: &Path, scope: &'a Scope) -> Option<&'a Json> {
    let (root, rest) = path.parts.split_first()?;
    let found = rest.iter().try_fold(scope.roots.get(root)?, |value, part| value.get(part));
    if root == live::ROOT { found.or(Some(&Json::Null)) } else { found }
}

/// What an expression names with its single values: none where one is none or missing.
pub(super) fn named(source: &str, scope: &Scope) -> BTreeMap<String, Option<Scalar>> {
    let paths = Tokens::new(source).paths().into_iter();
    let single = paths.filter_map(|path| {
        let value = match find(&path, scope) {
            None | Some(Json::Null) => None,
            Some(value) => Some(Scalar::from_json(value)?),
        };
        Some((path.dotted(), value))
    });
    single.collect()
}

/// The filter `default`, also for what is none: metrics that a live release does not have are.
fn otherwise(state: &State<'_, '_>, value: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let value = if value.is_none() { &Value::UNDEFINED } else { value };
    filters::default(state, value, args)
}

/// The sentence for a name that the scope does not have.
fn missing(path: &Path, scope: &Scope) -> String {
    let what = match path.parts.get(1).map(String::as_str) {
        Some("metrics") => "metric",
        Some("values") => "value",
        _ => return format!("`{}` is not defined here", path.dotted()),
    };
    let (Some(stage), Some(name)) = (path.parts.first(), path.parts.get(2)) else {
        return format!("`{}` is not defined here", path.dotted());
    };
    let reported = scope
        .roots
        .get(stage)
        .and_then(|stage| stage.get(path.parts[1].as_str()))
        .and_then(Json::as_object);
    let Some(reported) = reported else {
        return format!("`{}` is not known yet", path.dotted());
    };
    let near = suggest(name, reported.keys().map(String::as_str))
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    format!("stage `{stage}` reported no {what} `{name}`{near}")
}

/// `compare(a, "<", b, "<=", c)`: a chain of comparisons, each of like with like.
#[expect(clippy::needless_pass_by_value, reason = "minijinja calls functions with values")]
fn compare(chain: Rest<Value>) -> Result<bool, Error> {
    for link in chain.windows(3).step_by(2) {
        let [left, operator, right] = link else { continue };
        for side in [left, right] {
            if side.is_undefined() {
                return Err(Error::from(ErrorKind::UndefinedError));
            }
        }
        let operator = operator.as_str().unwrap_or_default();
        let equality = matches!(operator, "==" | "!=");
        let none = left.is_none() || right.is_none();
        let alike = if none { equality } else { left.kind() == right.kind() };
        if !alike {
            let why = format!("{} cannot be compared with {}", described(left), described(right));
            return Err(Error::new(ErrorKind::InvalidOperation, why));
        }
        let holds = match operator {
            "==" => left == right,
            "!=" => left != right,
            "<" => left < right,
            "<=" => left <= right,
            ">" => left > right,
            _ => left >= right,
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn described(value: &Value) -> String {
    serde_json::to_value(value).map_or_else(|_| value.kind().to_string(), |json| describe(&json))
}

/// A value in a sentence: `the text "a"`, `the number 3`.
pub(super) fn describe(value: &Json) -> String {
    match value {
        Json::Null => "none".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) => format!("the text {text:?}"),
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "a map".to_owned(),
    }
}

/// A value as text; none and maps have no text that anybody means.
pub(super) fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Bool(_) | Json::Number(_) => Some(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// minijinja's reason as a fragment, without its own places.
fn plain(error: &Error) -> String {
    match error.kind() {
        ErrorKind::OutOfFuel => "takes too many steps".to_owned(),
        kind => error.detail().map_or_else(|| kind.to_string(), ToOwned::to_owned),
    }
}
