//! What is tried again, and what never is.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::wire::{Backend, ByHand, Front, Message, Reply, get, nobody, ok, post};

#[tokio::test]
async fn another_backend_gets_what_one_refused() {
    let mut backend = Backend::saying("here").await;
    let front = Front::to(&[nobody(), backend.address, nobody()]).await;
    let mut wire = front.wire().await;
    for _ in 0..4 {
        assert_eq!(wire.ask(post("/", "body")).await.text(), "here");
        assert_eq!(backend.next().await.text(), "body");
    }
    assert_eq!(backend.others(), []);
}

/// Answers the first request of all, and closes its connection on the second.
async fn forgetful(answer_later: bool) -> Backend {
    let seen = AtomicUsize::new(0);
    Backend::start(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Keep(ok("first").into()),
        1 => Reply::Close(Vec::new()),
        _ if answer_later => Reply::Keep(ok("again").into()),
        _ => Reply::Close(Vec::new()),
    })
    .await
}

async fn seen(backend: &mut Backend, count: usize) -> Vec<String> {
    let mut targets = Vec::new();
    for _ in 0..count {
        let Message { head, .. } = backend.next().await;
        targets.push(head.lines().next().unwrap().to_owned());
    }
    assert_eq!(backend.others(), []);
    targets
}

#[tokio::test]
async fn harmless_requests_are_repeated_once_when_a_kept_connection_closes() {
    let mut backend = forgetful(true).await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    assert_eq!(wire.ask(get("/1")).await.text(), "first");
    assert_eq!(wire.ask(get("/2")).await.text(), "again");
    assert_eq!(
        seen(&mut backend, 3).await,
        ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1", "GET /2 HTTP/1.1"]
    );

    let mut backend = forgetful(false).await;
    front.gateway.set_backends("p", &[backend.address]);
    assert_eq!(wire.ask(get("/1")).await.text(), "first");
    assert_eq!(wire.ask(get("/2")).await.status(), 502);
    assert_eq!(seen(&mut backend, 3).await.len(), 3);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice() {
    for request in [
        post("/", "pay"),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
    ] {
        let mut backend = forgetful(true).await;
        let front = Front::to(&[backend.address]).await;
        let mut wire = front.wire().await;
        assert_eq!(wire.ask(get("/")).await.text(), "first");
        assert_eq!(wire.ask(&request).await.status(), 502, "{request}");
        assert_eq!(seen(&mut backend, 2).await.len(), 2, "{request}");
    }
}

#[tokio::test]
async fn a_new_connection_that_closes_is_an_answer() {
    let mut backend = Backend::start(|_| Reply::Close(Vec::new())).await;
    let mut other = Backend::start(|_| Reply::Close(Vec::new())).await;
    let front = Front::to(&[backend.address, other.address]).await;
    assert_eq!(front.wire().await.ask(get("/")).await.status(), 502);
    assert_eq!(backend.others().len() + other.others().len(), 1);
}

#[tokio::test]
async fn an_answer_that_began_is_not_asked_for_again() {
    let seen = AtomicUsize::new(0);
    let mut backend = Backend::start(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Keep(ok("first").into()),
        _ => Reply::Close("HTTP/1.1 2".into()),
    })
    .await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    assert_eq!(wire.ask(get("/")).await.text(), "first");
    assert_eq!(wire.ask(get("/")).await.status(), 502);
    assert_eq!(backend.others().len(), 2);
}

#[tokio::test]
async fn a_connection_that_closed_while_it_waited_is_not_used() {
    let backend = ByHand::start().await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    for _ in 0..20 {
        wire.send(post("/", "pay")).await;
        let mut at = backend.accept().await;
        assert_eq!(at.message().await.unwrap().text(), "pay");
        at.send(ok("once")).await;
        assert_eq!(wire.message().await.unwrap().text(), "once");
        // Closed without a word, after the answer: what comes next must not be sent into it.
        drop(at);
    }
}
