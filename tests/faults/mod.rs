//! A proxy in front of a real server that does to requests what networks and servers under load do, at a given rate.
//!
//! Which requests it meets depends on the seed, the request and how often it was made, not on the order in which they come.

#![expect(dead_code, reason = "not every suite asks all of it")]

mod wire;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::Method;
use hyper::header::RANGE;
use hyper::http::request::Parts;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What can befall a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The connection ends before the server hears of it.
    Drop,
    /// The server does it, and the connection ends before it can say so.
    Forget,
    /// The server gets half of the body, and then the connection ends.
    CutRequest,
    /// The client gets half of the body, and then the connection ends.
    CutAnswer,
    /// The client gets half of an object, and it looks whole.
    Shorten,
    /// A moment more than usual.
    Delay,
    /// 500.
    InternalError,
    /// 503.
    SlowDown,
    /// No fault: the answer says that the object was written years ago.
    Age,
}

/// All of them but `Age`.
pub(crate) const EVERY_FAULT: &[Fault] = &[
    Fault::Drop,
    Fault::Forget,
    Fault::CutRequest,
    Fault::CutAnswer,
    Fault::Shorten,
    Fault::Delay,
    Fault::InternalError,
    Fault::SlowDown,
];

/// Which faults, and how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Of a hundred requests.
    pub(crate) percent: u64,
    /// One of these each time.
    pub(crate) faults: &'static [Fault],
    /// Another one, other requests.
    pub(crate) seed: u64,
}

impl Plan {
    fn decide(&self, request: &str, time: u64) -> Option<Fault> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&time.to_le_bytes());
        hasher.update(request.as_bytes());
        let hash = hasher.finalize();
        let number =
            |at: usize| u64::from_le_bytes(hash.as_bytes()[at..at + 8].try_into().unwrap());
        if number(0) % 100 >= self.percent {
            return None;
        }
        let count = self.faults.len() as u64;
        Some(self.faults[usize::try_from(number(8) % count).unwrap()])
    }
}

#[derive(Debug, Default)]
struct Told {
    /// How often each request was made.
    times: BTreeMap<String, u64>,
    faults: BTreeMap<Fault, u64>,
    requests: u64,
}

/// A proxy that runs until it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
    plan: Arc<Mutex<Plan>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of this server; on a thread of its own, so that tests without a runtime can have one.
    pub(crate) fn start(upstream: SocketAddr, plan: Plan) -> Self {
        let (told, plan) = (Arc::new(Mutex::new(Told::default())), Arc::new(Mutex::new(plan)));
        let (stop, stopped) = oneshot::channel();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let desk = Desk { upstream, told: Arc::clone(&told), plan: Arc::clone(&plan) };
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = wire::serve(listener, desk) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, told, plan, stop: Some(stop), thread: Some(thread) }
    }

    /// The URL of a store behind it.
    pub(crate) fn in_front_of(url: &str, plan: Plan) -> (Self, String) {
        let endpoint = url.split("endpoint=http://").nth(1).expect("a URL with an endpoint");
        let endpoint = endpoint.split('&').next().unwrap();
        let proxy = Self::start(endpoint.parse().unwrap(), plan);
        let url = url.replace(endpoint, &proxy.address.to_string());
        (proxy, url)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other faults from now on.
    pub(crate) fn change(&self, plan: Plan) {
        *self.plan.lock().unwrap() = plan;
    }

    /// Each request that came, once.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.told.lock().unwrap().times.keys().cloned().collect()
    }

    /// How many requests came, and what befell them.
    pub(crate) fn told(&self) -> (u64, BTreeMap<Fault, u64>) {
        let told = self.told.lock().unwrap();
        (told.requests, told.faults.clone())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say when the test itself has failed already.
            drop(thread.join());
        }
    }
}

/// Where each request is asked about.
#[derive(Clone)]
struct Desk {
    upstream: SocketAddr,
    told: Arc<Mutex<Told>>,
    plan: Arc<Mutex<Plan>>,
}

impl Desk {
    /// What befalls this request.
    fn fault(&self, request: &Parts) -> Option<Fault> {
        let plan = *self.plan.lock().unwrap();
        let mut told = self.told.lock().unwrap();
        told.requests += 1;
        let name = name_of(request);
        let times = told.times.entry(name.clone()).or_default();
        *times += 1;
        let time = *times;
        let fault = plan.decide(&name, time)?;
        // Lists and other answers in XML cannot be shortened and look whole.
        let is_object = request.method == Method::GET && request.uri.query().is_none_or(is_plain);
        if fault == Fault::Shorten && !is_object {
            return None;
        }
        *told.faults.entry(fault).or_default() += 1;
        Some(fault)
    }
}

/// The request without what is different each time the test runs: bucket and prefix, and the names that servers give to uploads.
fn name_of(request: &Parts) -> String {
    let path = request.uri.path().splitn(4, '/').nth(3).unwrap_or_default();
    let query = request.uri.query().unwrap_or_default().split('&');
    let query: Vec<&str> = query.filter(|parameter| !parameter.starts_with("uploadId=")).collect();
    let range = request.headers.get(RANGE).map(|range| range.to_str().unwrap_or_default());
    format!("{} {path} {} {}", request.method, query.join("&"), range.unwrap_or_default())
}

/// Clients in the manner of AWS say with every `GET` of an object that it is one.
fn is_plain(query: &str) -> bool {
    query.split('&').all(|parameter| parameter == "x-id=GetObject")
}

/// How long a delayed request waits.
const DELAY: Duration = Duration::from_millis(60);
