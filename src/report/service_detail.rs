//! `flowrun status SERVICE`: one service in detail.

use serde_json::Value;

use super::paint::{Paint, Tint};
use super::releases::{fate_words, metrics_words, release_json};
use super::runs::commit_words;
use super::service_events::events_table;
use super::service_status::{NO_SERVER, ServiceView, address, remarks, service_json, state_words};
use super::table::{Field, table};
use crate::plan::causes::end_words;
use crate::release::{ReplicaStatus, ServiceState};
use crate::state::ReleaseRow;
use crate::words::{age, duration, visible};

/// So many releases are shown; `flowrun releases` has all.
const RELEASES: usize = 5;

/// One service: what is live, its replicas, what happened to it, its newest releases (`releases` are newest first). `server`: the
/// server runs.
pub fn status_service(
    now: u64,
    service: &ServiceView,
    releases: &[ReleaseRow],
    server: bool,
    colour: bool,
) -> String {
    let paint = Paint { colour };
    let status = &service.status;
    let (state, tint) = state_words(status.state);
    let mut text = format!("{}  {}", status.service, paint.with(tint, state));
    if let Some(number) = status.number {
        text += &format!("  release {number}");
    }
    if status.state != ServiceState::Unknown {
        text += &format!(", {} of {} ready", status.ready, status.wanted);
    }
    text.push('\n');
    for remark in remarks(status, paint) {
        text += &format!("  {remark}\n");
    }
    if !server {
        text += &format!("  {}\n", paint.with(Tint::Warn, NO_SERVER));
    }
    text += &format!("\n{}", table(&["", ""], &about(now, service), 0, colour));
    if !status.replicas.is_empty() {
        let rows: Vec<Vec<Field>> =
            status.replicas.iter().map(|replica| replica_fields(now, replica)).collect();
        let header =
            ["replica", "release", "state", "process", "listens", "for", "restarts", "last end"];
        text += &format!("\n{}", table(&header, &rows, 0, colour));
    }
    if !service.events.is_empty() {
        let events: Vec<_> =
            service.events.iter().rev().map(|(at, event)| (*at, String::new(), event)).collect();
        text += &format!("\nlast\n{}", events_table(now, &events, colour));
    }
    if !releases.is_empty() {
        let rows: Vec<Vec<Field>> =
            releases.iter().take(RELEASES).map(|row| release_fields(now, row)).collect();
        text += &format!("\nreleases\n{}", table(&[""; 5], &rows, 2, colour));
    }
    if matches!(status.state, ServiceState::Ready | ServiceState::Unknown) {
        let command = format!("flowrun logs {}", status.service);
        text += &format!("\n{}  shows its log\n", paint.with(Tint::Hint, &command));
    }
    text
}

/// [`status_service`] as data: the service as on the home's screen, and `releases`.
pub fn status_service_json(service: &ServiceView, releases: &[ReleaseRow], server: bool) -> Value {
    let mut value = service_json(service);
    value["server"] = server.into();
    value["releases"] = releases.iter().map(release_json).collect();
    value
}

fn about(now: u64, service: &ServiceView) -> Vec<Vec<Field>> {
    let status = &service.status;
    let mut rows = vec![("address", address(status).to_owned())];
    if status.route.is_some() {
        rows.push(("port", status.url.clone()));
    }
    if let Some(row) = &service.live {
        let notes = &row.release.notes;
        rows.extend([
            ("live since", age(now, row.fate_at)),
            ("commit", commit_words(&notes.snapshot)),
            ("run", notes.run.to_string()),
            ("metrics", metrics_words(&row.release)),
            ("gate", notes.gate.join("; ")),
        ]);
    }
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    rows.map(|(name, value)| vec![Field::tinted(name, Tint::Dim), Field::new(visible(&value))])
        .collect()
}

fn replica_fields(now: u64, replica: &ReplicaStatus) -> Vec<Field> {
    let tint = match replica.state.as_str() {
        "ready" => Tint::Good,
        "waiting" => Tint::Bad,
        "draining" | "stopping" => Tint::Dim,
        _ => Tint::Plain,
    };
    let since = replica.started_at.map(|since| duration(now.saturating_sub(since)));
    vec![
        Field::new(replica.replica.to_string()),
        Field::new(format!("@{}", replica.number)),
        Field::tinted(visible(&replica.state), tint),
        Field::new(replica.pid.map(|pid| pid.to_string()).unwrap_or_default()),
        Field::new(replica.address.clone().unwrap_or_default()),
        Field::new(since.unwrap_or_default()),
        Field::new(replica.restarts.to_string()),
        Field::new(replica.last_end.as_ref().map(end_words).unwrap_or_default()),
    ]
}

fn release_fields(now: u64, row: &ReleaseRow) -> Vec<Field> {
    let (fate, tint) = fate_words(&row.fate);
    vec![
        Field::new(format!("@{}", row.release.number)),
        Field::tinted(fate, tint),
        Field::new(age(now, row.release.made_at)),
        Field::new(commit_words(&row.release.notes.snapshot)),
        Field::new(metrics_words(&row.release)),
    ]
}
