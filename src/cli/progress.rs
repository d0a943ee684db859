//! How far a long piece of work is, on a terminal: one line that is written over, with a sum and a rate.

use std::io::IsTerminal;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::screen::{Loudness, Screen, to_stderr};
use crate::words::{bytes, millis};

/// Between two looks. What takes less shows nothing.
const LOOK: Duration = Duration::from_millis(500);

/// Does `work` and shows on a terminal how many bytes are `done`: `read 1.2 GiB, 350 MiB/s`. Nothing stays of it.
pub(crate) async fn watch<T>(
    done: &str,
    far: impl Fn() -> u64,
    work: impl Future<Output = T>,
    screen: Screen,
) -> T {
    if !std::io::stderr().is_terminal() || screen.loudness < Loudness::Usual {
        return work.await;
    }
    let mut work = pin!(work);
    let began = Instant::now();
    let mut look = interval_at(began + LOOK, LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = false;
    loop {
        tokio::select! {
            value = &mut work => {
                if shown {
                    to_stderr("\r\x1b[K");
                }
                return value;
            }
            _ = look.tick() => {
                let sum = far();
                let rate = sum.saturating_mul(1000) / millis(began.elapsed()).max(1);
                to_stderr(&format!("\r\x1b[K{done} {}, {}/s", bytes(sum), bytes(rate)));
                shown = true;
            }
        }
    }
}
