//! Gates and rollouts as words, for reports and `why`.

use std::collections::BTreeMap;

use super::causes::reason_words;
use crate::event::{FieldChange, Reason};
use crate::scalar::Scalar;
use crate::words::visible;

/// Why a gate did not pass, with the values of what its expression names:
/// ``the gate `a >= live.a` is false: a = 0.91, live.a = 0.94``.
pub fn gate_words(failed: Option<&str>, values: &BTreeMap<String, Option<Scalar>>) -> String {
    let Some(failed) = failed else { return "its gate did not pass".to_owned() };
    let expression = inside(failed);
    let mut named: Vec<(usize, String)> = values
        .iter()
        .filter_map(|(path, value)| {
            Some((place_of(path, expression)?, assigned(path, value.as_ref())))
        })
        .collect();
    named.sort();
    let mut named: Vec<String> = named.into_iter().map(|(_, text)| text).collect();
    if named.is_empty() {
        named = values.iter().map(|(path, value)| assigned(path, value.as_ref())).collect();
    }
    let gate = format!("the gate `{}` is false", visible(expression));
    if named.is_empty() { gate } else { format!("{gate}: {}", named.join(", ")) }
}

/// That a gate passed, with what it compared.
pub fn passed_words(values: &BTreeMap<String, Option<Scalar>>) -> String {
    if values.is_empty() {
        return "its gate passed".to_owned();
    }
    let values: Vec<String> =
        values.iter().map(|(path, value)| assigned(path, value.as_ref())).collect();
    format!("its gate passed: {}", values.join(", "))
}

/// Why a release is made: what differs from the live one, or that it is the first.
pub fn rollout_words(why: &[FieldChange]) -> String {
    if why.is_empty() {
        "nothing was live".to_owned()
    } else {
        reason_words(&Reason::Changed(why.to_vec()))
    }
}

/// What follows the name of a release that stays: `, changed in place: replicas: 2 → 3`; empty where nothing changed.
pub fn in_place_words(changed: &[FieldChange]) -> String {
    if changed.is_empty() {
        return String::new();
    }
    format!(", changed in place: {}", reason_words(&Reason::Changed(changed.to_vec())))
}

/// A release in a sentence: `release 4`; `the live release` of one whose number is not known.
pub fn live_words(number: Option<u64>) -> String {
    number.map_or_else(|| "the live release".to_owned(), |number| format!("release {number}"))
}

fn assigned(path: &str, value: Option<&Scalar>) -> String {
    let value = value.map_or_else(|| "none".to_owned(), ToString::to_string);
    format!("{} = {}", visible(path), visible(&value))
}

/// The inside of `${{ … }}`.
fn inside(expression: &str) -> &str {
    let text = expression.trim();
    let inner = text.strip_prefix("${{").and_then(|text| text.strip_suffix("}}"));
    inner.unwrap_or(text).trim()
}

/// Where an expression names a path first; `a.b` is not named by `live.a.b`.
fn place_of(path: &str, expression: &str) -> Option<usize> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    expression.match_indices(path).map(|(place, _)| place).find(|place| {
        let before = expression[..*place].chars().next_back();
        let after = expression[place + path.len()..].chars().next();
        !before.is_some_and(|c| is_part(c) || c == '.') && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(of: &[(&str, &str)]) -> BTreeMap<String, Option<Scalar>> {
        let value = |text: &str| (text != "none").then(|| Scalar::plain(text));
        of.iter().map(|(path, text)| ((*path).to_owned(), value(text))).collect()
    }

    #[test]
    fn a_gate_shows_the_numbers_it_compares_and_no_others() {
        let values = values(&[
            ("evaluate.metrics.accuracy", "0.91"),
            ("evaluate.metrics.accuracy_test", "0.5"),
            ("live.evaluate.metrics.accuracy", "0.94"),
            ("train.metrics.loss", "0.1"),
        ]);
        let failed = "${{ evaluate.metrics.accuracy >= live.evaluate.metrics.accuracy }}";
        assert_eq!(
            gate_words(Some(failed), &values),
            "the gate `evaluate.metrics.accuracy >= live.evaluate.metrics.accuracy` is false: \
             evaluate.metrics.accuracy = 0.91, live.evaluate.metrics.accuracy = 0.94"
        );
        assert_eq!(
            gate_words(Some("live.evaluate.metrics.accuracy < 0.9"), &values),
            "the gate `live.evaluate.metrics.accuracy < 0.9` is false: \
             live.evaluate.metrics.accuracy = 0.94"
        );
    }

    #[test]
    fn a_value_that_is_not_there_is_none() {
        assert_eq!(
            gate_words(Some("live"), &values(&[("live", "none")])),
            "the gate `live` is false: live = none"
        );
        assert_eq!(gate_words(Some("false"), &values(&[])), "the gate `false` is false");
        assert_eq!(gate_words(None, &values(&[])), "its gate did not pass");
    }

    #[test]
    fn a_rollout_has_its_reason() {
        let field = "params.seed".to_owned();
        let change = FieldChange { field, was: Some("7".to_owned()), is: Some("8".to_owned()) };
        assert_eq!(rollout_words(&[change]), "params.seed: 7 → 8");
        assert_eq!(rollout_words(&[]), "nothing was live");
        assert_eq!(in_place_words(&[]), "");
    }
}
