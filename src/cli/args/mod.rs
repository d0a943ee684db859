//! The words of the command line (clap's one home, with `completions`).

mod flags;
mod inspect;
mod place;
mod run;
mod secret;
mod services;

use clap::{Parser, Subcommand};

pub(crate) use flags::{Events, GlobalFlags, Output, SelectionFlags, SettingFlags, TargetFlags};
pub(crate) use inspect::{
    DebugArgs, LogsArgs, RunsArgs, RunsCommand, StatusArgs, StreamChoice, WhyArgs,
};
pub(crate) use place::{
    CompletionsArgs, DoctorArgs, GcArgs, InitArgs, LaterArgs, SchemaArgs, StoreArgs, StoreCommand,
};
pub(crate) use run::{
    ApplyArgs, CancelArgs, Overlap, PlanArgs, PlanFormat, ResumeArgs, ValidateArgs,
};
pub(crate) use secret::{LsArgs, RmArgs, SecretArgs, SecretCommand, SetArgs};
pub(crate) use services::{
    DiffArgs, DownArgs, ReleasesArgs, RestartArgs, RollbackArgs, ScaleArgs, ServerArgs,
};

const EXAMPLES: &str = "\
Examples:
  flowrun init demo                 write a small working pipeline
  flowrun plan demo                 what would run, and why
  flowrun apply demo                run it
  flowrun status                    what is live, what is running, what happened last
  flowrun why latest train          why a task ran, was reused or failed
  flowrun apply https://github.com/acme/iris.git --ref v3";

/// From a git commit to a live, health-checked release with one YAML file
#[derive(Debug, Parser)]
#[command(
    name = "flowrun",
    version,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalFlags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a pipeline file and show every problem at once
    Validate(ValidateArgs),
    /// Show what would run, and why
    Plan(PlanArgs),
    /// Run a pipeline: what did not change is reused
    Apply(ApplyArgs),
    /// Show what is live, what is running and what happened last; or one run or service
    Status(StatusArgs),
    /// Show the log of a task or a service
    Logs(LogsArgs),
    /// List runs, or compare two
    Runs(RunsArgs),
    /// Say why a task ran, was reused, skipped or failed
    Why(WhyArgs),
    /// Continue a run: same commit, file and params; what is done stays done
    Resume(ResumeArgs),
    /// Stop a run; it can be resumed
    Cancel(CancelArgs),
    /// Open a shell in the work folder of a task, with its inputs and variables
    Debug(DebugArgs),
    /// List the releases of services
    Releases(ReleasesArgs),
    /// Show what differs between two releases
    Diff(DiffArgs),
    /// Put an earlier release of a service live again
    Rollback(RollbackArgs),
    /// Replace the replicas of a service with fresh ones of the same release
    Restart(RestartArgs),
    /// Say how many replicas of a service run
    Scale(ScaleArgs),
    /// Take services down
    Down(DownArgs),
    /// Keep the services of this home up; `apply` starts it when needed
    Server(ServerArgs),
    /// Keep secrets for stages: set, list, remove
    Secret(SecretArgs),
    /// Look into the store of artifacts
    Store(StoreArgs),
    /// Remove old runs and what nothing needs any more
    Gc(GcArgs),
    /// Check this machine and this home
    Doctor(DoctorArgs),
    /// Write a small working pipeline
    Init(InitArgs),
    /// Print the JSON Schema of the pipeline file
    Schema(SchemaArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    #[command(hide = true, disable_help_flag = true)]
    Schedule(LaterArgs),
}

impl Command {
    /// The name of a command that belongs to the product but not to this version.
    pub(crate) fn later(&self) -> Option<&'static str> {
        Some(match self {
            Self::Schedule(_) => "schedule",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_shown_command_has_examples() {
        for command in Arguments::command().get_subcommands().filter(|one| !one.is_hide_set()) {
            assert!(command.get_after_help().is_some(), "{} has no examples", command.get_name());
        }
    }

    #[test]
    fn flags_stand_before_and_after_the_command() {
        for line in ["flowrun --home /h -q apply x", "flowrun apply x --home /h -q"] {
            let arguments = parse(line).unwrap();
            assert_eq!(arguments.global.home.as_deref(), Some("/h"));
            assert!(arguments.global.quiet);
        }
    }

    #[test]
    fn later_commands_take_any_words() {
        for line in ["flowrun schedule ls --all", "flowrun schedule set a --help"] {
            assert!(parse(line).unwrap().command.later().is_some());
        }
        assert!(parse("flowrun plan").unwrap().command.later().is_none());
    }

    #[test]
    fn debug_takes_a_command_after_two_dashes() {
        let Command::Debug(args) = parse("flowrun debug latest train -- ls -l").unwrap().command
        else {
            panic!("not debug")
        };
        assert_eq!(args.command, ["ls", "-l"]);
    }

    #[test]
    fn quiet_and_verbose_exclude_each_other() {
        assert!(parse("flowrun -q -v plan").is_err());
    }
}
