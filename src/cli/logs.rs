//! `flowrun logs`: what a task printed; `service_logs` has services.

use serde_json::json;
use std::io::IsTerminal;
use std::time::Duration;

use super::args::{LogsArgs, StreamChoice};
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::made_by::made_by;
use super::place::Place;
use super::screen::Screen;
use super::service_logs;
use super::settings::Settings;
use crate::event::Stream;
use crate::names::{RunId, TaskId};
use crate::runtime::local::monitor_lives;
use crate::runtime::log::LogPosition;
use crate::runtime::log_lines::{LogEntry, LogFollower, read_entries};
use crate::words::{shell_word, visible};

/// Lines that are written to stdout at once.
const AT_ONCE: usize = 1024;

/// How often it is asked whether a silent attempt can say more.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Prints the log of an attempt, and with `-f` what comes.
pub(crate) async fn logs(
    args: LogsArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    if let Some(wanted) = service_logs::wanted(&place, &args.words).await? {
        return service_logs::show(&place, &wanted, &args, screen).await;
    }
    let (run, task) = find::run_and_task(&place.state, &args.words).await?;
    if args.replica.is_some() {
        return Err(CliError::usage(
            format!("`{task}` is a task, and tasks have no replicas"),
            "name an attempt with `--attempt`",
        ));
    }
    if args.follow {
        await_attempt(&place, run.id, task, screen).await?;
    }
    let made = made_by(&place, run, task, screen).await?;
    let attempt = made.attempt(args.attempt)?;
    let folder = made.folder_here(&place, attempt, "logs")?;
    let attempt = attempt.number;
    let form = Form {
        stream: args.stream,
        as_json: args.output.json(),
        // A log goes into a file as it is; on a terminal it cannot steer it.
        raw: !std::io::stdout().is_terminal(),
    };
    let (run, task) = (made.run.id, &made.task);
    if !args.follow || is_over(&place, run, &task.task, attempt).await? {
        let entries = read_entries(&folder)?;
        if entries.is_empty() {
            let label = shell_word(&task.label);
            screen.say(&format!(
                "attempt {attempt} has written nothing; `flowrun why {run} {label}` tells how it went"
            ));
        }
        return form.print(last(&entries, args.lines), screen).map(|_| Exit::Done);
    }
    let mut follower = LogFollower::new(&folder, LogPosition::default());
    if let Some(lines) = args.lines {
        let there = log_so_far(&mut follower)?;
        if !form.print(last(&there, Some(lines)), screen)? {
            return Ok(Exit::Done);
        }
    }
    loop {
        match tokio::time::timeout(ASK_EVERY, follower.next()).await {
            Ok(entries) => match entries? {
                Some(entries) if form.print(&entries, screen)? => {}
                Some(_) | None => return Ok(Exit::Done),
            },
            Err(_) if is_over(&place, made.run.id, &made.task.task, attempt).await? => {
                form.print(&follower.finish()?, screen)?;
                return Ok(Exit::Done);
            }
            Err(_) => {}
        }
    }
}

/// The last of some entries.
fn last(entries: &[LogEntry], lines: Option<usize>) -> &[LogEntry] {
    let most = lines.unwrap_or(usize::MAX);
    &entries[entries.len().saturating_sub(most)..]
}

/// What a log has by now.
fn log_so_far(follower: &mut LogFollower) -> std::io::Result<Vec<LogEntry>> {
    let mut all = Vec::new();
    loop {
        let mut some = follower.look()?;
        if some.is_empty() {
            return Ok(all);
        }
        all.append(&mut some);
    }
}

/// Waits until a task has begun, unless nobody is there who would begin it.
async fn await_attempt(
    place: &Place,
    run: RunId,
    text: &str,
    screen: Screen,
) -> Result<(), CliError> {
    let mut said = false;
    loop {
        let tasks = place.state.tasks(run).await?;
        let (_, task) = find::task(&tasks, text)?;
        let waits = task.attempts == 0 && task.state == "waiting";
        if !waits || !place.state.is_owned(run, &place.home.run(run)).await? {
            return Ok(());
        }
        if !std::mem::replace(&mut said, true) {
            screen.say(&format!("`{}` has not begun; waiting for it", task.label));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Whether no more can come of an attempt that has left no report: it got no job, or nobody is there who would hold it.
async fn is_over(place: &Place, run: RunId, task: &TaskId, attempt: u32) -> Result<bool, CliError> {
    let folder = place.home.run(run);
    if !monitor_lives(&folder) && !place.state.is_owned(run, &folder).await? {
        return Ok(true);
    }
    let tasks = place.state.tasks(run).await?;
    let runs = tasks.iter().any(|row| {
        row.task == *task && row.attempts == attempt && matches!(row.state.as_str(), "running")
    });
    Ok(!runs)
}

struct Form {
    stream: Option<StreamChoice>,
    as_json: bool,
    raw: bool,
}

impl Form {
    /// Returns whether somebody still reads: who follows into `head` has seen enough some time.
    fn print(&self, entries: &[LogEntry], screen: Screen) -> Result<bool, CliError> {
        for some in entries.chunks(AT_ONCE) {
            let mut bytes = Vec::new();
            for entry in some.iter().filter(|entry| self.wants(entry.stream())) {
                self.line(entry, &mut bytes);
                bytes.push(b'\n');
            }
            if !bytes.is_empty() && !screen.bytes(&[&bytes])? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn wants(&self, stream: Stream) -> bool {
        match self.stream {
            None => true,
            Some(StreamChoice::Stdout) => stream == Stream::Stdout,
            Some(StreamChoice::Stderr) => stream == Stream::Stderr,
        }
    }

    fn line(&self, entry: &LogEntry, to: &mut Vec<u8>) {
        match entry {
            _ if self.as_json => {
                let at = match entry {
                    LogEntry::Line { at, .. } => Some(at),
                    LogEntry::Dropped { .. } => None,
                };
                let line = json!({"at": at, "stream": entry.stream(), "text": entry.text()});
                to.extend_from_slice(line.to_string().as_bytes());
            }
            // As written, also what is no UTF-8.
            LogEntry::Line { bytes, .. } if self.raw => to.extend_from_slice(bytes),
            _ if self.raw => to.extend_from_slice(entry.text().as_bytes()),
            _ => to.extend_from_slice(visible(&entry.text()).as_bytes()),
        }
    }
}
