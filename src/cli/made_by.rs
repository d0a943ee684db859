//! Finds who made what a task has: the attempt that ran, also when its result was reused from another run.

use super::error::CliError;
use super::find;
use super::place::{Place, host};
use super::screen::Screen;
use crate::names::RunId;
use crate::state::{AttemptRow, RunRow, TaskRow};
use crate::words::{shell_word, visible};

/// A task that has run, in the run where it did.
pub(crate) struct Made {
    /// The run.
    pub(crate) run: RunRow,
    /// The task.
    pub(crate) task: TaskRow,
    /// Its number in that run, from 1.
    pub(crate) number: usize,
    /// Its attempts, never none.
    pub(crate) attempts: Vec<AttemptRow>,
}

/// The task that `text` names in `run`; what was reused is followed to the run that made it, and said so.
pub(crate) async fn made_by(
    place: &Place,
    run: RunRow,
    text: &str,
    screen: Screen,
) -> Result<Made, CliError> {
    let tasks = place.state.tasks(run.id).await?;
    let (number, task) = find::task(&tasks, text)?;
    let task = task.clone();
    let attempts = attempts_of(place, run.id, &task).await?;
    if !attempts.is_empty() {
        return Ok(Made { run, task, number, attempts });
    }
    let Some(from) = task.reused_from else {
        return Err(CliError::usage(
            format!("task `{}` has not run in run {}", task.label, run.id),
            format!("see `flowrun why {} {}`", run.id, shell_word(&task.label)),
        ));
    };
    let gone = || {
        CliError::missing(
            format!("task `{}` was reused from run {from}, which is gone", task.label),
            format!("run it again with `flowrun apply --force {}`", task.task.stage),
        )
    };
    let run = place.state.run(from).await?.ok_or_else(gone)?;
    let tasks = place.state.tasks(from).await?;
    // Equal work is shared, so it may have another name there; the key is what they have in common.
    let maker =
        tasks.into_iter().enumerate().find(|(_, one)| one.key == task.key && one.attempts > 0);
    let (index, maker) = maker.ok_or_else(gone)?;
    screen.say(&format!("`{}` was reused; it ran as `{}` in run {from}", task.label, maker.label));
    let attempts = attempts_of(place, from, &maker).await?;
    Ok(Made { run, task: maker, number: index + 1, attempts })
}

async fn attempts_of(
    place: &Place,
    run: RunId,
    task: &TaskRow,
) -> Result<Vec<AttemptRow>, CliError> {
    let mut attempts = place.state.attempts(run).await?;
    attempts.retain(|one| one.task == task.task);
    Ok(attempts)
}

impl Made {
    /// The attempt that was asked for, else the last.
    pub(crate) fn attempt(&self, asked: Option<u32>) -> Result<&AttemptRow, CliError> {
        let last = self.attempts.iter().max_by_key(|one| one.number);
        let wanted = match asked {
            None => last,
            Some(number) => self.attempts.iter().find(|one| one.number == number),
        };
        wanted.ok_or_else(|| {
            let last = last.map_or(0, |one| one.number);
            CliError::usage(
                format!("task `{}` has no attempt {}", self.task.label, asked.unwrap_or_default()),
                if last == 1 {
                    "leave out `--attempt`".to_owned()
                } else {
                    format!("use 1 to {last}")
                },
            )
        })
    }

    /// The folder of an attempt, when it lies in this home; else an error says on which host it does.
    pub(crate) fn folder_here(
        &self,
        place: &Place,
        attempt: &AttemptRow,
        what: &str,
    ) -> Result<std::path::PathBuf, CliError> {
        let folder = self.folder(place, attempt.number);
        let is_elsewhere = attempt.host != host() || self.run.created.kept.is_some();
        if folder.exists() || !is_elsewhere {
            return Ok(folder);
        }
        let (label, run) = (&self.task.label, self.run.id);
        let command = format!("flowrun {what} {run} {}", shell_word(label));
        let stage = &self.task.task.stage;
        let (alone, again) = match what {
            "logs" => ("its log lies there", String::new()),
            _ => (
                "its work folder and variables lie there alone",
                format!(", or do it again here with `flowrun apply --force {stage} --keep-work`"),
            ),
        };
        Err(CliError::missing(
            format!(
                "attempt {} of `{label}` ran on host `{}` in another home; {alone}",
                attempt.number,
                visible(&attempt.host)
            ),
            format!("run `{command}` there{again}"),
        ))
    }

    /// The folder of an attempt.
    pub(crate) fn folder(&self, place: &Place, attempt: u32) -> std::path::PathBuf {
        place.home.run(self.run.id).join(format!("{}-{attempt}", self.number))
    }
}
