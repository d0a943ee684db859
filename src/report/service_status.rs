//! `flowrun status`: what is live, a line a service.

use serde_json::{Value, json};

use super::paint::{Paint, Tint};
use super::releases::metrics_words;
use super::runs::commit_words;
use super::service_events::{event_json, events_table};
use super::table::{Field, table};
use crate::release::{ServiceEvent, ServiceState, ServiceStatus};
use crate::state::ReleaseRow;
use crate::words::{age, visible};

/// Younger events than this are shown, milliseconds.
const RECENT: u64 = 24 * 3600 * 1000;

/// So many of them.
const EVENTS: usize = 6;

/// A service with what the state knows of it.
#[derive(Debug, Clone)]
pub struct ServiceView {
    /// What it is doing.
    pub status: ServiceStatus,
    /// The live release.
    pub live: Option<ReleaseRow>,
    /// What happened to it last, oldest first, each with Unix milliseconds.
    pub events: Vec<(u64, ServiceEvent)>,
}

/// What is said where services exist and no server runs.
pub(super) const NO_SERVER: &str = "the server does not run: replicas go on, nothing restarts them and the gateway is down; \
                                    start it with `flowrun server` or any `flowrun apply`";

/// The services as a table; below the line of one that is not as it shall be: why, and the mend.
pub(super) fn live_section(
    now: u64,
    services: &[ServiceView],
    server: bool,
    paint: Paint,
) -> String {
    let header =
        ["service", "release", "state", "replicas", "commit", "since", "metrics", "address"];
    let rows: Vec<Vec<Field>> = services.iter().map(|one| fields(now, one)).collect();
    let table = table(&header, &rows, 2, paint.colour);
    let mut lines = table.lines();
    let mut text = String::from("live\n");
    if let Some(header) = lines.next() {
        text += &format!("{header}\n");
    }
    // A row is one line, as nothing in it holds a line break.
    for (line, service) in lines.zip(services) {
        text += &format!("{line}\n");
        for remark in remarks(&service.status, paint) {
            text += &format!("    {remark}\n");
        }
    }
    if !server {
        text += &format!("  {}\n", paint.with(Tint::Warn, NO_SERVER));
    }
    text
}

fn fields(now: u64, service: &ServiceView) -> Vec<Field> {
    let status = &service.status;
    let (state, tint) = state_words(status.state);
    let replicas = match status.state {
        ServiceState::Unknown => format!("?/{}", status.wanted),
        _ => format!("{}/{}", status.ready, status.wanted),
    };
    let live = service.live.as_ref();
    let release = status.number.map(|number| format!("@{number}"));
    let commit = live.map(|row| commit_words(&row.release.notes.snapshot));
    vec![
        Field::new(status.service.to_string()),
        Field::new(release.unwrap_or_default()),
        Field::tinted(state, tint),
        Field::new(replicas),
        Field::new(commit.unwrap_or_default()),
        Field::new(live.map(|row| age(now, row.fate_at)).unwrap_or_default()),
        Field::new(live.map(|row| metrics_words(&row.release)).unwrap_or_default()),
        Field::tinted(visible(address(status)), Tint::Hint),
    ]
}

/// Where people reach a service.
pub(super) fn address(status: &ServiceStatus) -> &str {
    status.route.as_deref().unwrap_or(&status.url)
}

/// `✓ ready`.
pub(super) fn state_words(state: ServiceState) -> (&'static str, Tint) {
    match state {
        ServiceState::Ready => ("✓ ready", Tint::Good),
        ServiceState::Degraded => ("! degraded", Tint::Warn),
        ServiceState::Starting => ("▶ starting", Tint::Plain),
        ServiceState::Crashing => ("✗ crashing", Tint::Bad),
        ServiceState::Unreachable => ("✗ unreachable", Tint::Bad),
        ServiceState::Stopped => ("■ stopped", Tint::Warn),
        ServiceState::Unknown => ("? unknown", Tint::Warn),
    }
}

/// What a service that is not as it shall be says of itself, and what to do.
pub(super) fn remarks(status: &ServiceStatus, paint: Paint) -> Vec<String> {
    let service = &status.service;
    let mut lines = Vec::new();
    if let Some((_, number)) = status.candidate {
        lines.push(paint.with(Tint::Plain, &format!("release {number} is being rolled out")));
    }
    let (_, tint) = state_words(status.state);
    if let Some(message) = &status.message {
        let tint = if status.state == ServiceState::Ready { Tint::Warn } else { tint };
        lines.push(paint.with(tint, &visible(message)));
    }
    if status.state == ServiceState::Ready {
        return lines;
    }
    let logs = (format!("flowrun logs {service}"), "shows its log");
    let next = match status.state {
        ServiceState::Crashing => {
            let back = format!("flowrun rollback {service}");
            vec![logs, (back, "puts what was live before back")]
        }
        ServiceState::Degraded | ServiceState::Starting | ServiceState::Unreachable => vec![logs],
        ServiceState::Stopped => {
            vec![(format!("flowrun scale {service} 1"), "starts it again")]
        }
        ServiceState::Ready | ServiceState::Unknown => Vec::new(),
    };
    let next =
        next.iter().map(|(command, what)| format!("{}  {what}", paint.with(Tint::Hint, command)));
    lines.extend(next);
    lines
}

/// What happened to services lately, newest first; empty when nothing did.
pub(super) fn recent_events(now: u64, services: &[ServiceView], colour: bool) -> String {
    let mut events: Vec<(u64, &ServiceView, &ServiceEvent)> = services
        .iter()
        .flat_map(|service| service.events.iter().map(move |(at, event)| (*at, service, event)))
        .filter(|(at, ..)| now.saturating_sub(*at) < RECENT)
        .collect();
    events.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    events.truncate(EVENTS);
    let named: Vec<(u64, String, &ServiceEvent)> = events
        .into_iter()
        .map(|(at, service, event)| (at, service.status.service.to_string(), event))
        .collect();
    events_table(now, &named, colour)
}

/// A service as data. `replicas` are as the server sees them; empty when none runs.
pub fn service_json(service: &ServiceView) -> Value {
    let status = &service.status;
    let release = service.live.as_ref().map(|row| &row.release);
    let notes = release.map(|release| &release.notes);
    json!({
        "service": status.service.to_string(),
        "pipeline": status.service.pipeline,
        "stage": status.service.stage,
        "state": status.state,
        "message": status.message,
        "number": status.number,
        "release": status.live,
        "candidate": status.candidate.map(|(id, number)| json!({"release": id, "number": number})),
        "wanted": status.wanted,
        "ready": status.ready,
        "address": address(status),
        "url": status.url,
        "route": status.route,
        "live_since": service.live.as_ref().map(|row| row.fate_at),
        "made_at": release.map(|release| release.made_at),
        "run": notes.map(|notes| notes.run),
        "commit": notes.and_then(|notes| notes.snapshot.commit.as_ref()),
        "dirty": notes.map(|notes| notes.snapshot.dirty),
        "metrics": notes.map(|notes| &notes.metrics),
        "replicas": status.replicas,
        "events": service.events.iter().map(|(at, event)| event_json(*at, event)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
