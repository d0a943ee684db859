//! What a client receives.

use crate::wire::{Backend, ByHand, Front, Reply, ask, get, nobody, ok, post};
use flowrun::gateway::Limits;
use flowrun::release::Protocol;
use std::time::Duration;

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let backend = Backend::start(|request| {
        Reply::Keep(
            match request.target() {
                "/204" => "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 9\r\n\r\n",
                "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            }
            .into(),
        )
    })
    .await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    wire.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(wire.head().await.unwrap().contains("content-length: 1234\r\n"));
    wire.send("HEAD /chunked HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!wire.head().await.unwrap().contains("content-length"));
    wire.send(get("/204")).await;
    let head = wire.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 204 No Content\r\nx-a: b\r\n"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    wire.send(get("/304")).await;
    let head = wire.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n"), "{head}");
    assert!(!head.contains("content-length: 0"), "{head}");
    // Nothing of a body was left on the connection, of either side.
    wire.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(wire.head().await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn what_is_of_the_backends_connection_is_left_out() {
    let backend = Backend::start(|_| {
        Reply::Close(
            "HTTP/1.1 299 Very Fine\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
             Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nhi"
                .into(),
        )
    })
    .await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    for _ in 0..2 {
        let answer = wire.ask(get("/")).await;
        assert_eq!(answer.first_line(), "HTTP/1.1 299 Very Fine");
        assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
        for gone in ["connection", "x-hop", "keep-alive"] {
            assert_eq!(answer.header(gone), None, "{gone}");
        }
        assert_eq!(answer.text(), "hi");
    }
    assert_eq!(backend.connections(), 2);
}

#[tokio::test]
async fn old_servers_end_their_answers_by_closing() {
    let mut backend = Backend::start(|request| {
        Reply::Close(format!("HTTP/1.0 200 OK\r\nServer: old\r\n\r\ngot {}", request.text()).into())
    })
    .await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    for body in ["one", "two"] {
        let answer = wire.ask(post("/", body)).await;
        assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.text(), format!("got {body}"));
        assert_eq!(backend.next().await.text(), body);
    }
}

#[tokio::test]
async fn an_old_server_that_keeps_connections_gets_each_request_on_a_new_one() {
    let mut backend = Backend::start(|_| {
        Reply::Keep(
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi".into(),
        )
    })
    .await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    for _ in 0..2 {
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(wire.ask(chunked).await.text(), "hi");
        assert_eq!(backend.next().await.text(), "hello");
    }
    assert_eq!(backend.connections(), 2);
}

#[tokio::test]
async fn preliminary_answers_are_passed_over() {
    let backend = Backend::start(|_| {
        let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
        Reply::Keep(format!("{early}{}", ok("done")).into())
    })
    .await;
    let front = Front::to(&[backend.address]).await;
    assert_eq!(ask(front.address(), get("/")).await.text(), "done");
}

#[tokio::test]
async fn failures_have_their_own_status_and_say_what_is_wrong() {
    let front = Front::to(&[]).await;
    let mut wire = front.wire().await;
    let none = wire.ask(get("/")).await;
    assert_eq!((none.status(), none.text()), (503, "nothing is ready behind `p`\n"));
    assert_eq!(none.header("retry-after"), Some("1"));

    front.gateway.set_backends("p", &[nobody(), nobody()]);
    let refused = wire.ask(get("/")).await;
    assert_eq!((refused.status(), refused.text()), (502, "`p` cannot be reached\n"));

    for nonsense in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX",
        "",
    ] {
        let backend = Backend::start(move |_| Reply::Close(nonsense.into())).await;
        front.gateway.set_backends("p", &[backend.address]);
        let answer = wire.ask(get("/")).await;
        assert_eq!(
            (answer.status(), answer.text()),
            (502, "`p` gave no valid answer\n"),
            "{nonsense}"
        );
    }

    let limits = Limits { answer: Duration::from_millis(50), ..Limits::default() };
    let silent = ByHand::start().await;
    let front = Front::limited(limits, Protocol::Http, &[silent.address]).await;
    let late = ask(front.address(), post("/", "hello")).await;
    assert_eq!((late.status(), late.text()), (504, "`p` did not answer in time\n"));
    // The backend is not left to work for nobody.
    silent.accept().await.rest().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let backend = ByHand::start().await;
    let front = Front::to(&[backend.address]).await;
    for (head, part) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "hello"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n"),
    ] {
        let mut wire = front.wire().await;
        wire.send(get("/")).await;
        let mut at = backend.accept().await;
        at.message().await.unwrap();
        at.send(format!("{head}{part}")).await;
        wire.head().await.unwrap();
        assert_eq!(wire.exactly(part.len()).await.unwrap(), part.as_bytes());
        drop(at);
        // The end comes without the end of the body.
        assert!(wire.rest().await.is_empty());
    }
}

#[tokio::test]
async fn requests_go_where_least_is_under_way_and_ties_go_round() {
    let (one, two) = (ByHand::start().await, ByHand::start().await);
    let front = Front::to(&[one.address, two.address]).await;
    let (mut first, mut second, mut third) =
        (front.wire().await, front.wire().await, front.wire().await);
    first.send(get("/first")).await;
    let mut at_one = one.accept().await;
    assert_eq!(at_one.message().await.unwrap().target(), "/first");
    second.send(get("/second")).await;
    let mut at_two = two.accept().await;
    assert_eq!(at_two.message().await.unwrap().target(), "/second");
    at_two.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\ntwo").await;
    assert_eq!(second.message().await.unwrap().text(), "two");
    // The one is still busy, so the other gets all that comes.
    third.send(get("/third")).await;
    let mut at_two = two.accept().await;
    for _ in 0..3 {
        assert_eq!(at_two.message().await.unwrap().target(), "/third");
        at_two.send(ok("two")).await;
        assert_eq!(third.message().await.unwrap().text(), "two");
        third.send(get("/third")).await;
    }
    at_two.message().await.unwrap();
    at_two.send(ok("two")).await;
    third.message().await.unwrap();
    at_one.send(ok("one")).await;
    assert_eq!(first.message().await.unwrap().text(), "one");
    // Now both are free and take turns.
    let mut words = String::new();
    let (one, two) = (Backend::saying("1").await, Backend::saying("2").await);
    front.gateway.set_backends("p", &[one.address, two.address]);
    for _ in 0..6 {
        words += third.ask(get("/")).await.text();
    }
    assert!(words == "121212" || words == "212121", "{words}");
}
