//! Commands, settings, exit codes (clap). The only reader of the environment.
//!
//! Reading order: `args` (the words), `settings`, `exit` and `error`; then `apply` with what it is made of: `target`, `load`,
//! `prepare`, `launch`, `conduct`; then the other commands. Knows nothing of how a run is done.

mod args;
mod asked;
mod clock;
mod environments;
mod error;
mod exit;
mod screen;
mod settings;
mod shared_run;

mod find;
mod ground;
mod holders;
mod home;
mod images;
mod load;
mod passing;
mod place;
mod prepare;
mod service_logs;
mod service_name;
mod service_views;
mod target;
mod telling;

mod apply;
mod conduct;
mod kept;
mod launch;
mod leaving;
mod ownerless;
mod reporter;
mod signals;
mod summary;

mod artifacts;
mod cancel;
mod debug;
mod debug_container;
mod debug_folder;
mod debug_secrets;
mod doctor;
mod down;
mod gc;
mod init;
mod inspect;
mod later;
mod logs;
mod made_by;
mod needed_secrets;
mod outside;
mod plan;
mod progress;
mod question;
mod releases;
mod restart;
mod resume;
mod rollback;
mod scale;
mod secret;
mod server;
mod validate;
mod why;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use args::{Arguments, Command, SettingFlags, TargetFlags};
use error::CliError;
use exit::Exit;
use screen::{Loudness, Screen, to_stderr};
use settings::{Caller, Settings};

/// Runs the command line.
pub fn main() -> ExitCode {
    crate::runtime::seal_inherited_descriptors();
    say_panics_shortly();
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Exit::Bug).into()
}

fn run() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse_words(&error),
    };
    let caller = match Caller::of_process() {
        Ok(caller) => caller,
        Err(error) => {
            to_stderr(&format!("error: {error}\n"));
            return error.exit();
        }
    };
    let global = &arguments.global;
    let loudness = match (global.quiet, global.verbose) {
        (true, _) => Loudness::Quiet,
        (false, true) => Loudness::Verbose,
        (false, false) => Loudness::Usual,
    };
    let no_colour = caller.variable("NO_COLOR").is_some();
    let screen = Screen::new(caller.colour(&global.settings()), no_colour, loudness);
    let done = dispatch(arguments, &caller, screen);
    done.unwrap_or_else(|error| {
        screen.error(&error);
        error.exit()
    })
}

fn dispatch(arguments: Arguments, caller: &Caller, screen: Screen) -> Result<Exit, CliError> {
    if cfg!(windows) {
        return Err(CliError::missing("flowrun does not run on Windows", "use it in WSL 2"));
    }
    if let Some(name) = arguments.command.later() {
        return Err(later::refuse(name));
    }
    let (flags, beside) = settings_of(&arguments, caller);
    match arguments.command {
        Command::Init(args) => return init::init(&args, caller, screen),
        Command::Schema(_) => return screen.json(&crate::spec::schema()).map(|()| Exit::Done),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Arguments::command(), "flowrun", &mut script);
            return screen.data(&String::from_utf8_lossy(&script)).map(|()| Exit::Done);
        }
        _ => {}
    }
    let settings = Settings::resolve(&flags, caller, beside.as_deref())?;
    let no_colour = caller.variable("NO_COLOR").is_some();
    let screen = Screen::new(settings.colour, no_colour, screen.loudness);
    if let Command::Validate(args) = &arguments.command {
        return validate::validate(args, &settings, screen);
    }
    // Two workers: the engine's loop on one, and what waits for the disk never keeps signals from being heard.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(command(arguments.command, &settings, screen));
    // Whatever a helper thread still waits for, the answer is known.
    runtime.shutdown_background();
    done
}

async fn command(command: Command, settings: &Settings, screen: Screen) -> Result<Exit, CliError> {
    match command {
        Command::Plan(args) => plan::plan(args, settings, screen).await,
        Command::Apply(args) => Box::pin(apply::apply(args, settings, screen)).await,
        Command::Status(args) => inspect::status(args, settings, screen).await,
        Command::Logs(args) => logs::logs(args, settings, screen).await,
        Command::Runs(args) => inspect::runs(args, settings, screen).await,
        Command::Why(args) => why::why(args, settings, screen).await,
        Command::Resume(args) => Box::pin(resume::resume(args, settings, screen)).await,
        Command::Cancel(args) => cancel::cancel(args, settings, screen).await,
        Command::Debug(args) => debug::debug(args, settings, screen).await,
        Command::Releases(args) => releases::releases(args, settings, screen).await,
        Command::Diff(args) => releases::diff(args, settings, screen).await,
        Command::Rollback(args) => rollback::rollback(args, settings, screen).await,
        Command::Restart(args) => restart::restart(args, settings, screen).await,
        Command::Scale(args) => scale::scale(args, settings, screen).await,
        Command::Down(args) => down::down(args, settings, screen).await,
        Command::Server(args) => server::server(args, settings, screen).await,
        Command::Secret(args) => secret::secret(args, settings, screen).await,
        Command::Store(args) => artifacts::store(args, settings, screen).await,
        Command::Gc(args) => gc::gc(args, settings, screen).await,
        Command::Doctor(args) => doctor::doctor(&args, settings, screen).await,
        Command::Validate(_)
        | Command::Init(_)
        | Command::Schema(_)
        | Command::Completions(_)
        | Command::Schedule(_) => unreachable!("answered before the runtime was made"),
    }
}

/// The setting flags of a command, and the folder whose `flowrun.toml` counts.
fn settings_of(arguments: &Arguments, caller: &Caller) -> (SettingFlags, Option<PathBuf>) {
    let mut flags = arguments.global.settings();
    let beside = |target: &TargetFlags| target::folder_of(&target.target, &caller.folder);
    let mut folder = Some(caller.folder.clone());
    match &arguments.command {
        Command::Validate(args) => folder = beside(&args.target),
        Command::Plan(args) => {
            flags.extend(args.place.settings());
            folder = beside(&args.target);
        }
        Command::Apply(args) => {
            flags.extend(args.place.settings());
            folder = beside(&args.target);
        }
        Command::Resume(args) => flags.extend(args.place.settings()),
        Command::Gc(args) => flags.extend(args.settings()),
        _ => {}
    }
    (flags, folder)
}

/// Prints help and version, or says what is wrong with the words. A reader that has gone is no error.
fn refuse_words(error: &clap::Error) -> Exit {
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
        && error.get(ContextKind::Usage).is_some()
    {
        let command = Arguments::command();
        let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let help = match crate::names::suggest(word, known.iter().copied()) {
            Some(near) => format!("did you mean `flowrun {near}`?"),
            None if word == "help" => {
                "write `flowrun --help`, or `flowrun apply --help`".to_owned()
            }
            None => "see `flowrun --help` for the commands".to_owned(),
        };
        to_stderr(&format!("error: there is no command `{word}`\nhelp: {help}\n"));
        return Exit::Usage;
    }
    drop(error.print());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
        _ => Exit::Usage,
    }
}

/// A panic is a bug: said in short, and at length with `RUST_BACKTRACE`.
fn say_panics_shortly() {
    let at_length = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if settings::wants_backtrace() {
            at_length(panic);
        }
        let place = panic.location().map(|place| format!(" ({place})")).unwrap_or_default();
        let payload = panic.payload();
        let why = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        to_stderr(&format!(
            "error: flowrun has a bug: {why}{place}\nhelp: nothing is lost: go on with `flowrun resume`; \
             please report it with what `RUST_BACKTRACE=1` shows\n"
        ));
    }));
}
