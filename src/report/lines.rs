//! Not a terminal: plain lines with the time before each, for pipes, files and CI.

use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::paint::{Paint, Tint};
use super::story::{noted, told};
use super::tally::Tally;
use crate::engine::Report;
use crate::event::{Notice, RunEvent, Waiting};
use crate::words::log_line;

/// How lines are written.
#[derive(Debug, Clone)]
pub struct LinesOptions {
    /// Failures only, with the end of their log.
    pub quiet: bool,
    /// Use colours.
    pub colour: bool,
    /// The zone of the times.
    pub zone: TimeZone,
}

/// Writes what happens as lines: `12:00:01 train[trees=100] | loss 0.1`. A closed pipe ends the writing, not the run.
pub struct Lines {
    tally: Tally,
    options: LinesOptions,
    /// None once the reader is gone.
    out: Option<Box<dyn Write + Send>>,
}

impl Lines {
    /// Of the run of `tally`, to `out` (stderr).
    pub fn new(tally: Tally, options: LinesOptions, out: Box<dyn Write + Send>) -> Self {
        Self { tally, options, out: Some(out) }
    }

    fn write(&mut self, at: u64, text: &str) {
        let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        let time = at.unwrap_or_default().to_zoned(self.options.zone.clone()).strftime("%H:%M:%S");
        let line = format!("{time} {text}\n");
        if let Some(out) = &mut self.out
            && out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err()
        {
            self.out = None;
        }
    }

    fn write_told(&mut self, at: u64, told: &super::story::Told, paint: Paint) {
        let what = paint.with(told.tint, &told.what);
        if told.about.is_empty() {
            self.write(at, &what);
        } else {
            self.write(at, &format!("{} {what}", told.about));
        }
        for line in &told.more {
            self.write(at, &format!("  {line}"));
        }
    }
}

impl Report for Lines {
    fn event(&mut self, at: u64, event: &RunEvent) {
        self.tally.fold(at, event);
        let paint = Paint { colour: self.options.colour };
        // Log lines were written when they came, unless quiet.
        let told = told(&self.tally, at, event, paint, self.options.quiet);
        if let Some(told) = told.filter(|told| !self.options.quiet || told.tint == Tint::Bad) {
            self.write_told(at, &told, paint);
        }
    }

    fn notice(&mut self, at: u64, notice: &Notice) {
        let paint = Paint { colour: self.options.colour };
        match notice {
            _ if self.options.quiet => {}
            Notice::Line { task, text, .. } => {
                let line = format!("{} | {}", self.tally.label(task), log_line(text));
                self.write(at, &line);
            }
            Notice::Preparing { task, step } => {
                let step = log_line(step);
                let before = self.tally.find(task).and_then(|task| task.step.clone());
                if before.as_deref() != Some(&step) {
                    let line = format!("{}: {step}", self.tally.label(task));
                    self.write(at, &line);
                }
            }
            Notice::Waiting { task, why: Waiting::Claim { by } } => {
                let line =
                    format!("{} waits: {} computes the same", self.tally.label(task), log_line(by));
                self.write(at, &line);
            }
            notice => {
                if let Some(told) = noted(&self.tally, notice) {
                    self.write_told(at, &told, paint);
                }
            }
        }
        self.tally.notice(notice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Failure, JobEnd, Skip, Usage};
    use crate::report::testing::{Shared, done, line, reused, started, tally, task};

    fn options(quiet: bool) -> LinesOptions {
        LinesOptions { quiet, colour: false, zone: TimeZone::UTC }
    }

    fn failing_run(report: &mut Lines) {
        let (train, evaluate) = (task("train", 2), task("evaluate", 1));
        report.event(1000, &reused(&task("prepare", 1)));
        report.notice(
            1500,
            &Notice::Preparing { task: train.clone(), step: "placing files".to_owned() },
        );
        report.event(2000, &started(&train, 1));
        report.notice(2500, &line(&train, "\x1b[32mloss\x1b[0m 0.1"));
        let usage = Usage::default();
        let end = JobEnd::Signalled(9);
        report.event(3000, &RunEvent::AttemptEnded { task: train.clone(), attempt: 1, end, usage });
        report.event(3000, &RunEvent::RetryScheduled { task: train.clone(), not_before: 8000 });
        report.event(8000, &started(&train, 2));
        report.event(20_300, &done(&train));
        report.event(20_400, &started(&evaluate, 1));
        report.notice(20_500, &line(&evaluate, "Traceback"));
        report.notice(20_500, &line(&evaluate, "ValueError: no"));
        let end = JobEnd::Exited(1);
        report.event(
            21_000,
            &RunEvent::AttemptEnded { task: evaluate.clone(), attempt: 1, end: end.clone(), usage },
        );
        report.event(
            21_000,
            &RunEvent::TaskFailed { task: evaluate.clone(), cause: Failure::Job(end) },
        );
        report.event(
            21_000,
            &RunEvent::TaskSkipped {
                task: task("alert", 1),
                why: Skip::When("params.alert".to_owned()),
            },
        );
        report.event(21_000, &RunEvent::TaskBlocked { task: task("train", 1), by: evaluate });
        report.notice(21_000, &Notice::Remark("the tree is dirty".to_owned()));
        report.event(21_000, &RunEvent::StopWished { by: "ann".to_owned(), kill: false });
    }

    #[test]
    fn a_run_as_lines() {
        let out = Shared::default();
        failing_run(&mut Lines::new(tally(&[]), options(false), Box::new(out.clone())));
        insta::assert_snapshot!(out.text(), @r#"
        00:00:01 prepare reused from run 01HF7YAT000000000000000001
        00:00:01 train[trees=100]: placing files
        00:00:02 train[trees=100] runs: forced
        00:00:02 train[trees=100] | ␛[32mloss␛[0m 0.1
        00:00:03 train[trees=100] killed by signal 9 (KILL); attempt 2 in 5.0s
        00:00:08 train[trees=100] runs: retry of attempt 1
        00:00:20 train[trees=100] done in 12.3s (accuracy 0.95)
        00:00:20 evaluate runs: forced
        00:00:20 evaluate | Traceback
        00:00:20 evaluate | ValueError: no
        00:00:21 evaluate failed: exit code 1
        00:00:21   the whole log: flowrun logs 01HF7YAT000000000000000001 evaluate
        00:00:21 alert skipped: its `when` is false: params.alert
        00:00:21 train[trees=50] blocked: it needs evaluate
        00:00:21 note: the tree is dirty
        00:00:21 stopping, asked by ann; what runs gets 10 s to end
        "#);
    }

    #[test]
    fn quiet_lines_show_the_log_of_what_failed() {
        let out = Shared::default();
        failing_run(&mut Lines::new(tally(&[]), options(true), Box::new(out.clone())));
        insta::assert_snapshot!(out.text(), @r#"
        00:00:21 evaluate failed: exit code 1
        00:00:21   │ Traceback
        00:00:21   │ ValueError: no
        00:00:21   the whole log: flowrun logs 01HF7YAT000000000000000001 evaluate
        "#);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let out = Shared::closed();
        failing_run(&mut Lines::new(tally(&[]), options(false), Box::new(out.clone())));
        assert_eq!(out.writes(), 1, "nothing more is tried");
    }
}
