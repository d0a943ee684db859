//! Paths of one stage that get in each other's way.

use super::super::draft::{DraftInput, DraftStage};
use super::super::problem::{Problem, Span};
use super::super::reader::Reader;

/// Reports outputs and placed inputs that are equal or lie inside one another, and `metrics` that are `values`.
///
/// `metrics` and `values` may lie inside an output: they are read before outputs are moved.
pub(super) fn check(stage: &DraftStage, reader: &mut Reader<'_>) {
    let mut places: Vec<(Vec<&str>, String, Span)> = Vec::new();
    for (name, path) in &stage.outputs {
        places.push((path.value.split('/').collect(), format!("output `{name}`"), path.span));
    }
    for (name, input) in &stage.inputs {
        if let DraftInput::From { path: Some(path), .. } = &input.value {
            places.push((path.value.split('/').collect(), format!("input `{name}`"), path.span));
        }
    }
    // Sorted by folders, a path stands right before what lies inside it.
    places.sort_by(|a, b| (&a.0, a.2).cmp(&(&b.0, b.2)));
    for pair in places.windows(2) {
        let [(outer, outer_name, outer_span), (inner, inner_name, inner_span)] = pair else {
            continue;
        };
        if inner.starts_with(outer) {
            let how = if inner.len() == outer.len() { "is the path of" } else { "lies inside" };
            let span = (*outer_span).max(*inner_span);
            reader.report(
                Problem::new("path-overlap", span, format!("{inner_name} {how} {outer_name}"))
                    .help("give each a path of its own"),
            );
        }
    }
    if let (Some(metrics), Some(values)) = (&stage.metrics, &stage.values)
        && metrics.value == values.value
    {
        reader.report(
            Problem::new("path-overlap", values.span, "`values` is the path of `metrics`")
                .help("write two files"),
        );
    }
}
