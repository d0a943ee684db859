//! One address that answers: what is under way there, and the connections to it that wait for a request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::client::Client;
use super::lock;
use super::upstream::Upstream;

/// A backend, shared by the pools it is in and all that is under way at it.
pub(super) struct Backend {
    address: SocketAddr,
    /// The pools it is in. Changed under the lock of the book.
    pools: AtomicUsize,
    under_way: AtomicUsize,
    quiet: Notify,
    /// How long a connection waits for its next request.
    kept: Duration,
    /// By lane. The one used last is at the end, so that those there are too many of grow old.
    idle: Box<[Idle]>,
}

type Idle = Mutex<Vec<(Instant, Upstream)>>;

impl Backend {
    pub(super) fn new(address: SocketAddr, lanes: usize, kept: Duration) -> Self {
        Self {
            address,
            pools: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            quiet: Notify::new(),
            kept,
            idle: (0..lanes).map(|_| Idle::default()).collect(),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(super) fn join(&self) {
        self.pools.fetch_add(1, Ordering::SeqCst);
    }

    /// Out of its last pool, no connection is kept for it.
    pub(super) fn leave(&self) {
        if self.pools.fetch_sub(1, Ordering::SeqCst) == 1 {
            for idle in &self.idle {
                let closed = std::mem::take(&mut *lock(idle));
                drop(closed);
            }
        }
    }

    pub(super) fn is_member(&self) -> bool {
        self.pools.load(Ordering::SeqCst) > 0
    }

    /// A connection that waited, none of which was seen closed by the other side.
    fn kept(&self, lane: usize) -> Option<Upstream> {
        loop {
            let (since, mut upstream) = lock(&self.idle[lane]).pop()?;
            if since.elapsed() < self.kept && upstream.is_open() {
                return Some(upstream);
            }
        }
    }

    /// Keeps a connection for the next request.
    fn keep(&self, lane: usize, upstream: Upstream) {
        let mut idle = lock(&self.idle[lane]);
        // Asked under the lock: `leave` either sees this connection or is seen here.
        if self.is_member() {
            idle.push((Instant::now(), upstream));
        }
    }

    /// Closes what waited too long.
    pub(super) fn close_idle(&self, now: Instant) {
        for idle in &self.idle {
            let mut idle = lock(idle);
            let old = idle.partition_point(|(since, _)| now.duration_since(*since) >= self.kept);
            let closed: Vec<_> = idle.drain(..old).collect();
            if idle.is_empty() {
                idle.shrink_to_fit();
            }
            drop(idle);
            drop(closed);
        }
    }

    /// Whether nothing is under way, waited for until then.
    pub(super) async fn is_quiet_by(&self, deadline: Instant) -> bool {
        loop {
            let mut quiet = std::pin::pin!(self.quiet.notified());
            quiet.as_mut().enable();
            if self.under_way.load(Ordering::SeqCst) == 0 {
                return true;
            }
            if tokio::time::timeout_at(deadline, quiet).await.is_err() {
                return false;
            }
        }
    }
}

/// One request, upgraded or TCP connection under way at a backend, from the choice of the backend until its last byte is here.
pub(super) struct Hold {
    backend: Arc<Backend>,
    client: Arc<Client>,
}

impl Hold {
    /// To be made under the lock of the pool, so that whoever changes the pool sees it counted.
    pub(super) fn new(backend: Arc<Backend>, client: Arc<Client>) -> Self {
        backend.under_way.fetch_add(1, Ordering::SeqCst);
        client.set_at(Some(backend.address));
        Self { backend, client }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.backend.address
    }

    /// A connection on the client's thread that waited there.
    pub(super) fn kept(&self) -> Option<Upstream> {
        self.backend.kept(self.client.lane)
    }

    /// Keeps a connection for the next request and ends this one.
    pub(super) fn keep(self, upstream: Upstream) {
        self.backend.keep(self.client.lane, upstream);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.client.set_at(None);
        if self.backend.under_way.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.backend.quiet.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Limits;

    const KEPT: Duration = Duration::from_mins(10);

    #[tokio::test]
    async fn what_waits_is_closed_when_the_last_pool_is_left() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let backend = Backend::new(listener.local_addr().unwrap(), 1, KEPT);
        let limits = Limits::default();
        let connect = || Upstream::connect(backend.address, &limits);
        backend.join();
        backend.join();
        backend.keep(0, connect().await.unwrap());
        backend.leave();
        assert!(backend.kept(0).is_some());
        backend.keep(0, connect().await.unwrap());
        backend.leave();
        assert_eq!(lock(&backend.idle[0]).len(), 0);
        // What comes back later is not kept either.
        backend.keep(0, connect().await.unwrap());
        assert_eq!(lock(&backend.idle[0]).len(), 0);
    }

    #[tokio::test]
    async fn the_old_ones_are_closed_and_the_last_one_is_taken_first() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let backend = Backend::new(listener.local_addr().unwrap(), 1, KEPT);
        backend.join();
        for _ in 0..3 {
            backend.keep(0, Upstream::connect(backend.address, &Limits::default()).await.unwrap());
        }
        let times: Vec<Instant> = lock(&backend.idle[0]).iter().map(|(since, _)| *since).collect();
        backend.close_idle(times[1] + KEPT);
        assert_eq!(
            lock(&backend.idle[0]).iter().map(|(since, _)| *since).collect::<Vec<_>>(),
            [times[2]]
        );
        backend.close_idle(times[2] + KEPT);
        assert!(backend.kept(0).is_none());
    }

    #[tokio::test]
    async fn one_that_the_other_side_closed_is_not_taken() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Backend::new(listener.local_addr().unwrap(), 1, KEPT);
        backend.join();
        let upstream = Upstream::connect(backend.address, &Limits::default()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        backend.keep(0, upstream);
        drop(accepted);
        // The runtime learns of the end on its next look at the sockets.
        let noticed = async {
            while let Some(upstream) = backend.kept(0) {
                backend.keep(0, upstream);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), noticed).await.unwrap();
    }
}
