//! A checked pipeline: every name resolved, every default applied.

use std::time::Duration;

use indexmap::IndexMap;

use super::expression::{Expression, Template};
use super::problem::Problem;
use crate::names::{AxisName, InputName, OutputName, ParamName, PipelineName, StageName};
use crate::scalar::Scalar;

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
    /// What the file uses that cannot run yet, each at its place: `apply` refuses with these (exit 3).
    pub unavailable: Vec<Problem>,
    /// What the file does that deserves a word (`run.id` makes a stage uncacheable), at its place.
    pub warnings: Vec<Problem>,
    /// `image`, `pull` and `container`, as far as the file uses them.
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
    /// The stages it depends on: `needs`, inputs, metrics and services named in expressions. Without duplicates, in file order.
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
    /// `resources`.
    pub resources: Resources,
    /// Batch or service.
    pub kind: StageKind,
    /// `on_failure`, `on_exit` or `verify` names it: it is not in the DAG.
    pub outside_dag: bool,
    /// Names `run.id` or `run.commit` in what is executed.
    pub names_run_identity: bool,
    /// Has an edge to a service and did not write `cache: true`.
    pub uses_service: bool,
}

/// What tells batch and service stages apart.
#[expect(clippy::large_enum_variant, reason = "nearly every stage is a batch stage")]
#[derive(Debug, Clone, PartialEq)]
pub enum StageKind {
    /// Ends.
    Batch(Batch),
    /// Stays up; not available yet. The reader has checked it.
    Service,
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
    /// `{live}` or `{url}`: known, not available yet (also in `Pipeline::unavailable`).
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
            StageKind::Service => None,
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
