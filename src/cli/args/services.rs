//! `releases`, `diff`, `rollback`, `restart`, `scale`, `down`, `server`.

use clap::Args;

use super::flags::OutputFlags;

/// `flowrun releases`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun releases                       of every service
  flowrun releases serve                 what was live, is live, and why others are not
  flowrun releases iris/serve -o json | jq '.[].release'")]
pub(crate) struct ReleasesArgs {
    /// The service: `iris/serve`, or `serve` when only one pipeline has it
    pub(crate) service: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun diff`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun diff serve                     what is live, beside what was live before it
  flowrun diff serve@2                   a release, beside what is live
  flowrun diff serve@2 serve@3
  flowrun diff iris/serve@2 01JD8 -o json | jq .changes")]
pub(crate) struct DiffArgs {
    /// The one release: `serve@2`, or the beginning of its id; or a service
    #[arg(value_name = "RELEASE|SERVICE")]
    pub(crate) before: String,
    /// The other release (default: the one that is live)
    #[arg(value_name = "RELEASE")]
    pub(crate) after: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun rollback`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun rollback serve                 what was live before, whole: code, environment, artifacts
  flowrun rollback iris/serve --to 3")]
pub(crate) struct RollbackArgs {
    /// The service: `iris/serve`, or `serve` when only one pipeline has it
    pub(crate) service: String,
    /// The number of the release (default: the one that was live before)
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun restart`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun restart serve                  fresh replicas of the same release, then the old ones go")]
pub(crate) struct RestartArgs {
    /// The service: `iris/serve`, or `serve` when only one pipeline has it
    pub(crate) service: String,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun scale`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun scale serve 4                  until the next release, which has its own number
  flowrun scale serve 0                  nothing runs; it answers 503")]
pub(crate) struct ScaleArgs {
    /// The service: `iris/serve`, or `serve` when only one pipeline has it
    pub(crate) service: String,
    /// How many replicas run, from 0 to 1000
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) replicas: u32,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun down`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun down serve                     one service; its releases stay in the history
  flowrun down iris --yes                every service of a pipeline
  flowrun down iris --volumes            and the data that they kept")]
pub(crate) struct DownArgs {
    /// The pipeline or the service (default: everything)
    #[arg(value_name = "PIPELINE|SERVICE")]
    pub(crate) target: Option<String>,
    /// Remove their volumes too
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Answer yes to every question
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun server`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun server                         in the foreground; `apply` starts it when needed
  flowrun server --status
  flowrun server --stop                  replicas go on; the next server finds them")]
pub(crate) struct ServerArgs {
    /// Say whether it runs, and since when
    #[arg(long, conflicts_with = "stop")]
    pub(crate) status: bool,
    /// Stop it; what is live goes on without its address
    #[arg(long)]
    pub(crate) stop: bool,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}
