//! What one client can use up.

use std::time::Duration;

use flowrun::gateway::Limits;
use flowrun::release::Protocol;
use tokio::io::AsyncWriteExt;

use crate::wire::{Backend, ByHand, Front, Reply, get, ok, post, soon};

const SHORT: Duration = Duration::from_millis(100);
/// A busy machine may take a while until it sends the head that it has.
const HEAD: Duration = Duration::from_secs(2);
/// What comes every [`SHORT`] does not stand still for so long, also on a busy machine.
const STILL: Duration = Duration::from_secs(6);
/// So many times [`SHORT`] are longer than [`STILL`].
const MANY: usize = 70;

async fn front(limits: Limits, backend: std::net::SocketAddr) -> Front {
    Front::limited(limits, Protocol::Http, &[backend]).await
}

#[tokio::test]
async fn slow_heads_are_closed() {
    let backend = Backend::saying("hello").await;
    let front = front(Limits { head: HEAD, ..Limits::default() }, backend.address).await;
    // Nothing at all, half a head, and one byte now and then.
    assert!(front.wire().await.rest().await.is_empty());
    let mut wire = front.wire().await;
    wire.send("GET / HTTP/1.1\r\nHo").await;
    assert!(wire.rest().await.is_empty());
    let mut wire = front.wire().await;
    wire.send("GET / HTTP/1.1\r\nX: ").await;
    soon(async {
        while wire.stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    })
    .await;
    // A kept connection that asks nothing more.
    let mut wire = front.wire().await;
    assert_eq!(wire.ask(get("/")).await.text(), "hello");
    assert!(wire.rest().await.is_empty());
    assert_eq!(backend.connections(), 1);
    // The same after an answer of the gateway's own.
    front.gateway.set_backends("p", &[]);
    let mut wire = front.wire().await;
    assert_eq!(wire.ask(get("/")).await.status(), 503);
    assert!(wire.rest().await.is_empty());
}

#[tokio::test]
async fn an_answer_may_take_longer_than_a_head() {
    let backend = ByHand::start().await;
    let front = front(Limits { head: HEAD, ..Limits::default() }, backend.address).await;
    let mut wire = front.wire().await;
    wire.send(get("/")).await;
    let mut at = backend.accept().await;
    at.message().await.unwrap();
    tokio::time::sleep(HEAD * 3).await;
    at.send(ok("at last")).await;
    assert_eq!(wire.message().await.unwrap().text(), "at last");
}

#[tokio::test]
async fn heads_have_a_size() {
    let mut backend = Backend::saying("hello").await;
    let front = front(Limits { head_bytes: 10_000, ..Limits::default() }, backend.address).await;
    let with = |count: usize, size: usize| {
        let lines: Vec<String> =
            (0..count).map(|at| format!("X-{at}: {}\r\n", "x".repeat(size))).collect();
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.concat())
    };
    assert_eq!(front.wire().await.ask(with(90, 90)).await.status(), 200);
    backend.next().await;
    for request in [with(90, 200), with(1, 20_000), with(200, 1)] {
        let mut wire = front.wire().await;
        drop(wire.stream.write_all(request.as_bytes()).await);
        let answer = wire.message().await;
        assert!(answer.is_none_or(|answer| answer.status() == 431));
    }
    assert_eq!(backend.others(), []);
}

#[tokio::test]
async fn uploads_that_stand_still_are_ended() {
    let backend = Backend::saying("hello").await;
    let front = front(Limits { idle: SHORT, ..Limits::default() }, backend.address).await;
    let mut wire = front.wire().await;
    let answer = wire.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").await;
    assert_eq!(
        (answer.status(), answer.text()),
        (408, "the body of the request stood still for too long\n")
    );
    assert!(wire.rest().await.is_empty());
}

#[tokio::test]
async fn answers_that_stand_still_are_ended_and_slow_ones_are_not() {
    let backend = ByHand::start().await;
    let idle = STILL;
    let front = front(Limits { idle, ..Limits::default() }, backend.address).await;
    let mut wire = front.wire().await;
    wire.send(get("/")).await;
    let mut at = backend.accept().await;
    at.message().await.unwrap();
    at.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..MANY {
        at.send("1\r\nx\r\n").await;
        tokio::time::sleep(SHORT).await;
    }
    wire.head().await.unwrap();
    for _ in 0..MANY {
        assert_eq!(wire.chunk().await.unwrap(), b"x");
    }
    assert!(wire.rest().await.is_empty());
    at.rest().await;
}

#[tokio::test]
async fn an_upload_keeps_the_answer_waiting_and_alive() {
    let backend = ByHand::start().await;
    let limits = Limits { idle: STILL, answer: SHORT, ..Limits::default() };
    let front = front(limits, backend.address).await;
    let mut wire = front.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 75\r\n\r\n").await;
    let mut at = backend.accept().await;
    at.head().await.unwrap();
    // Longer than an answer may take, and, once it began, longer than it may stand still.
    for _ in 0..5 {
        wire.send("x").await;
        tokio::time::sleep(SHORT).await;
    }
    at.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await;
    wire.head().await.unwrap();
    for _ in 0..MANY {
        wire.send("x").await;
        tokio::time::sleep(SHORT).await;
    }
    assert_eq!(at.exactly(75).await.unwrap(), [b'x'; 75]);
    at.send("ok").await;
    assert_eq!(wire.exactly(2).await.unwrap(), b"ok");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_ended() {
    let backend = ByHand::start().await;
    let front = front(Limits { idle: SHORT, ..Limits::default() }, backend.address).await;
    let mut wire = front.wire().await;
    wire.send(get("/")).await;
    let mut at = backend.accept().await;
    at.message().await.unwrap();
    at.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40)).await;
    let block = vec![7; 1 << 20];
    soon(async { while at.stream.write_all(&block).await.is_ok() {} }).await;
    drop(wire);
}

#[tokio::test]
async fn more_connections_wait() {
    let backend = Backend::start(|request| Reply::Keep(ok(request.text()).into())).await;
    let front = front(Limits { connections: 2, ..Limits::default() }, backend.address).await;
    let (mut first, mut second) = (front.wire().await, front.wire().await);
    assert_eq!(first.ask(post("/", "1")).await.text(), "1");
    assert_eq!(second.ask(post("/", "2")).await.text(), "2");
    let mut third = front.wire().await;
    third.send(post("/", "3")).await;
    assert_eq!(first.ask(post("/", "1")).await.text(), "1");
    assert!(tokio::time::timeout(SHORT, third.stream.readable()).await.is_err());
    drop(second);
    assert_eq!(third.message().await.unwrap().text(), "3");
}

#[tokio::test]
async fn connections_to_a_backend_are_kept_for_a_while_only() {
    let backend = ByHand::start().await;
    let kept = Duration::from_secs(5);
    let front = front(Limits { kept, ..Limits::default() }, backend.address).await;
    let mut wire = front.wire().await;
    wire.send(get("/")).await;
    let mut at = backend.accept().await;
    for _ in 0..2 {
        at.message().await.unwrap();
        at.send(ok("hello")).await;
        assert_eq!(wire.message().await.unwrap().text(), "hello");
        wire.send(get("/")).await;
    }
    at.message().await.unwrap();
    at.send(ok("hello")).await;
    assert_eq!(wire.message().await.unwrap().text(), "hello");
    // Nobody asks any more. The backend need not close it.
    assert!(at.rest().await.is_empty());
}
