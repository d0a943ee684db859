//! Ctrl-C, TERM and HUP: the first stops gently, the second at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::engine::drive::Stop;

/// Listens from now on, for as long as the process lives. What is received begins with `from`.
pub(crate) fn listen(from: Stop) -> std::io::Result<watch::Receiver<Stop>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = watch::channel(from);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            let next = after(*sender.borrow());
            sender.send_replace(next);
        }
    });
    Ok(receiver)
}

/// What another work is told that is to be stopped in any case: gently, or at once as soon as `from` says so.
pub(crate) fn at_least_gently(mut from: watch::Receiver<Stop>) -> watch::Receiver<Stop> {
    let first = if *from.borrow_and_update() == Stop::Now { Stop::Now } else { Stop::Gently };
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        while from.changed().await.is_ok() {
            if *from.borrow() == Stop::Now {
                sender.send_replace(Stop::Now);
            }
        }
    });
    receiver
}

fn after(stop: Stop) -> Stop {
    match stop {
        Stop::No => Stop::Gently,
        Stop::Gently | Stop::Now => Stop::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_gentle_the_second_is_not() {
        assert_eq!(after(Stop::No), Stop::Gently);
        assert_eq!(after(Stop::Gently), Stop::Now);
        assert_eq!(after(Stop::Now), Stop::Now);
    }
}
