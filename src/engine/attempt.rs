//! One attempt from key to record, as functions that the driver calls; none of them decides what comes next.
//!
//! A look at the key → [`Attempts::resolve`], the right to compute it → [`Attempts::claim`], environment, work folder and
//! variables → [`Attempts::prepare`], outputs and record → [`Attempts::finish`]. Mishaps of the user are data
//! (`Failure`); the machinery's are errors that [`super::mend`] has tried to wait out.

mod environments;
pub(in crate::engine) mod temporary;
mod variables;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, mpsc};

use crate::digest::Key;
use crate::environment::Definition;
use crate::event::{Failure, KeyParts, NotCached, Notice, Reason, RunOutcome, Usage};
use crate::names::{InputName, JobName, OutputName, RunId, StageName, TaskId};
use crate::plan::graph::Part;
use crate::plan::key::Paths;
use crate::plan::verdict::reason;
use crate::plan::{Graph, KeyContext, PlannedTask, ResolvedInputs, TaskIndex};
use crate::runtime::{Job, Runtime};
use crate::source::{Snapshot, SourceFile};
use crate::spec::Pipeline;
use crate::spec::pipeline::{Cache, Input, Stage};
use crate::state::State;
use crate::store::{Claim, Lookup, Record, Store, StoreError};
use crate::workspace::{self, InputPlace, WorkOrder, WorkspaceError};

use super::error::EngineError;
use super::mend::mend;
use super::run::{ClaimAnswer, Grant, Product, Resolution, Reused, task_number};
use super::settings::EngineSettings;
pub(super) use environments::Environments;

/// TERM, then this long, then KILL.
const GRACE: Duration = Duration::from_secs(10);

/// What all attempts of a run share. Nothing in it changes during the run, except that environments get built.
pub(super) struct Attempts {
    pub(super) run: RunId,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) graph: Arc<Graph>,
    pub(super) context: KeyContext,
    pub(super) snapshot: Snapshot,
    pub(super) definitions: BTreeMap<StageName, Definition>,
    pub(super) history: BTreeMap<TaskId, KeyParts>,
    pub(super) settings: EngineSettings,
    pub(super) state: State,
    pub(super) store: Arc<dyn Store>,
    pub(super) runtime: Arc<dyn Runtime>,
    /// Passing remarks to the driver, who holds the report.
    pub(super) notices: mpsc::UnboundedSender<Notice>,
    pub(super) environments: Environments,
    /// The folder of the run below which every attempt has its `TMPDIR`.
    pub(super) temporary: OnceCell<PathBuf>,
}

/// What a look at a task's key found, and what the key is made of.
pub(super) struct Resolved {
    pub(super) resolution: Resolution,
    pub(super) parts: Option<KeyParts>,
}

impl Resolved {
    fn without_key(resolution: Resolution) -> Self {
        Self { resolution, parts: None }
    }
}

/// The stage's declarations in the shape that the workspace takes.
struct Declared<'a> {
    files: Vec<&'a SourceFile>,
    inputs: BTreeMap<InputName, InputPlace>,
    outputs: BTreeMap<OutputName, String>,
}

impl Attempts {
    /// Evaluates `when`, makes the key and looks it up, at `now` (Unix milliseconds). Changes nothing.
    pub(super) async fn resolve(
        &self,
        task: TaskIndex,
        inputs: &ResolvedInputs,
        now: u64,
    ) -> Result<Resolved, EngineError> {
        let (planned, stage) = match self.stage(task) {
            Ok(found) => found,
            Err(failure) => return Ok(Resolved::without_key(Resolution::Failed(failure))),
        };
        let expression = |error: crate::spec::expression::EvalError| {
            Ok(Resolved::without_key(Resolution::Failed(Failure::Expression {
                why: error.to_string(),
            })))
        };
        match self.context.when_holds(&self.pipeline, planned, inputs) {
            Ok(true) => {}
            Ok(false) => {
                let when: Vec<&str> = stage.when.iter().map(|one| one.source.as_str()).collect();
                let when = when.join(" and ");
                return Ok(Resolved::without_key(Resolution::Skip { when }));
            }
            Err(error) => return expression(error),
        }
        if let Some(why) = self.not_cached(task, stage) {
            let why = Reason::NotCached(why);
            return Ok(Resolved::without_key(Resolution::Miss { key: None, why }));
        }
        let parts = match self.context.key_parts(&self.pipeline, planned, inputs) {
            Ok(parts) => parts,
            Err(error) => return expression(error),
        };
        let key = parts.key();
        let miss = |why| Resolution::Miss { key: Some(key), why };
        let resolution = if planned.part == Part::Forced {
            miss(Reason::Forced)
        } else {
            match mend(|| async { Ok(self.store.look_up(&key).await?) }).await? {
                Lookup::Hit(record) => match expired(stage, &record, now) {
                    Some(age) => miss(Reason::Expired { age }),
                    None => Resolution::Hit(Box::new(reused(*record))),
                },
                Lookup::Miss => miss(reason(&parts, self.history.get(&planned.id))),
                Lookup::Broken { missing } => miss(Reason::RecordBroken { missing }),
            }
        };
        Ok(Resolved { resolution, parts: Some(parts) })
    }

    /// Takes the right to compute a key; whoever held it until now may have written the record.
    pub(super) async fn claim(
        &self,
        task: TaskIndex,
        key: Key,
        now: u64,
    ) -> Result<(ClaimAnswer, Option<Claim>), EngineError> {
        let holder = format!("run {}", self.run);
        let claim = match mend(|| async { Ok(self.store.claim(&key, &holder).await?) }).await? {
            Ok(claim) => claim,
            Err(by) => return Ok((ClaimAnswer::Held { by }, None)),
        };
        if self.graph.tasks[task].part != Part::Forced
            && let Ok((_, stage)) = self.stage(task)
            && let Lookup::Hit(record) =
                mend(|| async { Ok(self.store.look_up(&key).await?) }).await?
            && expired(stage, &record, now).is_none()
        {
            return Ok((ClaimAnswer::Hit(Box::new(reused(*record))), None));
        }
        Ok((ClaimAnswer::Ours, Some(claim)))
    }

    /// Makes all that the job needs: environment, work folder, `TMPDIR`, variables. Nothing runs yet.
    ///
    /// A crash leaves folders of an attempt that never gets a job; its number is not used again.
    pub(super) async fn prepare(
        &self,
        task: TaskIndex,
        attempt: u32,
        grant: &Grant,
        inputs: &ResolvedInputs,
        outcome: Option<RunOutcome>,
    ) -> Result<Result<Job, Failure>, EngineError> {
        let (planned, stage) = match self.stage(task) {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        };
        let environment = match self.definitions.get(&stage.name) {
            None => None,
            Some(definition) => match self.environments.get(self, &planned.id, definition).await? {
                Ok(environment) => Some(environment),
                Err(log) => return Ok(Err(Failure::Environment { log })),
            },
        };
        let folder = self.folder(task, attempt);
        mend(|| async { Ok(fs_err::create_dir_all(&folder)?) }).await?;
        let declared = match self.declared(stage, inputs) {
            Ok(declared) => declared,
            Err(failure) => return Ok(Err(failure)),
        };
        let order = self.order(stage, &folder, &declared);
        let made = mend(|| async { Ok(workspace::prepare(&order, &*self.store).await?) }).await;
        let work = match made {
            Ok(Ok(work)) => work,
            Ok(Err(failure)) => return Ok(Err(failure)),
            // It stays so however often this run goes on: the run has to end for a new one to make the input again.
            Err(EngineError::Workspace(WorkspaceError::Store(
                error @ StoreError::Damaged { .. },
            ))) => {
                let why = format!("an input is gone: {error}; `flowrun apply` makes it again");
                return Ok(Err(Failure::WorkFolder { why }));
            }
            Err(error) => return Err(error),
        };
        let paths = Paths {
            inputs: variables::texts(&work.inputs),
            outputs: variables::texts(&work.outputs),
        };
        let expanded = match self.context.expand(&self.pipeline, planned, inputs, &paths) {
            Ok(expanded) => expanded,
            Err(error) => return Ok(Err(Failure::Expression { why: error.to_string() })),
        };
        let temporary = self.make_temporary(task, attempt).await?;
        if !grant.gpus.is_empty() {
            let numbers = variables::list(&grant.gpus);
            mend(|| async { Ok(fs_err::write(folder.join(GPUS), &numbers)?) }).await?;
        }
        let limit = stage.resources.limit;
        let job = self.job(task, attempt);
        let env = variables::of_attempt(&variables::Facts {
            attempts: self,
            stage,
            attempt,
            job: &job,
            work: &work,
            environment: environment.as_deref(),
            temporary: &temporary,
            gpus: &grant.gpus,
            declared: &expanded.env,
            outcome,
        });
        Ok(Ok(Job {
            name: job,
            folder,
            command: expanded.command,
            directory: work.directory,
            env,
            memory_limit: Some(grant.memory).filter(|memory| limit && *memory > 0),
            cpu_limit: stage.resources.cpu.filter(|_| limit),
            timeout: stage.batch().and_then(|batch| batch.timeout),
            grace: GRACE,
            log_cap: self.settings.log_cap,
        }))
    }

    /// Takes the outputs of a job that ended well into the store and writes the record, at `now` (Unix milliseconds).
    ///
    /// The first record per key wins: then its outputs are the task's. `--force` replaces it. `journalled` is the
    /// key under which the attempt was started; where the key is another by now (an interpreter changed under a
    /// resumed run), nobody knows what the attempt was made of, and no record is written.
    pub(super) async fn finish(
        &self,
        task: TaskIndex,
        attempt: u32,
        journalled: Option<Key>,
        inputs: &ResolvedInputs,
        usage: Usage,
        now: u64,
    ) -> Result<Result<Product, Failure>, EngineError> {
        let (planned, stage) = match self.stage(task) {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        };
        let folder = self.folder(task, attempt);
        let declared = match self.declared(stage, inputs) {
            Ok(declared) => declared,
            Err(failure) => return Ok(Err(failure)),
        };
        let order = self.order(stage, &folder, &declared);
        let taken = mend(|| async { Ok(workspace::collect(&order, &*self.store).await?) }).await?;
        let collected = match taken {
            Ok(collected) => collected,
            Err(failure) => return Ok(Err(failure)),
        };
        let parts = journalled
            .and_then(|_| self.context.key_parts(&self.pipeline, planned, inputs).ok())
            .filter(|parts| Some(parts.key()) == journalled);
        let (Some(key), Some(parts)) = (journalled, parts) else {
            return Ok(Ok(Product {
                key: None,
                outputs: collected.outputs,
                metrics: collected.metrics,
                values: collected.values,
            }));
        };
        let record = Record {
            format: 1,
            key,
            parts,
            outputs: collected.outputs,
            metrics: collected.metrics,
            values: collected.values,
            seconds: Duration::from_millis(usage.wall_ms).as_secs_f64(),
            peak_memory: usage.peak_memory,
            made_by: self.run,
            made_at: now,
        };
        let replace = planned.part == Part::Forced;
        let held =
            mend(|| async { Ok(self.store.put_record(record.clone(), replace).await?) }).await?;
        Ok(Ok(Product {
            key: Some(key),
            outputs: held.outputs,
            metrics: held.metrics,
            values: held.values,
        }))
    }

    /// The input that a job which ended badly had written into. Its blob is put out of reach, so that nobody reads that.
    ///
    /// A store that cannot say says nothing: each blob is verified again at its next use.
    pub(super) async fn spoilt_input(
        &self,
        task: TaskIndex,
        attempt: u32,
        inputs: &ResolvedInputs,
    ) -> Option<InputName> {
        let (_, stage) = self.stage(task).ok()?;
        let declared = self.declared(stage, inputs).ok()?;
        if declared.inputs.is_empty() {
            return None;
        }
        let folder = self.folder(task, attempt);
        let order = self.order(stage, &folder, &declared);
        workspace::changed_input(&order, &*self.store).await.ok()?
    }

    /// Where an attempt lies: `runs/<run>/<task number>-<attempt>`.
    pub(super) fn folder(&self, task: TaskIndex, attempt: u32) -> PathBuf {
        self.run_folder().join(format!("{}-{attempt}", task_number(task)))
    }

    /// `runs/<run>`
    pub(super) fn run_folder(&self) -> PathBuf {
        self.settings.runs.join(self.run.to_string())
    }

    /// The runtime's name for an attempt.
    pub(super) fn job(&self, task: TaskIndex, attempt: u32) -> JobName {
        JobName::new(self.run, task_number(task), attempt)
    }

    fn stage(&self, task: TaskIndex) -> Result<(&PlannedTask, &Stage), Failure> {
        let planned = &self.graph.tasks[task];
        match self.pipeline.stages.get(&planned.id.stage) {
            Some(stage) => Ok((planned, stage)),
            None => Err(Failure::WorkFolder {
                why: format!("the pipeline has no stage `{}`", planned.id.stage),
            }),
        }
    }

    /// Hooks are called for what they do, so they are never reused.
    fn not_cached(&self, task: TaskIndex, stage: &Stage) -> Option<NotCached> {
        let hook = self.graph.on_failure == Some(task) || self.graph.on_exit == Some(task);
        stage.not_cached().or(hook.then_some(NotCached::Off))
    }

    fn declared(&self, stage: &Stage, resolved: &ResolvedInputs) -> Result<Declared<'_>, Failure> {
        let mut inputs = BTreeMap::new();
        for (name, input) in &stage.inputs {
            let Input::Output { stage: from, output, path } = input else { continue };
            let digest = resolved.stages.get(from).and_then(|result| result.outputs.get(output));
            let Some(digest) = digest else {
                let why = format!("input `{name}` needs `{from}.{output}`, which is not there");
                return Err(Failure::WorkFolder { why });
            };
            let made_at = self
                .pipeline
                .stages
                .get(from)
                .and_then(|from| from.batch()?.outputs.get(output))
                .map_or(output.as_str(), String::as_str);
            let file_name = made_at.rsplit('/').next().unwrap_or(made_at).to_owned();
            let place = InputPlace { digest: *digest, path: path.clone(), file_name };
            inputs.insert(name.clone(), place);
        }
        let outputs = stage.batch().map(|batch| &batch.outputs).into_iter().flatten();
        Ok(Declared {
            files: self.context.stage_files(&self.pipeline, &stage.name),
            inputs,
            outputs: outputs.map(|(name, path)| (name.clone(), path.clone())).collect(),
        })
    }

    fn order<'a>(
        &'a self,
        stage: &'a Stage,
        folder: &'a std::path::Path,
        declared: &'a Declared<'a>,
    ) -> WorkOrder<'a> {
        let batch = stage.batch();
        WorkOrder {
            attempt: folder,
            snapshot: &self.snapshot,
            files: &declared.files,
            inputs: &declared.inputs,
            outputs: &declared.outputs,
            metrics: batch.and_then(|batch| batch.metrics.as_deref()),
            values: batch.and_then(|batch| batch.values.as_deref()),
            workdir: &stage.workdir,
        }
    }

    async fn make_temporary(&self, task: TaskIndex, attempt: u32) -> Result<PathBuf, EngineError> {
        let parent = self.settings.pass_env.get("TMPDIR").map_or("/tmp", String::as_str);
        let run_folder = self.run_folder();
        let of_run = self
            .temporary
            .get_or_try_init(|| {
                mend(|| async { Ok(temporary::of_run(&run_folder, parent.as_ref())?) })
            })
            .await?;
        let folder = of_run.join(format!("{}-{attempt}", task_number(task)));
        mend(|| async { Ok(temporary::of_attempt(&folder)?) }).await?;
        Ok(folder)
    }
}

/// The file in an attempt's folder that says which graphics processors it holds; for the process that adopts it.
pub(super) const GPUS: &str = "gpus";

/// How much too old a record is for `cache: <duration>`, if so.
fn expired(stage: &Stage, record: &Record, now: u64) -> Option<Duration> {
    let Some(Cache::For(limit)) = stage.batch().map(|batch| batch.cache) else { return None };
    let age = Duration::from_millis(now.saturating_sub(record.made_at));
    (age > limit).then_some(age)
}

fn reused(record: Record) -> Reused {
    Reused {
        key: record.key,
        from: record.made_by,
        outputs: record.outputs,
        metrics: record.metrics,
        values: record.values,
    }
}
