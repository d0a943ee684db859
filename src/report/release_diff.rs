//! `flowrun diff A B`: what differs between two releases, behaviour first, and their metrics side by side.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::diff::{arrow, delta_words, section};
use super::paint::{Paint, Tint};
use super::releases::{fate_words, release_json};
use super::runs::commit_words;
use super::table::{Field, table};
use crate::event::FieldChange;
use crate::names::StageName;
use crate::release::ReleaseNotes;
use crate::state::ReleaseRow;
use crate::words::{age, number, visible};

/// The difference for people; `changes` are those of the behaviour ([`crate::plan::release::release_changes`]). What is equal is
/// said in a word.
pub fn release_diff_text(
    now: u64,
    a: &ReleaseRow,
    b: &ReleaseRow,
    changes: &[FieldChange],
    colour: bool,
) -> String {
    let sides: Vec<Vec<Field>> = [("a", a), ("b", b)]
        .iter()
        .map(|(name, row)| {
            let (fate, tint) = fate_words(&row.fate);
            vec![
                Field::new(*name),
                Field::new(row.release.name()),
                Field::tinted(fate, tint),
                Field::new(commit_words(&row.release.notes.snapshot)),
                Field::new(age(now, row.release.made_at)),
                Field::new(row.release.notes.run.to_string()),
            ]
        })
        .collect();
    let mut text = table(&["", "release", "fate", "commit", "made", "run"], &sides, 0, colour);
    if changes.is_empty() {
        text.push('\n');
    }
    let (was, is) = (&a.release.notes, &b.release.notes);
    for (name, changes) in [
        ("behaviour", changes),
        ("versions", versions(was, is).as_slice()),
        ("notes", notes(was, is).as_slice()),
    ] {
        text += &section(changes, name, "", |changes| change_table(changes, colour));
    }
    text += &section(&metrics(was, is), "metrics", "none in either", |metrics| {
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        let rows: Vec<Vec<Field>> = metrics
            .iter()
            .map(|(stage, name, was, is)| {
                vec![
                    Field::new(stage.as_str()),
                    Field::new(visible(name)),
                    Field::new(shown(*was)),
                    Field::new(shown(*is)),
                    Field::tinted(delta_words(*was, *is), Tint::Hint),
                ]
            })
            .collect();
        table(&["stage", "metric", "a", "b", "change"], &rows, 2, colour)
    });
    let paint = Paint { colour };
    if colour { text.replace(" → ", &paint.with(Tint::Dim, " → ")) } else { text }
}

/// The difference as data.
pub fn release_diff_json(a: &ReleaseRow, b: &ReleaseRow, changes: &[FieldChange]) -> Value {
    let (was, is) = (&a.release.notes, &b.release.notes);
    json!({
        "a": release_json(a),
        "b": release_json(b),
        "changes": changes,
        "versions": versions(was, is),
        "notes": notes(was, is),
        "metrics": metrics(was, is).iter()
            .map(|(stage, name, was, is)| json!({"stage": stage, "metric": name, "a": was, "b": is}))
            .collect::<Value>(),
    })
}

fn change_table(changes: &[FieldChange], colour: bool) -> String {
    let rows: Vec<Vec<Field>> = changes
        .iter()
        .map(|change| {
            let words = arrow(change.was.as_deref(), change.is.as_deref());
            vec![Field::new(visible(&change.field)), Field::new(words)]
        })
        .collect();
    table(&["", ""], &rows, 2, colour)
}

/// What may differ without a restart.
fn notes(was: &ReleaseNotes, is: &ReleaseNotes) -> Vec<FieldChange> {
    let lines = |notes: &ReleaseNotes| {
        let gate = (!notes.gate.is_empty()).then(|| notes.gate.join("; "));
        [
            ("commit", notes.snapshot.commit.clone()),
            ("replicas", Some(notes.replicas.to_string())),
            ("route", notes.route.clone()),
            ("gate", gate),
        ]
    };
    lines(was)
        .into_iter()
        .zip(lines(is))
        .filter(|((_, was), (_, is))| was != is)
        .map(|((field, was), (_, is))| FieldChange { field: field.to_owned(), was, is })
        .collect()
}

/// Packages of the environments whose resolved versions differ.
fn versions(was: &ReleaseNotes, is: &ReleaseNotes) -> Vec<FieldChange> {
    fn packages(notes: &ReleaseNotes) -> BTreeMap<&str, &str> {
        let lines = notes.lock.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| line.split_once("==").unwrap_or((line, ""))).collect()
    }
    let (was, is) = (packages(was), packages(is));
    let names: BTreeSet<&str> = was.keys().chain(is.keys()).copied().collect();
    names
        .into_iter()
        .filter(|name| was.get(name) != is.get(name))
        .map(|name| FieldChange {
            field: name.to_owned(),
            was: was.get(name).map(|version| (*version).to_owned()),
            is: is.get(name).map(|version| (*version).to_owned()),
        })
        .collect()
}

type Measured<'n> = (&'n StageName, &'n str, Option<f64>, Option<f64>);

/// Metrics of either, equal ones too.
fn metrics<'n>(was: &'n ReleaseNotes, is: &'n ReleaseNotes) -> Vec<Measured<'n>> {
    let names: BTreeSet<(&StageName, &str)> = [was, is]
        .into_iter()
        .flat_map(|notes| &notes.metrics)
        .flat_map(|(stage, metrics)| metrics.keys().map(move |name| (stage, name.as_str())))
        .collect();
    names
        .into_iter()
        .map(|(stage, name)| {
            let value = |notes: &ReleaseNotes| notes.metrics.get(stage)?.get(name).copied();
            (stage, name, value(was), value(is))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Fate;
    use crate::report::testing::release_row;

    #[test]
    fn two_releases_side_by_side() {
        let (a, mut b) = (release_row(2, Fate::Replaced), release_row(3, Fate::Live));
        let notes = &mut b.release.notes;
        notes.replicas = 3;
        notes.route = None;
        notes.lock = "numpy==2.1.0\npandas==2.2.0\n".to_owned();
        notes.metrics.insert("evaluate".parse().unwrap(), [("accuracy".to_owned(), 0.97)].into());
        let changes = [
            FieldChange {
                field: "params.seed".into(),
                was: Some("7".into()),
                is: Some("8".into()),
            },
            FieldChange { field: "memory".into(), was: None, is: Some("2Gi".into()) },
        ];
        let text = release_diff_text(1_700_000_400_000, &a, &b, &changes, false);
        insta::assert_snapshot!(text, @r"
           release       fate        commit          made       run
        a  iris/serve@2  · replaced  1a2b3c4 (main)  6 min ago  01HF7YAT000000000000000001
        b  iris/serve@3  ✓ live      1a2b3c4 (main)  6 min ago  01HF7YAT000000000000000001

        behaviour
          params.seed  7 → 8
          memory       - → 2Gi

        versions
          numpy   1.26.4 → 2.1.0
          pandas  - → 2.2.0
          scipy   1.13.0 → -

        notes
          replicas  1 → 3
          route     /iris → -

        metrics
          stage     metric    a     b     change
          evaluate  accuracy  0.95  0.97  +0.02
        ");
        let data = release_diff_json(&a, &b, &changes);
        assert_eq!(data["changes"][0]["field"], "params.seed");
        assert_eq!(data["notes"][0], json!({"field": "replicas", "was": "1", "is": "3"}));
        assert_eq!(
            data["metrics"],
            json!([{"stage": "evaluate", "metric": "accuracy", "a": 0.95, "b": 0.97}])
        );
    }

    #[test]
    fn equal_releases_say_so() {
        let row = release_row(3, Fate::Live);
        let text = release_diff_text(1_700_000_400_000, &row, &row, &[], false);
        let words = "behaviour: the same\nversions: the same\nnotes: the same\n";
        assert!(text.contains(words), "{text}");
    }
}
