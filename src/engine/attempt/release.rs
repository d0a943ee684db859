//! A service before its rollout: whether a new release is due, and making it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use crate::engine::error::EngineError;
use crate::engine::run::{Asked, Resolution};
use crate::event::{Failure, Metrics, Values};
use crate::names::{ReleaseId, StageName};
use crate::plan::graph::{Part, PlannedTask};
use crate::plan::release::{adjustments, release_changes};
use crate::plan::{ResolvedInputs, TaskIndex};
use crate::release::{Behaviour, Release, ReleaseNotes, ReleasedImage};
use crate::spec::pipeline::{Service, Stage};
use crate::state::ServiceHome;
use crate::store::PinOwner;
use crate::workspace::WorkspaceError;

use super::Attempts;
use super::resolve::refused;

/// What all stages of the run reported so far.
pub(in crate::engine) struct Reported {
    pub(in crate::engine) metrics: BTreeMap<StageName, Metrics>,
    pub(in crate::engine) values: BTreeMap<StageName, Values>,
}

impl Attempts {
    /// Compares how the service would behave with its live release; where they differ, asks its gate. When nothing differs nothing
    /// happens, also with `--force`. A service of another home is left as it is. What is outside the selection is not released, so its gate is not asked.
    pub(super) async fn look_at_service(
        &self,
        planned: &PlannedTask,
        stage: &Stage,
        service: &Service,
        inputs: &ResolvedInputs,
    ) -> Result<Resolution, EngineError> {
        let behaviour = match self.context.behaviour(&self.pipeline, planned, inputs) {
            Ok(behaviour) => behaviour,
            Err(error) => return Ok(refused(&error)),
        };
        let live = inputs.live.get(&stage.name);
        let elsewhere = self.home_elsewhere(&stage.name).await?;
        if let Some(live) = live
            && live.behaviour.digest() == behaviour.digest()
        {
            let changed = adjustments(live, service);
            match elsewhere {
                Some(_) if changed.is_empty() => {
                    let (release, number) = (live.id, live.number);
                    return Ok(Resolution::Unchanged { release, number, changed });
                }
                Some(home) => return Ok(Resolution::Failed(Failure::ServedElsewhere { home })),
                None => {}
            }
            let (id, route) = (self.service(&stage.name), service.route.as_deref());
            let keep = || async { Ok(self.rollout.keep(&id, service.replicas, route).await?) };
            self.patience.mend(keep).await?;
            return Ok(Resolution::Unchanged { release: live.id, number: live.number, changed });
        }
        let why = live.map(|live| release_changes(&live.behaviour, &behaviour));
        let why = why.unwrap_or_default();
        if let Some(home) = elsewhere.filter(|_| planned.part != Part::ReuseOnly) {
            return Ok(Resolution::Failed(Failure::ServedElsewhere { home }));
        }
        if service.gate.is_empty() || planned.part == Part::ReuseOnly {
            return Ok(Resolution::Release { why, asked: None });
        }
        let answer = match self.context.gate(&self.pipeline, planned, inputs) {
            Ok(answer) => answer,
            Err(error) => return Ok(refused(&error)),
        };
        let (failed, values) = (answer.failed, answer.values);
        let asked = Box::new(Asked { failed, values, live: live.map(|live| live.id) });
        Ok(if answer.passed {
            Resolution::Release { why, asked: Some(asked) }
        } else {
            Resolution::Kept(asked)
        })
    }

    /// The other home that keeps a service up, as people know it.
    async fn home_elsewhere(&self, stage: &StageName) -> Result<Option<String>, EngineError> {
        let services = || async { Ok(self.state.services(Some(&self.pipeline.name)).await?) };
        let rows = self.patience.mend(services).await?;
        let other = rows
            .into_iter()
            .find(|row| row.service.stage == *stage && row.home != ServiceHome::This);
        Ok(other.map(|row| row.home.to_string()))
    }

    /// Makes a release at `now` (Unix milliseconds): builds its environment, writes its row, and pins its artifacts and its
    /// code, so that it can be started however late. A crash midway leaves a row that nothing points at.
    pub(in crate::engine) async fn make_release(
        &self,
        task: TaskIndex,
        inputs: &ResolvedInputs,
        reported: Reported,
        now: u64,
    ) -> Result<Result<Release, Failure>, EngineError> {
        let (planned, stage) = match self.stage(task) {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        };
        let behaviour = match self.context.behaviour(&self.pipeline, planned, inputs) {
            Ok(behaviour) => behaviour,
            Err(error) => return Ok(Err(Failure::Expression { why: error.to_string() })),
        };
        let definition = self.definitions.get(&stage.name);
        let lock = match definition {
            None => String::new(),
            Some(definition) => match self.environments.get(self, &planned.id, definition).await? {
                Ok(environment) => environment.lock.clone(),
                Err(log) => return Ok(Err(Failure::Environment { log })),
            },
        };
        let service = stage.service();
        let docker = self.settings.docker.as_ref();
        let image = docker.and_then(|place| place.images.get(&stage.name)).map(|image| {
            let (reference, repo_digest) = (image.reference.clone(), image.repo_digest.clone());
            ReleasedImage { reference, repo_digest }
        });
        let notes = ReleaseNotes {
            run: self.run,
            snapshot: self.snapshot.id.clone(),
            file_name: self.context.file_name.clone(),
            files: stage.files.clone(),
            // A definition is plain data and always serialises.
            definition: definition.and_then(|one| serde_json::to_string(one).ok()),
            image,
            lock,
            passed: self.settings.pass_env.clone(),
            metrics: reported.metrics,
            values: reported.values,
            replicas: service.map_or(1, |service| service.replicas),
            route: service.and_then(|service| service.route.clone()),
            gate: service
                .into_iter()
                .flat_map(|service| &service.gate)
                .map(|expression| expression.source.clone())
                .collect(),
        };
        Ok(Ok(self.keep_release(&stage.name, behaviour, notes, now).await?))
    }

    async fn keep_release(
        &self,
        stage: &StageName,
        behaviour: Behaviour,
        notes: ReleaseNotes,
        now: u64,
    ) -> Result<Release, EngineError> {
        let id = fresh_id(now);
        let artifacts: Vec<_> = behaviour.inputs.values().map(|input| input.digest).collect();
        let service = self.service(stage);
        let release = self.state.create_release(id, &service, behaviour, notes, now).await?;
        self.patience
            .mend(|| async { Ok(self.store.pin(PinOwner::Release(id), &artifacts).await?) })
            .await?;
        let pin = || self.snapshot.pin(&format!("release/{id}")).map_err(WorkspaceError::from);
        self.patience.mend(|| async { Ok(pin()?) }).await?;
        Ok(release)
    }
}

/// An identifier that no other process makes.
fn fresh_id(now: u64) -> ReleaseId {
    let random = RandomState::new();
    let half = |salt: u8| u128::from(random.hash_one(salt));
    ReleaseId::new(now, half(0) << 64 | half(1))
}
