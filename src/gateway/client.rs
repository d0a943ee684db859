//! The connections of clients: what each is doing, and how it is ended.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::Waker;

use http::HeaderValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use super::lanes::Lanes;
use super::lock;
use super::watch::{Clock, Due, Watch};

/// What a connection does once it is no longer HTTP.
pub(super) type Tunnel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One accepted connection. Its place among the connections is free when this is dropped.
pub(super) struct Client {
    number: u64,
    listener: u64,
    /// Where its task runs.
    pub(super) lane: usize,
    /// Its address, as the backend is told it.
    pub(super) address: HeaderValue,
    /// The backend that is busy for it.
    at: Mutex<Option<SocketAddr>>,
    /// What it is waited for.
    pub(super) watch: Watch,
    /// It is to finish what is under way and then to close.
    closing: AtomicBool,
    /// Of its task, which polls nothing else.
    waker: Mutex<Option<Waker>>,
    tunnel: Mutex<Option<Tunnel>>,
    task: OnceLock<AbortHandle>,
    all: Arc<Clients>,
    _slot: OwnedSemaphorePermit,
}

/// All connections of clients.
#[derive(Default)]
pub(super) struct Clients(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    last: u64,
    open: HashMap<u64, Weak<Client>>,
}

impl Clients {
    pub(super) fn number(&self) -> u64 {
        let mut numbered = lock(&self.0);
        numbered.last += 1;
        numbered.last
    }

    /// Serves a client in a task of its own, on the next lane.
    pub(super) fn open<F, T>(
        self: &Arc<Self>,
        lanes: &Lanes,
        listener: u64,
        peer: SocketAddr,
        slot: OwnedSemaphorePermit,
        serve: F,
    ) where
        F: FnOnce(Arc<Client>) -> T,
        T: Future<Output = ()> + Send + 'static,
    {
        let lane = lanes.next();
        let client = Arc::new(Client {
            number: self.number(),
            listener,
            lane,
            address: HeaderValue::from_str(&peer.ip().to_canonical().to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            at: Mutex::default(),
            watch: Watch::default(),
            closing: AtomicBool::new(false),
            waker: Mutex::default(),
            tunnel: Mutex::default(),
            task: OnceLock::new(),
            all: self.clone(),
            _slot: slot,
        });
        lock(&self.0).open.insert(client.number, Arc::downgrade(&client));
        let task = lanes.runtime(lane).spawn(serve(client.clone()));
        client.task.get_or_init(|| task.abort_handle());
    }

    fn all(&self) -> Vec<Arc<Client>> {
        // Upgraded under the lock but let go of outside: the last one out takes the lock again.
        lock(&self.0).open.values().filter_map(Weak::upgrade).collect()
    }

    /// Lets the connections of a listener end after the request that is under way.
    pub(super) fn close(&self, listener: u64) {
        for client in self.all().iter().filter(|client| client.listener == listener) {
            client.closing.store(true, Ordering::SeqCst);
            client.wake();
        }
    }

    /// Ends the connections on which a request's head does not come, and wakes those on which an answer does not.
    pub(super) fn end_late(&self, clock: &Clock) {
        for client in self.all() {
            match client.watch.due(clock) {
                None => {}
                Some(Due::Answer) => client.wake(),
                Some(Due::Head) => {
                    if let Some(task) = client.task.get() {
                        task.abort();
                    }
                }
            }
        }
    }

    /// Ends every connection that keeps this backend busy.
    pub(super) fn cut(&self, backend: SocketAddr) -> usize {
        let mut cut = 0;
        for client in self.all() {
            if *lock(&client.at) == Some(backend)
                && let Some(task) = client.task.get()
            {
                task.abort();
                cut += 1;
            }
        }
        cut
    }
}

impl Client {
    /// To be called by its task before it first waits.
    pub(super) fn wake_with(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
    }

    fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }

    /// Its task is woken when this becomes true.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub(super) fn set_at(&self, backend: Option<SocketAddr>) {
        *lock(&self.at) = backend;
    }

    /// Says what follows when the HTTP connection has ended with the answer that is being given.
    pub(super) fn continue_with(&self, tunnel: Tunnel) {
        *lock(&self.tunnel) = Some(tunnel);
    }

    pub(super) fn take_tunnel(&self) -> Option<Tunnel> {
        lock(&self.tunnel).take()
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Arc<Self> {
        let slots = Arc::new(tokio::sync::Semaphore::new(1));
        Arc::new(Self {
            number: 0,
            listener: 0,
            lane: 0,
            address: HeaderValue::from_static("127.0.0.1"),
            at: Mutex::default(),
            watch: Watch::default(),
            closing: AtomicBool::new(false),
            waker: Mutex::default(),
            tunnel: Mutex::default(),
            task: OnceLock::new(),
            all: Arc::default(),
            _slot: slots.try_acquire_owned().expect("it was just made"),
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        lock(&self.all.0).open.remove(&self.number);
    }
}
