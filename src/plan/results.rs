//! What stages reported, as expressions see it.

use serde_json::{Map, Value};

use crate::event::{Metrics, Values};
use crate::spec::Scope;

/// Metrics by name.
pub(super) fn of_metrics(metrics: &Metrics) -> Map<String, Value> {
    metrics.iter().map(|(name, value)| (name.clone(), number(*value))).collect()
}

/// Values by name; their spelling goes into the scope, under `root`.
pub(super) fn of_values(scope: &mut Scope, root: &str, values: &Values) -> Map<String, Value> {
    let mut made = Map::new();
    for (name, value) in values {
        made.insert(name.clone(), value.to_json());
        scope.spelled.insert(format!("{root}.values.{name}"), value.to_string());
    }
    made
}

/// What `x` means of a stage `x`.
pub(super) fn both(metrics: Map<String, Value>, values: Map<String, Value>) -> Value {
    let mut both = Map::new();
    both.insert("metrics".to_owned(), Value::Object(metrics));
    both.insert("values".to_owned(), Value::Object(values));
    Value::Object(both)
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
    fn whole_metrics_have_no_fraction() {
        assert_eq!(number(100.0).to_string(), "100");
        assert_eq!(number(0.25).to_string(), "0.25");
        assert_eq!(number(1e300).to_string(), "1e+300");
    }
}
