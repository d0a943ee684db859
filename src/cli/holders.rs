//! `flowrun store ls --holders`: what keeps an artifact or a file in the store.

use serde_json::{Value, json};

use super::clock;
use super::error::CliError;
use super::exit::Exit;
use super::place::Place;
use super::screen::{Screen, push_line};
use crate::digest::Digest;
use crate::names::RunId;
use crate::store::holders::{HeldArtifact, Holders, HoldingRecord, holders};
use crate::store::{PinOwner, artifact};
use crate::words::{age, bytes, count, short_list, visible};

/// Files of one artifact that are named at most.
const NAMED: usize = 4;

/// Shows what holds the artifact or file whose digest begins with `digits`.
pub(crate) async fn list(
    place: &Place,
    digits: &str,
    as_json: bool,
    screen: Screen,
) -> Result<Exit, CliError> {
    let found = holders(&*place.store, digits).await?;
    let digest = the_one(&found, digits)?;
    if as_json {
        let artifacts: Vec<Value> = found.artifacts.iter().map(held_json).collect();
        screen.json(&json!({"digest": digest, "artifacts": artifacts}))?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for held in &found.artifacts {
        let size = match place.store.entries(&held.artifact).await {
            Ok(entries) => bytes(artifact::bytes(&entries)),
            Err(_) => "gone".to_owned(),
        };
        let names: Vec<String> = held.paths.iter().map(|path| name_of(path)).collect();
        let within = match names.as_slice() {
            [] => String::new(),
            names => format!("  has it as {}", short_list(names, NAMED)),
        };
        push_line(&mut text, &format!("{}  {size}{within}", held.artifact));
        for owner in &held.pins {
            push_line(&mut text, &format!("  {}", pin_words(place, owner).await?));
        }
        for record in &held.records {
            push_line(&mut text, &format!("  {}", record_words(record)));
        }
    }
    screen.data(&text)?;
    Ok(Exit::Done)
}

fn the_one(found: &Holders, digits: &str) -> Result<Digest, CliError> {
    let mut digests = found.found.iter();
    match (digests.next(), digests.next()) {
        (Some(one), None) => Ok(*one),
        (None, _) => Err(CliError::usage(
            format!("nothing in the store holds `b3:{digits}`"),
            "a digest of `flowrun store ls` is held; what nothing holds is removed by `flowrun gc` two days later",
        )),
        (Some(_), Some(_)) => Err(CliError::usage(
            format!("{} begin with `b3:{digits}`", count(found.found.len(), "digest")),
            "give more of its digits",
        )),
    }
}

fn name_of(path: &str) -> String {
    if path.is_empty() { "the file itself".to_owned() } else { format!("`{}`", visible(path)) }
}

/// Runs of this state are told by their pipeline; those of other machines by their id alone.
async fn pin_words(place: &Place, owner: &PinOwner) -> Result<String, CliError> {
    Ok(match owner {
        PinOwner::Run(run) => {
            let of = match place.state.run(*run).await? {
                Some(row) => format!("of {}", row.created.pipeline),
                None => "that this state does not know".to_owned(),
            };
            format!("pinned by run {run} {of}")
        }
        PinOwner::Release(release) => {
            let of = match place.state.release(*release).await? {
                Some(row) => format!("{} of {}", row.release.number, row.release.service),
                None => format!("{release} that this state does not know"),
            };
            format!("pinned by release {of}")
        }
    })
}

fn record_words(record: &HoldingRecord) -> String {
    let (key, output, run): (_, _, RunId) = (record.key.short(), &record.output, record.made_by);
    let on = record.made_on.as_deref().map(|on| format!(" by {}", visible(on)));
    let when = age(clock::now(), record.made_at);
    format!("result {key} as `{output}`, made by run {run}{}, {when}", on.unwrap_or_default())
}

fn held_json(held: &HeldArtifact) -> Value {
    let (mut runs, mut releases) = (Vec::new(), Vec::new());
    for owner in &held.pins {
        match owner {
            PinOwner::Run(run) => runs.push(run),
            PinOwner::Release(release) => releases.push(release),
        }
    }
    let record = |one: &HoldingRecord| {
        json!({
            "key": one.key,
            "output": one.output,
            "made_by": one.made_by,
            "made_on": one.made_on,
            "made_at": one.made_at,
        })
    };
    json!({
        "artifact": held.artifact,
        "paths": held.paths,
        "runs": runs,
        "releases": releases,
        "records": held.records.iter().map(record).collect::<Vec<_>>(),
    })
}
