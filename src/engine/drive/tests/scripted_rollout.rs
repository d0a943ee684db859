//! A server that keeps the state as the real one does, starts nothing, and does as it is told.

use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedSender;

use crate::names::{ReleaseId, ServiceId};
use crate::release::Release;
use crate::rollout::{Candidate, Promotion, Rollout, RolloutError, RolloutFailure};
use crate::state::{State, Swap};

/// What `drive` is given for a server.
pub(super) struct ScriptedRollout {
    state: State,
    told: Mutex<Told>,
}

#[derive(Default)]
pub(super) struct Told {
    /// `prepare 1`, `promote 1`, `abandon 1`, `keep serve 1`.
    pub(super) asked: Vec<String>,
    pub(super) preparing: Preparing,
    /// It becomes live just before the next promotion.
    pub(super) rival: Option<Release>,
}

#[derive(Default, Clone, Copy)]
pub(super) enum Preparing {
    #[default]
    Ready,
    Fails,
    Hangs,
    Breaks,
}

impl ScriptedRollout {
    pub(super) fn new(state: State) -> Self {
        Self { state, told: Mutex::default() }
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// What was asked since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.told().asked)
    }

    async fn release(&self, id: ReleaseId) -> Release {
        self.state.release(id).await.unwrap().unwrap().release
    }
}

#[async_trait]
impl Rollout for ScriptedRollout {
    async fn prepare(
        &self,
        id: ReleaseId,
        progress: UnboundedSender<String>,
    ) -> Result<Result<Candidate, RolloutFailure>, RolloutError> {
        let release = self.release(id).await;
        let preparing = {
            let mut told = self.told();
            told.asked.push(format!("prepare {}", release.number));
            told.preparing
        };
        self.state.set_candidate(&release, None, 0).await.unwrap();
        progress.send("replica 1 is ready".to_owned()).unwrap();
        match preparing {
            Preparing::Ready => Ok(Ok(Candidate { url: "http://candidate".to_owned() })),
            Preparing::Fails => Ok(Err(RolloutFailure {
                why: "replica 1 never listened".to_owned(),
                log: vec!["starting".to_owned()],
            })),
            Preparing::Hangs => std::future::pending().await,
            Preparing::Breaks => Err(RolloutError::Unknown("no such release".to_owned())),
        }
    }

    async fn promote(
        &self,
        id: ReleaseId,
        if_live_is: Option<ReleaseId>,
    ) -> Result<Promotion, RolloutError> {
        let release = self.release(id).await;
        let rival = {
            let mut told = self.told();
            told.asked.push(format!("promote {}", release.number));
            told.rival.take()
        };
        if let Some(rival) = rival {
            let live = self.state.live_release(&rival.service).await.unwrap();
            self.state.promote(&rival, live.map(|live| live.id), 0).await.unwrap();
        }
        Ok(match self.state.promote(&release, if_live_is, 0).await.unwrap() {
            Swap::Done(before) => Promotion::Promoted(before),
            Swap::LiveIs(live) => Promotion::LiveIs(live),
        })
    }

    async fn abandon(&self, id: ReleaseId, why: &str) -> Result<(), RolloutError> {
        let number = self.release(id).await.number;
        self.told().asked.push(format!("abandon {number}"));
        self.state.abandon(id, why, 0).await.unwrap();
        Ok(())
    }

    async fn keep(
        &self,
        service: &ServiceId,
        replicas: u32,
        _: Option<&str>,
    ) -> Result<(), RolloutError> {
        self.told().asked.push(format!("keep {} {replicas}", service.stage));
        Ok(())
    }
}
