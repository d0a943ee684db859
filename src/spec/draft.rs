//! What stands in a file, read but not yet checked against itself: names are texts with a place.

use std::collections::HashSet;
use std::time::Duration;

use indexmap::IndexMap;

use super::pipeline::{Cache, Param, Pick, Resources, Retries, SourceRef};
use super::problem::Span;
use super::reader::Spanned;
use super::template::{DraftExpression, DraftTemplate};
use crate::names::{AxisName, InputName, OutputName, ParamName, PipelineName, StageName};
use crate::scalar::Scalar;

/// A file.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) name: Option<PipelineName>,
    pub(super) source: Option<SourceRef>,
    /// None: declared, but not readable.
    pub(super) params: IndexMap<ParamName, (Option<Param>, Span)>,
    pub(super) defaults: DraftDefaults,
    pub(super) stages: IndexMap<StageName, DraftStage>,
    /// Names of params and stages that break the rules; naming them is no second problem.
    pub(super) refused_names: HashSet<String>,
    pub(super) on_failure: Option<Spanned<String>>,
    pub(super) on_exit: Option<Spanned<String>>,
    pub(super) timeout: Option<Duration>,
    pub(super) volumes: HashSet<String>,
    /// `image`, `pull` and `container`, where they stand.
    pub(super) container_keys: Vec<&'static str>,
}

/// What `defaults` and a stage both can say.
#[derive(Debug, Default)]
pub(super) struct DraftDefaults {
    pub(super) env: IndexMap<String, DraftTemplate>,
    pub(super) secrets: IndexMap<String, Span>,
    pub(super) python: Option<String>,
    pub(super) requirements: Option<Vec<String>>,
    pub(super) requirements_file: Option<String>,
    pub(super) resources: Option<Resources>,
    pub(super) retries: Option<Retries>,
    pub(super) timeout: Option<Duration>,
    pub(super) image: Option<Span>,
    pub(super) build: Option<Span>,
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
    pub(super) volumes: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) uses: Option<Span>,
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
    Live { service: String, input: String },
    /// `{url}`
    Url,
}

/// `service`, as far as other stages see it.
#[derive(Debug, Default)]
pub(super) struct DraftService {
    pub(super) gate: Vec<DraftExpression>,
    pub(super) verify: Option<Spanned<String>>,
    pub(super) replicas: Option<Spanned<u64>>,
    /// `ready.run`
    pub(super) ready: Vec<DraftTemplate>,
}
