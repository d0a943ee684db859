//! What live releases give to stages: the values of `live` in expressions, and `{live}` inputs.

use serde_json::{Map, Value};

use super::key::ResolvedInputs;
use super::results;
use crate::event::InputPart;
use crate::names::{InputName, StageName};
use crate::release::Release;
use crate::spec::Scope;
use crate::spec::expression::{EvalError, Expression};

/// Puts `live` as a gate means it: the service's own live release, none when nothing is live.
pub(super) fn set_own(scope: &mut Scope, release: Option<&Release>) {
    let value = release.map_or(Value::Null, |release| results_of(scope, "live", release));
    scope.roots.insert("live".to_owned(), value);
}

/// Puts `live.<service>` for each service that the expressions name so; none where nothing is live.
pub(super) fn set_named<'e>(
    scope: &mut Scope,
    resolved: &ResolvedInputs,
    expressions: impl Iterator<Item = &'e Expression>,
) {
    let mut services = Map::new();
    for service in expressions.flat_map(|expression| &expression.references.live) {
        if services.contains_key(service.as_str()) {
            continue;
        }
        let value = resolved
            .live
            .get(service)
            .map_or(Value::Null, |release| results_of(scope, &format!("live.{service}"), release));
        services.insert(service.to_string(), value);
    }
    if !services.is_empty() {
        scope.roots.insert("live".to_owned(), Value::Object(services));
    }
}

/// What the stages of the release's run reported, by stage. What is not there is none in expressions.
fn results_of(scope: &mut Scope, root: &str, release: &Release) -> Value {
    let notes = &release.notes;
    let mut stages = Map::new();
    for stage in notes.metrics.keys().chain(notes.values.keys()) {
        if stages.contains_key(stage.as_str()) {
            continue;
        }
        let metrics = notes.metrics.get(stage).map(results::of_metrics).unwrap_or_default();
        let values = notes
            .values
            .get(stage)
            .map(|values| results::of_values(scope, &format!("{root}.{stage}"), values));
        stages.insert(stage.to_string(), results::both(metrics, values.unwrap_or_default()));
    }
    Value::Object(stages)
}

/// The input of the live release that `{live: service.input}` means; none when it is optional and not there.
pub(super) fn input(
    resolved: &ResolvedInputs,
    name: &InputName,
    service: &StageName,
    of: &InputName,
    optional: bool,
) -> Result<Option<InputPart>, EvalError> {
    let release = resolved.live.get(service);
    if let Some(part) = release.and_then(|release| release.behaviour.inputs.get(of)) {
        let kept = part.path.trim_end_matches('/').rsplit('/').next().unwrap_or(of.as_str());
        return Ok(Some(InputPart { digest: part.digest, path: kept.to_owned() }));
    }
    if optional {
        return Ok(None);
    }
    let what = match release {
        None => format!("nothing is live yet of `{service}`"),
        Some(release) => {
            format!("the live release `{service}@{}` has no input `{of}`", release.number)
        }
    };
    Err(EvalError {
        source_text: format!("inputs.{name}"),
        why: format!("{what}; add `optional: true`"),
    })
}
