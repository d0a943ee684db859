//! The inputs from outside of a run: each is fetched at most once, and holds the same for all its tasks, also when the run is resumed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

use crate::address::Wanted;
use crate::digest::Digest;
use crate::engine::EngineError;
use crate::engine::clock;
use crate::engine::run::Pins;
use crate::event::{Notice, OutsidePin};
use crate::handover;
use crate::names::InputName;
use crate::outside::{Fetcher, Outside, OutsideError, OutsideSettings};
use crate::plan::TaskIndex;
use crate::secret::SecretText;
use crate::spec::pipeline::{Input, Stage};
use crate::store::Store;

use super::Attempts;

/// By what is wanted.
pub(in crate::engine) struct Outsides {
    outside: Arc<Outside>,
    pins: Mutex<HashMap<Digest, Arc<OnceCell<OutsidePin>>>>,
}

impl Outsides {
    /// `pinned`: what the journal says tasks were given.
    pub(in crate::engine) fn new(
        settings: OutsideSettings,
        store: Arc<dyn Store>,
        pinned: &HashMap<TaskIndex, Pins>,
    ) -> Self {
        let pins = pinned.values().flat_map(|pins| pins.values());
        let pins = pins.map(|pin| (pin.wanted, Arc::new(OnceCell::new_with(Some(pin.clone())))));
        let outside = Arc::new(Outside::new(settings, store));
        Self { outside, pins: Mutex::new(pins.collect()) }
    }
}

impl Attempts {
    /// What the stage's inputs from outside hold; what is not here yet is fetched. When whoever fetches is given up, one of those who
    /// wait goes on.
    pub(super) async fn pin_inputs(
        self: &Arc<Self>,
        task: TaskIndex,
        stage: &Stage,
    ) -> Result<Pins, EngineError> {
        let wanted = stage.inputs.iter().filter_map(|(name, input)| match input {
            Input::Outside { wanted, .. } => Some((name, wanted)),
            Input::Output { .. } | Input::Live { .. } | Input::Later => None,
        });
        let pins = wanted.map(|(name, wanted)| async move {
            let cell = {
                let mut pins = self.outside.pins.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(pins.entry(wanted.id()).or_default())
            };
            let pin = cell.get_or_try_init(|| self.fetch(task, name, wanted)).await?;
            Ok::<_, EngineError>((name.clone(), pin.clone()))
        });
        Ok(try_join_all(pins).await?.into_iter().collect())
    }

    /// Today's value of the secret that is sent along.
    async fn token(
        &self,
        wanted: &Wanted,
    ) -> Result<Result<Option<SecretText>, OutsideError>, EngineError> {
        let vault = self.settings.vault.as_deref();
        let opened = handover::token(&self.state, vault, wanted.token.as_ref()).await?;
        Ok(opened.map_err(|hindrance| {
            let help = hindrance.help().unwrap_or_default();
            OutsideError::without_token(&wanted.address, &hindrance.to_string(), help)
        }))
    }

    /// On a thread of its own: hashing and writing would hold the loop up.
    async fn fetch(
        self: &Arc<Self>,
        task: TaskIndex,
        input: &InputName,
        wanted: &Wanted,
    ) -> Result<OutsidePin, EngineError> {
        let (attempts, id) = (Arc::clone(self), self.graph.tasks[task].id.clone());
        let (input, wanted) = (input.clone(), wanted.clone());
        let fetching = AbortOnDropHandle::new(tokio::spawn(async move {
            let progress = |step: String| {
                // Nobody listens any more once the run is over; then there is nothing to show.
                drop(attempts.notices.send(Notice::Preparing { task: id.clone(), step }));
            };
            let fetcher = Fetcher { run: attempts.run, now: clock::now() };
            let token = attempts.token(&wanted).await?.map_err(|error| {
                let (stage, input) = (id.stage.clone(), input.clone());
                EngineError::Outside { stage, input, error }
            })?;
            let fetch = || async {
                let outside = &attempts.outside.outside;
                let traffic = &attempts.traffic[task];
                let pinned =
                    outside.pin(&wanted, token.as_ref(), fetcher, traffic, &progress).await;
                let (stage, input) = (id.stage.clone(), input.clone());
                pinned.map_err(|error| EngineError::Outside { stage, input, error })
            };
            let pinned = attempts.patience.mend(fetch).await?;
            Ok(OutsidePin {
                wanted: wanted.id(),
                address: wanted.address.to_string(),
                version: pinned.version,
                artifact: pinned.artifact,
            })
        }));
        match fetching.await {
            Ok(pin) => pin,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Err(std::io::Error::other(error).into()),
        }
    }
}
