//! Which pools there are, and the one [`Backend`] of each address: an address in two pools has its requests counted once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::backend::Backend;
use super::pool::Pool;

/// All pools and backends. Changes come one after the other, under one lock.
pub(super) struct Book {
    lanes: usize,
    /// How long connections to backends wait for their next requests.
    kept: Duration,
    pools: HashMap<String, Arc<Pool>>,
    /// Held by pools and by what is under way, so that a backend that left its pool can still be drained.
    backends: HashMap<SocketAddr, Weak<Backend>>,
}

impl Book {
    /// For connections on this many lanes, each kept for so long without a request.
    pub(super) fn new(lanes: usize, kept: Duration) -> Self {
        Self { lanes, kept, pools: HashMap::new(), backends: HashMap::new() }
    }

    /// The pool of this name, empty when it is new.
    pub(super) fn pool(&mut self, name: &str) -> Arc<Pool> {
        if let Some(pool) = self.pools.get(name) {
            return pool.clone();
        }
        let pool = Arc::new(Pool::new(name));
        self.pools.insert(name.to_owned(), pool.clone());
        pool
    }

    /// After this no request is given to a backend of before; those that no pool has any more lose their idle connections.
    pub(super) fn set_backends(&mut self, pool: &str, addresses: &[SocketAddr]) {
        let mut members: Vec<Arc<Backend>> = Vec::with_capacity(addresses.len());
        for address in addresses {
            if members.iter().all(|member| member.address() != *address) {
                members.push(self.joined(*address));
            }
        }
        for backend in self.pool(pool).replace(members) {
            backend.leave();
        }
        self.forget_unused();
    }

    fn joined(&mut self, address: SocketAddr) -> Arc<Backend> {
        let backend = self.backend(address).unwrap_or_else(|| {
            let backend = Arc::new(Backend::new(address, self.lanes, self.kept));
            self.backends.insert(address, Arc::downgrade(&backend));
            backend
        });
        backend.join();
        backend
    }

    pub(super) fn backend(&self, address: SocketAddr) -> Option<Arc<Backend>> {
        self.backends.get(&address)?.upgrade()
    }

    pub(super) fn backends(&self) -> Vec<Arc<Backend>> {
        self.backends.values().filter_map(Weak::upgrade).collect()
    }

    /// Pools that are empty and that no listener or route leads to, and backends that nobody holds.
    pub(super) fn forget_unused(&mut self) {
        self.pools.retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_empty());
        self.backends.retain(|_, backend| backend.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn an_address_in_two_pools_is_one_backend() {
        let mut book = Book::new(1, Duration::MAX);
        book.set_backends("live", &[at(1), at(1)]);
        book.set_backends("candidate", &[at(1), at(2)]);
        assert_eq!(book.backends().len(), 2);
        book.set_backends("live", &[]);
        assert!(book.backend(at(1)).is_some_and(|backend| backend.is_member()));
        book.set_backends("candidate", &[at(2)]);
        assert!(book.backend(at(1)).is_none());
        assert!(book.backend(at(2)).is_some());
    }

    #[test]
    fn pools_stay_while_something_leads_to_them() {
        let mut book = Book::new(1, Duration::MAX);
        let listened = book.pool("listened");
        book.set_backends("listened", &[at(1)]);
        book.set_backends("gone", &[at(2)]);
        book.set_backends("listened", &[]);
        book.set_backends("gone", &[]);
        assert_eq!(book.pools.len(), 1);
        assert!(Arc::ptr_eq(&listened, &book.pool("listened")));
    }
}
