//! `status`, `logs`, `runs`, `why`, `debug`.

use clap::{Args, Subcommand, ValueEnum};

use super::flags::OutputFlags;

/// `flowrun status`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun status                         what is running, what happened last
  flowrun status latest                  the tasks of the newest run
  flowrun status 01JD8 -o json | jq .tasks")]
pub(crate) struct StatusArgs {
    /// The run: its id, the beginning of it, or `latest`
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun logs`
#[derive(Debug, Args)]
#[command(
    override_usage = "flowrun logs [OPTIONS] [RUN] <TASK>",
    after_help = "\
Examples:
  flowrun logs train                     of the newest run, last attempt
  flowrun logs -f train                  and what comes
  flowrun logs 01JD8 'train[trees=100]' --attempt 1 --stream stderr"
)]
pub(crate) struct LogsArgs {
    /// The run (default: the newest) and the task: `train`, or `train[trees=100]`
    #[arg(num_args = 1..=2, required = true, value_name = "RUN TASK")]
    pub(crate) words: Vec<String>,
    /// Go on with what comes until the attempt ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The attempt, from 1 (default: the last)
    #[arg(long, value_name = "N")]
    pub(crate) attempt: Option<u32>,
    /// Only this stream
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<StreamChoice>,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StreamChoice {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

/// `flowrun runs`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  flowrun runs                           the newest runs
  flowrun runs --pipeline iris --limit 50
  flowrun runs diff 01JD8 latest         params, keys and metrics side by side"
)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RunsCommand>,
    /// Of this pipeline only
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun runs …`
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// Params, keys and metrics of two runs side by side
    Diff {
        /// The one run
        a: String,
        /// The other run
        b: String,
        #[command(flatten)]
        output: OutputFlags,
    },
}

/// `flowrun why`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun why train                      in the newest run
  flowrun why 01JD8 'train[trees=100]'")]
pub(crate) struct WhyArgs {
    /// The run (default: the newest) and the task: `train`, or `train[trees=100]`
    #[arg(num_args = 1..=2, required = true, value_name = "RUN TASK")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun debug`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun debug latest train             a shell where the task ran
  flowrun debug latest train -- python -m pdb train.py")]
pub(crate) struct DebugArgs {
    /// The run: its id, the beginning of it, or `latest`
    pub(crate) run: String,
    /// The task: `train`, or `train[trees=100]`
    pub(crate) task: String,
    /// The attempt, from 1 (default: the last)
    #[arg(long, value_name = "N")]
    pub(crate) attempt: Option<u32>,
    /// The shell to open (default: yours)
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) shell: Option<String>,
    /// A command to run instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}
