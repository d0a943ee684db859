//! How long something may stand still.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::lock;

/// A limit on standing still. The timer is made when something first has to be waited for, and is used again.
pub(super) struct Patience {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, waiting: false }
    }

    /// Something moved. Says whether that had been waited for.
    pub(super) fn renew(&mut self) -> bool {
        std::mem::take(&mut self.waiting)
    }

    /// Ready when nothing moved for the whole limit, here or in `other`. To be asked whenever nothing can move.
    pub(super) fn poll_end(
        &mut self,
        task: &mut Context<'_>,
        other: Option<&Progress>,
    ) -> Poll<Duration> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + self.limit);
        }
        loop {
            ready!(timer.as_mut().poll(task));
            match other.map(|other| other.last() + self.limit) {
                Some(later) if later > Instant::now() => timer.as_mut().reset(later),
                _ => return Poll::Ready(self.limit),
            }
        }
    }
}

/// What the two directions of one exchange know of each other. Only made for requests with a body.
pub(super) struct Progress {
    last: Mutex<Instant>,
    sent: Notify,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { last: Mutex::new(Instant::now()), sent: Notify::new() }
    }

    pub(super) fn moved(&self) {
        *lock(&self.last) = Instant::now();
    }

    fn last(&self) -> Instant {
        *lock(&self.last)
    }

    /// The request is with the backend as a whole, or never will be.
    pub(super) fn set_sent(&self) {
        self.sent.notify_one();
    }

    pub(super) async fn sent(&self) {
        self.sent.notified().await;
    }
}
