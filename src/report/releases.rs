//! `flowrun releases`: a line a release, newest first.

use serde_json::{Value, json};

use super::paint::Tint;
use super::runs::commit_words;
use super::table::{Field, table};
use crate::release::{Fate, Release};
use crate::state::ReleaseRow;
use crate::words::{age, number, short_list, visible};

/// How many metrics a line shows.
const METRICS: usize = 3;

/// Releases as a table, in the order given.
pub fn releases_text(now: u64, rows: &[ReleaseRow], colour: bool) -> String {
    if rows.is_empty() {
        return "no releases yet: `flowrun apply` makes those of a pipeline's services\n"
            .to_owned();
    }
    let rows: Vec<Vec<Field>> = rows
        .iter()
        .map(|row| {
            let (fate, tint) = fate_words(&row.fate);
            let notes = &row.release.notes;
            let why = match &row.fate {
                Fate::Abandoned(why) => visible(why).into_owned(),
                _ => String::new(),
            };
            vec![
                Field::new(row.release.name()),
                Field::tinted(fate, tint),
                Field::new(commit_words(&notes.snapshot)),
                Field::new(age(now, row.release.made_at)),
                Field::new(notes.run.to_string()),
                Field::new(metrics_words(&row.release)),
                Field::new(why),
            ]
        })
        .collect();
    table(&["release", "fate", "commit", "made", "run", "metrics", "why"], &rows, 0, colour)
}

/// Releases as data: a list.
pub fn releases_json(rows: &[ReleaseRow]) -> Value {
    rows.iter().map(release_json).collect()
}

/// `✓ live`.
pub(super) fn fate_words(fate: &Fate) -> (&'static str, Tint) {
    match fate {
        Fate::Candidate => ("▶ candidate", Tint::Plain),
        Fate::Live => ("✓ live", Tint::Good),
        Fate::Replaced => ("· replaced", Tint::Dim),
        Fate::Abandoned(_) => ("✗ abandoned", Tint::Bad),
        Fate::TakenDown => ("■ taken down", Tint::Warn),
    }
}

/// `evaluate.accuracy 0.95, train.loss 0.1 and 2 more`.
pub(super) fn metrics_words(release: &Release) -> String {
    let all: Vec<String> = release
        .notes
        .metrics
        .iter()
        .flat_map(|(stage, metrics)| metrics.iter().map(move |metric| (stage, metric)))
        .map(|(stage, (name, value))| format!("{stage}.{} {}", visible(name), number(*value)))
        .collect();
    short_list(&all, METRICS)
}

pub(super) fn release_json(row: &ReleaseRow) -> Value {
    let release = &row.release;
    let notes = &release.notes;
    let (fate, why) = match &row.fate {
        Fate::Candidate => ("candidate", None),
        Fate::Live => ("live", None),
        Fate::Replaced => ("replaced", None),
        Fate::Abandoned(why) => ("abandoned", Some(why)),
        Fate::TakenDown => ("taken_down", None),
    };
    let values: serde_json::Map<String, Value> = notes
        .values
        .iter()
        .map(|(stage, values)| {
            let values = values.iter().map(|(name, value)| (name.clone(), value.to_json()));
            (stage.to_string(), Value::Object(values.collect()))
        })
        .collect();
    json!({
        "release": release.name(),
        "id": release.id,
        "pipeline": release.service.pipeline,
        "service": release.service.stage,
        "number": release.number,
        "fate": fate,
        "fate_at": row.fate_at,
        "why": why,
        "made_at": release.made_at,
        "digest": release.behaviour.digest(),
        "behaviour": release.behaviour,
        "run": notes.run,
        "commit": notes.snapshot.commit,
        "dirty": notes.snapshot.dirty,
        "snapshot": notes.snapshot,
        "lock": notes.lock.lines().collect::<Vec<_>>(),
        "metrics": notes.metrics,
        "values": values,
        "replicas": notes.replicas,
        "route": notes.route,
        "gate": notes.gate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::release_row;

    #[test]
    fn a_line_a_release() {
        let mut abandoned = release_row(4, Fate::Abandoned("it did not become\nready".to_owned()));
        let accuracy = abandoned.release.notes.metrics["evaluate"]["accuracy"];
        let many = ["a", "b", "c", "d"].map(|name| (name.to_owned(), accuracy));
        abandoned.release.notes.metrics.insert("train".parse().unwrap(), many.into());
        let rows = [abandoned, release_row(3, Fate::Live), release_row(2, Fate::Replaced)];
        insta::assert_snapshot!(releases_text(1_700_000_400_000, &rows, false), @r"
        release       fate         commit          made       run                         metrics                                                        why
        iris/serve@4  ✗ abandoned  1a2b3c4 (main)  6 min ago  01HF7YAT000000000000000001  evaluate.accuracy 0.95, train.a 0.95, train.b 0.95 and 2 more  it did not become␊ready
        iris/serve@3  ✓ live       1a2b3c4 (main)  6 min ago  01HF7YAT000000000000000001  evaluate.accuracy 0.95
        iris/serve@2  · replaced   1a2b3c4 (main)  6 min ago  01HF7YAT000000000000000001  evaluate.accuracy 0.95
        ");
        let data = releases_json(&rows);
        assert_eq!(data[0]["fate"], "abandoned");
        assert_eq!(data[0]["why"], "it did not become\nready");
        assert_eq!(data[1]["release"], "iris/serve@3");
        assert_eq!(data[1]["values"], json!({"train": {"best": 7}}));
        assert_eq!(data[1]["digest"], rows[1].release.behaviour.digest().to_string());
        assert!(releases_text(0, &[], false).starts_with("no releases yet"));
    }
}
