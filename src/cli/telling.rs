//! Asks the server for something that takes a while, and says what it tells meanwhile.

use std::pin::pin;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::error::CliError;
use super::screen::Screen;
use crate::names::ServiceId;
use crate::rollout::RolloutFailure;
use crate::words::visible;

/// Does the work; what it sends is said on stderr, line by line, all of it before this returns.
pub(crate) async fn telling<T>(
    screen: Screen,
    work: impl AsyncFnOnce(UnboundedSender<String>) -> T,
) -> T {
    let (sender, mut lines) = unbounded_channel::<String>();
    let mut work = pin!(work(sender));
    let done = loop {
        tokio::select! {
            biased;
            Some(line) = lines.recv() => screen.say(&visible(&line)),
            done = &mut work => break done,
        }
    };
    while let Ok(line) = lines.try_recv() {
        screen.say(&visible(&line));
    }
    done
}

/// A rollout that went wrong as the end of a command.
pub(crate) fn failed(service: &ServiceId, what: &str, failure: &RolloutFailure) -> CliError {
    CliError::Rollout {
        message: format!("`{service}` {what}: {}", failure.why),
        log: failure.log.join("\n"),
    }
}
