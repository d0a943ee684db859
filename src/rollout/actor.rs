//! The one who decides for all services of a home. Requests, reports of its tasks and timers go into one `select!`; what each
//! service's machine says is handed to tasks that tell back. Nothing here waits for a disk, a probe or a process.

mod adopting;
mod asked;
mod perform;
mod status;
mod told;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::listeners;
use super::machine::{Command, Input};
use super::place::{Place, Report, Teller};
use super::ports::Ports;
use super::scribe::Scribe;
use super::service::{Service, Waiting, Wanted};
use super::{Promotion, RolloutError};
use crate::gateway::Listener;
use crate::names::{ReleaseId, ServiceId};
use crate::release::{Release, ServiceStatus};

/// How often binding what is missing is tried again.
const BIND_EVERY: Duration = Duration::from_secs(2);
/// How long a candidate is kept for a caller that is gone, while its run has an owner, before it is looked again.
const GRACE: Duration = Duration::from_secs(30);
/// Nothing is due; a moment that never comes would overflow.
const LONG: Duration = Duration::from_hours(1);

type Reply<T> = oneshot::Sender<T>;
type Done = Reply<Result<(), RolloutError>>;

/// What is asked of it.
pub(super) enum Request {
    Prepare(Box<Wanted>),
    Promote {
        release: Arc<Release>,
        if_live_is: Option<ReleaseId>,
        reply: Reply<Result<Promotion, RolloutError>>,
    },
    Abandon {
        service: ServiceId,
        release: ReleaseId,
        why: String,
        reply: Done,
    },
    Keep {
        service: ServiceId,
        replicas: u32,
        route: Option<String>,
        reply: Done,
    },
    Restart {
        service: ServiceId,
        by: String,
        waiting: Waiting,
    },
    Scale {
        service: ServiceId,
        replicas: u32,
        by: String,
        reply: Done,
    },
    Down {
        service: ServiceId,
        has_row: bool,
        volumes: bool,
        by: String,
        reply: Done,
    },
    Status(Reply<Vec<ServiceStatus>>),
    Routes(Reply<Option<Result<(), String>>>),
    CallerGone(Vec<ReleaseId>, Reply<()>),
}

/// It.
pub(super) struct Actor {
    place: Arc<Place>,
    services: BTreeMap<ServiceId, Service>,
    ports: Ports,
    /// Machines count milliseconds from here.
    since: Instant,
    reports: UnboundedSender<(ServiceId, Report)>,
    /// Everything that runs beside it; ends with it.
    tasks: JoinSet<()>,
    scribe: Scribe,
    /// Candidates so far.
    turns: u64,
    /// What routes by path.
    routes: Option<Listener>,
    routes_problem: Option<String>,
    /// When binding it is tried (again).
    routes_at: Option<Instant>,
}

impl Actor {
    /// Until nobody can ask any more.
    pub(super) async fn run(
        mut self,
        mut requests: UnboundedReceiver<Request>,
        mut reports: UnboundedReceiver<(ServiceId, Report)>,
    ) {
        loop {
            let due = self.due();
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.asked(request),
                    None => return,
                },
                Some((service, report)) = reports.recv() => self.told(&service, report),
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a task of the supervisor ended badly");
                    }
                }
                () = tokio::time::sleep_until(due) => self.tick(),
            }
        }
    }

    fn now(&self) -> u64 {
        crate::words::millis(self.since.elapsed())
    }

    fn due(&self) -> Instant {
        let of_service = |service: &Service| {
            let machine =
                service.machine.next_deadline().map(|at| self.since + Duration::from_millis(at));
            let deserted = service.rolling.as_ref().and_then(|rolling| rolling.deserted);
            [machine, service.bind_at, deserted].into_iter().flatten().min()
        };
        let services = self.services.values().filter_map(of_service);
        services.chain(self.routes_at).min().unwrap_or_else(|| Instant::now() + LONG)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let ids: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in ids {
            self.step(&id, Input::Tick);
            let Some(service) = self.services.get_mut(&id) else { continue };
            if service.bind_at.is_some_and(|at| at <= now) {
                service.bind_at = None;
                self.bind_missing(&id);
            }
            self.look_for_owner(&id, now);
        }
        if self.routes_at.is_some_and(|at| at <= now) {
            self.routes_at = None;
            self.bind_routes();
        }
    }

    /// Lets a machine take in what happened and does what it says.
    fn step(&mut self, id: &ServiceId, input: Input) {
        let now = self.now();
        let Some(service) = self.services.get_mut(id) else { return };
        let commands = service.machine.step(now, input);
        self.perform(id, commands);
    }

    fn perform(&mut self, id: &ServiceId, commands: Vec<Command>) {
        for command in commands {
            self.perform_one(id, command);
        }
        let Some(service) = self.services.get_mut(id) else { return };
        // What is told of a replica that is gone is not needed any more, its log's place neither.
        let replicas = service.machine.replicas();
        service.replicas.retain(|slot, _| replicas.contains_key(slot));
        if service.machine.candidate().is_none() {
            self.begin_next(id);
        }
    }

    fn teller(&self, service: &ServiceId) -> Teller {
        Teller { service: service.clone(), to: self.reports.clone() }
    }

    /// Binds what a service shall listen on and does not.
    fn bind_missing(&mut self, id: &ServiceId) {
        let (place, teller) = (self.place.clone(), self.teller(id));
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(live) = service.live.as_ref().filter(|_| !service.binding) else { return };
        let mut wanted = listeners::wanted(id, &live.behaviour, place.settings.address);
        wanted.retain(|spot, _| !service.bound.contains_key(spot));
        // What the candidate was given will be the service's own, or is given back.
        if let Some(rolling) = &service.rolling {
            let own = listeners::own_port(&rolling.release.behaviour);
            wanted.retain(|spot, _| !rolling.bound.contains_key(spot) && own != Some(spot.port));
        }
        if wanted.is_empty() {
            service.problem = None;
            return;
        }
        service.binding = true;
        self.tasks.spawn(async move {
            let (bound, problem) = listeners::bind(&place, &teller.service, wanted).await;
            teller.tell(Report::Bound(bound, problem));
        });
    }

    /// Tells the gateway all routes, and sees that they are listened for.
    fn set_routes(&mut self) {
        let routes: BTreeMap<String, String> = self
            .services
            .values()
            .filter(|service| service.live.is_some())
            .filter_map(|service| Some((service.route.clone()?, listeners::live_pool(&service.id))))
            .collect();
        let wanted = !routes.is_empty();
        self.place.gateway.set_routes(routes);
        if wanted && self.routes.is_none() && self.routes_at.is_none() {
            self.bind_routes();
        }
    }

    fn bind_routes(&mut self) {
        let Some(id) = self.services.keys().next() else { return };
        // Until the answer is there nothing else tries.
        self.routes_at = Some(Instant::now() + LONG);
        let (place, teller) = (self.place.clone(), self.teller(id));
        self.tasks.spawn(async move {
            let at = place.settings.gateway;
            let bound = place.gateway.listen_routes(at).await;
            teller.tell(Report::Routes(bound.map_err(|error| listeners::refused(at, &error))));
        });
    }

    /// Of a candidate whose caller is gone: looks whether its run has an owner.
    fn look_for_owner(&mut self, id: &ServiceId, now: Instant) {
        let teller = self.teller(id);
        let Some(rolling) = self.services.get_mut(id).and_then(|one| one.rolling.as_mut()) else {
            return;
        };
        if rolling.deserted.is_none_or(|at| at > now) {
            return;
        }
        rolling.deserted = Some(now + GRACE);
        let release = rolling.release.id;
        let run = rolling.run;
        let place = self.place.clone();
        self.tasks.spawn(async move {
            // While nobody can be asked, it is not given up.
            let owned = place.has_owner(run).await.unwrap_or(true);
            teller.tell(Report::Owned(release, owned));
        });
    }
}
