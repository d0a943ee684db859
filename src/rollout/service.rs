//! One service beside its machine: its releases, where its replicas listen, its listeners, and who waits for what.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::keeper::{Running, Wish};
use super::listeners::{Bound, Side, Spot};
use super::machine::{Kind, Machine, Slot, Terms};
use super::start::Addresses;
use super::{Candidate, Promotion, RolloutError, RolloutFailure, listeners};
use crate::gateway::Listener;
use crate::names::{ReleaseId, RunId, ServiceId};
use crate::release::Release;
use crate::words;

/// An answer to who waits for a candidate.
pub(super) type Prepared = Result<Result<Candidate, RolloutFailure>, RolloutError>;

/// Who waits for a candidate.
pub(super) struct Waiting {
    pub(super) reply: oneshot::Sender<Prepared>,
    pub(super) progress: UnboundedSender<String>,
}

/// A release that shall be made ready, now or when its turn comes.
pub(super) struct Wanted {
    pub(super) release: Arc<Release>,
    /// None: a roll-back or a restart.
    pub(super) run: Option<RunId>,
    pub(super) kind: Kind,
    /// Who asked, for the journal.
    pub(super) by: String,
    pub(super) waiting: Waiting,
}

/// A candidate beside the machine.
pub(super) struct Rolling {
    pub(super) release: Arc<Release>,
    pub(super) run: Option<RunId>,
    pub(super) kind: Kind,
    /// Tells it from an earlier try of the same release.
    pub(super) turn: u64,
    pub(super) by: String,
    pub(super) waiting: Vec<Waiting>,
    /// What was bound for it: ports that the live release does not have.
    pub(super) bound: Bound,
    /// Where `verify` reaches it.
    pub(super) listener: Option<Listener>,
    /// Who waits for its promotion.
    pub(super) promoting: Vec<oneshot::Sender<Result<Promotion, RolloutError>>>,
    /// What the caller believes to be live.
    pub(super) if_live_is: Option<ReleaseId>,
    /// It was given up while the state was asked to make it live: if that comes to nothing, it goes.
    pub(super) given_up: bool,
    /// Its caller is gone: from then on it is looked whether its run has an owner.
    pub(super) deserted: Option<Instant>,
}

/// A replica beside the machine.
pub(super) struct Facts {
    pub(super) release: Arc<Release>,
    pub(super) addresses: Addresses,
    pub(super) wish: watch::Sender<Wish>,
    /// Its start's folder, once it is made.
    pub(super) folder: Option<PathBuf>,
    /// Where its ports are reached, once that is known.
    pub(super) host: Option<IpAddr>,
    /// Unix milliseconds.
    pub(super) started_at: Option<u64>,
    /// One that was found running, until it is attended.
    pub(super) found: Option<Running>,
}

impl Facts {
    /// Where it is asked.
    pub(super) fn at(&self) -> Option<SocketAddr> {
        Some((self.host?, self.addresses.port).into())
    }
}

/// Who waits for the end of a service.
pub(super) struct Down {
    /// Its own volumes go too.
    pub(super) volumes: bool,
    pub(super) by: String,
    pub(super) reply: oneshot::Sender<Result<(), RolloutError>>,
}

/// One service.
pub(super) struct Service {
    pub(super) id: ServiceId,
    pub(super) machine: Machine,
    pub(super) live: Option<Arc<Release>>,
    /// The path of the gateway that leads to the live release.
    pub(super) route: Option<String>,
    pub(super) replicas: BTreeMap<Slot, Facts>,
    pub(super) bound: Bound,
    /// Why something that it shall listen on is not bound.
    pub(super) problem: Option<String>,
    /// When binding is tried (again).
    pub(super) bind_at: Option<Instant>,
    /// It is being tried.
    pub(super) binding: bool,
    pub(super) rolling: Option<Rolling>,
    /// Releases whose turn has not come.
    pub(super) queue: VecDeque<Wanted>,
    /// Who waits for its end.
    pub(super) downs: Vec<Down>,
}

impl Service {
    /// Nothing is live.
    pub(super) fn new(id: ServiceId) -> Self {
        Self {
            id,
            machine: Machine::new(),
            live: None,
            route: None,
            replicas: BTreeMap::new(),
            bound: Bound::new(),
            problem: None,
            bind_at: None,
            binding: false,
            rolling: None,
            queue: VecDeque::new(),
            downs: Vec::new(),
        }
    }

    /// Shows something to everybody who waits for the candidate.
    pub(super) fn progress(&self, text: &str) {
        for waiting in self.rolling.iter().flat_map(|rolling| &rolling.waiting) {
            // Who waits may be gone; then nobody misses it.
            drop(waiting.progress.send(text.to_owned()));
        }
    }

    /// Forgets what is bound and not wanted for this release.
    pub(super) fn keep_wanted(&mut self, release: &Release, address: IpAddr) {
        let wanted = listeners::wanted(&self.id, &release.behaviour, address);
        self.bound.retain(|spot, (_, is)| wanted.get(spot) == Some(is));
    }

    /// Where the other stages reach its stable port.
    pub(super) fn address_for_stages(&self, release: &Release, otherwise: IpAddr) -> SocketAddr {
        let port = release.behaviour.serving.port;
        let on_network = self.bound.get(&Spot { side: Side::Network, port });
        on_network.map_or((otherwise, port).into(), |(listener, _)| listener.address)
    }

    /// Ports that it has or is about to have, with their release.
    pub(super) fn serving(&self) -> impl Iterator<Item = &Release> {
        let rolling = self.rolling.as_ref().map(|rolling| &*rolling.release);
        self.live.as_deref().into_iter().chain(rolling)
    }
}

/// What the machine needs to know of a release.
pub(super) fn terms(release: &Release) -> Terms {
    Terms {
        within: words::millis(release.behaviour.serving.ready.within),
        in_place: release.behaviour.replaced_in_place().is_some(),
    }
}
