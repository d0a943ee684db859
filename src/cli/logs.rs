//! `flowrun logs`: what a task printed.

use serde_json::json;
use std::io::IsTerminal;
use std::time::Duration;

use super::args::{LogsArgs, StreamChoice};
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::place::Place;
use super::screen::Screen;
use super::settings::Settings;
use crate::event::Stream;
use crate::names::RunId;
use crate::runtime::log::LogPosition;
use crate::runtime::log_lines::{LogEntry, LogFollower, read_entries};
use crate::state::{AttemptRow, TaskRow};
use crate::words::{shell_word, visible};

/// How often it is looked whether an attempt that says nothing goes on at all.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Lines that are written to stdout at once.
const AT_ONCE: usize = 1024;

/// Prints the log of an attempt, and with `-f` what comes.
pub(crate) async fn logs(
    args: LogsArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let (run, task) = match args.words.as_slice() {
        [run, task] => (find::run(&place.state, run).await?, task.as_str()),
        [task] => (find::latest(&place.state).await?, task.as_str()),
        _ => return Err(CliError::usage("no task is named", "write `flowrun logs RUN TASK`")),
    };
    let run = run.id;
    let tasks = place.state.tasks(run).await?;
    let (number, row) = find::task(&tasks, task).map_err(|error| {
        if args.words.len() == 1 && find::looks_like_run(task) {
            CliError::usage(
                format!("`{task}` is a run, and a log belongs to a task"),
                format!(
                    "write `flowrun logs {task} TASK`; its tasks are in `flowrun status {task}`"
                ),
            )
        } else {
            error
        }
    })?;
    let attempts = place.state.attempts(run).await?;
    let attempt = choose_attempt(run, row, &attempts, args.attempt)?;
    let folder = place.home.run(run).join(format!("{number}-{attempt}"));
    let form = Form {
        stream: args.stream,
        as_json: args.output.json(),
        // A log goes into a file as it is; on a terminal it cannot steer it.
        raw: !std::io::stdout().is_terminal(),
    };
    if !args.follow || !runs(&place, run, row, attempt).await? {
        let entries = read_entries(&folder)?;
        if entries.is_empty() {
            let label = shell_word(&row.label);
            screen.say(&format!(
                "attempt {attempt} has written nothing; `flowrun why {run} {label}` tells how it went"
            ));
        }
        return form.print(&entries, screen).map(|()| Exit::Done);
    }
    let mut follower = LogFollower::new(&folder, LogPosition::default());
    loop {
        tokio::select! {
            entries = follower.next() => match entries? {
                Some(entries) => form.print(&entries, screen)?,
                None => return Ok(Exit::Done),
            },
            // An attempt can also end without its program: before it was started, or lost.
            () = tokio::time::sleep(LOOK_EVERY) => {
                if !runs(&place, run, row, attempt).await? {
                    form.print(&follower.now()?, screen)?;
                    return Ok(Exit::Done);
                }
            }
        }
    }
}

/// Whether the attempt is the task's newest and is not over.
async fn runs(place: &Place, run: RunId, task: &TaskRow, attempt: u32) -> Result<bool, CliError> {
    let tasks = place.state.tasks(run).await?;
    let now = tasks.iter().find(|row| row.task == task.task);
    Ok(now.is_some_and(|row| row.state == "running" && row.attempts == attempt))
}

/// The attempt that was asked for, else the last.
pub(crate) fn choose_attempt(
    run: RunId,
    task: &TaskRow,
    attempts: &[AttemptRow],
    asked: Option<u32>,
) -> Result<u32, CliError> {
    let of_task = attempts.iter().filter(|one| one.task == task.task);
    let Some(last) = of_task.map(|one| one.number).max() else {
        return Err(match task.reused_from {
            Some(from) => CliError::usage(
                format!("task `{}` was reused from run {from}", task.label),
                format!("name that run instead of {run}"),
            ),
            None => CliError::usage(
                format!("task `{}` has not run in run {run}", task.label),
                format!("see `flowrun why {run} {}`", shell_word(&task.label)),
            ),
        });
    };
    match asked {
        None => Ok(last),
        Some(number) if (1..=last).contains(&number) => Ok(number),
        Some(number) => Err(CliError::usage(
            format!("task `{}` has no attempt {number}", task.label),
            if last == 1 { "leave out `--attempt`".to_owned() } else { format!("use 1 to {last}") },
        )),
    }
}

struct Form {
    stream: Option<StreamChoice>,
    as_json: bool,
    raw: bool,
}

impl Form {
    fn print(&self, entries: &[LogEntry], screen: Screen) -> Result<(), CliError> {
        for some in entries.chunks(AT_ONCE) {
            let lines: Vec<String> = some
                .iter()
                .filter(|entry| self.wants(entry.stream()))
                .map(|e| self.line(e))
                .collect();
            if !lines.is_empty() {
                screen.data(&(lines.join("\n") + "\n"))?;
            }
        }
        Ok(())
    }

    fn wants(&self, stream: Stream) -> bool {
        match self.stream {
            None => true,
            Some(StreamChoice::Stdout) => stream == Stream::Stdout,
            Some(StreamChoice::Stderr) => stream == Stream::Stderr,
        }
    }

    fn line(&self, entry: &LogEntry) -> String {
        let text = entry.text();
        if self.as_json {
            let at = match entry {
                LogEntry::Line { at, .. } => Some(at),
                LogEntry::Dropped { .. } => None,
            };
            json!({"at": at, "stream": entry.stream(), "text": text}).to_string()
        } else if self.raw {
            text
        } else {
            visible(&text).into_owned()
        }
    }
}
