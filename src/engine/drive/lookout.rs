//! Tells people that a shared part is away, now and then while it is, and that it answers again.

use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::engine::clock;
use crate::event::{Notice, Part};
use crate::weather::{Away, Weather};
use crate::words::millis;

/// How often it is said that something is waited for.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// Looks out for one part.
pub(super) struct Lookout {
    part: Part,
    place: String,
    /// None when nobody tells anything any more.
    heard: Option<watch::Receiver<Option<Away>>>,
    away: Option<Told>,
}

struct Told {
    /// Unix milliseconds.
    since: u64,
    again: Instant,
}

impl Lookout {
    /// For this part, which lies there.
    pub(super) fn new(part: Part, place: &str, weather: &Weather) -> Self {
        Self { part, place: place.to_owned(), heard: Some(weather.listen()), away: None }
    }

    /// It was told that the part is away, and not yet that it is back.
    pub(super) fn sees_bad_weather(&self) -> bool {
        self.away.is_some()
    }

    /// Waits for something to tell; it may be given up at any time.
    pub(super) async fn change(&mut self) -> Notice {
        loop {
            let Some(heard) = &mut self.heard else { return pending().await };
            let now = heard.borrow_and_update().clone();
            if let Some(notice) = news(self.part, &self.place, &mut self.away, now) {
                return notice;
            }
            let again = self.away.as_ref().map(|told| told.again);
            let changed = tokio::select! {
                changed = heard.changed() => changed.is_ok(),
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => true,
            };
            if !changed {
                self.heard = None;
            }
        }
    }
}

fn news(part: Part, place: &str, told: &mut Option<Told>, away: Option<Away>) -> Option<Notice> {
    let place = place.to_owned();
    let Some(away) = away else {
        let since = told.take()?.since;
        return Some(Notice::Back { part, place, since });
    };
    let now = Instant::now();
    if told.as_ref().is_some_and(|told| now < told.again) {
        return None;
    }
    let at = clock::now();
    let gone = || at.saturating_sub(millis(now.duration_since(away.since)));
    let since = told.as_ref().map_or_else(gone, |told| told.since);
    *told = Some(Told { since, again: now + SAY_EVERY });
    let left = away.patience.saturating_sub(now.duration_since(away.since));
    let until = at + millis(left);
    Some(Notice::Away { part, place, why: away.why, help: away.help, since, until })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn away(since: Instant) -> Away {
        let patience = Duration::from_mins(2);
        Away { why: "refused".to_owned(), help: "start it".to_owned(), since, patience }
    }

    #[tokio::test]
    async fn it_is_told_now_and_then_and_when_it_is_over() {
        let weather = Weather::default();
        let mut lookout = Lookout::new(Part::State, "db", &weather);
        let start = Instant::now();
        weather.turn_bad(away(start));
        let Notice::Away { since: first, until, .. } = lookout.change().await else { panic!() };
        assert!(until - first > 119_000 && until - first < 121_000, "{first} {until}");
        // News of the same absence is no news until a while has passed.
        weather.turn_bad(away(start));
        assert_eq!(lookout.change().now_or_never(), None);
        lookout.away.as_mut().unwrap().again = Instant::now();
        let Notice::Away { since, place, why, help, .. } = lookout.change().await else { panic!() };
        assert_eq!((since, place.as_str()), (first, "db"));
        assert_eq!((why.as_str(), help.as_str()), ("refused", "start it"));
        assert!(lookout.sees_bad_weather());
        weather.turn_good();
        let back = Notice::Back { part: Part::State, place, since };
        assert_eq!(lookout.change().await, back);
        assert!(!lookout.sees_bad_weather());
    }
}
