//! Listeners → backends: HTTP and TCP in front of the replicas of services. Owns sockets, connections, requests and their
//! limits. Knows nothing of pipelines, releases or processes: a pool is a name for a set of addresses.
//!
//! One task serves one client connection, and drives the backend's connection of the request under way itself: nothing is handed
//! from task to task, what a slow client does not take is not read from the backend, and ending the task ends everything it held.
//! The tasks run on threads of the gateway's own (`lanes.rs`).

mod answer;
mod backend;
mod book;
mod client;
mod download;
mod exchange;
mod headers;
mod lanes;
mod listener;
mod patience;
mod pool;
mod refusal;
mod request;
mod routes;
mod stream;
mod tcp;
mod tunnel;
mod upload;
mod upstream;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};

use crate::release::Protocol;

pub use listener::Listener;

use book::Book;
use client::Clients;
use lanes::Lanes;
use listener::Entry;
use routes::Routes;
use watch::Clock;

/// The name of a set of backends: `iris/serve`, `iris/serve candidate`.
pub type PoolName = String;

/// No limit is longer, so that a time can be added to any instant.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// Bounds on what one client may use. A head has at most 100 headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections of clients at once, all listeners together; more wait to be accepted.
    pub connections: usize,
    /// For the head of a request, from its first byte or from the last answer on a kept connection.
    pub head: Duration,
    /// Without a byte in either direction of a body, an upgraded connection excepted.
    pub idle: Duration,
    /// From the whole request to the first byte of the answer.
    pub answer: Duration,
    /// For a connection to a backend.
    pub connect: Duration,
    /// How long a connection to a backend waits for its next request. Servers close kept connections after 2 s (gunicorn), 5 s
    /// (uvicorn, Node) or later; a request that meets the closing cannot always be repeated, and a new connection costs less than a
    /// tenth of a millisecond.
    pub kept: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head: Duration::from_secs(15),
            idle: Duration::from_mins(2),
            answer: Duration::from_mins(5),
            connect: Duration::from_secs(2),
            kept: Duration::from_millis(1500),
            head_bytes: 64 * 1024,
        }
    }
}

/// All listeners and pools of one process. Cheap to clone; every method takes effect at once and none waits for requests,
/// save [`Gateway::drain`].
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

/// What every connection of a gateway sees.
struct Shared {
    limits: Limits,
    clock: Clock,
    lanes: Lanes,
    slots: Arc<Semaphore>,
    book: Mutex<Book>,
    routes: ArcSwap<Routes>,
    clients: Arc<Clients>,
}

impl Gateway {
    /// Nothing listens yet. Needs a tokio runtime with IO and time.
    pub fn new(mut limits: Limits) -> Self {
        let Limits { head, idle, answer, connect, kept, .. } = &mut limits;
        for limit in [head, idle, answer, connect, kept] {
            *limit = LONGEST.min(*limit);
        }
        let lanes = Lanes::start();
        let shared = Arc::new(Shared {
            slots: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            clock: Clock::new(&limits),
            book: Mutex::new(Book::new(lanes.count(), limits.kept)),
            limits,
            lanes,
            routes: ArcSwap::default(),
            clients: Arc::default(),
        });
        let look = look_through(Arc::downgrade(&shared), shared.clock.tick());
        shared.lanes.runtime(0).spawn(look);
        Self { shared }
    }

    /// Binds the listener that routes by path prefix ([`Gateway::set_routes`]). The longest route that is the path or is followed
    /// by `/` in it wins; it is stripped (`/iris/predict` → `/predict`) and told in `X-Forwarded-Prefix`. Nothing fits: 404.
    pub async fn listen_routes(&self, at: SocketAddr) -> std::io::Result<Listener> {
        listener::bind(&self.shared, at, Entry::Routes).await
    }

    /// Binds a listener for one pool, which may not exist yet (503 with `Retry-After`; a TCP connection is closed).
    pub async fn listen(
        &self,
        at: SocketAddr,
        pool: &str,
        protocol: Protocol,
    ) -> std::io::Result<Listener> {
        let pool = lock(&self.shared.book).pool(pool);
        let entry = match protocol {
            Protocol::Http => Entry::Http(pool),
            Protocol::Tcp => Entry::Tcp(pool),
        };
        listener::bind(&self.shared, at, entry).await
    }

    /// Replaces the backends of a pool, at once for every new request (TCP: connection). What is under way goes on where it is.
    pub fn set_backends(&self, pool: &str, backends: &[SocketAddr]) {
        lock(&self.shared.book).set_backends(pool, backends);
    }

    /// Forgets a pool.
    pub fn remove_pool(&self, pool: &str) {
        lock(&self.shared.book).set_backends(pool, &[]);
    }

    /// Replaces all routes: path prefix (`/` or `/iris`) → pool.
    pub fn set_routes(&self, routes: BTreeMap<String, PoolName>) {
        let mut book = lock(&self.shared.book);
        let routes = routes.into_iter().map(|(prefix, pool)| (prefix, book.pool(&pool)));
        self.shared.routes.store(Arc::new(Routes::new(routes)));
        book.forget_unused();
    }

    /// Waits until nothing is under way at this backend, at most `within`, then cuts what is left. Says how many were cut.
    pub async fn drain(&self, backend: SocketAddr, within: Duration) -> usize {
        let Some(backend) = lock(&self.shared.book).backend(backend) else { return 0 };
        let deadline = Instant::now() + within.min(LONGEST);
        if backend.is_quiet_by(deadline).await {
            return 0;
        }
        let cut = self.shared.clients.cut(backend.address());
        // The tasks that were ended let go of the backend when they are next run.
        backend.is_quiet_by(Instant::now() + Duration::from_secs(1)).await;
        cut
    }
}

/// Closes, at every tick, connections that nobody uses and such on which something is late. Ends with the gateway.
async fn look_through(shared: Weak<Shared>, tick: Duration) {
    let mut ticks = tokio::time::interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let backends = lock(&shared.book).backends();
        for backend in backends {
            backend.close_idle(now);
        }
        shared.clock.advance();
        shared.clients.end_late(&shared.clock);
    }
}

/// A thread that panicked under a lock leaves nothing half-done here: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
