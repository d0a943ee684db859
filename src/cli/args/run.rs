//! `validate`, `plan`, `apply`, `resume`, `cancel`.

use clap::{Args, ValueEnum};

use super::flags::{Output, OutputFlags, PlaceFlags, ProgressFlags, SelectionFlags, TargetFlags};

/// `flowrun validate`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun validate                       the pipeline of this folder
  flowrun validate iris.yaml
  flowrun validate --format json | jq '.problems[].message'")]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    pub(crate) target: TargetFlags,
    /// How problems are printed
    #[arg(long, short = 'o', alias = "output", value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Output,
}

/// `flowrun plan`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun plan                           what would run, and why
  flowrun plan --param seed=8            what one changed param would run again
  flowrun plan --format mermaid          the graph, for a README
  flowrun plan --exit-code               0 nothing to do, 10 something would run")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) target: TargetFlags,
    #[command(flatten)]
    pub(crate) selection: SelectionFlags,
    /// How the plan is printed
    #[arg(long, value_name = "FORMAT", default_value = "tree", conflicts_with = "output")]
    pub(crate) format: PlanFormat,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
    /// Exit with 10 when something would run
    #[arg(long)]
    pub(crate) exit_code: bool,
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
}

/// The forms of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    /// For people
    Tree,
    /// Graphviz
    Dot,
    /// Mermaid, as GitHub shows it
    Mermaid,
    /// For machines
    Json,
}

/// `flowrun apply`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun apply                          the pipeline of this folder
  flowrun apply iris.yaml --param seed=8
  flowrun apply --only evaluate          one stage; what it needs is reused
  flowrun apply --force train            run a stage although nothing changed
  flowrun apply https://github.com/acme/iris.git --ref v3 --yes")]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) target: TargetFlags,
    #[command(flatten)]
    pub(crate) selection: SelectionFlags,
    #[command(flatten)]
    pub(crate) progress: ProgressFlags,
    /// What to do while another run of this pipeline goes on
    #[arg(long, value_name = "HOW", default_value = "wait")]
    pub(crate) overlap: Overlap,
    /// Answer yes to every question
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Move the pipeline's name from the place it was used at before to this one
    #[arg(long, hide_short_help = true)]
    pub(crate) rebind: bool,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
}

/// What `apply` does while another run of the pipeline goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overlap {
    /// Wait for its end
    Wait,
    /// Do nothing
    Skip,
    /// Stop it
    Replace,
}

/// `flowrun resume`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun resume                         the newest run that is not done
  flowrun resume 01JD8                   a run by the beginning of its id")]
pub(crate) struct ResumeArgs {
    /// The run: its id, the beginning of it, or `latest`
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) progress: ProgressFlags,
    /// Answer yes to every question
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
}

/// `flowrun cancel`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun cancel latest                  stages get TERM and 10 s
  flowrun cancel 01JD8 --kill            stages are killed at once")]
pub(crate) struct CancelArgs {
    /// The run: its id, the beginning of it, or `latest`
    pub(crate) run: String,
    /// Kill at once instead of TERM and 10 s
    #[arg(long)]
    pub(crate) kill: bool,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}
