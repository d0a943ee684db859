//! A set of backends that answer the same, and the choice among them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::backend::{Backend, Hold};
use super::client::Client;
use super::lock;

/// Its identity stays when its backends change: listeners and routes hold it.
pub(super) struct Pool {
    name: String,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    backends: Vec<Arc<Backend>>,
    /// Where the next look begins, so that ties go round.
    turn: usize,
}

impl Pool {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), members: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.members).backends.is_empty()
    }

    /// Puts these in place of the members and gives the old ones back.
    pub(super) fn replace(&self, backends: Vec<Arc<Backend>>) -> Vec<Arc<Backend>> {
        std::mem::replace(&mut lock(&self.members).backends, backends)
    }

    /// The member with the least under way that was not tried. It counts as under way from now on, before anything can change the pool.
    pub(super) fn pick(&self, client: &Arc<Client>, tried: &[SocketAddr]) -> Option<Hold> {
        let mut members = lock(&self.members);
        let chosen = least(&members.backends, members.turn, tried)?;
        members.turn = chosen + 1;
        Some(Hold::new(members.backends[chosen].clone(), client.clone()))
    }
}

fn least(backends: &[Arc<Backend>], turn: usize, tried: &[SocketAddr]) -> Option<usize> {
    let mut best: Option<(usize, usize)> = None;
    for step in 0..backends.len() {
        let at = (turn + step) % backends.len();
        let load = backends[at].under_way();
        let better = best.is_none_or(|(_, least)| load < least);
        if better && !tried.contains(&backends[at].address()) {
            best = Some((at, load));
        }
    }
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn backends(count: u16) -> Vec<Arc<Backend>> {
        (1..=count)
            .map(|port| {
                Arc::new(Backend::new(SocketAddr::from(([127, 0, 0, 1], port)), 1, Duration::MAX))
            })
            .collect()
    }

    #[test]
    fn ties_go_round() {
        let backends = backends(3);
        assert_eq!(
            [0, 1, 2, 3].map(|turn| least(&backends, turn, &[])),
            [Some(0), Some(1), Some(2), Some(0)]
        );
        assert_eq!(least(&[], 5, &[]), None);
    }

    #[test]
    fn the_least_used_is_chosen_whoever_is_next() {
        let backends = backends(3);
        let busy: Vec<Hold> = [0, 1, 1]
            .into_iter()
            .map(|at| Hold::new(backends[at].clone(), Client::for_tests()))
            .collect();
        assert_eq!([0, 1, 2].map(|turn| least(&backends, turn, &[])), [Some(2); 3]);
        assert_eq!(least(&backends, 1, &[backends[2].address()]), Some(0));
        drop(busy);
        assert_eq!(least(&backends, 1, &[]), Some(1));
    }
}
