//! Flags that several commands share.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

/// Flags given as text, by the name of the setting they set; `settings` reads them.
pub(crate) type SettingFlags = BTreeMap<&'static str, String>;

/// No heading of its own: what is no setting stands among the options of the command.
const OPTIONS: Option<&str> = None;

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct GlobalFlags {
    /// Where everything of flowrun's own lives
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) home: Option<String>,
    /// Where artifacts and records live
    #[arg(long, global = true, value_name = "PLACE", hide_short_help = true)]
    pub(crate) store: Option<String>,
    /// Whether the store is written: read-write or read-only
    #[arg(long, global = true, value_name = "ACCESS", hide_short_help = true)]
    pub(crate) store_access: Option<String>,
    /// How long a run waits for a store that went away (default: 10m)
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        help_heading = "Settings",
        hide_short_help = true
    )]
    pub(crate) store_patience: Option<String>,
    /// Where runs and events are recorded
    #[arg(long, global = true, value_name = "PLACE", hide_short_help = true)]
    pub(crate) state: Option<String>,
    /// How long a database that went away is waited for (default: 2m)
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        help_heading = "Settings",
        hide_short_help = true
    )]
    pub(crate) state_patience: Option<String>,
    /// Where the server listens for routes of services (default: 127.0.0.1:8080)
    #[arg(long, global = true, value_name = "ADDRESS", hide_short_help = true)]
    pub(crate) gateway: Option<String>,
    /// The ports that replicas of services get (default: 21000-28999)
    #[arg(long, global = true, value_name = "RANGE", hide_short_help = true)]
    pub(crate) replica_ports: Option<String>,
    /// When to use colour: auto, always or never
    #[arg(long, global = true, value_name = "WHEN")]
    pub(crate) color: Option<String>,
    /// Say nothing but errors
    #[arg(short, long, global = true, help_heading = OPTIONS, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more
    #[arg(short, long, global = true, help_heading = OPTIONS)]
    pub(crate) verbose: bool,
}

impl GlobalFlags {
    /// The flags that set settings.
    pub(crate) fn settings(&self) -> SettingFlags {
        collect([
            ("home", &self.home),
            ("store", &self.store),
            ("store.access", &self.store_access),
            ("store.patience", &self.store_patience),
            ("state", &self.state),
            ("state.patience", &self.state_patience),
            ("gateway", &self.gateway),
            ("replica_ports", &self.replica_ports),
            ("color", &self.color),
        ])
    }
}

/// Where and how broadly stages run.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct PlaceFlags {
    /// Where stages run: local, docker, kubernetes or auto
    #[arg(long, value_name = "PLACE")]
    pub(crate) runtime: Option<String>,
    /// Tasks at once (default: the machine's processors)
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<String>,
    /// Processors to share out (default: the machine's)
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub(crate) cpu: Option<String>,
    /// Memory to share out, like 8Gi (default: the machine's)
    #[arg(long, value_name = "SIZE", hide_short_help = true)]
    pub(crate) memory: Option<String>,
    /// Log kept per stream of an attempt, like 256Mi
    #[arg(long, value_name = "SIZE", hide_short_help = true)]
    pub(crate) log_cap: Option<String>,
    /// Names of the caller's variables that stages get, separated by commas
    #[arg(long, value_name = "NAMES", hide_short_help = true)]
    pub(crate) pass_env: Option<String>,
}

impl PlaceFlags {
    /// The flags that set settings.
    pub(crate) fn settings(&self) -> SettingFlags {
        collect([
            ("runtime", &self.runtime),
            ("jobs", &self.jobs),
            ("cpu", &self.cpu),
            ("memory", &self.memory),
            ("log_cap", &self.log_cap),
            ("pass_env", &self.pass_env),
        ])
    }
}

/// Collects the flags that were given.
pub(super) fn collect<const N: usize>(flags: [(&'static str, &Option<String>); N]) -> SettingFlags {
    flags.into_iter().filter_map(|(name, text)| Some((name, text.clone()?))).collect()
}

/// What a command works on.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetFlags {
    /// A pipeline file, a folder that holds one, or a git URL
    #[arg(default_value = ".", value_name = "FILE|FOLDER|URL", hide_default_value = true)]
    pub(crate) target: String,
    /// Branch, tag or commit to take the code from
    #[arg(long = "ref", value_name = "REF")]
    pub(crate) reference: Option<String>,
    /// The pipeline file or its folder inside the repo of a git URL
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
}

/// Params and stages of a run.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SelectionFlags {
    /// Set a param of the pipeline
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    pub(crate) params: Vec<String>,
    /// Only these stages; what they need must be reusable
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// These stages and all that depends on them
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) from: Vec<String>,
    /// These stages and all that they need
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) until: Vec<String>,
    /// Run these stages even if nothing changed
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) force: Vec<String>,
    /// The target of the pipeline (not available yet)
    #[arg(short = 't', long = "target", value_name = "TARGET", hide = true)]
    pub(crate) pipeline_target: Option<String>,
}

/// How a run is shown while it goes on.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ProgressFlags {
    /// Print every event as a line on stdout, for machines
    #[arg(long, value_name = "FORMAT")]
    pub(crate) events: Option<Events>,
    /// After a failure, go on with what does not need the failed task
    #[arg(short, long)]
    pub(crate) keep_going: bool,
    /// Keep the work folders of attempts that ended well too
    #[arg(long, hide_short_help = true)]
    pub(crate) keep_work: bool,
    /// Leave the run to the server (not available yet)
    #[arg(short, long, hide = true)]
    pub(crate) detach: bool,
}

/// The form of `--events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Events {
    /// One JSON object a line
    Json,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct OutputFlags {
    /// How data is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Output,
}

impl OutputFlags {
    /// Data goes out as JSON.
    pub(crate) fn json(self) -> bool {
        self.output == Output::Json
    }
}

/// The forms of `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// For machines
    Json,
}
