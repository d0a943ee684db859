//! What decides a task's result → [`KeyParts`].

use std::collections::BTreeMap;

use super::graph::PlannedTask;
use crate::digest::Digest;
use crate::event::{KeyParts, Metrics, Outputs, Values};
use crate::names::{ParamName, StageName};
use crate::scalar::Scalar;
use crate::source::SourceFile;
use crate::spec::Pipeline;
use crate::spec::expression::EvalError;

/// What is fixed for a run and decides keys.
#[derive(Debug, Clone)]
pub struct KeyContext {
    /// Every parameter's value.
    pub params: BTreeMap<ParamName, Scalar>,
    /// Files of the snapshot, sorted by path from the repo's root.
    pub files: std::sync::Arc<Vec<SourceFile>>,
    /// The base below the root, empty for the root.
    pub base: String,
    /// The pipeline file's name in the base; no stage sees it.
    pub file_name: String,
    /// Per stage with `run`: digest of its environment's definition, and the platform text.
    pub environments: BTreeMap<StageName, (Digest, String)>,
    /// `run.id run.commit run.ref run.dirty run.base` for expressions.
    pub run: BTreeMap<String, Scalar>,
}

/// What finished stages gave, as far as it is known: of a stage with `pick`, the winner's.
#[derive(Debug, Clone, Default)]
pub struct ResolvedInputs {
    /// By stage.
    pub stages: BTreeMap<StageName, StageResult>,
}

/// What one finished stage gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StageResult {
    /// Artifacts.
    pub outputs: Outputs,
    /// Numbers.
    pub metrics: Metrics,
    /// Scalars.
    pub values: Values,
}

impl KeyContext {
    /// The files a stage sees (its globs below the base; without globs all below the base except the pipeline file
    /// and `flowrun.toml`), sorted by path.
    pub fn stage_files(&self, pipeline: &Pipeline, stage: &StageName) -> Vec<&SourceFile> {
        let _ = (pipeline, stage);
        todo!()
    }

    /// The key parts of a task whose needs are all in `resolved`. `${{ inputs.x }}` and `${{ outputs.x }}` stand in the key as
    /// `$FLOWRUN_INPUT_X`-like placeholders, since absolute paths differ from run to run.
    pub fn key_parts(
        &self,
        pipeline: &Pipeline,
        task: &PlannedTask,
        resolved: &ResolvedInputs,
    ) -> Result<KeyParts, EvalError> {
        let _ = (pipeline, task, resolved);
        todo!()
    }

    /// Whether all of the stage's `when` hold.
    pub fn when_holds(
        &self,
        pipeline: &Pipeline,
        task: &PlannedTask,
        resolved: &ResolvedInputs,
    ) -> Result<bool, EvalError> {
        let _ = (pipeline, task, resolved);
        todo!()
    }

    /// The command and declared variables with real paths for `inputs.x` and `outputs.x`.
    pub fn expand(
        &self,
        pipeline: &Pipeline,
        task: &PlannedTask,
        resolved: &ResolvedInputs,
        paths: &Paths,
    ) -> Result<Expanded, EvalError> {
        let _ = (pipeline, task, resolved, paths);
        todo!()
    }
}

/// Absolute paths by input and output name.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// `inputs.x`
    pub inputs: BTreeMap<String, String>,
    /// `outputs.x`
    pub outputs: BTreeMap<String, String>,
}

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Declared `env`.
    pub env: BTreeMap<String, String>,
}
