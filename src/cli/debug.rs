//! `flowrun debug`: a shell in the work folder of an attempt, with its inputs and variables.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::args::DebugArgs;
use super::debug_container::ContainerShell;
use super::debug_folder;
use super::debug_secrets::with_secrets;
use super::error::CliError;
use super::exit::Exit;
use super::find;
use super::kept;
use super::made_by::{Made, made_by};
use super::place::Place;
use super::screen::{Screen, to_stderr};
use super::settings::Settings;
use crate::handover;
use crate::runtime::{Job, ordered_job};
use crate::secret::HandedSecret;
use crate::words::shell_words;

/// How the scratch folders of shells begin, below the home's temporary folder; `gc` removes old ones.
pub(super) const SHELL_SCRATCH: &str = "debug-";

/// Becomes the shell, and returns only with an error; with secrets it waits for the shell's end, to remove them.
pub(crate) async fn debug(
    args: DebugArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let run = find::run(&place.state, &args.run).await?;
    let made = made_by(&place, run, &args.task, screen).await?;
    let attempt = made.attempt(args.attempt)?;
    let folder = made.folder_here(&place, attempt, "debug")?;
    let job = ordered_job(&folder).ok_or_else(|| {
        CliError::missing(
            "the attempt has left nothing to look at",
            "run the stage again with `flowrun apply --force STAGE --keep-work`",
        )
    })?;
    let work_is_there = match &job.container {
        None => job.directory.is_dir(),
        Some(_) => folder.join("work").is_dir(),
    };
    let job = if work_is_there {
        if attempt.end.is_none() {
            screen.warn("the attempt is running; what you change here reaches it");
        }
        job
    } else {
        screen.say("its work folder was removed when it ended well; preparing it afresh");
        debug_folder::prepare(&place, &made.run, &made.task.task, &folder, job, screen).await?
    };
    let secrets = if args.secrets { opened(&place, &made).await? } else { Vec::new() };
    if let Some(container) = job.container.clone() {
        let installation = place.state.installation().to_owned();
        let job = Job { container: None, ..job };
        let scratch = scratch(&place.home.temporary())?;
        let shell = ContainerShell { job, container: *container, scratch, installation, secrets };
        return shell.become_it(&args);
    }
    become_shell(&args, settings, job, &secrets, &place.home.temporary())
}

/// Today's values of the stage's secrets.
async fn opened(place: &Place, made: &Made) -> Result<Vec<HandedSecret>, CliError> {
    let code = kept::code(place, &made.run).await?;
    let uses = code.stage_secrets(&made.task.task.stage);
    let uses = uses.iter().map(|(variable, takes)| (variable, takes));
    let vault = place.vault()?;
    let opened = handover::open(&place.state, Some(&vault), uses).await?;
    opened.map_err(|hindrance| CliError::Missing {
        message: hindrance.to_string(),
        help: hindrance.help(),
    })
}

/// A fresh folder for what a shell writes to `TMPDIR`.
fn scratch(temporary: &Path) -> Result<PathBuf, CliError> {
    Ok(tempfile::Builder::new().prefix(SHELL_SCRATCH).tempdir_in(temporary)?.keep())
}

fn become_shell(
    args: &DebugArgs,
    settings: &Settings,
    job: Job,
    secrets: &[HandedSecret],
    temporary: &Path,
) -> Result<Exit, CliError> {
    let mut env = job.env;
    // By this one the monitor finds what a job left behind; the shell is no part of the job.
    env.remove("FLOWRUN_JOB");
    // The attempt's own one was removed with the attempt.
    let scratch = scratch(temporary)?;
    env.insert("TMPDIR".into(), scratch.display().to_string());
    if let Some(home) = env.get("HOME").map(PathBuf::from) {
        fs_err::create_dir_all(home)?;
    }
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
    let refused = |error: std::io::Error| {
        CliError::usage(
            format!("`{}` cannot be started: {error}", command[0]),
            "name a program that is there with `--shell`",
        )
    };
    let mut shell = Command::new(&command[0]);
    shell.args(&command[1..]).current_dir(&job.directory).env_clear().envs(env);
    if secrets.is_empty() {
        return Err(refused(shell.exec()));
    }
    let place = |name: &str| scratch.join(name).display().to_string();
    with_secrets(&mut shell, &scratch, secrets, &place).map_err(refused)
}
