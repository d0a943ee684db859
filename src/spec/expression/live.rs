//! `live` in expressions: what a live release does not have is none, at any depth, and so is all of it when nothing is live.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use super::Scope;
use super::evaluate::find;
use super::token::Path;

/// The root of these names.
pub(super) const ROOT: &str = "live";

/// Stands for a live release without metrics and values: an empty map would count as false.
static NO_RESULTS: LazyLock<Json> = LazyLock::new(|| json!({"metrics": {}}));

/// An expression whose names below `live` are variables of their own.
pub(super) struct Separated<'a> {
    /// The expression with the variables.
    pub(super) source: String,
    /// The variables.
    pub(super) values: Vec<(String, &'a Json)>,
    /// The first name that is none.
    pub(super) none: Option<&'a Path>,
}

/// Replaces every name that begins with `live`: an attribute of none would be an error, and must be none.
/// In a scope without `live` nothing is replaced.
pub(super) fn separate<'a>(source: &str, paths: &'a [Path], scope: &'a Scope) -> Separated<'a> {
    let mut made = Separated { source: String::new(), values: Vec::new(), none: None };
    let mut from = 0;
    for path in paths.iter().filter(|path| path.parts.first().is_some_and(|root| root == ROOT)) {
        let Some(value) = find(path, scope) else { continue };
        let value = match value {
            Json::Object(parts) if parts.is_empty() => &*NO_RESULTS,
            Json::Null => {
                made.none = made.none.or(Some(path));
                value
            }
            value => value,
        };
        let name = format!("__live_{}", made.values.len());
        made.source.push_str(&source[from..path.place.start]);
        made.source.push_str(&name);
        from = path.place.end;
        made.values.push((name, value));
    }
    made.source.push_str(&source[from..]);
    made
}
