//! Free ports for replicas: none that another replica has, and none that some other program listens on.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

/// Who has which port.
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    used: BTreeSet<u16>,
    /// The next to be tried: a port that was just given back is not used at once.
    next: u16,
}

impl Ports {
    /// All of the range is free. The first to be tried is drawn: servers of several homes that start side by side would
    /// otherwise hand out the same port in the instant before either replica listens on it.
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        let count = u64::try_from(range.len()).unwrap_or(1).max(1);
        let drawn = RandomState::new().hash_one(()) % count;
        let next = range.start().saturating_add(u16::try_from(drawn).unwrap_or(0));
        Self { range, used: BTreeSet::new(), next }
    }

    /// Takes a port that nobody listens on now; none when all are taken.
    pub(super) fn take(&mut self) -> Option<u16> {
        for _ in 0..self.range.len() {
            let port = self.next;
            self.next = if port >= *self.range.end() { *self.range.start() } else { port + 1 };
            if !self.used.contains(&port) && is_free(port) {
                self.used.insert(port);
                return Some(port);
            }
        }
        None
    }

    /// Notes a port that a replica has already.
    pub(super) fn hold(&mut self, port: u16) {
        self.used.insert(port);
    }

    /// The replica is gone.
    pub(super) fn give_back(&mut self, port: u16) {
        self.used.remove(&port);
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_never_one_that_is_listened_on() {
        let taken = crate::ports::free_port();
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).unwrap();
        let mut ports = Ports::new(taken..=taken);
        assert_eq!(ports.take(), None);
        drop(other);
        assert_eq!(ports.take(), Some(taken));
        assert_eq!(ports.take(), None);
        ports.give_back(taken);
        assert_eq!(ports.take(), Some(taken));
    }
}
