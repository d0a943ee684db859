//! Not a terminal: plain lines with the time before each, for pipes, files and CI.

use std::collections::BTreeMap;
use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::paint::{Paint, Tint};
use super::story::{noted, told};
use super::tally::{Tally, movement_words};
use crate::engine::Report;
use crate::event::{Notice, RunEvent, Waiting};
use crate::names::TaskId;
use crate::words::log_line;

/// How often it is said how far the bytes of a task are.
const BYTES_EVERY_MS: u64 = 10_000;

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
    /// When it was said last how far the bytes of a task are.
    told_of_bytes: BTreeMap<TaskId, u64>,
}

impl Lines {
    /// Of the run of `tally`, to `out` (stderr).
    pub fn new(tally: Tally, options: LinesOptions, out: Box<dyn Write + Send>) -> Self {
        Self { tally, options, out: Some(out), told_of_bytes: BTreeMap::new() }
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
            Notice::Moving { task, how_far } => {
                let told = self.told_of_bytes.get(task).copied();
                let due = told.is_none_or(|told| at.saturating_sub(told) >= BYTES_EVERY_MS);
                match how_far {
                    Some(movement) if due => {
                        self.told_of_bytes.insert(task.clone(), at);
                        let words = movement_words(movement);
                        let line = format!("{}: {words}", self.tally.label(task));
                        self.write(at, &line);
                    }
                    Some(_) => {}
                    None => drop(self.told_of_bytes.remove(task)),
                }
            }
            Notice::Waiting { task, why: why @ Waiting::Claim { by } } => {
                // It is asked for again and again, and said once.
                if self.tally.find(task).and_then(|task| task.waits.as_ref()) != Some(why) {
                    let label = self.tally.label(task);
                    let line = format!("{label} waits: {} computes the same", log_line(by));
                    self.write(at, &line);
                }
            }
            notice => {
                if let Some(told) = noted(&self.tally, at, notice, paint) {
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
    use crate::event::{Failure, FieldChange, JobEnd, Movement, Part, Skip, Usage};
    use crate::names::{ReleaseId, StageName};
    use crate::report::KnownService;
    use crate::report::testing::{Shared, done, line, reused, started, tally, task};
    use crate::scalar::Scalar;

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
        let (part, place) = (Part::Store, "s3://models".to_owned());
        let (why, help) = ("cannot be reached".to_owned(), "check the endpoint".to_owned());
        let since = 9_000;
        let away = Notice::Away { part, place: place.clone(), why, help, since, until: 609_000 };
        report.notice(21_000, &away);
        report.notice(21_000, &Notice::Back { part, place, since });
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
        00:00:21 waiting for the store at s3://models, which has been away for 12.0s: cannot be reached; trying for 9m 48s more, what runs goes on
        00:00:21   help: check the endpoint; `--store-patience` sets how long it is waited for
        00:00:21 the store at s3://models answers again, after 12.0s
        00:00:21 stopping, asked by ann; what runs gets 10 s to end
        "#);
    }

    /// `serve` and `after`, which needs it; release 3 is live.
    fn with_services() -> Tally {
        let known = KnownService {
            url: Some("http://127.0.0.1:8080/iris".to_owned()),
            live: Some((release(3), 3)),
            in_place: false,
        };
        let name = |text: &str| text.parse::<StageName>().unwrap();
        tally(&[]).with_services(BTreeMap::from([(name("serve"), known)]))
    }

    fn release(number: u64) -> ReleaseId {
        ReleaseId::new(number, 0)
    }

    fn rollout(report: &mut Lines, number: u64) {
        let (serve, release) = (task("serve", 1), release(number));
        let change =
            FieldChange { field: "inputs.model".to_owned(), was: Some("a".repeat(99)), is: None };
        let change = FieldChange { is: Some("b".repeat(99)), ..change };
        let why = vec![change];
        report.event(
            1000,
            &RunEvent::GateDecided {
                task: serve.clone(),
                passed: true,
                failed: None,
                values: BTreeMap::new(),
                live: Some(self::release(3)),
            },
        );
        report.event(1000, &RunEvent::RolloutStarted { task: serve.clone(), release, number, why });
        for step in ["1 of 2 replicas ready", "1 of 2 replicas ready", "2 of 2 replicas ready"] {
            report.notice(2000, &Notice::Preparing { task: serve.clone(), step: step.to_owned() });
        }
    }

    #[test]
    fn a_rollout_as_lines() {
        let out = Shared::default();
        let mut report = Lines::new(with_services(), options(false), Box::new(out.clone()));
        let (serve, smoke) = (task("serve", 1), task("smoke", 1));
        rollout(&mut report, 4);
        report.event(3000, &RunEvent::RolloutPrepared { task: serve.clone(), release: release(4) });
        report.event(3000, &started(&smoke, 1));
        report.event(4000, &done(&smoke));
        let passed = RunEvent::Verified { task: serve.clone(), release: release(4), passed: true };
        report.event(4000, &passed);
        report.event(
            5000,
            &RunEvent::RolloutPromoted {
                task: serve.clone(),
                release: release(4),
                replaced: Some(release(3)),
            },
        );
        report.event(5000, &done(&serve));
        report.event(
            6000,
            &RunEvent::RolloutUnchanged {
                task: task("tracker", 1),
                release: release(7),
                number: 2,
                changed: vec![FieldChange {
                    field: "replicas".to_owned(),
                    was: Some("2".to_owned()),
                    is: Some("3".to_owned()),
                }],
            },
        );
        insta::assert_snapshot!(out.text(), @r"
        00:00:01 serve rolls out release 4: inputs.model changed
        00:00:02 serve: 1 of 2 replicas ready
        00:00:02 serve: 2 of 2 replicas ready
        00:00:03 serve release 4 is ready
        00:00:03 smoke runs: forced
        00:00:04 smoke done in 1.0s (accuracy 0.95)
        00:00:04 serve release 4 is verified
        00:00:05 serve live: release 4 replaced release 3 — http://127.0.0.1:8080/iris
        00:00:06 tracker unchanged: release 2, changed in place: replicas: 2 → 3
        ");
        assert_eq!(report.tally.counts(), "1 done, 1 live, 1 reused");
    }

    #[test]
    fn what_a_gate_kept_shows_both_numbers() {
        let out = Shared::default();
        let mut report = Lines::new(with_services(), options(false), Box::new(out.clone()));
        let serve = task("serve", 1);
        let value = |text: &str| Some(Scalar::plain(text));
        let gate = "evaluate.metrics.accuracy >= live.evaluate.metrics.accuracy";
        let decided = |live| RunEvent::GateDecided {
            task: serve.clone(),
            passed: false,
            failed: Some(gate.to_owned()),
            values: BTreeMap::from([
                ("evaluate.metrics.accuracy".to_owned(), value("0.91")),
                ("live.evaluate.metrics.accuracy".to_owned(), value("0.94")),
            ]),
            live,
        };
        report.event(1000, &decided(Some(release(3))));
        report.event(1000, &decided(Some(release(9))));
        report.event(1000, &decided(None));
        report.event(1000, &decided(Some(release(3))));
        let why = Skip::Needs(serve.clone());
        report.event(1000, &RunEvent::TaskSkipped { task: task("after", 1), why });
        insta::assert_snapshot!(out.text(), @r"
        00:00:01 serve kept release 3: the gate `evaluate.metrics.accuracy >= live.evaluate.metrics.accuracy` is false: evaluate.metrics.accuracy = 0.91, live.evaluate.metrics.accuracy = 0.94
        00:00:01 serve kept the live release: the gate `evaluate.metrics.accuracy >= live.evaluate.metrics.accuracy` is false: evaluate.metrics.accuracy = 0.91, live.evaluate.metrics.accuracy = 0.94
        00:00:01 serve not released: the gate `evaluate.metrics.accuracy >= live.evaluate.metrics.accuracy` is false: evaluate.metrics.accuracy = 0.91, live.evaluate.metrics.accuracy = 0.94
        00:00:01 serve kept release 3: the gate `evaluate.metrics.accuracy >= live.evaluate.metrics.accuracy` is false: evaluate.metrics.accuracy = 0.91, live.evaluate.metrics.accuracy = 0.94
        00:00:01 after skipped: it needs `serve`, whose gate kept release 3
        ");
        assert_eq!(report.tally.counts(), "1 kept, 1 skipped");
    }

    const GIVEN_UP: &str = "\
00:00:09 serve release 4 given up: not ready within 1m: GET /readyz answered 503; release 3 still answers
00:00:09 serve failed: release 4 did not go live
00:00:09   │ loading
00:00:09   │ ␛[31mno model
00:00:09   help: check the path in `ready.http`, and what the service needs to be ready
00:00:09   the whole log: flowrun logs 01HF7YAT000000000000000001 serve
";

    #[test]
    fn a_release_that_is_given_up_says_why_once_and_shows_its_log() {
        for quiet in [false, true] {
            let out = Shared::default();
            let mut report = Lines::new(with_services(), options(quiet), Box::new(out.clone()));
            let serve = task("serve", 1);
            rollout(&mut report, 4);
            let why = "not ready within 1m: GET /readyz answered 503".to_owned();
            report.event(
                9000,
                &RunEvent::RolloutAbandoned {
                    task: serve.clone(),
                    release: release(4),
                    why: why.clone(),
                },
            );
            let log = vec!["loading".to_owned(), "\u{1b}[31mno model".to_owned()];
            let cause = Failure::Rollout { why, log };
            report.event(9000, &RunEvent::TaskFailed { task: serve.clone(), cause });
            let text = out.text();
            let end = text.find("00:00:09").unwrap();
            assert_eq!(&text[end..], GIVEN_UP);
        }
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
    fn what_is_waited_for_and_how_far_bytes_are_is_not_said_all_the_time() {
        let out = Shared::default();
        let mut report = Lines::new(tally(&[]), options(false), Box::new(out.clone()));
        let train = task("train", 2);
        let why = Waiting::Claim { by: "run 01K of ann@here".to_owned() };
        for at in [1000, 1500, 2000] {
            report.notice(at, &Notice::Waiting { task: train.clone(), why: why.clone() });
        }
        for at in 3..30 {
            let (bytes, per_second) = (at << 30, 1 << 30);
            let still_for = std::time::Duration::from_secs(if at == 23 { 7 } else { 0 });
            let movement = Movement { up: false, bytes, total: 40 << 30, per_second, still_for };
            let how_far = Some(movement);
            report.notice(at * 1000, &Notice::Moving { task: train.clone(), how_far });
        }
        report.notice(30_000, &Notice::Moving { task: train.clone(), how_far: None });
        insta::assert_snapshot!(out.text(), @r"
        00:00:01 train[trees=100] waits: run 01K of ann@here computes the same
        00:00:03 train[trees=100]: downloading: 3 GiB of 40 GiB, 1 GiB/s, 37.0s to go
        00:00:13 train[trees=100]: downloading: 13 GiB of 40 GiB, 1 GiB/s, 27.0s to go
        00:00:23 train[trees=100]: downloading: 23 GiB of 40 GiB, no byte for 7.0s
        ");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let out = Shared::closed();
        failing_run(&mut Lines::new(tally(&[]), options(false), Box::new(out.clone())));
        assert_eq!(out.writes(), 1, "nothing more is tried");
    }
}
