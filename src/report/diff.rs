//! `flowrun runs diff A B`: what two runs were made of, what changed in their keys, and their metrics side by side.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::paint::{Paint, Tint};
use super::runs::{commit_words, outcome_words, run_json};
use super::table::{Field, table};
use crate::event::{FieldChange, KeyParts};
use crate::names::TaskId;
use crate::plan::why::changes;
use crate::state::{RunRow, TaskRow};
use crate::words::{age, number, visible};

/// One of the two runs.
#[derive(Debug, Clone)]
pub struct RunSide {
    /// Its row.
    pub run: RunRow,
    /// Its tasks.
    pub tasks: Vec<TaskRow>,
    /// [`crate::state::State::keys_of_run`].
    pub keys: BTreeMap<TaskId, KeyParts>,
    /// [`crate::state::State::metrics`].
    pub metrics: BTreeMap<TaskId, BTreeMap<String, f64>>,
}

/// What differs between two runs.
struct Difference {
    /// Name, in a, in b.
    params: Vec<(String, Option<String>, Option<String>)>,
    /// Tasks whose keys differ.
    keys: Vec<(TaskId, String, Vec<FieldChange>)>,
    /// Labels of tasks in one run only.
    only: (Vec<String>, Vec<String>),
    /// Task, metric, in a, in b. Equal ones too.
    metrics: Vec<(String, String, Option<f64>, Option<f64>)>,
}

fn difference(a: &RunSide, b: &RunSide) -> Difference {
    let labels: BTreeMap<&TaskId, &str> =
        a.tasks.iter().chain(&b.tasks).map(|task| (&task.task, task.label.as_str())).collect();
    let label = |task: &TaskId| {
        labels.get(task).map_or_else(|| task.stage.to_string(), |label| (*label).to_owned())
    };
    let names: BTreeSet<_> =
        a.run.created.params.keys().chain(b.run.created.params.keys()).collect();
    let params = names
        .into_iter()
        .map(|name| {
            let value = |side: &RunSide| side.run.created.params.get(name).map(ToString::to_string);
            (name.to_string(), value(a), value(b))
        })
        .filter(|(_, was, is)| was != is)
        .collect();
    let keys = a
        .keys
        .iter()
        .filter_map(|(task, was)| Some((task, was, b.keys.get(task)?)))
        .filter(|(_, was, is)| was != is)
        .map(|(task, was, is)| (task.clone(), label(task), changes(was, is)))
        .collect();
    let missing = |from: &RunSide, of: &RunSide| -> Vec<String> {
        let there: BTreeSet<&TaskId> = from.tasks.iter().map(|task| &task.task).collect();
        of.tasks
            .iter()
            .filter(|task| !there.contains(&task.task))
            .map(|task| task.label.clone())
            .collect()
    };
    let measured: BTreeSet<(&TaskId, &String)> = [a, b]
        .iter()
        .flat_map(|side| &side.metrics)
        .flat_map(|(task, metrics)| metrics.keys().map(move |name| (task, name)))
        .collect();
    let metrics = measured
        .into_iter()
        .map(|(task, name)| {
            let value = |side: &RunSide| side.metrics.get(task)?.get(name).copied();
            (label(task), name.clone(), value(a), value(b))
        })
        .collect();
    Difference { params, keys, only: (missing(b, a), missing(a, b)), metrics }
}

/// The difference for people. What is equal is said in a word.
pub fn diff_text(now: u64, a: &RunSide, b: &RunSide, colour: bool) -> String {
    let paint = Paint { colour };
    let difference = difference(a, b);
    let sides: Vec<Vec<Field>> = [("a", a), ("b", b)]
        .iter()
        .map(|(name, side)| {
            let (state, tint) = outcome_words(side.run.state);
            vec![
                Field::new(*name),
                Field::new(side.run.created.pipeline.as_str()),
                Field::new(side.run.id.to_string()),
                Field::tinted(state, tint),
                Field::new(age(now, side.run.made_at)),
                Field::new(commit_words(&side.run.created.snapshot)),
            ]
        })
        .collect();
    let mut text = table(&["", "pipeline", "run", "outcome", "made", "commit"], &sides, 0, colour);
    let same_code = a.run.created.snapshot.tree == b.run.created.snapshot.tree;
    text += if same_code { "\ncode: the same tree\n" } else { "\ncode: differs\n" };
    if a.run.created.file != b.run.created.file {
        text += "pipeline file: differs\n";
    }
    text += &section(&difference.params, "params", "", |params| {
        let rows: Vec<Vec<Field>> = params
            .iter()
            .map(|(name, was, is)| {
                vec![Field::new(name), Field::new(arrow(was.as_deref(), is.as_deref()))]
            })
            .collect();
        table(&["", ""], &rows, 2, colour)
    });
    text += &section(&difference.keys, "keys", "", |keys| {
        let rows: Vec<Vec<Field>> = keys
            .iter()
            .flat_map(|(_, label, changes)| {
                changes.iter().enumerate().map(move |(place, change)| {
                    vec![
                        Field::new(if place == 0 { label.as_str() } else { "" }),
                        Field::new(change.field.clone()),
                        Field::new(arrow(change.was.as_deref(), change.is.as_deref())),
                    ]
                })
            })
            .collect();
        table(&["", "", ""], &rows, 2, colour)
    });
    for (side, labels) in [("a", &difference.only.0), ("b", &difference.only.1)] {
        if !labels.is_empty() {
            text += &format!("only in {side}: {}\n", crate::words::short_list(labels, 10));
        }
    }
    text += &section(&difference.metrics, "metrics", "none in either", |metrics| {
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        let rows: Vec<Vec<Field>> = metrics
            .iter()
            .map(|(label, name, was, is)| {
                vec![
                    Field::new(label),
                    Field::new(visible(name)),
                    Field::new(shown(*was)),
                    Field::new(shown(*is)),
                    Field::tinted(delta_words(*was, *is), Tint::Hint),
                ]
            })
            .collect();
        table(&["task", "metric", "a", "b", "change"], &rows, 2, colour)
    });
    if colour { text.replace(" → ", &paint.with(Tint::Dim, " → ")) } else { text }
}

/// A heading with what is below it, or `name: the same`.
pub(super) fn section<T>(
    items: &[T],
    name: &str,
    none: &str,
    below: impl Fn(&[T]) -> String,
) -> String {
    if items.is_empty() {
        let none = if none.is_empty() { "the same" } else { none };
        format!("{name}: {none}\n")
    } else {
        format!("\n{name}\n{}", below(items))
    }
}

pub(super) fn arrow(was: Option<&str>, is: Option<&str>) -> String {
    let shown = |text: Option<&str>| match text {
        None => "-".to_owned(),
        Some("") => "''".to_owned(),
        Some(text) => visible(text).into_owned(),
    };
    format!("{} → {}", shown(was), shown(is))
}

/// `+0.04`; empty when equal or unknown.
pub(super) fn delta_words(was: Option<f64>, is: Option<f64>) -> String {
    match (was, is) {
        (Some(was), Some(is)) if (is - was).abs() > 0.0 => {
            let sign = if is > was { "+" } else { "" };
            format!("{sign}{}", number(is - was))
        }
        _ => String::new(),
    }
}

/// The difference as data.
pub fn diff_json(a: &RunSide, b: &RunSide) -> Value {
    let difference = difference(a, b);
    json!({
        "a": run_json(&a.run, &a.tasks),
        "b": run_json(&b.run, &b.tasks),
        "same_code": a.run.created.snapshot.tree == b.run.created.snapshot.tree,
        "same_file": a.run.created.file == b.run.created.file,
        "params": difference.params.iter()
            .map(|(name, was, is)| json!({"name": name, "a": was, "b": is})).collect::<Value>(),
        "keys": difference.keys.iter()
            .map(|(task, label, changes)| json!({
                "stage": task.stage, "copy": task.copy, "task": label, "changes": changes,
            })).collect::<Value>(),
        "only_in_a": difference.only.0,
        "only_in_b": difference.only.1,
        "metrics": difference.metrics.iter()
            .map(|(label, name, was, is)| json!({"task": label, "metric": name, "a": was, "b": is}))
            .collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RunOutcome;
    use crate::report::testing::{failed_run, other_run, run_row, task, task_row};
    use crate::scalar::Scalar;
    use crate::state::RunState;

    fn parts(seed: &str) -> KeyParts {
        let command = vec!["python".to_owned(), "train.py".to_owned()];
        KeyParts {
            params: BTreeMap::from([("seed".parse().unwrap(), Scalar::plain(seed))]),
            ..KeyParts::of_no_stage(command)
        }
    }

    fn sides() -> (RunSide, RunSide) {
        let train = task("train", 2);
        let side = |run: RunRow, seed: &str, accuracy: f64| RunSide {
            run,
            tasks: vec![task_row(train.clone(), "train[trees=100]", "done")],
            keys: BTreeMap::from([(train.clone(), parts(seed))]),
            metrics: BTreeMap::from([(
                train.clone(),
                BTreeMap::from([("accuracy".to_owned(), accuracy)]),
            )]),
        };
        let a = side(failed_run(), "7", 0.91);
        let mut b = side(run_row(other_run(), RunState::Ended(RunOutcome::Done)), "8", 0.95);
        b.run.created.params.insert("seed".parse().unwrap(), Scalar::plain("8"));
        b.tasks.push(task_row(task("package", 1), "package", "done"));
        b.metrics.insert(task("package", 1), BTreeMap::from([("bytes".to_owned(), 1234.0)]));
        (a, b)
    }

    #[test]
    fn two_runs_side_by_side() {
        let (a, b) = sides();
        insta::assert_snapshot!(diff_text(1_700_000_400_000, &a, &b, false), @r"
           pipeline  run                         outcome   made       commit
        a  iris      01HF7YAT000000000000000001  ✗ failed  6 min ago  1a2b3c4 (main) with changes
        b  iris      01HF7YNSJ00000000000000002  ✓ done    6 min ago  1a2b3c4 (main) with changes

        code: the same tree

        params
          seed  7 → 8

        keys
          train[trees=100]  params.seed  7 → 8
        only in b: package

        metrics
          task              metric    a     b     change
          package           bytes     -     1234
          train[trees=100]  accuracy  0.91  0.95  +0.04
        ");
    }

    #[test]
    fn equal_runs_say_so() {
        let (a, _) = sides();
        let text = diff_text(1_700_000_400_000, &a, &a, false);
        assert!(text.contains("code: the same tree\nparams: the same\nkeys: the same\n"), "{text}");
    }

    #[test]
    fn the_difference_as_data() {
        let (a, b) = sides();
        let value = diff_json(&a, &b);
        assert_eq!(value["params"], json!([{"name": "seed", "a": "7", "b": "8"}]));
        assert_eq!(value["keys"][0]["task"], "train[trees=100]");
        assert_eq!(value["keys"][0]["changes"][0]["field"], "params.seed");
        assert_eq!(value["only_in_b"], json!(["package"]));
        assert_eq!(
            value["metrics"][1],
            json!({"task": "train[trees=100]", "metric": "accuracy", "a": 0.91, "b": 0.95})
        );
    }
}
