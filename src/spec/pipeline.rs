//! A checked pipeline: every name resolved, every default applied.

use std::time::Duration;

use indexmap::{IndexMap, IndexSet};

use super::expression::{Expression, Template};
use super::problem::Problem;
use crate::address::Wanted;
use crate::names::{
    AxisName, InputName, OutputName, ParamName, PipelineName, PortName, StageName, VolumeName,
};
use crate::release::Protocol;
use crate::scalar::Scalar;
use crate::secret::SecretUse;

/// What one file describes.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// Its name.
    pub name: PipelineName,
    /// Where the code is, when not in the work tree that holds the file.
    pub source: Option<SourceRef>,
    /// Parameters in file order.
    pub params: IndexMap<ParamName, Param>,
    /// Stages in file order; their position + 1 begins the task numbers.
    pub stages: IndexMap<StageName, Stage>,
    /// Runs when the outcome is failed; not in the DAG.
    pub on_failure: Option<StageName>,
    /// Always runs at the end; not in the DAG.
    pub on_exit: Option<StageName>,
    /// Of the whole run.
    pub timeout: Option<Duration>,
    /// Declared volumes; they outlive releases and `down`.
    pub volumes: IndexSet<VolumeName>,
    /// What the file uses that cannot run yet, each at its place: `apply` refuses with these (exit 3).
    pub unavailable: Vec<Problem>,
    /// What only containers can do (stages without `run`, volumes at absolute paths), each at its place: refused where stages are
    /// processes.
    pub needs_containers: Vec<Problem>,
    /// What the file does that deserves a word (`run.id` makes a stage uncacheable), at its place.
    pub warnings: Vec<Problem>,
    /// `image`, `build`, `pull`, `container` and the `size` of volumes, as far as the file uses them.
    pub container_keys: Vec<String>,
}

/// `source:` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRef {
    /// https, ssh, `git@host:path`, file, local path (relative to the file's folder).
    pub git: String,
    /// Branch, tag or commit; none for the remote's default branch.
    pub reference: Option<String>,
}

/// A declared parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// What values it takes.
    pub kind: ParamKind,
    /// Its value unless told otherwise; already checked against `kind`.
    pub default: Scalar,
    /// For `--help` and messages.
    pub help: Option<String>,
}

/// What values a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParamKind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A number between the bounds.
    Number {
        /// Whole numbers only.
        whole: bool,
        /// Smallest.
        min: Option<f64>,
        /// Largest.
        max: Option<f64>,
    },
}

/// A node of the DAG.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its name.
    pub name: StageName,
    /// The stages it depends on: `needs`, inputs, metrics and services named in expressions; of a service also those its
    /// `verify` stage depends on. `{live}` and `live` are no dependencies. Without duplicates, in file order.
    pub needs: Vec<StageName>,
    /// Runs only if all hold.
    pub when: Vec<Expression>,
    /// What is executed. None: the image's own program.
    pub run: Option<Command>,
    /// Inputs in file order.
    pub inputs: IndexMap<InputName, Input>,
    /// The params put into `FLOWRUN_PARAMS` and the key: `params` and those named in expressions, without duplicates.
    pub params: Vec<ParamName>,
    /// Globs of repo files below the base; none: all.
    pub files: Option<Vec<String>>,
    /// Current directory below the base, `.` for the base itself.
    pub workdir: String,
    /// Declared variables (defaults merged), in file order.
    pub env: IndexMap<String, Template>,
    /// Python and its packages.
    pub environment: EnvironmentSpec,
    /// The image of its containers; none: only a place without containers can run it.
    pub image: Option<ImageSpec>,
    /// When the image is pulled; of no effect with `build`.
    pub pull: Pull,
    /// How its containers are confined.
    pub container: ContainerSpec,
    /// Arguments for the image's own program, without `run`.
    pub args: Option<Vec<Template>>,
    /// Secrets by variable (defaults merged), in file order.
    pub secrets: IndexMap<String, SecretUse>,
    /// `resources`.
    pub resources: Resources,
    /// Batch or service.
    pub kind: StageKind,
    /// `on_failure`, `on_exit` or `verify` names it: it is not in the DAG.
    pub outside_dag: bool,
    /// Names `run.id` or `run.commit` in what is executed.
    pub names_run_identity: bool,
    /// Has an edge to a service and did not write `cache: true`, or is named by `verify`.
    pub uses_service: bool,
}

/// What tells batch and service stages apart.
#[expect(clippy::large_enum_variant, reason = "nearly every stage is a batch stage")]
#[derive(Debug, Clone, PartialEq)]
pub enum StageKind {
    /// Ends.
    Batch(Batch),
    /// Stays up.
    Service(Box<Service>),
}

/// What only services have. Defaults are applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Where it is reached.
    pub port: u16,
    /// The port the program insists on; none: `$PORT`.
    pub listen: Option<u16>,
    /// What it speaks.
    pub protocol: Protocol,
    /// More ports by name, not routed.
    pub ports: IndexMap<PortName, u16>,
    /// Copies.
    pub replicas: u32,
    /// When a replica counts as ready.
    pub ready: ReadyProbe,
    /// How long a new replica may take to become ready.
    pub within: Duration,
    /// Between two tries of `ready`.
    pub interval: Duration,
    /// When a replica that was ready is started anew.
    pub alive: Option<crate::release::Alive>,
    /// How long an old replica may finish its requests.
    pub drain: Duration,
    /// The path of the gateway that leads to it; normal: begins with `/`, does not end with it unless it is `/`.
    pub route: Option<String>,
    /// All must hold, else the live release stays.
    pub gate: Vec<Expression>,
    /// Tries the new replicas before they go live. What it needs, the service needs too (`Stage::needs`).
    pub verify: Option<StageName>,
    /// Volumes: path in the service, below the base and normal. An absolute one begins with `/` and stands in
    /// [`Pipeline::needs_containers`] too.
    pub volumes: IndexMap<VolumeName, String>,
}

/// `ready`.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadyProbe {
    /// A path that answers 2xx.
    Http(String),
    /// The port takes connections.
    Tcp,
    /// A command that ends with 0.
    Run(Command),
}

/// What only batch stages have.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Output paths below the base, `/`-separated, normal; no two overlap.
    pub outputs: IndexMap<OutputName, String>,
    /// The metrics file below the base.
    pub metrics: Option<String>,
    /// The values file below the base.
    pub values: Option<String>,
    /// Axes in file order; empty: one copy.
    pub matrix: IndexMap<AxisName, Vec<Scalar>>,
    /// Which copy later stages see.
    pub pick: Option<Pick>,
    /// Whether results are reused.
    pub cache: Cache,
    /// After the first attempt.
    pub retries: Retries,
    /// Of one attempt's user code.
    pub timeout: Option<Duration>,
}

/// `run`.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Goes through `sh -e -c`.
    Shell(Template),
    /// Executed as it is.
    List(Vec<Template>),
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// An output of a stage, placed at `path` below the base when given.
    Output {
        /// The stage.
        stage: StageName,
        /// Its output.
        output: OutputName,
        /// Where it is placed.
        path: Option<String>,
    },
    /// The input of the live release of a service (`{live: service.input}`).
    Live {
        /// The service.
        service: StageName,
        /// Its input.
        input: InputName,
        /// Nothing is live: the input is absent, else the stage fails.
        optional: bool,
    },
    /// What lies at an address, placed at `path` below the base when given.
    Outside {
        /// Where it is, and what it must be.
        wanted: Wanted,
        /// Where it is placed.
        path: Option<String>,
    },
    /// `{url}` of a kind that is known and not available yet (also in `Pipeline::unavailable`).
    Later,
}

/// What defines a stage's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentSpec {
    /// `python: "3.12"`; none: the caller's `python3`.
    pub python: Option<String>,
    /// pip lines.
    pub requirements: Vec<String>,
    /// A file of pip lines, below the base.
    pub requirements_file: Option<String>,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSpec {
    /// `image`: a tag or digest in any registry, or of this machine.
    Reference(String),
    /// `build`
    Build(BuildSpec),
}

/// `build`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// The folder that is sent, below the base.
    pub context: String,
    /// The Dockerfile in it.
    pub dockerfile: String,
    /// `ARG`s, as written.
    pub args: IndexMap<String, String>,
}

/// `pull`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pull {
    /// When the image is not here.
    #[default]
    Missing,
    /// Before every run.
    Always,
    /// The image must be here.
    Never,
}

/// `container`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// `user: image`, not the caller. Always so for a stage without `run` that does not say otherwise.
    pub image_user: bool,
    /// `root: writable`. Always so for a stage without `run` that does not say otherwise.
    pub writable_root: bool,
    /// `network: none`
    pub no_network: bool,
    /// Capabilities it keeps.
    pub capabilities: Vec<String>,
}

/// `resources`: a request for the scheduler, also a limit where one can be had.
#[derive(Debug, Clone, PartialEq)]
pub struct Resources {
    /// Processors; none: one slot and no limit.
    pub cpu: Option<f64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Graphics processors.
    pub gpu: u32,
    /// Also a limit.
    pub limit: bool,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpu: None, memory: None, gpu: 0, limit: true }
    }
}

/// `pick: {max: accuracy}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// The metric.
    pub metric: String,
    /// Largest wins, else smallest.
    pub largest: bool,
}

/// `cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// `true` (the default).
    On,
    /// `false`.
    Off,
    /// `only`: reuse or fail.
    Only,
    /// Reuse records younger than this.
    For(Duration),
}

/// `retries`.
#[derive(Debug, Clone, PartialEq)]
pub struct Retries {
    /// After the first attempt.
    pub max: u32,
    /// Pause before the first retry; doubles to 5 minutes, with jitter.
    pub backoff: Duration,
    /// More memory after an out-of-memory end.
    pub on_oom: Option<OnOom>,
}

/// `on_oom: {memory: 2x, max: 16Gi}`.
#[derive(Debug, Clone, PartialEq)]
pub struct OnOom {
    /// Multiplies the memory.
    pub factor: f64,
    /// Never more than this, bytes.
    pub max: Option<u64>,
}

impl Default for Retries {
    fn default() -> Self {
        Self { max: 0, backoff: Duration::from_secs(5), on_oom: None }
    }
}

impl Stage {
    /// The batch half, when it is a batch stage.
    pub fn batch(&self) -> Option<&Batch> {
        match &self.kind {
            StageKind::Batch(batch) => Some(batch),
            StageKind::Service(_) => None,
        }
    }

    /// The service half, when it stays up.
    pub fn service(&self) -> Option<&Service> {
        match &self.kind {
            StageKind::Batch(_) => None,
            StageKind::Service(service) => Some(service),
        }
    }

    /// Why it is never cached, if so (ARCHITECTURE §4).
    pub fn not_cached(&self) -> Option<crate::event::NotCached> {
        use crate::event::NotCached;
        let batch = self.batch()?;
        if batch.outputs.is_empty() && batch.metrics.is_none() && batch.values.is_none() {
            Some(NotCached::NoOutputs)
        } else if batch.cache == Cache::Off {
            Some(NotCached::Off)
        } else if self.uses_service {
            Some(NotCached::UsesService)
        } else if self.names_run_identity {
            Some(NotCached::NamesRun)
        } else {
            None
        }
    }
}

impl Pipeline {
    /// The keys of the file that have no effect on the local runtime: one remark a run names them.
    pub fn ignored_on_local(&self) -> Vec<String> {
        self.container_keys.clone()
    }
}
