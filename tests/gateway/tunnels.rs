//! WebSockets and TCP.

use flowrun::gateway::Limits;
use flowrun::release::Protocol;
use tokio::io::AsyncWriteExt;

use crate::wire::{Backend, ByHand, Front, Reply, Wire, get, nobody};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Both ends of an upgraded connection.
pub(crate) async fn websocket(front: &Front, backend: &ByHand) -> (Wire, Wire) {
    let mut wire = front.wire().await;
    wire.send(ASK).await;
    let mut at = backend.accept().await;
    let asked = at.message().await.unwrap();
    assert_eq!(asked.header("connection"), Some("upgrade"));
    assert_eq!(asked.header("upgrade"), Some("websocket"));
    assert_eq!(asked.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    // The first frame comes with the head.
    at.send(format!("{AGREE}hello")).await;
    let agreed = wire.message().await.unwrap();
    assert_eq!(agreed.status(), 101);
    assert_eq!(agreed.header("connection"), Some("upgrade"));
    assert_eq!(agreed.header("upgrade"), Some("websocket"));
    assert_eq!(agreed.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(wire.exactly(5).await.unwrap(), b"hello");
    (wire, at)
}

#[tokio::test]
async fn websockets_are_joined() {
    let backend = ByHand::start().await;
    let idle = std::time::Duration::from_secs(2);
    let limits = Limits { idle, head: idle, ..Limits::default() };
    let front = Front::limited(limits, Protocol::Http, &[backend.address]).await;
    let (mut wire, mut at) = websocket(&front, &backend).await;
    wire.send("ping\0\r\n\r\n").await;
    assert_eq!(at.exactly(9).await.unwrap(), b"ping\0\r\n\r\n");
    // Silence is no reason to end it.
    tokio::time::sleep(idle * 3).await;
    at.send("pong").await;
    assert_eq!(wire.exactly(4).await.unwrap(), b"pong");
    drop(at);
    assert!(wire.rest().await.is_empty());
}

#[tokio::test]
async fn a_backend_may_refuse_an_upgrade() {
    let backend = Backend::start(|_| {
        Reply::Keep("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".into())
    })
    .await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    for _ in 0..2 {
        let answer = wire.ask(ASK).await;
        assert_eq!((answer.status(), answer.text()), (403, "no"));
    }
    assert_eq!(wire.ask(get("/")).await.status(), 403);
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn other_upgrades_are_not_offered() {
    let mut backend = Backend::saying("plain").await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    for _ in 0..2 {
        let answer = wire
            .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n")
            .await;
        assert_eq!(answer.text(), "plain");
        let got = backend.next().await;
        for gone in ["connection", "upgrade", "http2-settings"] {
            assert_eq!(got.header(gone), None);
        }
    }
}

#[tokio::test]
async fn tcp_goes_through_and_each_direction_ends_by_itself() {
    let backend = ByHand::start().await;
    let head = std::time::Duration::from_millis(500);
    let limits = Limits { head, ..Limits::default() };
    let front = Front::limited(limits, Protocol::Tcp, &[nobody(), backend.address]).await;
    for _ in 0..3 {
        let mut wire = front.wire().await;
        wire.send("question").await;
        wire.stream.shutdown().await.unwrap();
        let mut at = backend.accept().await;
        assert_eq!(at.rest().await, b"question");
        at.send("answer, after the end of the question").await;
        drop(at);
        assert_eq!(wire.rest().await, b"answer, after the end of the question");
    }
    // The backend may speak first.
    let mut wire = front.wire().await;
    let mut at = backend.accept().await;
    at.send("220 ready").await;
    assert_eq!(wire.exactly(9).await.unwrap(), b"220 ready");
    // Silence is no reason to end it: no head of a request is waited for.
    tokio::time::sleep(head * 3).await;
    wire.send("quit").await;
    assert_eq!(at.exactly(4).await.unwrap(), b"quit");
    drop(wire);
    assert!(at.rest().await.is_empty());
}

#[tokio::test]
async fn tcp_without_a_backend_is_closed() {
    let front = Front::limited(Limits::default(), Protocol::Tcp, &[]).await;
    assert!(front.wire().await.rest().await.is_empty());
    front.gateway.set_backends("p", &[nobody()]);
    assert!(front.wire().await.rest().await.is_empty());
}
