//! `status`, `logs`, `runs`, `why`, `debug`.

use clap::{Args, Subcommand, ValueEnum};

use super::flags::OutputFlags;

/// `flowrun status`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun status                         what is live, what is running, what happened last
  flowrun status latest                  the tasks of the newest run
  flowrun status serve                   the replicas of a service, and what happened to it
  flowrun status 01JD8 -o json | jq .tasks")]
pub(crate) struct StatusArgs {
    /// The run: its id, the beginning of it, or `latest`; or a service: `iris/serve`, or `serve` when only one pipeline has it
    #[arg(value_name = "RUN|SERVICE")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun logs`
#[derive(Debug, Args)]
#[command(
    override_usage = "flowrun logs [OPTIONS] [RUN] <TASK>\n       flowrun logs [OPTIONS] <SERVICE>",
    after_help = "\
Examples:
  flowrun logs train                     of the newest run, last attempt
  flowrun logs -f train                  and what comes
  flowrun logs 01JD8 'train[trees=100]' --attempt 1 --stream stderr
  flowrun logs -f -n 20 serve            all replicas of a service, also over restarts and new releases
  flowrun logs serve@3 --replica 2       one replica of one release"
)]
pub(crate) struct LogsArgs {
    /// The run (default: the newest) and the task: `train`, or `train[trees=100]`; or a service or a release: `serve`, `serve@3`
    #[arg(num_args = 1..=2, required = true, value_name = "RUN TASK")]
    pub(crate) words: Vec<String>,
    /// Go on with what comes until the attempt ends; of a service until it is interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last lines of what is there
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) lines: Option<usize>,
    /// The replica of a service, from 1 (default: all)
    #[arg(long, value_name = "N")]
    pub(crate) replica: Option<u32>,
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
    /// Give it the stage's secrets too; files of them are removed when it ends
    #[arg(long)]
    pub(crate) secrets: bool,
    /// A command to run instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}
