//! Tries again what may pass by itself, with growing pauses and within a bound.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Inner;
use super::body::Progress;
use super::failure::Failure;
use super::words::what_and_mend;
use crate::weather::Away;

/// How often it is looked whether bytes still leave.
const LOOK: Duration = Duration::from_millis(250);

/// What is over by then is not told.
const UNNOTICED: Duration = Duration::from_secs(3);

/// Does `once` until it succeeds, fails for good, or failed for too long. `once` is told how often it was tried before.
pub(super) async fn retried<T, W>(inner: &Inner, once: impl FnMut(u32) -> W) -> Result<T, Failure>
where
    W: Future<Output = Result<T, Failure>>,
{
    repeated(inner, &inner.requests, once).await
}

/// One try alone, for what must not be done again unseen.
pub(super) async fn once<T>(
    inner: &Inner,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    one(inner, &inner.requests, work).await
}

/// The same for what moves many bytes, which must not keep small requests waiting.
pub(super) async fn retried_bulk<T, W>(
    inner: &Inner,
    once: impl FnMut(u32) -> W,
) -> Result<T, Failure>
where
    W: Future<Output = Result<T, Failure>>,
{
    repeated(inner, &inner.bulk, once).await
}

async fn repeated<T, W>(
    inner: &Inner,
    turns: &Semaphore,
    mut once: impl FnMut(u32) -> W,
) -> Result<T, Failure>
where
    W: Future<Output = Result<T, Failure>>,
{
    let mut first_failure = None;
    let mut tries = 0;
    let began = Instant::now();
    loop {
        // On the heap: the clients' futures are tens of kilobytes, and unoptimised builds copy them at every level of a stack.
        let failure = match one(inner, turns, Box::pin(once(tries))).await {
            Ok(done) => {
                inner.weather.turn_good();
                return Ok(done);
            }
            Err(failure) => failure,
        };
        if !failure.passes() {
            return Err(failure);
        }
        let since = *first_failure.get_or_insert_with(Instant::now);
        if began.elapsed() >= UNNOTICED {
            inner.weather.turn_bad(away(inner, &failure, began));
        }
        // Whoever comes later does not wait all over again.
        let since = inner.weather.bad_since().map_or(since, |away| away.min(since));
        let pause = pause(inner, tries, &failure);
        if since.elapsed() + pause > bound(inner, &failure) {
            return Err(failure);
        }
        tracing::debug!("try {} at {} failed: {failure:?}", tries + 1, inner.place);
        tokio::time::sleep(pause).await;
        tries = tries.saturating_add(1);
    }
}

fn away(inner: &Inner, failure: &Failure, since: Instant) -> Away {
    let (why, help) = what_and_mend(inner, failure);
    Away { why, help, since, patience: inner.place.patience.unwrap_or(inner.limits.give_up) }
}

/// One try, when it is its turn.
async fn one<T>(
    inner: &Inner,
    turns: &Semaphore,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let turn = turns.acquire().await;
    let result = work.await;
    drop(turn);
    if result.as_ref().map_or_else(|failure| failure.answer().is_some(), |_| true) {
        inner.answered.store(true, Ordering::Relaxed);
    }
    result
}

fn bound(inner: &Inner, failure: &Failure) -> Duration {
    if failure.is_unmet() && !inner.answered.load(Ordering::Relaxed) {
        inner.limits.give_up_first
    } else {
        inner.limits.give_up
    }
}

/// Between half of the growing pause and all of it, so that many do not come back at once; what the server asks for counts more.
fn pause(inner: &Inner, tries: u32, failure: &Failure) -> Duration {
    let limits = &inner.limits;
    let full = limits.pause.saturating_mul(1 << tries.min(16)).min(limits.longest_pause);
    let drawn = u32::try_from(RandomState::new().hash_one(()) % 1000).unwrap_or(0);
    let pause = full / 2 + full * drawn / 2000;
    match failure.answer().and_then(|answer| answer.after) {
        Some(after) => pause.max(after.min(limits.longest_pause)),
        None => pause,
    }
}

/// Waits for `work` as long as bytes leave, and for `quiet` after the last one. `told` hears of bytes as they leave, each once also
/// when some are sent again.
pub(super) async fn watched<T>(
    quiet: Duration,
    progress: &Progress,
    told: &High<'_>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // Boxed, as the client's futures are deep.
    let mut work = Box::pin(work);
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let result = tokio::time::timeout(LOOK.min(quiet), &mut work).await;
        let bytes = progress.bytes();
        told.reach(bytes);
        match result {
            Ok(result) => return result,
            Err(_) if bytes != before => (before, since) = (bytes, Instant::now()),
            Err(_) if since.elapsed() >= quiet => return Err(Failure::Silent(quiet)),
            Err(_) => {}
        }
    }
}

/// How far the best try came: only what is beyond it is told of.
pub(super) struct High<'a> {
    moved: &'a (dyn Fn(u64) + Send + Sync),
    bytes: AtomicU64,
}

impl<'a> High<'a> {
    pub(super) fn new(moved: &'a (dyn Fn(u64) + Send + Sync)) -> Self {
        Self { moved, bytes: AtomicU64::new(0) }
    }

    /// This try is at `bytes`.
    pub(super) fn reach(&self, bytes: u64) {
        let before = self.bytes.fetch_max(bytes, Ordering::Relaxed);
        if bytes > before {
            (self.moved)(bytes - before);
        }
    }
}

/// Waits for an answer at most `quiet`.
pub(super) async fn answered<T>(
    quiet: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let work = Box::pin(work);
    tokio::time::timeout(quiet, work).await.unwrap_or(Err(Failure::Silent(quiet)))
}
