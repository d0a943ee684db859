//! What services are doing now, for people.

use super::Actor;
use crate::release::{Protocol, ReplicaStatus, ServiceState, ServiceStatus};
use crate::rollout::machine::{Phase, Replica, Role, Slot};
use crate::rollout::service::{Facts, Service};
use crate::runtime;

impl Actor {
    pub(super) fn status(&self) -> Vec<ServiceStatus> {
        self.services.values().map(|service| self.status_of(service)).collect()
    }

    /// Whether routes are listened for, or why not; none while there are none.
    pub(super) fn routes_state(&self) -> Option<Result<(), String>> {
        match (&self.routes, &self.routes_problem) {
            (Some(_), _) => Some(Ok(())),
            (None, Some(problem)) => Some(Err(problem.clone())),
            (None, None) => None,
        }
    }

    fn status_of(&self, service: &Service) -> ServiceStatus {
        let machine = &service.machine;
        let mut state = machine.state();
        let mut message = match state {
            ServiceState::Ready | ServiceState::Stopped => None,
            ServiceState::Crashing => crashing(service),
            _ => worst(service).and_then(|(slot, replica)| {
                Some(format!("replica {} {}", slot.replica, replica.why.as_ref()?))
            }),
        };
        if let Some(problem) = &service.problem {
            state = ServiceState::Unreachable;
            message = Some(problem.clone());
        } else if let (Some(problem), Some(_)) = (&self.routes_problem, &service.route) {
            message = message.or_else(|| Some(format!("its route cannot be reached: {problem}")));
        }
        let settings = &self.place.settings;
        let shown = service.live.as_ref().or(service.rolling.as_ref().map(|one| &one.release));
        let serving = shown.map(|release| &release.behaviour.serving);
        let (protocol, port) =
            serving.map_or((Protocol::Http, 0), |serving| (serving.protocol, serving.port));
        let rolling = service.rolling.as_ref().filter(|_| !machine.is_restarting());
        ServiceStatus {
            service: service.id.clone(),
            state,
            message,
            live: machine.live(),
            number: service.live.as_ref().map(|release| release.number),
            candidate: rolling.map(|rolling| (rolling.release.id, rolling.release.number)),
            wanted: machine.wanted(),
            ready: machine.ready(),
            url: protocol.url((settings.address, port).into()),
            route: service.route.as_ref().map(|route| {
                let at = self.routes.as_ref().map_or(settings.gateway, |listener| listener.address);
                format!("{}{route}", Protocol::Http.url(at))
            }),
            replicas: machine
                .replicas()
                .iter()
                .map(|(slot, replica)| replica_status(service, *slot, replica))
                .collect(),
        }
    }
}

fn replica_status(service: &Service, slot: Slot, replica: &Replica) -> ReplicaStatus {
    let facts = service.replicas.get(&slot);
    let runs = !matches!(replica.phase, Phase::Waiting { .. } | Phase::Starting);
    let running = facts.filter(|_| runs);
    let state = match replica.phase {
        Phase::Waiting { .. } => "waiting",
        Phase::Starting | Phase::Running { .. } => "starting",
        Phase::Ready { .. } => "ready",
        Phase::Draining => "draining",
        Phase::Stopping => "stopping",
    };
    ReplicaStatus {
        replica: slot.replica,
        release: slot.release,
        number: facts.map_or(0, |facts| facts.release.number),
        state: state.to_owned(),
        pid: running.and_then(|facts| runtime::main_process(facts.folder.as_deref()?)),
        address: running.and_then(Facts::at).map(|at| at.to_string()),
        started_at: running.and_then(|facts| facts.started_at),
        restarts: replica.restarts,
        last_end: replica.last_end.clone(),
    }
}

/// The live replica that is worst off.
fn worst(service: &Service) -> Option<(&Slot, &Replica)> {
    let live = service.machine.replicas().iter().filter(|(_, one)| one.role == Role::Live);
    live.max_by_key(|(_, replica)| (replica.looping, replica.restarts))
}

fn crashing(service: &Service) -> Option<String> {
    let (slot, replica) = worst(service)?;
    let why = replica.why.as_deref().unwrap_or("ended");
    let stage = &service.id.stage;
    Some(format!(
        "replica {} {why}, again and again; `flowrun rollback {stage}` brings the release before back",
        slot.replica
    ))
}
