//! A look at what decides a task's result, and the right to compute it.

use std::sync::Arc;
use std::time::Duration;

use crate::digest::Key;
use crate::engine::error::EngineError;
use crate::engine::run::{ClaimAnswer, Pins, Resolution, Reused};
use crate::event::{Failure, KeyParts, Maker, Moved, NotCached, Reason};
use crate::plan::graph::Part;
use crate::plan::verdict::reason;
use crate::plan::{ResolvedInputs, TaskIndex};
use crate::spec::expression::EvalError;
use crate::spec::pipeline::{Cache, Stage};
use crate::store::{Claim, Lookup, Record, artifact};

use super::Attempts;
use super::live::{LiveReleases, known};

/// What a look at a task found, what its key is made of, which live releases it saw, and what its inputs from outside hold.
pub(in crate::engine) struct Resolved {
    pub(in crate::engine) resolution: Resolution,
    pub(in crate::engine) parts: Option<KeyParts>,
    pub(in crate::engine) live: LiveReleases,
    pub(in crate::engine) pins: Pins,
}

impl Attempts {
    /// Reads the live releases that the task names, evaluates `when`, fetches its inputs from outside, makes the key and looks it
    /// up, at `now` (Unix milliseconds). Changes nothing besides, except that a service whose live release is what is wanted is told to stay.
    pub(in crate::engine) async fn resolve(
        self: &Arc<Self>,
        task: TaskIndex,
        mut inputs: ResolvedInputs,
        now: u64,
    ) -> Result<Resolved, EngineError> {
        let live = self.live_releases(&self.graph.tasks[task].id.stage).await?;
        inputs.live = known(&live);
        let mut pins = Pins::new();
        let (resolution, parts) = self.look(task, &mut inputs, &mut pins, now).await?;
        Ok(Resolved { resolution, parts, live, pins })
    }

    async fn look(
        self: &Arc<Self>,
        task: TaskIndex,
        inputs: &mut ResolvedInputs,
        pins: &mut Pins,
        now: u64,
    ) -> Result<(Resolution, Option<KeyParts>), EngineError> {
        let (planned, stage) = match self.stage(task) {
            Ok(found) => found,
            Err(failure) => return Ok((Resolution::Failed(failure), None)),
        };
        match self.context.when_holds(&self.pipeline, planned, inputs) {
            Ok(true) => {}
            Ok(false) => {
                let when: Vec<&str> = stage.when.iter().map(|one| one.source.as_str()).collect();
                return Ok((Resolution::Skip { when: when.join(" and ") }, None));
            }
            Err(error) => return Ok((refused(&error), None)),
        }
        *pins = self.pin_inputs(task, stage).await?;
        inputs.outside = pins.values().map(|pin| (pin.wanted, pin.artifact)).collect();
        if let Some(service) = stage.service() {
            let found = self.look_at_service(planned, stage, service, inputs).await?;
            return Ok((found, None));
        }
        if let Some(why) = self.not_cached(task, stage) {
            let why = Reason::NotCached(why);
            return Ok((Resolution::Miss { key: None, why }, None));
        }
        let parts = match self.context.key_parts(&self.pipeline, planned, inputs) {
            Ok(parts) => parts,
            Err(error) => return Ok((refused(&error), None)),
        };
        let key = parts.key();
        let miss = |why| Resolution::Miss { key: Some(key), why };
        let resolution = if planned.part == Part::Forced {
            miss(Reason::Forced)
        } else {
            match self.patience.mend(|| async { Ok(self.store.look_up(&key).await?) }).await? {
                Lookup::Hit(record) => match expired(stage, &record, now) {
                    Some(age) => miss(Reason::Expired { age }),
                    None => Resolution::Hit(Box::new(self.reused(*record).await)),
                },
                Lookup::Miss => miss(reason(&parts, self.history.get(&planned.id))),
                Lookup::Broken { missing } => miss(Reason::RecordBroken { missing }),
            }
        };
        Ok((resolution, Some(parts)))
    }

    /// Takes the right to compute a key; whoever held it until now may have written the record.
    pub(in crate::engine) async fn claim(
        &self,
        task: TaskIndex,
        key: Key,
        now: u64,
    ) -> Result<(ClaimAnswer, Option<Claim>), EngineError> {
        let holder = self.holder();
        let claim = match self
            .patience
            .mend(|| async { Ok(self.store.claim(&key, &holder).await?) })
            .await?
        {
            Ok(claim) => claim,
            Err(by) => return Ok((ClaimAnswer::Held { by }, None)),
        };
        if self.graph.tasks[task].part != Part::Forced
            && let Ok((_, stage)) = self.stage(task)
            && let Lookup::Hit(record) =
                self.patience.mend(|| async { Ok(self.store.look_up(&key).await?) }).await?
            && expired(stage, &record, now).is_none()
        {
            return Ok((ClaimAnswer::Hit(Box::new(self.reused(*record).await)), None));
        }
        Ok((ClaimAnswer::Ours, Some(claim)))
    }

    /// This run as the holder of a claim, for people.
    pub(in crate::engine) fn holder(&self) -> String {
        format!("run {} of {}", self.run, self.settings.who)
    }

    /// What a record gives. Its artifacts stay where they are: what needs them fetches them.
    async fn reused(&self, record: Record) -> Reused {
        let mut moved = Moved::default();
        for artifact in record.outputs.values() {
            // How large it is is nice to know; whoever needs the artifact sees what is wrong with it.
            let entries = self.store.entries(artifact).await.unwrap_or_default();
            moved.spared += artifact::bytes(&entries);
        }
        let maker = || Maker { on: record.made_on, at: record.made_at };
        Reused {
            key: record.key,
            from: record.made_by,
            made: self.settings.shared_store.then(maker),
            moved,
            outputs: record.outputs,
            metrics: record.metrics,
            values: record.values,
        }
    }

    /// Hooks and what tries a release are called for what they do, so they are never reused.
    fn not_cached(&self, task: TaskIndex, stage: &Stage) -> Option<NotCached> {
        let called = self.graph.on_failure == Some(task)
            || self.graph.on_exit == Some(task)
            || self.verifies.contains_key(&task);
        stage.not_cached().or(called.then_some(NotCached::Off))
    }
}

/// What an expression that has no value means for its task.
pub(super) fn refused(error: &EvalError) -> Resolution {
    Resolution::Failed(Failure::Expression { why: error.to_string() })
}

/// How much too old a record is for `cache: <duration>`, if so.
fn expired(stage: &Stage, record: &Record, now: u64) -> Option<Duration> {
    let Some(Cache::For(limit)) = stage.batch().map(|batch| batch.cache) else { return None };
    let age = Duration::from_millis(now.saturating_sub(record.made_at));
    (age > limit).then_some(age)
}
