//! What decides a task's result → [`KeyParts`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::{self, FileScans, Scan};
use super::graph::PlannedTask;
use super::live;
use super::scope::{Places, executed, expressions, literal, scope};
use crate::digest::Digest;
use crate::event::{InputPart, KEY_FORMAT, KeyParts, Metrics, Outputs, Values};
use crate::names::{InputName, ParamName, StageName};
use crate::scalar::Scalar;
use crate::secret::SecretId;
use crate::source::SourceFile;
use crate::spec::expression::{EvalError, Expression};
use crate::spec::pipeline::{Command, Input, Stage};
use crate::spec::{Pipeline, Scope, Template};

/// What is fixed for a run and decides keys.
#[derive(Debug, Clone)]
pub struct KeyContext {
    /// Every parameter's value.
    pub params: BTreeMap<ParamName, Scalar>,
    /// Files of the snapshot, sorted by path from the repo's root.
    pub files: Arc<Vec<SourceFile>>,
    /// The base below the root, empty for the root.
    pub base: String,
    /// The pipeline file's name in the base; no stage sees it.
    pub file_name: String,
    /// Per stage with `run`: digest of its environment's definition, and the platform text.
    pub environments: BTreeMap<StageName, (Digest, String)>,
    /// The stable address of every service of the file: `http://127.0.0.1:8000`.
    pub service_urls: BTreeMap<StageName, String>,
    /// `run.id run.commit run.ref run.dirty run.base` for expressions; what is missing is the empty text.
    pub run: BTreeMap<String, Scalar>,
    /// By stage: the id of its image; empty where stages are processes.
    pub images: BTreeMap<StageName, String>,
    /// Versions of the secrets that are there.
    pub secret_versions: BTreeMap<SecretId, u64>,
    scans: FileScans,
}

/// What finished stages gave, as far as it is known: of a stage with `pick`, the winner's.
#[derive(Debug, Clone, Default)]
pub struct ResolvedInputs {
    /// By stage.
    pub stages: BTreeMap<StageName, StageResult>,
    /// Live releases of services, as far as the task names them (`{live}`, `live`).
    pub live: BTreeMap<StageName, crate::release::Release>,
    /// What lies outside, by [`Wanted::id`](crate::address::Wanted::id), as far as it was fetched.
    pub outside: BTreeMap<Digest, Digest>,
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
    /// Program and arguments; empty for a stage without `run`.
    pub command: Vec<String>,
    /// `args`, for the image's own program.
    pub args: Option<Vec<String>>,
    /// Declared `env`.
    pub env: BTreeMap<String, String>,
}

impl KeyContext {
    /// With what stages see of the code (see the fields); all else is empty.
    pub fn new(files: Arc<Vec<SourceFile>>, base: String, file_name: String) -> Self {
        Self {
            params: BTreeMap::new(),
            files,
            base,
            file_name,
            environments: BTreeMap::new(),
            service_urls: BTreeMap::new(),
            run: BTreeMap::new(),
            images: BTreeMap::new(),
            secret_versions: BTreeMap::new(),
            scans: FileScans::default(),
        }
    }

    /// What a `verify` stage is expanded with: the service is reached at its candidate's address, all else is the same.
    #[must_use]
    pub fn with_candidate(&self, service: &StageName, url: &str) -> Self {
        let mut context = self.clone();
        context.service_urls.insert(service.clone(), url.to_owned());
        context
    }

    /// The files a stage sees, sorted by path.
    ///
    /// Its globs are relative to the base; a plain folder means everything below it, `!` in front takes away. Without
    /// globs all below the base. The pipeline file is never seen, `flowrun.toml` only when it is named as it is.
    pub fn stage_files(&self, pipeline: &Pipeline, stage: &StageName) -> Vec<&SourceFile> {
        let scan = self.scan(&pipeline.stages[stage]);
        scan.seen.iter().map(|position| &self.files[*position]).collect()
    }

    /// What stands in `files` and matches nothing, by stage in file order: most likely a slip of the pen.
    pub fn idle_globs<'p>(&self, pipeline: &'p Pipeline) -> Vec<(&'p StageName, &'p str)> {
        let mut known: BTreeMap<&[String], Vec<&str>> = BTreeMap::new();
        let mut found = Vec::new();
        for stage in pipeline.stages.values() {
            let Some(globs) = stage.files.as_deref() else { continue };
            let idle =
                known.entry(globs).or_insert_with(|| files::idle(&self.files, &self.base, globs));
            found.extend(idle.iter().map(|glob| (&stage.name, *glob)));
        }
        found
    }

    /// The key parts of a task whose needs are all in `resolved`.
    ///
    /// Where `${{ inputs.x }}` and `${{ outputs.x }}` stand the key has marks, since absolute paths differ from run to run.
    pub fn key_parts(
        &self,
        pipeline: &Pipeline,
        task: &PlannedTask,
        resolved: &ResolvedInputs,
    ) -> Result<KeyParts, EvalError> {
        let stage = &pipeline.stages[&task.id.stage];
        let Expanded { command, args, env } =
            self.expanded(stage, task, resolved, Places::Marks)?;
        let (environment, platform) = self.environment(stage);
        let batch = stage.batch();
        Ok(KeyParts {
            format: KEY_FORMAT,
            command,
            env,
            environment,
            platform,
            files: self.scan(stage).digest,
            inputs: input_parts(pipeline, stage, resolved)?,
            params: self.params_of(stage),
            matrix: task.matrix.iter().cloned().collect(),
            outputs: batch
                .into_iter()
                .flat_map(|batch| &batch.outputs)
                .map(|(name, path)| (name.clone(), path.clone()))
                .collect(),
            metrics: batch.and_then(|batch| batch.metrics.clone()),
            values: batch.and_then(|batch| batch.values.clone()),
            workdir: stage.workdir.clone(),
            network: network(stage).to_owned(),
            secrets: stage
                .secrets
                .iter()
                .map(|(variable, takes)| (variable.clone(), takes.id.to_string()))
                .collect(),
            args,
        })
    }

    /// Whether all of the stage's `when` hold.
    pub fn when_holds(
        &self,
        pipeline: &Pipeline,
        task: &PlannedTask,
        resolved: &ResolvedInputs,
    ) -> Result<bool, EvalError> {
        self.all_hold(pipeline, task, resolved, &mut pipeline.stages[&task.id.stage].when.iter())
    }

    /// The command and declared variables with real paths for `inputs.x` and `outputs.x`.
    pub fn expand(
        &self,
        pipeline: &Pipeline,
        task: &PlannedTask,
        resolved: &ResolvedInputs,
        paths: &Paths,
    ) -> Result<Expanded, EvalError> {
        let stage = &pipeline.stages[&task.id.stage];
        self.expanded(stage, task, resolved, Places::Real(paths))
    }

    /// Whether all of these expressions of the task's stage hold.
    pub(super) fn all_hold(
        &self,
        pipeline: &Pipeline,
        task: &PlannedTask,
        resolved: &ResolvedInputs,
        expressions: &mut dyn Iterator<Item = &Expression>,
    ) -> Result<bool, EvalError> {
        let mut expressions = expressions.peekable();
        if expressions.peek().is_none() {
            return Ok(true);
        }
        let stage = &pipeline.stages[&task.id.stage];
        let scope = scope(self, stage, task, resolved, Places::Marks);
        for expression in expressions {
            if !expression.holds(&scope)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn scan(&self, stage: &Stage) -> Arc<Scan> {
        // The image's own program sees nothing of the repo unless the stage says so.
        let nothing = (stage.run.is_none() && stage.files.is_none()).then_some(&[][..]);
        let globs = nothing.or(stage.files.as_deref());
        self.scans.scan(&self.files, &self.base, &self.file_name, globs)
    }

    /// Digest of the environment's definition, and the platform: in a container that is the image, with and without `run`.
    pub(super) fn environment(&self, stage: &Stage) -> (Digest, String) {
        let (digest, platform) = match self.environments.get(&stage.name) {
            Some((digest, platform)) => (*digest, platform.clone()),
            None => (Digest::of(b""), String::new()),
        };
        let image = self.images.get(&stage.name);
        (digest, image.cloned().unwrap_or(platform))
    }

    pub(super) fn params_of(&self, stage: &Stage) -> BTreeMap<ParamName, Scalar> {
        let named = stage.params.iter();
        named.filter_map(|name| Some((name.clone(), self.params.get(name)?.clone()))).collect()
    }

    fn expanded(
        &self,
        stage: &Stage,
        task: &PlannedTask,
        resolved: &ResolvedInputs,
        places: Places<'_>,
    ) -> Result<Expanded, EvalError> {
        // Most stages name nothing, and then their scope need not be made.
        let scope = if executed(stage).flat_map(expressions).next().is_some() {
            scope(self, stage, task, resolved, places)
        } else {
            Scope::default()
        };
        let plain = |template: &Template| match literal(template) {
            Some(text) => Ok(text),
            None => template.expand(&scope),
        };
        let command = match &stage.run {
            None => Vec::new(),
            Some(Command::List(words)) => words.iter().map(plain).collect::<Result<_, _>>()?,
            Some(Command::Shell(text)) => {
                let text = match literal(text) {
                    Some(text) => text,
                    None => text.expand_for_shell(&scope)?,
                };
                vec!["sh".to_owned(), "-e".to_owned(), "-c".to_owned(), text]
            }
        };
        let args = match &stage.args {
            None => None,
            Some(args) => Some(args.iter().map(plain).collect::<Result<_, _>>()?),
        };
        let env = stage
            .env
            .iter()
            .map(|(name, value)| Ok((name.clone(), plain(value)?)))
            .collect::<Result<_, EvalError>>()?;
        Ok(Expanded { command, args, env })
    }
}

/// `container.network`
pub(super) fn network(stage: &Stage) -> &'static str {
    if stage.container.no_network { "none" } else { "default" }
}

/// Inputs with their digests. A placed one reads `./data/iris.csv`, one in the inputs folder `iris.csv`: the name it keeps.
pub(super) fn input_parts(
    pipeline: &Pipeline,
    stage: &Stage,
    resolved: &ResolvedInputs,
) -> Result<BTreeMap<InputName, InputPart>, EvalError> {
    let mut parts = BTreeMap::new();
    for (name, input) in &stage.inputs {
        let (from, output, path) = match input {
            Input::Output { stage, output, path } => (stage, output, path),
            Input::Live { service, input, optional } => {
                let part = live::input(resolved, name, service, input, *optional)?;
                parts.extend(part.map(|part| (name.clone(), part)));
                continue;
            }
            Input::Outside { wanted, path } => {
                let Some(digest) = resolved.outside.get(&wanted.id()) else {
                    return Err(EvalError {
                        source_text: format!("inputs.{name}"),
                        why: format!("`{}` was not fetched", wanted.address),
                    });
                };
                let path = match path {
                    Some(placed) => format!("./{placed}"),
                    None => wanted.file_name_or(name.as_str()),
                };
                parts.insert(name.clone(), InputPart { digest: *digest, path });
                continue;
            }
            Input::Later => continue,
        };
        let digest = resolved.stages.get(from).and_then(|result| result.outputs.get(output));
        let Some(digest) = digest else {
            return Err(EvalError {
                source_text: format!("inputs.{name}"),
                why: format!("stage `{from}` gave no output `{output}`"),
            });
        };
        let path = match path {
            Some(placed) => format!("./{placed}"),
            None => pipeline
                .stages
                .get(from)
                .and_then(Stage::batch)
                .and_then(|batch| batch.outputs.get(output))
                .and_then(|made| made.trim_end_matches('/').rsplit('/').next())
                .unwrap_or(output.as_str())
                .to_owned(),
        };
        parts.insert(name.clone(), InputPart { digest: *digest, path });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests;
