//! Lets a report write on a thread of its own, so that a slow or stuck reader never holds the engine up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::engine::Report;
use crate::event::{Notice, RunEvent};

/// Notices that may wait; further ones are dropped until the reader is back. Events are never dropped.
const WAITING_NOTICES: usize = 20_000;

enum Told {
    Event(u64, RunEvent),
    Notice(u64, Notice),
}

/// A report behind a queue. Dropping it waits until everything is written.
pub struct Background {
    sender: Option<Sender<Told>>,
    waiting: Arc<AtomicUsize>,
    dropped: usize,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Gives `report` its thread.
    pub fn new(mut report: impl Report + 'static) -> Self {
        let (sender, receiver) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = Arc::clone(&waiting);
        let thread = std::thread::spawn(move || {
            for told in receiver {
                match told {
                    Told::Event(at, event) => report.event(at, &event),
                    Told::Notice(at, notice) => {
                        written.fetch_sub(1, Ordering::Relaxed);
                        report.notice(at, &notice);
                    }
                }
            }
        });
        Self { sender: Some(sender), waiting, dropped: 0, thread: Some(thread) }
    }

    fn send(&mut self, told: Told) {
        if let Some(sender) = &self.sender
            && sender.send(told).is_err()
        {
            // The report panicked: the run goes on without it.
            self.sender = None;
        }
    }
}

impl Report for Background {
    fn event(&mut self, at: u64, event: &RunEvent) {
        self.send(Told::Event(at, event.clone()));
    }

    fn notice(&mut self, at: u64, notice: &Notice) {
        if self.waiting.load(Ordering::Relaxed) >= WAITING_NOTICES {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let lines = crate::words::count(self.dropped, "line");
            let remark = format!("{lines} of logs not shown here: the reader was too slow");
            self.dropped = 0;
            self.waiting.fetch_add(1, Ordering::Relaxed);
            self.send(Told::Notice(at, Notice::Remark(remark)));
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.send(Told::Notice(at, notice.clone()));
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by itself and must not fail the run.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::report::testing::{line, task};

    struct Slow {
        go: Receiver<()>,
        seen: Sender<String>,
    }

    impl Report for Slow {
        fn event(&mut self, _at: u64, event: &RunEvent) {
            self.go.recv().unwrap_or_default();
            self.seen.send(format!("{event:?}")).unwrap();
        }
        fn notice(&mut self, _at: u64, notice: &Notice) {
            self.seen.send(format!("{notice:?}")).unwrap();
        }
    }

    #[test]
    fn a_stuck_reader_loses_lines_and_no_event() {
        let (going, go) = sync_channel(0);
        let (seen, told) = channel();
        let mut report = Background::new(Slow { go, seen });
        report.event(1, &RunEvent::RunTimedOut);
        for _ in 0..WAITING_NOTICES + 5 {
            report.notice(1, &line(&task("train", 1), "text"));
        }
        report.event(2, &RunEvent::TaskCancelled { task: task("train", 1) });
        going.send(()).unwrap();
        going.send(()).unwrap();
        drop(report);
        let told: Vec<String> = told.iter().collect();
        assert_eq!(told.len(), WAITING_NOTICES + 2);
        assert!(told.last().unwrap().starts_with("TaskCancelled"));
    }

    #[test]
    fn a_report_that_panics_does_not_stop_the_run() {
        struct Broken;
        impl Report for Broken {
            fn event(&mut self, _at: u64, _event: &RunEvent) {
                panic!("expected by this test");
            }
            fn notice(&mut self, _at: u64, _notice: &Notice) {}
        }
        let mut report = Background::new(Broken);
        for _ in 0..100 {
            report.event(1, &RunEvent::RunTimedOut);
        }
    }
}
