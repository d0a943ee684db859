//! `store`, `gc`, `doctor`, `init`, `schema`, `completions`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::flags::{OutputFlags, SettingFlags, collect};

/// `flowrun store`
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  flowrun store ls                       the artifacts of the newest run
  flowrun store get train.model ./model  a copy of one
  flowrun store check                    read everything and compare"
)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

/// `flowrun store …`
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List the artifacts of a run, or the files of an artifact
    #[command(after_help = "\
Examples:
  flowrun store ls
  flowrun store ls 01JD8
  flowrun store ls train.model
  flowrun store ls b3:9f…c2 --holders    what keeps these bytes in the store
  flowrun store ls --all")]
    Ls {
        /// A run, an output like `train.model`, or a digest `b3:…` (default: the newest run)
        what: Option<String>,
        /// The run an output is taken from
        #[arg(long, default_value = "latest")]
        run: String,
        /// Every result in the store instead, newest first
        #[arg(long, conflicts_with_all = ["what", "run"])]
        all: bool,
        /// What keeps an output, an artifact or a file in the store: runs, releases and results
        #[arg(long, requires = "what", conflicts_with = "all")]
        holders: bool,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Copy an artifact out of the store
    #[command(after_help = "\
Examples:
  flowrun store get train.model ./model
  flowrun store get 'train[trees=100].model' --run 01JD8
  flowrun store get b3:9f…c2 ./file")]
    Get {
        /// An output like `train.model`, or a digest `b3:…`
        artifact: String,
        /// Where the copy goes (default: the output's name, here)
        to: Option<PathBuf>,
        /// The run an output is taken from
        #[arg(long, default_value = "latest")]
        run: String,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Read everything and compare it with its digest
    #[command(after_help = "\
Examples:
  flowrun store check
  flowrun store check -o json")]
    Check {
        #[command(flatten)]
        output: OutputFlags,
    },
}

/// `flowrun gc`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun gc --dry-run                   what would be removed
  flowrun gc --keep-runs 5 --keep-days 7")]
pub(crate) struct GcArgs {
    /// Remove nothing, say what would be removed
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Runs kept per pipeline
    #[arg(long, value_name = "N", help_heading = "Settings")]
    pub(crate) keep_runs: Option<String>,
    /// Releases kept per service
    #[arg(long, value_name = "N", help_heading = "Settings")]
    pub(crate) keep_releases: Option<String>,
    /// Days for which runs are kept
    #[arg(long, value_name = "N", help_heading = "Settings")]
    pub(crate) keep_days: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

impl GcArgs {
    /// The flags that set settings.
    pub(crate) fn settings(&self) -> SettingFlags {
        collect([
            ("keep.runs", &self.keep_runs),
            ("keep.releases", &self.keep_releases),
            ("keep.days", &self.keep_days),
        ])
    }
}

/// `flowrun doctor`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun doctor
  flowrun doctor -o json")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun init`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun init                           in this folder
  flowrun init demo")]
pub(crate) struct InitArgs {
    /// Where to write it; made when it is not there
    #[arg(default_value = ".", hide_default_value = true)]
    pub(crate) folder: PathBuf,
}

/// `flowrun schema`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun schema > flowrun.schema.json")]
pub(crate) struct SchemaArgs {}

/// `flowrun completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun completions bash > ~/.local/share/bash-completion/completions/flowrun
  flowrun completions zsh > ~/.zfunc/_flowrun")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Any words behind a command that is not available yet.
#[derive(Debug, Args)]
pub(crate) struct LaterArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub(crate) words: Vec<String>,
}
