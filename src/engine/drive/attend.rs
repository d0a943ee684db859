//! Waits for what a run cannot go on without: its state, and its store at the end.

use std::future::pending;
use std::pin::Pin;

use tokio::sync::watch;

use super::Stop;
use super::driver::Driver;
use crate::engine::clock;
use crate::engine::error::EngineError;
use crate::event::Notice;

/// What is said to who interrupts a run that waits for its state or its store.
const STOP_WAITS: &str =
    "stopping once what is away is back; interrupt again to leave the run as it is, to be resumed";

impl Driver<'_> {
    /// Waits for what the run cannot go on without. While the state or the store is away, people hear of it, and of the rest that goes
    /// on, and may leave the run as it is.
    pub(super) async fn attend<T>(
        &mut self,
        mut work: Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + '_>>,
    ) -> Result<T, EngineError> {
        let mut heard = Stop::No;
        loop {
            let is_away = self.state.sees_bad_weather() || self.store.sees_bad_weather();
            tokio::select! {
                biased;
                done = &mut work => return done,
                notice = self.state.change() => self.report.notice(clock::now(), &notice),
                notice = self.store.change() => self.report.notice(clock::now(), &notice),
                Some(notice) = self.notices.recv() => self.report.notice(clock::now(), &notice),
                stop = wish_after(heard, &mut self.stop), if is_away => {
                    if stop == Stop::Now {
                        return Err(EngineError::Left);
                    }
                    heard = stop;
                    self.report.notice(clock::now(), &Notice::Remark(STOP_WAITS.to_owned()));
                }
            }
        }
    }
}

/// Waits until the caller wishes something else than was heard.
async fn wish_after(heard: Stop, stop: &mut watch::Receiver<Stop>) -> Stop {
    match stop.wait_for(|wish| *wish != heard).await {
        Ok(wish) => *wish,
        Err(_) => pending().await,
    }
}
