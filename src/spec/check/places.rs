//! Paths of one stage that get in each other's way.

use super::super::draft::{DraftInput, DraftStage};
use super::super::problem::{Problem, Span};
use super::super::reader::Reader;
use super::super::yaml::short;

/// Reports outputs, placed inputs and volumes that are equal or lie inside one another, and `metrics` that are `values`.
///
/// `metrics` and `values` may lie inside an output: they are read before outputs are moved.
pub(super) fn check(stage: &DraftStage, reader: &mut Reader<'_>) {
    results(stage, reader);
    let mut places: Vec<(Vec<&str>, String, Span)> = Vec::new();
    for (name, path) in &stage.outputs {
        places.push((path.value.split('/').collect(), format!("output `{name}`"), path.span));
    }
    for (name, input) in &stage.inputs {
        if let DraftInput::From { path: Some(path), .. } = &input.value {
            places.push((path.value.split('/').collect(), format!("input `{name}`"), path.span));
        }
    }
    for volume in stage.volumes.iter().flat_map(|volumes| &volumes.value) {
        if let Some(path) = &volume.path {
            let name = format!("volume `{}`", short(&volume.name.value));
            places.push((path.value.split('/').collect(), name, path.span));
        }
    }
    // Sorted by folders, all that lies inside a path stands right behind it.
    places.sort_by(|a, b| (&a.0, a.2).cmp(&(&b.0, b.2)));
    let mut places = places.iter();
    let Some(mut outer) = places.next() else { return };
    for inner in places {
        if !inner.0.starts_with(&outer.0) {
            outer = inner;
            continue;
        }
        let how = if inner.0.len() == outer.0.len() { "is the path of" } else { "lies inside" };
        reader.report(
            Problem::new(
                "path-overlap",
                outer.2.max(inner.2),
                format!("{} {how} {}", inner.1, outer.1),
            )
            .help("give each a path of its own"),
        );
    }
}

/// `metrics` and `values` are two files.
fn results(stage: &DraftStage, reader: &mut Reader<'_>) {
    if let (Some(metrics), Some(values)) = (&stage.metrics, &stage.values)
        && metrics.value == values.value
    {
        reader.report(
            Problem::new("path-overlap", values.span, "`values` is the path of `metrics`")
                .help("write two files"),
        );
    }
}
