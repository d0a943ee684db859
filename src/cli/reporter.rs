//! Chooses who is told what happens in a run.

use std::collections::BTreeMap;

use super::conduct::Manner;
use super::screen::{Screen, to_stderr, visible};
use crate::engine::Report;
use crate::event::{Notice, RunEvent};
use crate::names::{RunId, TaskId};

/// The report that fits the flags and the terminal.
pub(crate) fn choose(
    run: RunId,
    labels: BTreeMap<TaskId, String>,
    _durations: BTreeMap<TaskId, f64>,
    manner: Manner,
    screen: Screen,
) -> Box<dyn Report> {
    if manner.silent {
        return Box::new(Silent);
    }
    if manner.events.is_some() {
        return Box::new(EventLines { screen });
    }
    screen.detail(&format!("run {run}"));
    Box::new(PlainLines { labels, screen })
}

struct Silent;

impl Report for Silent {
    fn event(&mut self, _: u64, _: &RunEvent) {}
    fn notice(&mut self, _: u64, _: &Notice) {}
}

struct EventLines {
    screen: Screen,
}

impl Report for EventLines {
    fn event(&mut self, at: u64, event: &RunEvent) {
        // Cannot fail a run: a reader that is gone reads no more.
        drop(self.screen.data(&serde_json::json!({"at": at, "event": event}).to_string()));
    }

    fn notice(&mut self, _: u64, _: &Notice) {}
}

struct PlainLines {
    labels: BTreeMap<TaskId, String>,
    screen: Screen,
}

impl PlainLines {
    fn say(&self, task: &TaskId, text: &str) {
        let label = self.labels.get(task).map_or(task.stage.as_str(), String::as_str);
        self.screen.say(&format!("{label} | {}", visible(text)));
    }
}

impl Report for PlainLines {
    fn event(&mut self, _: u64, event: &RunEvent) {
        match event {
            RunEvent::TaskReused { task, .. } => self.say(task, "reused"),
            RunEvent::TaskSkipped { task, .. } => self.say(task, "skipped"),
            RunEvent::TaskBlocked { task, .. } => self.say(task, "blocked"),
            RunEvent::AttemptStarted { task, attempt, .. } => {
                self.say(task, &format!("attempt {attempt} started"));
            }
            RunEvent::TaskDone { task, .. } => self.say(task, "done"),
            RunEvent::TaskFailed { task, cause } => self.say(task, &format!("failed: {cause:?}")),
            RunEvent::TaskCancelled { task } => self.say(task, "cancelled"),
            _ => {}
        }
    }

    fn notice(&mut self, _: u64, notice: &Notice) {
        match notice {
            Notice::Line { task, text, .. } => self.say(task, text),
            Notice::Preparing { task, step } => self.say(task, step),
            Notice::Adopted { task, attempt } => {
                self.say(task, &format!("attempt {attempt} is watched again"));
            }
            Notice::Remark(text) => to_stderr(&format!("{}\n", visible(text))),
            Notice::Waiting { .. } => {}
        }
    }
}
