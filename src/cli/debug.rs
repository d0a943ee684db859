//! `flowrun debug`: a shell in the work folder of an attempt, with its inputs and variables.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::args::DebugArgs;
use super::debug_folder;
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::made_by::made_by;
use super::place::Place;
use super::screen::{Screen, to_stderr};
use super::settings::Settings;
use crate::runtime::{Job, ordered_job};
use crate::words::shell_words;

/// How the scratch folders of shells begin, below the home's temporary folder; `gc` removes old ones.
pub(super) const SHELL_SCRATCH: &str = "debug-";

/// Becomes the shell; returns only with an error.
pub(crate) async fn debug(
    args: DebugArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let run = find::run(&place.state, &args.run).await?;
    let made = made_by(&place, run, &args.task, screen).await?;
    let attempt = made.attempt(args.attempt)?;
    let folder = made.folder(&place, attempt.number);
    let job = ordered_job(&folder).ok_or_else(|| {
        CliError::missing(
            "the attempt has left nothing to look at",
            "run the stage again with `flowrun apply --force STAGE --keep-work`",
        )
    })?;
    let job = if job.directory.is_dir() {
        if attempt.end.is_none() {
            screen.warn("the attempt is running; what you change here reaches it");
        }
        job
    } else {
        screen.say("its work folder was removed when it ended well; preparing it afresh");
        debug_folder::prepare(&place, &made.run, &made.task.task, &folder, job).await?
    };
    become_shell(&args, settings, job, &place.home.temporary())
}

fn become_shell(
    args: &DebugArgs,
    settings: &Settings,
    job: Job,
    temporary: &Path,
) -> Result<Exit, CliError> {
    let mut env = job.env;
    // By this one the monitor finds what a job left behind; the shell is no part of the job.
    env.remove("FLOWRUN_JOB");
    // The attempt's own one was removed with the attempt.
    let scratch = tempfile::Builder::new().prefix(SHELL_SCRATCH).tempdir_in(temporary)?.keep();
    env.insert("TMPDIR".into(), scratch.display().to_string());
    if let Some(home) = env.get("HOME").map(PathBuf::from) {
        fs_err::create_dir_all(home)?;
    }
    // By this name the monitor finds what a job leaves behind, and stops it.
    env.remove("FLOWRUN_JOB");
    let caller = &settings.caller;
    if let Some(terminal) = caller.variable("TERM") {
        env.insert("TERM".into(), terminal.into());
    }
    let shell = args.shell.as_deref().or_else(|| caller.variable("SHELL")).unwrap_or("sh");
    let command =
        if args.command.is_empty() { vec![shell.to_owned()] } else { args.command.clone() };
    to_stderr(&format!(
        "in    {}\nrun   {}\nleave with `exit`\n",
        job.directory.display(),
        shell_words(&job.command)
    ));
    let error = Command::new(&command[0])
        .args(&command[1..])
        .current_dir(&job.directory)
        .env_clear()
        .envs(env)
        .exec();
    Err(CliError::usage(
        format!("`{}` cannot be started: {error}", command[0]),
        "name a program that is there with `--shell`",
    ))
}
