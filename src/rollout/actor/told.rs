//! Reports of tasks.

use std::net::IpAddr;

use tokio::time::Instant;

use super::asked::answer;
use super::perform::tell_failure;
use super::{Actor, BIND_EVERY};
use crate::names::ServiceId;
use crate::rollout::listeners::Side;
use crate::rollout::machine::{Fact, Input};
use crate::rollout::place::{NotRecorded, Report};
use crate::rollout::{Promotion, RolloutError};
use crate::state::{StateError, Swap};

impl Actor {
    pub(super) fn told(&mut self, id: &ServiceId, report: Report) {
        match report {
            Report::Replica(slot, turn, fact) => {
                if matches!(fact, Fact::Ended(_) | Fact::NotStarted(_))
                    && let Some(facts) =
                        self.services.get(id).and_then(|one| one.replicas.get(&slot))
                    && facts.release.behaviour.container.is_none()
                {
                    self.ports.give_back(facts.addresses.port);
                    facts.addresses.ports.values().for_each(|port| self.ports.give_back(*port));
                }
                self.step(id, Input::Replica(slot, turn, fact));
            }
            Report::Begun { slot, folder, started_at } => {
                let facts = self.services.get_mut(id).and_then(|one| one.replicas.get_mut(&slot));
                if let Some(facts) = facts {
                    facts.folder = Some(folder);
                    facts.started_at = started_at;
                }
            }
            Report::Reached(slot, host) => {
                let facts = self.services.get_mut(id).and_then(|one| one.replicas.get_mut(&slot));
                if let Some(facts) = facts {
                    facts.host = Some(host);
                }
            }
            Report::OnNetwork(address) => self.on_network(id, address),
            Report::Progress(text) => {
                if let Some(service) = self.services.get(id) {
                    service.progress(&text);
                }
            }
            Report::Recorded(turn, recorded) => self.recorded(id, turn, recorded),
            Report::Swapped(turn, swapped) => self.swapped(id, turn, swapped),
            Report::Bound(bound, problem) => {
                let Some(service) = self.services.get_mut(id) else { return };
                service.binding = false;
                service.bound.extend(bound);
                if let Some(live) = service.live.clone() {
                    // Another release may be live by now.
                    service.keep_wanted(&live, self.place.settings.address);
                }
                if let Some(problem) = &problem
                    && service.problem.as_ref() != Some(problem)
                {
                    tracing::warn!(service = %id, problem, "it cannot be reached");
                }
                let again = problem.as_ref().map(|_| Instant::now() + BIND_EVERY);
                service.bind_at = service.bind_at.or(again);
                let is_well = problem.is_none();
                service.problem = problem;
                if is_well {
                    // More may be missing by now, and nobody else looks again.
                    self.bind_missing(id);
                }
            }
            Report::Routes(Ok(listener)) => {
                self.routes = Some(listener);
                self.routes_problem = None;
                self.routes_at = None;
            }
            Report::Routes(Err(problem)) => {
                if self.routes_problem.as_ref() != Some(&problem) {
                    tracing::warn!(problem, "routes cannot be reached");
                }
                self.routes_problem = Some(problem);
                self.routes_at = Some(Instant::now() + BIND_EVERY);
            }
            Report::Owned(release, owned) => {
                let rolling = self.services.get(id).and_then(|one| one.rolling.as_ref());
                let deserted =
                    rolling.is_some_and(|one| one.release.id == release && one.deserted.is_some());
                if deserted && !owned {
                    let why = "the run that asked for it is gone".to_owned();
                    self.abandon(id, release, why, None);
                }
            }
        }
    }

    /// The network of its containers may have been made anew, elsewhere: what listened on the old one reaches nobody.
    fn on_network(&mut self, id: &ServiceId, address: IpAddr) {
        let Some(service) = self.services.get_mut(id) else { return };
        let before = service.bound.len();
        service.bound.retain(|spot, (listener, _)| {
            spot.side == Side::Machine || listener.address.ip() == address
        });
        if service.bound.len() < before {
            service.bind_at = Some(Instant::now());
        }
    }

    fn recorded(
        &mut self,
        id: &ServiceId,
        turn: u64,
        recorded: Result<(crate::rollout::listeners::Bound, crate::gateway::Listener), NotRecorded>,
    ) {
        let Some(service) = self.services.get_mut(id) else { return };
        let Some(rolling) = service.rolling.as_mut() else { return };
        // It may have been given up meanwhile, and another one begun.
        if rolling.turn != turn {
            return;
        }
        match recorded {
            Ok((bound, listener)) => {
                rolling.bound = bound;
                rolling.listener = Some(listener);
                self.step(id, Input::Recorded);
            }
            Err(why) => {
                let Some(rolling) = self.end_rolling(id) else { return };
                let release = rolling.release.id;
                let said = match why {
                    NotRecorded::Failed(failure) => {
                        tell_failure(rolling, &failure);
                        failure.why
                    }
                    NotRecorded::Machinery(error) => {
                        for waiting in rolling.waiting {
                            answer(waiting.reply, Err(error.clone()));
                        }
                        for reply in rolling.promoting {
                            answer(reply, Err(error.clone()));
                        }
                        error.to_string()
                    }
                };
                self.write_abandoned(id, release, said, None);
                self.step(id, Input::NotRecorded);
            }
        }
    }

    fn swapped(&mut self, id: &ServiceId, turn: u64, swapped: Result<Swap, StateError>) {
        let Some(service) = self.services.get_mut(id) else { return };
        let rolling = service.rolling.as_mut().filter(|rolling| rolling.turn == turn);
        let Some(rolling) = rolling else { return };
        let release = rolling.release.id;
        let promoting = std::mem::take(&mut rolling.promoting);
        let expected = rolling.if_live_is;
        let (input, said) = match swapped {
            Ok(Swap::Done(before)) => {
                let before = before.filter(|before| *before != release).or(expected);
                (Input::Swapped, Ok(Promotion::Promoted(before)))
            }
            Ok(Swap::LiveIs(other)) => (Input::NotSwapped, Ok(Promotion::LiveIs(other))),
            Err(error) => (Input::NotSwapped, Err(RolloutError::from(error))),
        };
        let given_up = rolling.given_up && input == Input::NotSwapped;
        self.step(id, input);
        for reply in promoting {
            answer(reply, said.clone());
        }
        if given_up {
            self.step(id, Input::Abandon);
        }
    }
}
