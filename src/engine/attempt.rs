//! One attempt from key to record, as functions that the driver calls; none of them decides what comes next.
//!
//! A look at the key → [`Attempts::resolve`], the right to compute it → [`Attempts::claim`], environment, work folder and
//! variables → [`Attempts::prepare`], outputs and record → [`Attempts::finish`]; of a service, its release →
//! [`Attempts::make_release`], and its rollout. Mishaps of the user are data (`Failure`); the machinery's are errors that
//! [`super::mend`] has tried to wait out.

mod contained;
mod environments;
mod live;
mod moving;
mod outside;
mod release;
mod resolve;
mod rollout;
mod secrets;
mod variables;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, mpsc};

use crate::digest::Key;
use crate::environment::Definition;
use crate::event::{Failure, InputPart, KeyParts, Notice, RunOutcome, Usage};
use crate::names::{InputName, JobName, OutputName, ReleaseId, RunId, StageName, TaskId};
use crate::plan::graph::Part;
use crate::plan::key::Paths;
use crate::plan::{Graph, KeyContext, PlannedTask, ResolvedInputs, TaskIndex};
use crate::rollout::{Rollout, RolloutFailure};
use crate::runtime::log::Masks;
use crate::runtime::{Job, Runtime};
use crate::source::{Snapshot, SourceFile};
use crate::spec::Pipeline;
use crate::spec::pipeline::{Input, Stage};
use crate::state::State;
use crate::store::{Record, Store, StoreError, Traffic};
use crate::workspace::inside::inside;
use crate::workspace::{self, InputPlace, WorkOrder, WorkspaceError};

use super::error::EngineError;
use super::mend::Patience;
use super::run::{Grant, Product, task_number};
use super::settings::EngineSettings;
pub(super) use environments::Environments;
pub(super) use live::{LiveReleases, known, recall, who_sees_what};
use moving::Way;
pub(super) use outside::Outsides;
pub(super) use release::Reported;
pub(super) use resolve::Resolved;
pub(super) use rollout::Candidates;

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
    pub(super) rollout: Arc<dyn Rollout>,
    pub(super) candidates: Candidates,
    /// By stage: the services whose live releases it sees.
    pub(super) sees: BTreeMap<StageName, BTreeSet<StageName>>,
    /// The services by their `verify` tasks.
    pub(super) verifies: BTreeMap<TaskIndex, TaskIndex>,
    /// Passing remarks to the driver, who holds the report.
    pub(super) notices: mpsc::UnboundedSender<Notice>,
    pub(super) environments: Environments,
    /// The folder of the run below which every attempt has its `TMPDIR`.
    pub(super) temporary: OnceCell<PathBuf>,
    /// What lies outside, each fetched at most once.
    pub(super) outside: Outsides,
    /// What artifacts cost on their way, by task.
    pub(super) traffic: Vec<Traffic>,
    /// Waits out what may mend by itself.
    pub(super) patience: Patience,
}

/// The stage's declarations in the shape that the workspace takes.
struct Declared<'a> {
    files: Vec<&'a SourceFile>,
    inputs: BTreeMap<InputName, InputPlace>,
    outputs: BTreeMap<OutputName, String>,
}

impl Attempts {
    /// Makes all that the job needs: environment, work folder, `TMPDIR`, variables. Nothing runs yet.
    ///
    /// `candidate`: the service and the release that a `verify` task tries. A crash leaves folders of an attempt that never gets
    /// a job; its number is not used again.
    pub(super) async fn prepare(
        &self,
        task: TaskIndex,
        attempt: u32,
        grant: &Grant,
        inputs: &ResolvedInputs,
        outcome: Option<RunOutcome>,
        candidate: Option<(TaskIndex, ReleaseId)>,
    ) -> Result<Result<Job, Failure>, EngineError> {
        let (planned, stage) = match self.stage(task) {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        };
        let context = match self.context_of(candidate).await? {
            Ok(context) => context,
            Err(RolloutFailure { why, log }) => return Ok(Err(Failure::Rollout { why, log })),
        };
        let environment = match self.definitions.get(&stage.name) {
            None => None,
            Some(definition) => match self.environments.get(self, &planned.id, definition).await? {
                Ok(environment) => Some(environment),
                Err(log) => return Ok(Err(Failure::Environment { log })),
            },
        };
        let folder = self.folder(task, attempt);
        self.patience.mend(|| async { Ok(fs_err::create_dir_all(&folder)?) }).await?;
        let declared = match self.declared(stage, inputs) {
            Ok(declared) => declared,
            Err(failure) => return Ok(Err(failure)),
        };
        let order = self.order(task, stage, &folder, &declared);
        let place = || async { Ok(workspace::prepare(&order, &*self.store).await?) };
        let made = self.watch(task, Way::Down, self.patience.mend(place)).await;
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
        let temporary = self.make_temporary(task, attempt).await?;
        let docker = self.settings.docker.as_ref();
        let image = docker.and_then(|place| place.images.get(&stage.name));
        let (work, mut seen) = match docker {
            None => (work, Vec::new()),
            Some(_) => inside(&folder, &work, &temporary),
        };
        let paths = Paths {
            inputs: variables::texts(&work.inputs),
            outputs: variables::texts(&work.outputs),
        };
        let expanded = match context.expand(&self.pipeline, planned, inputs, &paths) {
            Ok(expanded) => expanded,
            Err(error) => return Ok(Err(Failure::Expression { why: error.to_string() })),
        };
        if !grant.gpus.is_empty() {
            let numbers = workspace::variables::list(&grant.gpus);
            self.patience
                .mend(|| async { Ok(fs_err::write(folder.join(GPUS), &numbers)?) })
                .await?;
        }
        let limit = stage.resources.limit;
        let secrets = match self.open_secrets(stage).await? {
            Ok(secrets) => secrets,
            Err(failure) => return Ok(Err(failure)),
        };
        let job = self.job(task, attempt);
        let variables = variables::of_attempt(&variables::Facts {
            attempts: self,
            context: &context,
            candidate: candidate.map(|(service, _)| &self.graph.tasks[service].id.stage),
            stage,
            attempt,
            job: &job,
            work: &work,
            environment: environment.as_deref(),
            temporary: &temporary,
            gpus: &grant.gpus,
            image,
            declared: &expanded.env,
            outcome,
        });
        let container = match (docker, image) {
            (None, _) => None,
            (Some(_), None) => {
                let why = format!("no image was found for stage `{}`", stage.name);
                return Ok(Err(Failure::WorkFolder { why }));
            }
            (Some(place), Some(image)) => {
                if stage.container.image_user {
                    self.patience.mend(|| async { Ok(contained::open_to_all(&seen)?) }).await?;
                }
                seen.extend(variables.seen);
                let gpus = u32::try_from(grant.gpus.len()).unwrap_or(u32::MAX);
                let parts = contained::Parts {
                    place,
                    image,
                    task: planned,
                    stage,
                    seen,
                    environment: environment.as_deref(),
                    args: expanded.args,
                    gpus,
                };
                Some(Box::new(self.contain(parts)))
            }
        };
        // An image's own program starts where the image says.
        let own_program = container.is_some() && expanded.command.is_empty();
        Ok(Ok(Job {
            name: job,
            folder,
            command: expanded.command,
            directory: if own_program { PathBuf::new() } else { work.directory },
            env: variables.env,
            memory_limit: Some(grant.memory).filter(|memory| limit && *memory > 0),
            cpu_limit: stage.resources.cpu.filter(|_| limit),
            timeout: stage.batch().and_then(|batch| batch.timeout),
            grace: GRACE,
            log_cap: self.settings.log_cap,
            log_keep: crate::runtime::LogKeep::First,
            container,
            secrets,
        }))
    }

    /// What a job is expanded with: a release that is tried is reached at an address of its own.
    async fn context_of(
        &self,
        candidate: Option<(TaskIndex, ReleaseId)>,
    ) -> Result<Result<Cow<'_, KeyContext>, RolloutFailure>, EngineError> {
        let Some((service, release)) = candidate else {
            return Ok(Ok(Cow::Borrowed(&self.context)));
        };
        let stage = &self.graph.tasks[service].id.stage;
        let url = self.candidate(service, release).await?;
        Ok(url.map(|url| Cow::Owned(self.context.with_candidate(stage, &url))))
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
        let order = self.order(task, stage, &folder, &declared);
        // What the stage was handed and is gone by now cannot be told from any other text.
        let masks = Masks::of(&self.open_secrets(stage).await?.unwrap_or_default())?;
        let is_secret = |text: &str| masks.find_in(text);
        let collect = || async { Ok(workspace::collect(&order, &*self.store, &is_secret).await?) };
        let taken = self.watch(task, Way::Up, self.patience.mend(collect)).await?;
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
                moved: self.traffic[task].moved(),
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
            made_on: Some(self.settings.who.clone()),
        };
        let replace = planned.part == Part::Forced;
        let held = self
            .patience
            .mend(|| async { Ok(self.store.put_record(record.clone(), replace).await?) })
            .await?;
        Ok(Ok(Product {
            key: Some(key),
            outputs: held.outputs,
            metrics: held.metrics,
            values: held.values,
            moved: self.traffic[task].moved(),
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
        let order = self.order(task, stage, &folder, &declared);
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

    fn declared(&self, stage: &Stage, resolved: &ResolvedInputs) -> Result<Declared<'_>, Failure> {
        let mut inputs = BTreeMap::new();
        for (name, input) in &stage.inputs {
            let (from, output, path) = match input {
                Input::Output { stage, output, path } => (stage, output, path),
                Input::Live { service, input, optional } => {
                    let live = resolved.live.get(service);
                    match live.and_then(|release| release.behaviour.inputs.get(input)) {
                        Some(part) => {
                            inputs.insert(name.clone(), kept_name(part, input));
                        }
                        None if *optional => {}
                        None => {
                            let why = format!(
                                "input `{name}` needs `{input}` of the live release of `{service}`, which is not there"
                            );
                            return Err(Failure::WorkFolder { why });
                        }
                    }
                    continue;
                }
                Input::Outside { wanted, path } => {
                    let Some(digest) = resolved.outside.get(&wanted.id()) else {
                        let why = format!("input `{name}` was not fetched");
                        return Err(Failure::WorkFolder { why });
                    };
                    let file_name = wanted.file_name_or(name.as_str());
                    let place = InputPlace { digest: *digest, path: path.clone(), file_name };
                    inputs.insert(name.clone(), place);
                    continue;
                }
                Input::Later => continue,
            };
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
        task: TaskIndex,
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
            traffic: &self.traffic[task],
        }
    }

    async fn make_temporary(&self, task: TaskIndex, attempt: u32) -> Result<PathBuf, EngineError> {
        let parent = self.settings.pass_env.get("TMPDIR").map_or("/tmp", String::as_str);
        let run_folder = self.run_folder();
        let of_run = self
            .temporary
            .get_or_try_init(|| {
                self.patience.mend(|| async {
                    Ok(workspace::temporary::of_run(&run_folder, parent.as_ref())?)
                })
            })
            .await?;
        let folder = of_run.join(format!("{}-{attempt}", task_number(task)));
        self.patience.mend(|| async { Ok(workspace::temporary::of_attempt(&folder)?) }).await?;
        Ok(folder)
    }
}

/// An input of a live release keeps the file name that it has there.
fn kept_name(part: &InputPart, input: &InputName) -> InputPlace {
    let name = part.path.trim_end_matches('/').rsplit('/').next().unwrap_or(input.as_str());
    InputPlace { digest: part.digest, path: None, file_name: name.to_owned() }
}

/// The file in an attempt's folder that says which graphics processors it holds; for the process that adopts it.
pub(super) const GPUS: &str = "gpus";
