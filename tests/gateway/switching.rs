//! Backends that come and go, and listeners.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use flowrun::gateway::{Gateway, Limits};
use flowrun::release::Protocol;
use tokio::net::TcpStream;

use crate::tunnels::websocket;
use crate::wire::{
    ANY, Backend, ByHand, Front, Reply, SOON, Wire, ask, get, nobody, ok, post, soon,
};

#[tokio::test]
async fn after_a_switch_nothing_reaches_the_old() {
    let (mut old, new) = (Backend::saying("old").await, Backend::saying("new").await);
    let front = Front::to(&[old.address]).await;
    let mut kept = front.wire().await;
    assert_eq!(kept.ask(get("/")).await.text(), "old");
    old.next().await;
    front.gateway.set_backends("p", &[new.address]);
    assert_eq!(kept.ask(get("/")).await.text(), "new");
    assert_eq!(ask(front.address(), get("/")).await.text(), "new");
    assert_eq!(old.others(), []);
    front.gateway.remove_pool("p");
    assert_eq!(kept.ask(get("/")).await.status(), 503);
    front.gateway.set_backends("p", &[new.address]);
    assert_eq!(kept.ask(get("/")).await.text(), "new");
}

#[tokio::test]
async fn connections_are_kept_as_long_as_a_pool_has_the_backend() {
    let backend = ByHand::start().await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    wire.send(get("/")).await;
    let mut at = backend.accept().await;
    at.message().await.unwrap();
    at.send(ok("hello")).await;
    wire.message().await.unwrap();
    // In a second pool it is still a backend.
    front.gateway.set_backends("q", &[backend.address]);
    front.gateway.set_backends("p", &[]);
    front.gateway.set_backends("p", &[backend.address]);
    wire.send(get("/again")).await;
    assert_eq!(at.message().await.unwrap().target(), "/again");
    // Removed everywhere while a request is under way: the request ends well, the connection ends with it.
    front.gateway.remove_pool("q");
    front.gateway.remove_pool("p");
    at.send(ok("bye")).await;
    assert_eq!(wire.message().await.unwrap().text(), "bye");
    assert!(at.rest().await.is_empty());
}

#[tokio::test]
async fn draining_waits_for_all_that_is_under_way() {
    let backend = ByHand::start().await;
    let other = Backend::saying("other").await;
    let front = Front::to(&[backend.address]).await;
    let tcp = front.gateway.listen(ANY.parse().unwrap(), "p", Protocol::Tcp).await.unwrap();

    // A request without an answer, an answer without an end, a WebSocket and a TCP connection.
    let mut asking = front.wire().await;
    asking.send(get("/asking")).await;
    let mut at_asking = backend.accept().await;
    at_asking.message().await.unwrap();
    let mut streaming = front.wire().await;
    streaming.send(get("/streaming")).await;
    let mut at_streaming = backend.accept().await;
    at_streaming.message().await.unwrap();
    at_streaming.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    streaming.head().await.unwrap();
    let (mut upgraded, at_upgraded) = websocket(&front, &backend).await;
    let mut raw = Wire::to(tcp.address).await;
    let mut at_raw = backend.accept().await;
    at_raw.send("hello").await;
    raw.exactly(5).await.unwrap();

    front.gateway.set_backends("p", &[other.address]);
    let left = |count: usize, within: Duration| {
        let gateway = front.gateway.clone();
        let address = backend.address;
        let drained = Arc::new(AtomicBool::new(false));
        let told = drained.clone();
        let task = tokio::spawn(async move {
            assert_eq!(gateway.drain(address, within).await, count);
            told.store(true, Ordering::SeqCst);
        });
        (task, drained)
    };
    let (task, drained) = left(0, SOON);
    // Each of the four alone keeps it from being drained.
    at_asking.send(ok("answer")).await;
    assert_eq!(asking.message().await.unwrap().text(), "answer");
    assert_eq!(asking.ask(get("/")).await.text(), "other");
    assert!(!drained.load(Ordering::SeqCst));
    at_streaming.send("0\r\n\r\n").await;
    assert_eq!(streaming.chunk().await.unwrap(), b"");
    assert_eq!(streaming.ask(get("/")).await.text(), "other");
    assert!(!drained.load(Ordering::SeqCst));
    drop(at_upgraded);
    upgraded.rest().await;
    assert_eq!(asking.ask(get("/")).await.text(), "other");
    assert!(!drained.load(Ordering::SeqCst));
    drop(at_raw);
    raw.rest().await;
    drop(raw);
    soon(task).await.unwrap();

    assert_eq!(front.gateway.drain(backend.address, Duration::ZERO).await, 0);
    assert_eq!(front.gateway.drain("127.0.0.1:1".parse().unwrap(), SOON).await, 0);
}

#[tokio::test]
async fn what_does_not_drain_is_cut() {
    let backend = ByHand::start().await;
    let other = Backend::saying("other").await;
    let front = Front::to(&[backend.address]).await;
    let tcp = front.gateway.listen(ANY.parse().unwrap(), "p", Protocol::Tcp).await.unwrap();
    let mut asking = front.wire().await;
    asking.send(get("/asking")).await;
    let mut at_asking = backend.accept().await;
    at_asking.message().await.unwrap();
    let (mut upgraded, mut at_upgraded) = websocket(&front, &backend).await;
    let mut raw = Wire::to(tcp.address).await;
    let mut at_raw = backend.accept().await;
    let mut untouched = front.wire().await;
    front.gateway.set_backends("p", &[other.address]);
    assert_eq!(untouched.ask(get("/")).await.text(), "other");

    assert_eq!(front.gateway.drain(backend.address, Duration::from_millis(50)).await, 3);
    for wire in
        [&mut asking, &mut upgraded, &mut raw, &mut at_asking, &mut at_upgraded, &mut at_raw]
    {
        assert!(wire.rest().await.is_empty());
    }
    assert_eq!(untouched.ask(get("/")).await.text(), "other");
    assert_eq!(front.gateway.drain(backend.address, Duration::ZERO).await, 0);
}

/// Clients that never stop asking, on kept and on new connections, while every backend lives only for a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_switches_lose_nothing() {
    async fn backend() -> Backend {
        Backend::start(|request| {
            assert_eq!(request.text().len(), if request.target() == "/post" { 5 } else { 0 });
            Reply::Keep(ok("done").into())
        })
        .await
    }
    let mut live = backend().await;
    let front = Front::to(&[live.address]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (address, stop, answered) = (front.address(), stop.clone(), answered.clone());
        clients.spawn(async move {
            let mut wire = Wire::to(address).await;
            while !stop.load(Ordering::SeqCst) {
                if number % 4 == 3 {
                    wire = Wire::to(address).await;
                }
                let request = if number % 2 == 0 { get("/get") } else { post("/post", "hello") };
                let answer = wire.ask(request).await;
                assert_eq!((answer.status(), answer.text()), (200, "done"));
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    for _ in 0..200 {
        let new = backend().await;
        front.gateway.set_backends("p", &[new.address]);
        assert_eq!(front.gateway.drain(live.address, SOON).await, 0);
        // Not one request may come to it any more: it is gone.
        let before = answered.load(Ordering::SeqCst);
        live = new;
        soon(async {
            while answered.load(Ordering::SeqCst) == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = soon(clients.join_next()).await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_listener_finishes_what_it_began() {
    let backend = ByHand::start().await;
    let (gateway, address) = (Gateway::new(Limits::default()), nobody());
    gateway.set_backends("p", &[backend.address]);
    let listener = gateway.listen(address, "p", Protocol::Http).await.unwrap();
    let front = Front { gateway, listener };
    let mut waiting = front.wire().await;
    let mut busy = front.wire().await;
    busy.send(get("/")).await;
    let mut at = backend.accept().await;
    at.message().await.unwrap();
    let Front { gateway, listener } = front;
    drop(listener);
    assert!(TcpStream::connect(address).await.is_err());
    assert!(waiting.rest().await.is_empty());
    at.send(ok("finished")).await;
    let answer = busy.message().await.unwrap();
    assert_eq!((answer.text(), answer.header("connection")), ("finished", Some("close")));
    assert!(busy.rest().await.is_empty());
    // The address is free at once, and the pool still there.
    let again = gateway.listen(address, "p", Protocol::Http).await.unwrap();
    let other = Backend::saying("other").await;
    gateway.set_backends("p", &[other.address]);
    assert_eq!(ask(again.address, get("/")).await.text(), "other");
}

#[tokio::test]
async fn an_address_in_use_is_said_as_it_is() {
    let gateway = Gateway::new(Limits::default());
    let first = gateway.listen_routes(ANY.parse().unwrap()).await.unwrap();
    let Err(error) = gateway.listen(first.address, "p", Protocol::Http).await else {
        panic!("it was bound twice")
    };
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.raw_os_error().is_some());
}
