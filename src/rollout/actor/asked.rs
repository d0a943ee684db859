//! Requests.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Actor, Done, Request};
use crate::names::{ReleaseId, ServiceId};
use crate::release::{Release, ReleaseNotes, ServiceEvent};
use crate::rollout::machine::{Input, Kind};
use crate::rollout::scribe::insist;
use crate::rollout::service::{Down, Rolling, Service, Waiting, Wanted, terms};
use crate::rollout::{Candidate, Promotion, RolloutError, RolloutFailure, clock, listeners};

impl Actor {
    pub(super) fn asked(&mut self, request: Request) {
        match request {
            Request::Prepare(wanted) => self.prepare(*wanted),
            Request::Promote { release, if_live_is, reply } => {
                self.promote(&release, if_live_is, reply);
            }
            Request::Abandon { service, release, why, reply } => {
                self.abandon(&service, release, why, Some(reply));
            }
            Request::Keep { service, replicas, route, reply } => {
                self.keep(&service, replicas, route, reply);
            }
            Request::Restart { service, by, waiting } => self.restart(&service, by, waiting),
            Request::Scale { service, replicas, by, reply } => {
                self.scale(&service, replicas, by, reply);
            }
            Request::Down { service, has_row, volumes, by, reply } => {
                self.down(&service, has_row, Down { volumes, by, reply });
            }
            Request::Status(reply) => answer(reply, self.status()),
            Request::Routes(reply) => answer(reply, self.routes_state()),
            Request::CallerGone(candidates, reply) => {
                for service in self.services.values_mut() {
                    let rolling = service.rolling.as_mut();
                    // What belongs to no run is a roll-back, which the server itself ends.
                    if let Some(rolling) = rolling.filter(|rolling| {
                        rolling.run.is_some() && candidates.contains(&rolling.release.id)
                    }) {
                        rolling.deserted = Some(Instant::now());
                    }
                }
                answer(reply, ());
            }
        }
    }

    fn prepare(&mut self, wanted: Wanted) {
        let id = wanted.release.service.clone();
        let address = self.place.settings.address;
        let service = self.services.entry(id.clone()).or_insert_with(|| Service::new(id.clone()));
        if !service.downs.is_empty() {
            return refuse(wanted.waiting, format!("service `{id}` is being taken down"));
        }
        if wanted.kind == Kind::Rollout && service.machine.live() == Some(wanted.release.id) {
            let serving = &wanted.release.behaviour.serving;
            let at = service.address_for_stages(&wanted.release, address);
            let url = serving.protocol.url(at);
            return answer(wanted.waiting.reply, Ok(Ok(Candidate { url })));
        }
        match &mut service.rolling {
            None => self.begin(&id, wanted),
            Some(rolling)
                if rolling.release.id == wanted.release.id && rolling.kind == wanted.kind =>
            {
                rolling.deserted = None;
                rolling.given_up = false;
                match &rolling.listener {
                    Some(listener) if service.machine.is_prepared() => {
                        let url = wanted.release.behaviour.serving.protocol.url(listener.address);
                        answer(wanted.waiting.reply, Ok(Ok(Candidate { url })));
                    }
                    _ => rolling.waiting.push(wanted.waiting),
                }
            }
            Some(rolling) => {
                let other = rolling.release.number;
                let text = format!("waiting for {}@{other}, which is being rolled out", id.stage);
                drop(wanted.waiting.progress.send(text));
                service.queue.push_back(wanted);
            }
        }
    }

    /// The next whose turn has come and who still waits.
    pub(super) fn begin_next(&mut self, id: &ServiceId) {
        let Some(service) = self.services.get_mut(id) else { return };
        if service.rolling.is_some() {
            return;
        }
        while let Some(wanted) = service.queue.pop_front() {
            if !wanted.waiting.reply.is_closed() {
                return self.prepare(wanted);
            }
        }
    }

    fn begin(&mut self, id: &ServiceId, mut wanted: Wanted) {
        if wanted.kind == Kind::Restart {
            // Another release may have gone live while it waited for its turn.
            let live = self.services.get(id).and_then(|service| service.live.clone());
            let Some(live) = live else {
                refuse(wanted.waiting, format!("nothing of service `{id}` is live any more"));
                return self.forget_if_empty(id);
            };
            wanted.release = live;
        }
        if let Some(why) = self.conflict(id, &wanted.release, wanted.release.notes.route.as_deref())
        {
            refuse(wanted.waiting, why);
            return self.forget_if_empty(id);
        }
        self.turns += 1;
        let turn = self.turns;
        let Some(service) = self.services.get_mut(id) else { return };
        let Wanted { release, run, kind, by, waiting } = wanted;
        let replicas = match kind {
            Kind::Rollout => release.notes.replicas,
            Kind::Restart => service.machine.wanted(),
        };
        let input = Input::Prepare { release: release.id, terms: terms(&release), replicas, kind };
        service.rolling = Some(Rolling {
            release,
            run,
            kind,
            turn,
            by,
            waiting: vec![waiting],
            bound: listeners::Bound::new(),
            listener: None,
            promoting: Vec::new(),
            if_live_is: None,
            given_up: false,
            deserted: None,
        });
        self.step(id, input);
    }

    /// A service that never had a live release and has nothing under way.
    pub(super) fn forget_if_empty(&mut self, id: &ServiceId) {
        let empty = |service: &Service| {
            let machine = &service.machine;
            machine.live().is_none() && machine.replicas().is_empty() && service.rolling.is_none()
        };
        if self.services.get(id).is_some_and(|one| empty(one) && one.queue.is_empty()) {
            self.services.remove(id);
        }
    }

    /// What another service has that this release wants.
    fn conflict(&self, id: &ServiceId, release: &Release, route: Option<&str>) -> Option<String> {
        // The port that its program insists on too: else its probe would be answered by the other service.
        let ports = |release: &Release| {
            let serving = &release.behaviour.serving;
            let mut ports: Vec<u16> = serving.ports.values().copied().collect();
            ports.extend(listeners::own_port(&release.behaviour));
            ports.push(serving.port);
            ports
        };
        let own = ports(release);
        // Any free one has no number to clash with.
        let gateway = self.place.settings.gateway.port();
        if gateway != 0 && own.contains(&gateway) {
            return Some(format!("port {gateway} is where the gateway itself listens for routes"));
        }
        for other in self.services.values().filter(|other| other.id != *id) {
            for theirs in other.serving() {
                if let Some(port) = ports(theirs).into_iter().find(|port| own.contains(port)) {
                    return Some(format!("port {port} belongs to service `{}`", other.id));
                }
            }
            let theirs = other.rolling.as_ref().map(|rolling| &rolling.release.notes.route);
            let theirs = [Some(&other.route), theirs].into_iter().flatten().flatten();
            if let Some(route) = route
                && theirs.into_iter().any(|theirs| theirs == route)
            {
                return Some(format!("route `{route}` belongs to service `{}`", other.id));
            }
        }
        None
    }

    fn promote(
        &mut self,
        release: &Arc<Release>,
        if_live_is: Option<ReleaseId>,
        reply: super::Reply<Result<Promotion, RolloutError>>,
    ) {
        let id = &release.service;
        let service = self.services.get_mut(id);
        if service.as_ref().is_some_and(|one| one.machine.live() == Some(release.id)) {
            return answer(reply, Ok(Promotion::Promoted(if_live_is)));
        }
        let rolling = service.and_then(|service| service.rolling.as_mut());
        let Some(rolling) = rolling.filter(|rolling| rolling.release.id == release.id) else {
            let why =
                "its replicas are gone: the server was stopped, or it was given up".to_owned();
            let failed = Promotion::Failed(RolloutFailure { why, log: Vec::new() });
            return answer(reply, Ok(failed));
        };
        rolling.deserted = None;
        rolling.given_up = false;
        rolling.if_live_is = if_live_is;
        rolling.promoting.push(reply);
        let is_prepared = self.services.get(id).is_some_and(|one| one.machine.is_prepared());
        // A server that was just started is still looking at what it found; `prepared` goes on with it.
        if is_prepared {
            self.step(id, Input::Promote);
        }
    }

    pub(super) fn abandon(
        &mut self,
        id: &ServiceId,
        release: ReleaseId,
        why: String,
        reply: Option<Done>,
    ) {
        if let Some(service) = self.services.get_mut(id) {
            let (given_up, rest): (Vec<Wanted>, Vec<Wanted>) = std::mem::take(&mut service.queue)
                .into_iter()
                .partition(|wanted| wanted.release.id == release);
            service.queue.extend(rest);
            for wanted in given_up {
                refuse(wanted.waiting, why.clone());
            }
            let rolling = service.rolling.as_mut();
            if let Some(rolling) =
                rolling.filter(|one| one.release.id == release && one.kind == Kind::Rollout)
            {
                rolling.given_up = true;
                self.write_abandoned(id, release, why, reply);
                return self.step(id, Input::Abandon);
            }
        }
        self.write_abandoned(id, release, why, reply);
    }

    pub(super) fn write_abandoned(
        &self,
        id: &ServiceId,
        release: ReleaseId,
        why: String,
        reply: Option<Done>,
    ) {
        let (state, id) = (self.place.state.clone(), id.clone());
        self.scribe.order(async move {
            let now = clock::now();
            let written = insist(|| state.abandon(release, &why, now)).await;
            if let Err(error) = &written {
                tracing::warn!(service = %id, %error, "a release cannot be noted as given up");
            }
            if let Some(reply) = reply {
                answer(reply, written.map_err(RolloutError::from));
            }
        });
    }

    fn keep(&mut self, id: &ServiceId, replicas: u32, route: Option<String>, reply: Done) {
        let Some(live) = self.services.get(id).and_then(|service| service.live.clone()) else {
            return answer(reply, Err(unknown(id)));
        };
        if let Some(why) = self.conflict(id, &live, route.as_deref()) {
            return answer(reply, Err(RolloutError::Machinery(why)));
        }
        let Some(service) = self.services.get_mut(id) else { return };
        // While the file says the same, `scale` has the last word.
        let before = &live.notes;
        if (before.replicas, &before.route) == (replicas, &route) {
            let wanted = service.machine.wanted();
            self.step(id, Input::Scale(wanted));
            return answer(reply, Ok(()));
        }
        let notes = ReleaseNotes { replicas, route: route.clone(), ..before.clone() };
        service.live = Some(Arc::new(Release { notes, ..Release::clone(&live) }));
        service.route.clone_from(&route);
        self.step(id, Input::Scale(replicas));
        self.set_routes();
        let (state, id) = (self.place.state.clone(), id.clone());
        self.scribe.order(async move {
            let now = clock::now();
            let route = route.as_deref();
            let written = insist(|| state.adjust_service(&id, replicas, route, now)).await;
            answer(reply, written.map_err(RolloutError::from));
        });
    }

    fn restart(&mut self, id: &ServiceId, by: String, waiting: Waiting) {
        let service = self.services.get(id);
        let Some((service, live)) = service.and_then(|one| Some((one, one.live.clone()?))) else {
            return answer(waiting.reply, Err(unknown(id)));
        };
        if service.machine.wanted() == 0 {
            let why = "no replica of it is wanted; `flowrun scale` starts some".to_owned();
            return refuse(waiting, why);
        }
        let kind = Kind::Restart;
        self.prepare(Wanted { release: live, run: None, kind, by, waiting });
    }

    fn scale(&mut self, id: &ServiceId, replicas: u32, by: String, reply: Done) {
        let live = self.services.get(id).and_then(|service| service.live.clone());
        let Some(live) = live else { return answer(reply, Err(unknown(id))) };
        if let Some(why) = live.behaviour.replaced_in_place().filter(|_| replicas > 1) {
            let why = format!("service `{id}` can have 1 replica at most: {why}");
            return answer(reply, Err(RolloutError::Machinery(why)));
        }
        self.step(id, Input::Scale(replicas));
        let (state, id) = (self.place.state.clone(), id.clone());
        self.scribe.order(async move {
            let now = clock::now();
            let written = insist(|| state.scale_service(&id, replicas, now)).await;
            answer(reply, written.map_err(RolloutError::from));
        });
        self.journal(&live.service, ServiceEvent::Scaled { wanted: replicas, by });
    }

    /// `has_row`: it is recorded; what nobody knows here and has a row, could not be forgotten after its replicas were gone.
    fn down(&mut self, id: &ServiceId, has_row: bool, down: Down) {
        if has_row {
            self.services.entry(id.clone()).or_insert_with(|| Service::new(id.clone()));
        }
        let Some(service) = self.services.get_mut(id) else {
            return answer(down.reply, Err(unknown(id)));
        };
        service.downs.push(down);
        service.route = None;
        for wanted in std::mem::take(&mut service.queue) {
            refuse(wanted.waiting, "the service was taken down".to_owned());
        }
        self.set_routes();
        self.step(id, Input::Down);
    }

    pub(super) fn journal(&self, id: &ServiceId, event: ServiceEvent) {
        let (state, id) = (self.place.state.clone(), id.clone());
        self.scribe.order(async move {
            let now = clock::now();
            if let Err(error) = insist(|| state.append_service(&id, &event, now)).await {
                tracing::warn!(service = %id, %error, ?event, "the journal cannot be written");
            }
        });
    }
}

pub(super) fn unknown(id: &ServiceId) -> RolloutError {
    RolloutError::Unknown(format!("there is no service `{id}`"))
}

pub(super) fn refuse(waiting: Waiting, why: String) {
    answer(waiting.reply, Ok(Err(RolloutFailure { why, log: Vec::new() })));
}

/// Who asked may be gone; then nobody misses the answer.
pub(super) fn answer<T>(reply: super::Reply<T>, value: T) {
    drop(reply.send(value));
}
