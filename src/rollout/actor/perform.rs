//! What machines say is done.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Actor;
use super::asked::answer;
use crate::gateway::Listener;
use crate::names::{ReleaseId, ServiceId};
use crate::release::{Behaviour, Protocol, Release, ServiceEvent};
use crate::rollout::keeper::{Keeper, Wish};
use crate::rollout::listeners::{self, Bound};
use crate::rollout::machine::{Command, Event, Fact, Input, Kind, Slot};
use crate::rollout::place::{NotRecorded, Place, Report};
use crate::rollout::scribe::insist;
use crate::rollout::service::{Facts, Rolling};
use crate::rollout::start::Addresses;
use crate::rollout::{Candidate, Promotion, RolloutError, RolloutFailure, clock, removal};
use crate::runtime::log_lines::last_entries;
use crate::state::StateError;

/// Lines of a log that tell why a release failed.
const LAST_LINES: usize = 20;
/// Between two tries to bind what a candidate needs.
const BIND_PAUSE: Duration = Duration::from_millis(100);

impl Actor {
    pub(super) fn perform_one(&mut self, id: &ServiceId, command: Command) {
        match command {
            Command::Start(slot, turn) => self.start(id, slot, turn),
            Command::Watch(slot, turn) => self.watch(id, slot, turn),
            Command::Drain(slot) => self.wish(id, slot, Wish::Drain),
            Command::Stop(slot) => self.wish(id, slot, Wish::Stop),
            Command::Backends(slots) => self.lead_to(id, &slots),
            Command::CandidateBackends(slots) => {
                let backends = self.addresses(id, &slots);
                self.place.gateway.set_backends(&listeners::candidate_pool(id), &backends);
            }
            Command::Record(_) => self.record(id),
            Command::Progress(text) => {
                if let Some(service) = self.services.get(id) {
                    service.progress(&text);
                }
            }
            Command::Prepared(_) => self.prepared(id),
            Command::PrepareFailed(release, slot, why) => self.failed(id, release, slot, why),
            Command::Swap(_) => self.swap(id),
            Command::Switched(_) => self.switched(id),
            Command::PromoteFailed(release, slot, why) => {
                self.promote_failed(id, release, slot, why);
            }
            Command::Abandoned(_) => {
                if let Some(rolling) = self.end_rolling(id) {
                    tell_failure(
                        rolling,
                        &RolloutFailure { why: "it was given up".to_owned(), log: Vec::new() },
                    );
                }
            }
            Command::Journal(slot, event) => self.note(id, slot, event),
            Command::Gone => self.gone(id),
        }
    }

    fn release(&self, id: &ServiceId, release: ReleaseId) -> Option<Arc<Release>> {
        let service = self.services.get(id)?;
        let rolling = service.rolling.as_ref().map(|rolling| &rolling.release);
        let replicas = service.replicas.values().map(|facts| &facts.release);
        let mut known = rolling.into_iter().chain(&service.live).chain(replicas);
        known.find(|known| known.id == release).cloned()
    }

    fn start(&mut self, id: &ServiceId, slot: Slot, turn: u64) {
        let teller = self.teller(id);
        let failed = |why: &str| {
            let fact = Fact::NotStarted(format!("cannot be started: {why}"));
            teller.tell(Report::Replica(slot, turn, fact));
        };
        let Some(release) = self.release(id, slot.release) else {
            return failed("its release is not known");
        };
        let addresses = match self.choose_ports(&release.behaviour) {
            Ok(addresses) => addresses,
            Err(why) => return failed(&why),
        };
        let in_container = release.behaviour.container.is_some();
        let host = (!in_container).then_some(Ipv4Addr::LOCALHOST.into());
        let (to, wish) = watch::channel(Wish::Run);
        let keeper = Keeper {
            place: self.place.clone(),
            release: release.clone(),
            slot,
            turn,
            addresses: addresses.clone(),
            teller,
            wish,
        };
        let Some(service) = self.services.get_mut(id) else { return };
        let facts = Facts {
            release,
            addresses,
            wish: to,
            folder: None,
            host,
            started_at: None,
            found: None,
        };
        service.replicas.insert(slot, facts);
        self.tasks.spawn(keeper.start());
    }

    /// Where a new replica listens: on this machine at ports that nobody has, in a container at those it shall have.
    fn choose_ports(&mut self, behaviour: &Behaviour) -> Result<Addresses, String> {
        let serving = &behaviour.serving;
        if behaviour.container.is_some() {
            let port = serving.listen.unwrap_or(serving.port);
            return Ok(Addresses { port, ports: serving.ports.clone() });
        }
        // Whoever listens there would answer its probe, and be taken for it.
        if let Some(taken) = serving.listen.and_then(listeners::taken) {
            return Err(taken);
        }
        let port = serving.listen.or_else(|| self.ports.take());
        let named = serving.ports.keys().map(|name| Some((name.clone(), self.ports.take()?)));
        let (Some(port), Some(ports)) = (port, named.collect()) else {
            let range = &self.place.settings.replica_ports;
            return Err(format!("no port from {} to {} is free", range.start(), range.end()));
        };
        Ok(Addresses { port, ports })
    }

    fn watch(&mut self, id: &ServiceId, slot: Slot, turn: u64) {
        let teller = self.teller(id);
        let facts = self.services.get_mut(id).and_then(|one| one.replicas.get_mut(&slot));
        let Some((facts, running)) =
            facts.and_then(|facts| facts.found.take().map(|running| (facts, running)))
        else {
            return;
        };
        let keeper = Keeper {
            place: self.place.clone(),
            release: facts.release.clone(),
            slot,
            turn,
            addresses: facts.addresses.clone(),
            teller,
            wish: facts.wish.subscribe(),
        };
        self.tasks.spawn(keeper.attend(running));
    }

    fn wish(&mut self, id: &ServiceId, slot: Slot, wish: Wish) {
        let facts = self.services.get(id).and_then(|service| service.replicas.get(&slot));
        if let Some(facts) = facts {
            facts.wish.send_replace(wish);
        }
    }

    fn addresses(&self, id: &ServiceId, slots: &[Slot]) -> Vec<SocketAddr> {
        let Some(service) = self.services.get(id) else { return Vec::new() };
        let facts = slots.iter().filter_map(|slot| service.replicas.get(slot));
        facts.filter_map(Facts::at).collect()
    }

    /// The live pools are exactly these replicas.
    fn lead_to(&mut self, id: &ServiceId, slots: &[Slot]) {
        let backends = self.addresses(id, slots);
        let gateway = &self.place.gateway;
        gateway.set_backends(&listeners::live_pool(id), &backends);
        let Some(service) = self.services.get(id) else { return };
        let names = service.serving().flat_map(|release| release.behaviour.serving.ports.keys());
        for name in names {
            let facts = slots.iter().filter_map(|slot| service.replicas.get(slot));
            let at = |facts: &Facts| Some((facts.host?, *facts.addresses.ports.get(name)?).into());
            let backends: Vec<SocketAddr> = facts.filter_map(at).collect();
            gateway.set_backends(&listeners::port_pool(id, name.as_str()), &backends);
        }
    }

    fn record(&mut self, id: &ServiceId) {
        let teller = self.teller(id);
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(rolling) = service.rolling.as_ref() else { return };
        if rolling.kind == Kind::Restart {
            return self.step(id, Input::Recorded);
        }
        let (candidate, run, turn) = (rolling.release.clone(), rolling.run, rolling.turn);
        // Its program listens there itself, in the place of the old one.
        if let Some(port) = listeners::own_port(&candidate.behaviour) {
            service.bound.retain(|spot, _| spot.port != port);
        }
        let mut wanted = listeners::wanted(id, &candidate.behaviour, self.place.settings.address);
        // What the program of the live release listens on itself is free, and bound, when that is gone.
        let held = service.live.as_ref().and_then(|live| listeners::own_port(&live.behaviour));
        wanted.retain(|spot, _| !service.bound.contains_key(spot) && held != Some(spot.port));
        let place = self.place.clone();
        self.scribe.order(async move {
            let now = clock::now();
            let written = insist(|| place.state.set_candidate(&candidate, run, now)).await;
            let recorded = match written {
                Err(error @ StateError::ServedElsewhere { .. }) => {
                    let why = error.to_string();
                    Err(NotRecorded::Failed(RolloutFailure { why, log: Vec::new() }))
                }
                Err(error) => Err(NotRecorded::Machinery(error.into())),
                Ok(()) => bind(&place, &candidate, wanted).await,
            };
            teller.tell(Report::Recorded(turn, recorded));
        });
    }

    fn prepared(&mut self, id: &ServiceId) {
        let rolling = self.services.get_mut(id).and_then(|service| service.rolling.as_mut());
        let Some(rolling) = rolling else { return };
        let Some(listener) = &rolling.listener else { return };
        let url = rolling.release.behaviour.serving.protocol.url(listener.address);
        for waiting in rolling.waiting.drain(..) {
            answer(waiting.reply, Ok(Ok(Candidate { url: url.clone() })));
        }
        if !rolling.promoting.is_empty() {
            self.step(id, Input::Promote);
        }
    }

    fn failed(&mut self, id: &ServiceId, release: ReleaseId, slot: Option<Slot>, why: String) {
        let folder = self.folder(id, slot);
        let Some(rolling) = self.end_rolling(id) else { return };
        if rolling.kind == Kind::Rollout {
            self.write_abandoned(id, release, why.clone(), None);
        }
        self.tasks.spawn_blocking(move || {
            tell_failure(rolling, &RolloutFailure { why, log: last_lines(folder) });
        });
    }

    fn promote_failed(
        &mut self,
        id: &ServiceId,
        release: ReleaseId,
        slot: Option<Slot>,
        why: String,
    ) {
        let Some(service) = self.services.get_mut(id) else { return };
        if service.machine.candidate() != Some(release) {
            return self.failed(id, release, slot, why);
        }
        let promoting =
            service.rolling.as_mut().map(|rolling| std::mem::take(&mut rolling.promoting));
        for reply in promoting.unwrap_or_default() {
            let failure = RolloutFailure { why: why.clone(), log: Vec::new() };
            answer(reply, Ok(Promotion::Failed(failure)));
        }
    }

    fn folder(&self, id: &ServiceId, slot: Option<Slot>) -> Option<PathBuf> {
        self.services.get(id)?.replicas.get(&slot?)?.folder.clone()
    }

    /// The candidate is none any more; what was bound for it goes.
    pub(super) fn end_rolling(&mut self, id: &ServiceId) -> Option<Rolling> {
        let service = self.services.get_mut(id)?;
        let mut rolling = service.rolling.take()?;
        rolling.bound.clear();
        rolling.listener = None;
        // The port that its program had may be the gateway's again.
        service.bind_at = service.live.as_ref().map(|_| Instant::now());
        self.place.gateway.remove_pool(&listeners::candidate_pool(id));
        Some(rolling)
    }

    fn swap(&mut self, id: &ServiceId) {
        let teller = self.teller(id);
        let rolling = self.services.get(id).and_then(|service| service.rolling.as_ref());
        let Some(rolling) = rolling else { return };
        let (candidate, turn) = (rolling.release.clone(), rolling.turn);
        let if_live_is = rolling.if_live_is;
        let state = self.place.state.clone();
        self.scribe.order(async move {
            let now = clock::now();
            let swapped = insist(|| state.promote(&candidate, if_live_is, now)).await;
            teller.tell(Report::Swapped(turn, swapped));
        });
    }

    /// Its candidate is live: addresses, routes and the journal follow.
    fn switched(&mut self, id: &ServiceId) {
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(rolling) = service.rolling.take() else { return };
        let Rolling { release, kind, by, waiting, bound, run, .. } = rolling;
        let replaced = service.live.as_ref().map(|live| live.id);
        // Of one that was started anew the notes may have changed meanwhile.
        if kind == Kind::Rollout {
            service.live = Some(release.clone());
        }
        service.bound.extend(bound);
        service.keep_wanted(&release, self.place.settings.address);
        service.problem = None;
        service.bind_at = Some(Instant::now());
        self.place.gateway.remove_pool(&listeners::candidate_pool(id));
        let (number, release) = (release.number, release);
        let event = match (kind, run) {
            (Kind::Restart, _) => ServiceEvent::Restarted { by },
            (Kind::Rollout, None) => ServiceEvent::RolledBack { to: release.id, number, by },
            (Kind::Rollout, Some(_)) => {
                ServiceEvent::Promoted { release: release.id, number, replaced, by }
            }
        };
        if kind == Kind::Rollout {
            service.route.clone_from(&release.notes.route);
        }
        let serving = &release.behaviour.serving;
        let at = service.address_for_stages(&release, self.place.settings.address);
        let url = serving.protocol.url(at);
        for waiting in waiting {
            answer(waiting.reply, Ok(Ok(Candidate { url: url.clone() })));
        }
        self.journal(id, event);
        self.set_routes();
    }

    fn note(&mut self, id: &ServiceId, slot: Slot, event: Event) {
        let Slot { release, replica } = slot;
        let event = match event {
            Event::Ended(end) => ServiceEvent::ReplicaEnded { replica, release, end },
            Event::CrashLooping { restarts, pause } => {
                let next = clock::now().saturating_add(pause);
                ServiceEvent::CrashLooping { replica, restarts, next }
            }
            Event::Recovered => ServiceEvent::Recovered { replica },
        };
        tracing::info!(service = %id, ?event, "a replica");
        self.journal(id, event);
    }

    /// Nothing is left of it.
    fn gone(&mut self, id: &ServiceId) {
        let Some(service) = self.services.get_mut(id) else { return };
        let downs = std::mem::take(&mut service.downs);
        if downs.is_empty() {
            return self.forget_if_empty(id);
        }
        let gateway = &self.place.gateway;
        gateway.remove_pool(&listeners::live_pool(id));
        for (_, what) in service.bound.values() {
            gateway.remove_pool(&what.pool);
        }
        self.services.remove(id);
        self.set_routes();
        let (place, id) = (self.place.clone(), id.clone());
        self.scribe.order(async move {
            let volumes = downs.iter().any(|down| down.volumes);
            let by = downs.first().map(|down| down.by.clone()).unwrap_or_default();
            let removed = removal::remove(&place, &id, volumes, by).await;
            for down in downs {
                answer(down.reply, removed.clone());
            }
        });
    }
}

/// Binds what a candidate needs, and where it is tried.
async fn bind(
    place: &Place,
    candidate: &Release,
    wanted: BTreeMap<listeners::Spot, listeners::Wanted>,
) -> Result<(Bound, Listener), NotRecorded> {
    let failed = |why| NotRecorded::Failed(RolloutFailure { why, log: Vec::new() });
    let service = &candidate.service;
    let mut bound = Bound::new();
    for last in [false, false, true] {
        let mut missing = wanted.clone();
        missing.retain(|spot, _| !bound.contains_key(spot));
        let (more, problem) = listeners::bind(place, service, missing).await;
        bound.extend(more);
        match problem {
            None => break,
            Some(problem) if last => return Err(failed(problem)),
            // What a candidate before it had is just being given back, maybe.
            Some(_) => tokio::time::sleep(BIND_PAUSE).await,
        }
    }
    // Who verifies it is where it is: on this machine, or in a container.
    let host = match &candidate.behaviour.container {
        None => Ipv4Addr::LOCALHOST.into(),
        Some(_) => place.network(&service.pipeline).await.map_err(failed)?.gateway,
    };
    let pool = listeners::candidate_pool(service);
    let protocol: Protocol = candidate.behaviour.serving.protocol;
    match place.gateway.listen((host, 0).into(), &pool, protocol).await {
        Ok(listener) => Ok((bound, listener)),
        Err(error) => Err(NotRecorded::Machinery(RolloutError::Machinery(format!(
            "the candidate's address cannot be listened on: {error}"
        )))),
    }
}

/// Everybody who waits hears the same.
pub(super) fn tell_failure(rolling: Rolling, failure: &RolloutFailure) {
    for waiting in rolling.waiting {
        answer(waiting.reply, Ok(Err(failure.clone())));
    }
    for reply in rolling.promoting {
        answer(reply, Ok(Promotion::Failed(failure.clone())));
    }
}

fn last_lines(folder: Option<PathBuf>) -> Vec<String> {
    let entries = folder.and_then(|folder| last_entries(&folder, LAST_LINES).ok());
    entries.unwrap_or_default().iter().map(crate::runtime::log_lines::LogEntry::text).collect()
}
