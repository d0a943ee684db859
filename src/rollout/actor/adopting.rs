//! The first moments: what an earlier server left is taken over, and answers at once.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Actor, GRACE};
use crate::names::ServiceId;
use crate::rollout::adopt::FoundService;
use crate::rollout::keeper::Wish;
use crate::rollout::listeners::{self, Bound};
use crate::rollout::machine::{Adopted, Kind, Machine};
use crate::rollout::orphans;
use crate::rollout::place::{Place, Report};
use crate::rollout::ports::Ports;
use crate::rollout::scribe::Scribe;
use crate::rollout::service::{Facts, Rolling, Service, terms};

impl Actor {
    /// Takes over what was found. Afterwards every replica that was ready answers, as far as ports can be had.
    pub(in crate::rollout) async fn adopt(
        place: Arc<Place>,
        found: Vec<FoundService>,
        reports: UnboundedSender<(ServiceId, Report)>,
    ) -> Self {
        let (scribe, writing) = Scribe::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(writing);
        let mut actor = Self {
            ports: Ports::new(place.settings.replica_ports.clone()),
            place,
            services: std::collections::BTreeMap::new(),
            since: Instant::now(),
            reports,
            tasks,
            scribe,
            turns: 0,
            routes: None,
            routes_problem: None,
            routes_at: None,
        };
        // All ports first, so that nothing that is started now takes one of those that are in use.
        let replicas = found.iter().flat_map(|service| &service.replicas);
        for replica in replicas.filter(|one| one.release.behaviour.container.is_none()) {
            actor.ports.hold(replica.addresses.port);
            replica.addresses.ports.values().for_each(|port| actor.ports.hold(*port));
        }
        let contains = |service: &FoundService| {
            let releases = service.live.iter().chain(&service.candidate).chain(&service.ownerless);
            releases.into_iter().any(|release| release.behaviour.container.is_some())
        };
        // Without any the engine may be none of this home's business, and never come.
        let insist = found.iter().any(contains);
        actor.tasks.spawn(orphans::sweep(actor.place.clone(), insist));
        let bound = found.iter().map(|service| bind(&actor.place, service));
        let bound = futures_util::future::join_all(bound).await;
        for (service, (bound, problem)) in found.into_iter().zip(bound) {
            actor.take_over(service, bound, problem);
        }
        actor.set_routes();
        actor
    }

    fn take_over(&mut self, found: FoundService, bound: Bound, problem: Option<String>) {
        let id = found.row.service.clone();
        let live = found.live_terms();
        let candidate = found.candidate.as_ref();
        let running: Vec<Adopted> = found.replicas.iter().map(|replica| replica.adopted).collect();
        let replicas =
            candidate.map(|release| (release.id, terms(release), release.notes.replicas));
        let (machine, commands) =
            Machine::adopt(self.now(), live, found.row.wanted, replicas, &running);
        let mut service = Service::new(id.clone());
        service.machine = machine;
        service.live = found.live;
        service.route = found.row.route;
        service.bound = bound;
        service.bind_at = problem.as_ref().map(|_| Instant::now() + super::BIND_EVERY);
        service.problem = problem;
        let run = found.row.candidate.and_then(|(_, run)| run);
        self.turns += 1;
        let turn = self.turns;
        service.rolling = found.candidate.map(|release| Rolling {
            by: by_run(&release.notes.run.to_string()),
            release,
            run,
            kind: Kind::Rollout,
            turn,
            waiting: Vec::new(),
            bound: Bound::new(),
            listener: None,
            promoting: Vec::new(),
            if_live_is: None,
            given_up: false,
            deserted: Some(Instant::now() + GRACE),
        });
        for replica in found.replicas {
            let (wish, _) = watch::channel(Wish::Run);
            let facts = Facts {
                release: replica.release,
                addresses: replica.addresses,
                wish,
                folder: Some(replica.running.folder.clone()),
                host: replica.host,
                started_at: replica.started_at,
                found: Some(replica.running),
            };
            service.replicas.insert(replica.adopted.slot, facts);
        }
        if let Some(release) = found.ownerless {
            let why = "the run that asked for it is gone".to_owned();
            self.write_abandoned(&id, release.id, why, None);
        }
        self.services.insert(id.clone(), service);
        self.perform(&id, commands);
        self.forget_if_empty(&id);
    }
}

/// Who put a release live, for the journal.
pub(in crate::rollout) fn by_run(run: &str) -> String {
    format!("run {run}")
}

async fn bind(place: &Place, found: &FoundService) -> (Bound, Option<String>) {
    let Some(live) = &found.live else { return (Bound::new(), None) };
    let service = &found.row.service;
    let wanted = listeners::wanted(service, &live.behaviour, place.settings.address);
    listeners::bind(place, service, wanted).await
}
