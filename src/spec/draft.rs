//! What stands in a file, read but not yet checked against itself: names are texts with a place.

use std::collections::HashSet;
use std::time::Duration;

use indexmap::{IndexMap, IndexSet};

use super::pipeline::{Cache, ImageSpec, Param, Pick, Pull, Resources, Retries, SourceRef};
use super::problem::Span;
use super::reader::Spanned;
use super::template::{DraftExpression, DraftTemplate};
use crate::address::Wanted;
use crate::names::{
    AxisName, InputName, OutputName, ParamName, PipelineName, PortName, StageName, VolumeName,
};
use crate::release::{Alive, Protocol};
use crate::scalar::Scalar;
use crate::secret::SecretUse;

/// A file.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) name: Option<PipelineName>,
    pub(super) source: Option<SourceRef>,
    /// None: declared, but not readable.
    pub(super) params: IndexMap<ParamName, (Option<Param>, Span)>,
    pub(super) defaults: DraftDefaults,
    pub(super) stages: IndexMap<StageName, DraftStage>,
    /// Names of params, stages and volumes that break the rules; naming them is no second problem.
    pub(super) refused_names: HashSet<String>,
    pub(super) on_failure: Option<Spanned<String>>,
    pub(super) on_exit: Option<Spanned<String>>,
    pub(super) timeout: Option<Duration>,
    pub(super) volumes: IndexSet<VolumeName>,
    /// `image`, `build`, `pull`, `container` and the `size` of volumes, as far as the file uses them.
    pub(super) container_keys: Vec<&'static str>,
}

/// What `defaults` and a stage both can say.
#[derive(Debug, Default)]
pub(super) struct DraftDefaults {
    pub(super) env: IndexMap<String, DraftTemplate>,
    pub(super) secrets: IndexMap<String, Spanned<SecretUse>>,
    pub(super) python: Option<String>,
    pub(super) requirements: Option<Vec<String>>,
    pub(super) requirements_file: Option<String>,
    pub(super) resources: Option<Resources>,
    pub(super) retries: Option<Retries>,
    pub(super) timeout: Option<Duration>,
    /// `image` or `build`; none inside: there, but not readable.
    pub(super) image: Option<Spanned<Option<ImageSpec>>>,
    pub(super) pull: Option<Pull>,
    pub(super) container: Option<DraftContainer>,
}

/// `container`; what is not said depends on whether the stage has `run`.
#[derive(Debug, Clone, Default)]
pub(super) struct DraftContainer {
    pub(super) image_user: Option<bool>,
    pub(super) writable_root: Option<bool>,
    pub(super) no_network: bool,
    pub(super) capabilities: Vec<String>,
}

/// A stage.
#[derive(Debug, Default)]
pub(super) struct DraftStage {
    /// Where its name stands.
    pub(super) span: Span,
    /// It could not be read at all: everything about it is unknown.
    pub(super) broken: bool,
    pub(super) own: DraftDefaults,
    pub(super) needs: Vec<Spanned<String>>,
    pub(super) when: Vec<DraftExpression>,
    pub(super) run: Option<DraftCommand>,
    /// `run` is there, readable or not.
    pub(super) has_run: bool,
    pub(super) args: Option<Spanned<Vec<DraftTemplate>>>,
    pub(super) inputs: IndexMap<InputName, Spanned<DraftInput>>,
    pub(super) outputs: IndexMap<OutputName, Spanned<String>>,
    /// Inputs or outputs, one of which could not be read: what is missing may be that one.
    pub(super) unreadable: HashSet<String>,
    pub(super) metrics: Option<Spanned<String>>,
    pub(super) values: Option<Spanned<String>>,
    pub(super) params: Vec<Spanned<String>>,
    pub(super) files: Option<Vec<String>>,
    pub(super) workdir: Option<String>,
    pub(super) matrix: IndexMap<AxisName, Vec<Scalar>>,
    /// Where `matrix` stands.
    pub(super) matrix_span: Option<Span>,
    pub(super) pick: Option<Spanned<Pick>>,
    /// Where `pick` stands, readable or not.
    pub(super) has_pick: bool,
    pub(super) cache: Option<Spanned<Cache>>,
    pub(super) volumes: Option<Spanned<Vec<DraftVolume>>>,
    pub(super) uses: Option<Span>,
    /// Keys that say with what `run` is executed, where they stand.
    pub(super) run_keys: Vec<Spanned<&'static str>>,
    pub(super) service: Option<DraftService>,
    /// Keys that only batch stages have, where they stand.
    pub(super) batch_keys: Vec<Spanned<&'static str>>,
}

impl DraftStage {
    /// Whether an input, output or axis of this name may be one that could not be read.
    pub(super) fn may_have(&self, name: &str) -> bool {
        self.broken || self.unreadable.contains(name)
    }

    /// Its copies are several things to later stages: nothing of it can be named.
    pub(super) fn is_many(&self) -> bool {
        self.matrix_span.is_some() && !self.has_pick
    }
}

/// `run`.
#[derive(Debug)]
pub(super) enum DraftCommand {
    Shell(DraftTemplate),
    List(Vec<DraftTemplate>),
}

/// An input.
#[derive(Debug)]
pub(super) enum DraftInput {
    /// `stage.output`
    From { stage: String, output: String, path: Option<Spanned<String>> },
    /// `{live: service.input}`
    Live { service: String, input: String, optional: bool },
    /// `{url}`
    Outside { wanted: Wanted, path: Option<String> },
    /// `{url}` of a kind that is known and not available yet.
    Later,
}

/// A volume of a service.
#[derive(Debug)]
pub(super) struct DraftVolume {
    pub(super) name: Spanned<String>,
    /// Normal; begins with `/` when it is absolute. None: not readable.
    pub(super) path: Option<Spanned<String>>,
}

/// `service`. What cannot be read is absent, and was reported.
#[derive(Debug, Default)]
pub(super) struct DraftService {
    pub(super) port: Option<Spanned<u16>>,
    pub(super) listen: Option<Spanned<u16>>,
    pub(super) protocol: Option<Protocol>,
    pub(super) ports: IndexMap<PortName, Spanned<u16>>,
    pub(super) replicas: Option<Spanned<u32>>,
    pub(super) ready: DraftReady,
    pub(super) alive: Option<Spanned<Alive>>,
    pub(super) drain: Option<Duration>,
    pub(super) route: Option<Spanned<String>>,
    pub(super) gate: Vec<DraftExpression>,
    pub(super) verify: Option<Spanned<String>>,
}

/// `ready`
#[derive(Debug, Default)]
pub(super) struct DraftReady {
    pub(super) probe: DraftProbe,
    pub(super) within: Option<Duration>,
    pub(super) interval: Option<Duration>,
}

/// How a replica is asked whether it is ready.
#[derive(Debug, Default)]
pub(super) enum DraftProbe {
    #[default]
    Tcp,
    Http(Spanned<String>),
    Run(DraftCommand),
}
