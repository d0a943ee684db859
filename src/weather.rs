//! Whether a part that machines share answers: told by those who wait for it, heard by those who tell people why nothing goes on.
//! Knows no part by name.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A part that does not answer, and is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// What it did last, as people read it.
    pub why: String,
    /// What to do about it.
    pub help: String,
    /// Since when it has not answered.
    pub since: Instant,
    /// For how long from then on it is waited for.
    pub patience: Duration,
}

/// Whether a part answers, as far as it was told. Clones tell and hear the same.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    away: watch::Sender<Option<Away>>,
    answered: Mutex<Option<Instant>>,
}

impl Weather {
    /// It does not answer. One that has answered somebody else since then is not away; of two who wait the first knows since when.
    pub fn turn_bad(&self, away: Away) {
        let answered = *self.inner.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.is_some_and(|answered| answered > away.since) {
            return;
        }
        self.inner.away.send_if_modified(|told| {
            let is_news = told.as_ref().is_none_or(|told| told.since >= away.since);
            if is_news {
                *told = Some(away);
            }
            is_news
        });
    }

    /// It has answered.
    pub fn turn_good(&self) {
        *self.inner.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.inner.away.send_if_modified(|told| told.take().is_some());
    }

    /// Since when it has been away, if it is.
    pub fn bad_since(&self) -> Option<Instant> {
        self.inner.away.borrow().as_ref().map(|away| away.since)
    }

    /// Hears what is told from now on.
    pub fn listen(&self) -> watch::Receiver<Option<Away>> {
        self.inner.away.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(since: Instant) -> Away {
        let patience = Duration::from_mins(2);
        Away { why: "refused".to_owned(), help: String::new(), since, patience }
    }

    #[test]
    fn who_was_answered_meanwhile_is_right() {
        let weather = Weather::default();
        let before = Instant::now();
        weather.turn_good();
        weather.turn_bad(away(before));
        assert_eq!(weather.bad_since(), None);
        let first = Instant::now();
        weather.turn_bad(away(first));
        weather.turn_bad(away(first + Duration::from_secs(1)));
        assert_eq!(weather.bad_since(), Some(first));
        let mut heard = weather.listen();
        weather.turn_good();
        assert!(heard.has_changed().unwrap());
        assert_eq!(*heard.borrow_and_update(), None);
    }
}
