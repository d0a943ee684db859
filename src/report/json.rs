//! `--events json`: what happens, for machines.
//!
//! One JSON object a line, in the order it happened. Times are Unix milliseconds; `run` is the run's id.
//!
//! ```text
//! {"at": 1700000000000, "run": "01K…", "event": {"task_done": {"task": {"stage": "train", "copy": 1}, …}}}
//! {"at": 1700000000000, "run": "01K…", "notice": {"line": {"task": …, "attempt": 1, "stream": "stdout", "text": "…"}}}
//! ```
//!
//! `event` is an object with one entry, the event as it stands in the journal. `notice` is one of `line`, `waiting`, `preparing`,
//! `moving`, `adopted`, `away`, `back` and `remark`; notices are never journalled and may be dropped when the reader is slow. New kinds may come with any version.

use std::io::Write;

use serde_json::{Value, json};

use crate::engine::Report;
use crate::event::{Notice, RunEvent, Waiting};
use crate::names::{RunId, TaskId};

/// Writes what happens as JSON lines. A closed pipe ends the writing, not the run.
pub struct JsonLines {
    run: RunId,
    /// None once the reader is gone.
    out: Option<Box<dyn Write + Send>>,
}

impl JsonLines {
    /// Of this run, to `out` (stdout).
    pub fn new(run: RunId, out: Box<dyn Write + Send>) -> Self {
        Self { run, out: Some(out) }
    }

    fn write(&mut self, at: u64, kind: &str, told: &Value) {
        let run = self.run.to_string();
        let line = format!("{}\n", json!({"at": at, "run": run, kind: told}));
        if let Some(out) = &mut self.out
            && out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err()
        {
            self.out = None;
        }
    }
}

impl Report for JsonLines {
    fn event(&mut self, at: u64, event: &RunEvent) {
        let told = match serde_json::to_value(event) {
            // A variant without fields serialises as its name.
            Ok(Value::String(kind)) => json!({kind: {}}),
            Ok(told) => told,
            Err(_) => return,
        };
        self.write(at, "event", &told);
    }

    fn notice(&mut self, at: u64, notice: &Notice) {
        self.write(at, "notice", &notice_json(notice));
    }
}

fn notice_json(notice: &Notice) -> Value {
    match notice {
        Notice::Line { task, attempt, stream, text } => {
            json!({"line": {"task": task, "attempt": attempt, "stream": stream, "text": text}})
        }
        Notice::Waiting { task, why } => waiting_json(task, why),
        Notice::Preparing { task, step } => json!({"preparing": {"task": task, "step": step}}),
        Notice::Moving { task, how_far } => {
            let how_far = how_far.map(|far| {
                let way = if far.up { "up" } else { "down" };
                json!({
                    "way": way,
                    "bytes": far.bytes,
                    "total": far.total,
                    "per_second": far.per_second,
                    "still_for": far.still_for.as_secs_f64(),
                })
            });
            json!({"moving": {"task": task, "how_far": how_far}})
        }
        Notice::Adopted { task, attempt } => json!({"adopted": {"task": task, "attempt": attempt}}),
        Notice::Away { part, place, why, help, since, until } => json!({"away": {
            "part": part, "place": place, "why": why, "help": help, "since": since, "until": until,
        }}),
        Notice::Back { part, place, since } => {
            json!({"back": {"part": part, "place": place, "since": since}})
        }
        Notice::Remark(text) => json!({"remark": {"text": text}}),
    }
}

fn waiting_json(task: &TaskId, why: &Waiting) -> Value {
    let why = match why {
        Waiting::Slot => json!({"slot": {}}),
        Waiting::Resources => json!({"resources": {}}),
        Waiting::Backoff { until } => json!({"backoff": {"until": until}}),
        Waiting::Claim { by } => json!({"claim": {"by": by}}),
    };
    json!({"waiting": {"task": task, "for": why}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Part;
    use crate::report::testing::{Shared, line, run, started, task};

    #[test]
    fn the_shape_is_as_documented() {
        let out = Shared::default();
        let mut report = JsonLines::new(run(), Box::new(out.clone()));
        report.event(1000, &started(&task("train", 2), 1));
        report.event(1001, &RunEvent::RunTimedOut);
        report.notice(1002, &line(&task("train", 2), "loss \x1b[1m0.1"));
        let why = Waiting::Slot;
        report.notice(1003, &Notice::Waiting { task: task("evaluate", 1), why });
        let (part, place) = (Part::State, "postgres://db".to_owned());
        let (why, help) = ("connection refused".to_owned(), "start it".to_owned());
        let away = Notice::Away { part, place: place.clone(), why, help, since: 900, until: 1900 };
        report.notice(1004, &away);
        report.notice(1005, &Notice::Back { part, place, since: 900 });
        insta::assert_snapshot!(out.text(), @r#"
        {"at":1000,"event":{"attempt_started":{"attempt":1,"host":"here","job":"flowrun-01hf7yat000000000000000001-3-1","key":null,"task":{"copy":2,"stage":"train"},"why":"forced"}},"run":"01HF7YAT000000000000000001"}
        {"at":1001,"event":{"run_timed_out":{}},"run":"01HF7YAT000000000000000001"}
        {"at":1002,"notice":{"line":{"attempt":1,"stream":"stdout","task":{"copy":2,"stage":"train"},"text":"loss \u001b[1m0.1"}},"run":"01HF7YAT000000000000000001"}
        {"at":1003,"notice":{"waiting":{"for":{"slot":{}},"task":{"copy":1,"stage":"evaluate"}}},"run":"01HF7YAT000000000000000001"}
        {"at":1004,"notice":{"away":{"help":"start it","part":"state","place":"postgres://db","since":900,"until":1900,"why":"connection refused"}},"run":"01HF7YAT000000000000000001"}
        {"at":1005,"notice":{"back":{"part":"state","place":"postgres://db","since":900}},"run":"01HF7YAT000000000000000001"}
        "#);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let out = Shared::closed();
        let mut report = JsonLines::new(run(), Box::new(out.clone()));
        report.event(1, &RunEvent::RunTimedOut);
        report.event(2, &RunEvent::RunTimedOut);
        assert_eq!(out.writes(), 1, "nothing more is tried");
    }
}
