//! What happens to services outside of runs, as words and as data.

use serde_json::{Value, json};

use super::paint::Tint;
use super::table::{Field, table};
use crate::plan::causes::end_words;
use crate::release::ServiceEvent;
use crate::words::{age, count, duration, visible};

/// A line an event: when, whose, what.
pub(super) fn events_table(
    now: u64,
    events: &[(u64, String, &ServiceEvent)],
    colour: bool,
) -> String {
    if events.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<Field>> = events
        .iter()
        .map(|(at, service, event)| {
            let (what, tint) = event_words(now, event);
            vec![
                Field::tinted(age(now, *at), Tint::Dim),
                Field::new(service.as_str()),
                Field::tinted(what, tint),
            ]
        })
        .collect();
    table(&["", "", ""], &rows, 2, colour)
}

/// An event as a fragment: `replica 2 ended: exit code 3`.
pub(super) fn event_words(now: u64, event: &ServiceEvent) -> (String, Tint) {
    match event {
        ServiceEvent::ReplicaEnded { replica, end, .. } => {
            (format!("replica {replica} ended: {}", end_words(end)), Tint::Bad)
        }
        ServiceEvent::CrashLooping { replica, restarts, next } => {
            let restarts = usize::try_from(*restarts).unwrap_or(usize::MAX);
            let again = match next.checked_sub(now) {
                Some(wait) if wait > 0 => format!("; the next start is in {}", duration(wait)),
                _ => String::new(),
            };
            let ends = format!("replica {replica} ends again and again");
            (format!("{ends}, after {}{again}", count(restarts, "restart")), Tint::Bad)
        }
        ServiceEvent::Recovered { replica } => {
            (format!("replica {replica} is ready again"), Tint::Good)
        }
        ServiceEvent::Promoted { number, by, .. } => {
            (format!("release {number} went live, by {}", visible(by)), Tint::Good)
        }
        ServiceEvent::Scaled { wanted, by } => {
            let wanted = usize::try_from(*wanted).unwrap_or(usize::MAX);
            (format!("scaled to {} by {}", count(wanted, "replica"), visible(by)), Tint::Plain)
        }
        ServiceEvent::RolledBack { number, by, .. } => {
            (format!("rolled back to release {number} by {}", visible(by)), Tint::Warn)
        }
        ServiceEvent::Restarted { by } => (format!("restarted by {}", visible(by)), Tint::Plain),
        ServiceEvent::TakenDown { by } => (format!("taken down by {}", visible(by)), Tint::Warn),
    }
}

/// An event with its time, as it stands in the journal.
pub(super) fn event_json(at: u64, event: &ServiceEvent) -> Value {
    json!({"at": at, "event": event})
}
