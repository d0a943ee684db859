//! The live view on a terminal (indicatif's one home): lasting lines scroll up, below them stands what runs, what waits and how far
//! it is. A thread of its own draws ten times a second, so that neither many events nor a slow terminal holds the engine up.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::live::live_lines;
use super::paint::{Paint, Tint};
use super::story::{Told, noted, told};
use super::tally::Tally;
use crate::engine::Report;
use crate::event::{Notice, Reason, RunEvent};

/// Between two drawings.
const TICK: Duration = Duration::from_millis(100);

/// Shows a run live. Dropping it draws what is left, takes the live lines away and leaves the lasting ones.
pub struct Terminal {
    shared: Arc<Shared>,
    paint: Paint,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    screen: Mutex<Screen>,
    ended: Condvar,
}

struct Screen {
    tally: Tally,
    /// Not yet drawn.
    lasting: Vec<String>,
    /// The newest time told, and when that was: where the clock stands now follows.
    clock: (u64, Instant),
    ended: bool,
}

impl Screen {
    fn now(&self) -> u64 {
        let since = u64::try_from(self.clock.1.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.clock.0.saturating_add(since)
    }

    fn told(&mut self, at: u64, told: Option<Told>, paint: Paint) {
        self.clock = (at, Instant::now());
        if let Some(told) = told {
            self.lasting.extend(lasting_lines(&told, paint));
        }
    }
}

impl Terminal {
    /// Shows the run of `tally` on stderr from `now` (Unix milliseconds) on.
    pub fn new(tally: Tally, now: u64, colour: bool) -> Self {
        Self::on(ProgressDrawTarget::stderr(), tally, now, colour)
    }

    fn on(target: ProgressDrawTarget, tally: Tally, now: u64, colour: bool) -> Self {
        let paint = Paint { colour };
        let clock = (now, Instant::now());
        let screen = Screen { tally, lasting: Vec::new(), clock, ended: false };
        let shared = Arc::new(Shared { screen: Mutex::new(screen), ended: Condvar::new() });
        let drawn = Arc::clone(&shared);
        let thread = std::thread::spawn(move || draw(&drawn, target, paint));
        Self { shared, paint, thread: Some(thread) }
    }

    fn screen(&self, change: impl FnOnce(&mut Screen)) {
        // A drawing that panicked left the screen as it was.
        change(&mut self.shared.screen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Report for Terminal {
    fn event(&mut self, at: u64, event: &RunEvent) {
        self.screen(|screen| {
            screen.tally.fold(at, event);
            // What starts is seen below and lasts once it is over; why it runs again is worth a lasting line.
            let told = match event {
                RunEvent::AttemptStarted {
                    why: Reason::FirstTime | Reason::NotCached(_), ..
                }
                | RunEvent::RolloutPrepared { .. }
                | RunEvent::Verified { .. } => None,
                RunEvent::RolloutStarted { why, .. } if why.is_empty() => None,
                event => told(&screen.tally, at, event, self.paint, true),
            };
            screen.told(at, told, self.paint);
        });
    }

    fn notice(&mut self, at: u64, notice: &Notice) {
        self.screen(|screen| {
            screen.tally.notice(notice);
            let told = noted(&screen.tally, at, notice, self.paint);
            screen.told(at, told, self.paint);
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.screen(|screen| screen.ended = true);
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by itself and must not fail the run.
            drop(thread.join());
        }
    }
}

/// `✓ train[trees=100]  done in 12.3s` and what stands below it.
fn lasting_lines(told: &Told, paint: Paint) -> Vec<String> {
    let sign = paint.with(told.tint, told.sign);
    let what = match told.tint {
        // A failure's sentence and what is beside the point are painted whole; of the rest the sign is enough.
        Tint::Bad | Tint::Dim => paint.with(told.tint, &told.what),
        _ => told.what.clone(),
    };
    let first = if told.about.is_empty() {
        format!("{sign} {what}")
    } else {
        format!("{sign} {}  {what}", told.about)
    };
    std::iter::once(first).chain(told.more.iter().map(|line| format!("    {line}"))).collect()
}

/// Draws until the end. Only what is to be drawn is taken under the lock; the drawing is done outside of it.
fn draw(shared: &Shared, target: ProgressDrawTarget, paint: Paint) {
    let multi = MultiProgress::with_draw_target(target);
    // `wide_msg` cuts a line to the terminal's width.
    let style = ProgressStyle::with_template("{wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let mut bars: Vec<ProgressBar> = Vec::new();
    loop {
        let screen = shared.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = shared.ended.wait_timeout_while(screen, TICK, |screen| !screen.ended);
        let (mut screen, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let ended = screen.ended;
        let lasting = std::mem::take(&mut screen.lasting);
        let live = if ended { Vec::new() } else { live_lines(&screen.tally, screen.now(), paint) };
        drop(screen);

        while bars.len() > live.len() {
            if let Some(bar) = bars.pop() {
                bar.finish_and_clear();
                multi.remove(&bar);
            }
        }
        if !lasting.is_empty() {
            // A terminal that is gone is no failure of the run.
            multi.println(lasting.join("\n")).unwrap_or_default();
        }
        while bars.len() < live.len() {
            bars.push(multi.add(ProgressBar::new_spinner().with_style(style.clone())));
        }
        for (bar, line) in bars.iter().zip(live) {
            bar.set_message(line);
        }
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use indicatif::TermLike;

    use super::*;
    use crate::report::testing::{done, line, reused, started, tally, task};

    /// A terminal that hands over all it is told.
    #[derive(Debug)]
    struct Paper(Sender<String>);

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            40
        }
        fn move_cursor_up(&self, _n: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _n: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _n: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _n: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> std::io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.0.send(text.to_owned()).map_err(std::io::Error::other)
        }
        fn clear_line(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn running_tasks_are_live_and_ended_ones_last() {
        let (paper, written) = channel();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(Paper(paper)), 255);
        let mut report = Terminal::on(target, tally(&[]), 1000, false);
        report.event(1000, &reused(&task("prepare", 1)));
        report.event(1000, &started(&task("train", 1), 1));
        report.notice(1001, &line(&task("train", 1), &"long ".repeat(50)));
        let live = written.iter().find(|text| text.contains("▶ train[trees=50]")).unwrap();
        assert!(live.trim_end().chars().count() <= 40, "{live}");
        report.event(13_300, &done(&task("train", 1)));
        drop(report);
        let rest: Vec<String> = written.iter().collect();
        assert!(
            rest.iter().any(|text| text == "✓ train[trees=50]  done in 12.3s (accuracy 0.95)"),
            "{rest:?}"
        );
    }
}
