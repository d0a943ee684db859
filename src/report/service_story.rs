//! What happens to services in a run, as lasting lines.

use super::paint::Tint;
use super::story::Told;
use super::tally::{Followed, Stand, Tally};
use crate::event::{Failure, RunEvent, Skip};
use crate::names::{ReleaseId, TaskId};
use crate::plan::causes::{failure_words, skip_words};
use crate::plan::rollout_words::{gate_words, in_place_words, live_words, rollout_words};
use crate::words::visible;

/// What is said of an event of a service. `tally` has taken it in already.
pub(super) fn service_told(tally: &Tally, event: &RunEvent) -> Option<Told> {
    let label = |task: &TaskId| tally.label(task);
    let name = |release: &ReleaseId| live_words(tally.number(*release));
    Some(match event {
        RunEvent::GateDecided { task, passed: false, failed, values, live } => {
            let gate = gate_words(failed.as_deref(), values);
            let what = match live {
                Some(live) => format!("kept {}: {gate}", name(live)),
                None => format!("not released: {gate}"),
            };
            Told::new("=", Tint::Warn, label(task), what)
        }
        RunEvent::RolloutStarted { task, number, why, .. } => {
            let what = format!("rolls out release {number}: {}", rollout_words(why));
            Told::new("▶", Tint::Plain, label(task), what)
        }
        RunEvent::RolloutPrepared { task, release } => {
            Told::new("▶", Tint::Plain, label(task), format!("{} is ready", name(release)))
        }
        RunEvent::Verified { task, release, passed: true } => {
            Told::new("▶", Tint::Plain, label(task), format!("{} is verified", name(release)))
        }
        RunEvent::RolloutPromoted { task, release, replaced } => {
            let mut what = format!("live: {}", name(release));
            if let Some(replaced) = replaced {
                what += &format!(" replaced {}", name(replaced));
            }
            if let Some(url) = tally.service(task).and_then(|service| service.url.as_ref()) {
                what += &format!(" — {}", visible(url));
            }
            Told::new("✓", Tint::Good, label(task), what)
        }
        RunEvent::RolloutAbandoned { task, release, why } => {
            let tint = if tally.stopping { Tint::Warn } else { Tint::Bad };
            let mut what = format!("{} given up: {}", name(release), visible(why));
            if let Some(service) = tally.service(task)
                && let Some((live, _)) = service.live.filter(|(live, _)| live != release)
            {
                let answers = if service.in_place { "is started again" } else { "still answers" };
                what += &format!("; {} {answers}", name(&live));
            }
            Told::new("✗", tint, label(task), what)
        }
        RunEvent::RolloutUnchanged { task, number, changed, .. } => {
            let what = format!("unchanged: release {number}{}", in_place_words(changed));
            let tint = if changed.is_empty() { Tint::Dim } else { Tint::Good };
            Told::new("↺", tint, label(task), what)
        }
        _ => return None,
    })
}

/// Whether a task is a service that went live.
pub(super) fn is_live(task: &Followed) -> bool {
    task.stand == Stand::Live
}

/// Why a task was skipped; what stands below a kept service says so.
pub(super) fn why_skipped(tally: &Tally, why: &Skip) -> String {
    if let Skip::Needs(needed) = why
        && let Some(followed) = tally.find(needed).filter(|task| task.stand == Stand::Kept)
    {
        let kept = live_words(followed.kept.and_then(|live| tally.number(live)));
        return format!("it needs `{}`, whose gate kept {kept}", followed.label);
    }
    skip_words(why, &|task| tally.label(task))
}

/// Why a task failed; of a release that was given up a moment ago the reason is not said twice.
pub(super) fn why_failed(tally: &Tally, task: &TaskId, cause: &Failure) -> String {
    if let Failure::Rollout { why, .. } = cause
        && let Some(followed) = tally.find(task)
        && followed.given_up.as_ref() == Some(why)
        && let Some(release) = followed.release
    {
        return format!("{} did not go live", live_words(tally.number(release)));
    }
    failure_words(cause).0
}
