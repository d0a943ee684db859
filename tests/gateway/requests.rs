//! What a backend receives.

use crate::wire::{Backend, Front, Reply, ask, get, ok, routed};

#[tokio::test]
async fn the_longest_route_wins_and_is_taken_from_the_path() {
    let mut iris = Backend::saying("iris").await;
    let mut second = Backend::saying("second").await;
    let front = routed(&[("/iris", iris.address), ("/iris/v2", second.address)]).await;

    let answer = ask(front.address(), get("/iris/predict?a=%2F&b")).await;
    assert_eq!((answer.status(), answer.text()), (200, "iris"));
    let request = iris.next().await;
    assert_eq!(request.first_line(), "GET /predict?a=%2F&b HTTP/1.1");
    assert_eq!(request.header("host"), Some("example.com"));
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some("example.com"));
    assert_eq!(request.header("x-forwarded-prefix"), Some("/iris"));

    assert_eq!(ask(front.address(), get("/iris/v2")).await.text(), "second");
    assert_eq!(second.next().await.target(), "/");
    assert_eq!(ask(front.address(), get("/iris")).await.text(), "iris");
    assert_eq!(iris.next().await.target(), "/");

    let missing = ask(front.address(), get("/irises")).await;
    assert_eq!((missing.status(), missing.text()), (404, "no service is routed at this path\n"));
}

#[tokio::test]
async fn routes_are_replaced_as_a_whole() {
    let iris = Backend::saying("iris").await;
    let front = routed(&[("/iris", iris.address)]).await;
    let mut wire = front.wire().await;
    assert_eq!(wire.ask(get("/iris")).await.status(), 200);
    front.gateway.set_routes([("/".to_owned(), "/iris".to_owned())].into());
    assert_eq!(wire.ask(get("/other")).await.text(), "iris");
    front.gateway.set_routes([].into());
    assert_eq!(wire.ask(get("/iris")).await.status(), 404);
}

#[tokio::test]
async fn what_clients_claim_and_what_is_of_their_connection_is_left_out() {
    let mut backend = Backend::saying("hello").await;
    let front = Front::to(&[backend.address]).await;
    let request = "GET /a//b/..%2f/../c HTTP/1.1\r\nHost: example.com:80\r\nConnection: close, X-Hop\r\n\
        X-Hop: 1\r\nKeep-Alive: timeout=9\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\
        X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Prefix: /x\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\
        Proxy-Authorization: Basic x\r\nAccept: */*\r\n\r\n";
    let mut wire = front.wire().await;
    let answer = wire.ask(request).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(wire.rest().await.is_empty());
    let got = backend.next().await;
    let mut lines: Vec<&str> = got.head.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "GET /a//b/..%2f/../c HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept: */*",
            "host: example.com:80",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: example.com:80",
            "x-forwarded-proto: http",
        ]
    );
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let backend = Backend::start(|request| Reply::Keep(ok(request.target()).into())).await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    for path in ["/a", "/b", "/c"] {
        assert_eq!(wire.ask(get(path)).await.text(), path);
    }
    // In one packet, answered in order.
    wire.send([get("/d"), get("/e")].concat()).await;
    assert_eq!(wire.message().await.unwrap().text(), "/d");
    assert_eq!(wire.message().await.unwrap().text(), "/e");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn old_clients_get_old_answers() {
    let mut backend = Backend::start(|_| {
        Reply::Keep(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".into(),
        )
    })
    .await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    let answer = wire.ask("GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.head.starts_with("HTTP/1.0 200 OK\r\n"), "{}", answer.head);
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.text(), "hello");
    let request = backend.next().await;
    assert_eq!(request.first_line(), "GET / HTTP/1.1");
    assert_eq!(request.header("host"), Some("localhost"));
    assert_eq!(request.header("x-forwarded-host"), None);

    let kept = Backend::saying("hi").await;
    front.gateway.set_backends("p", &[kept.address]);
    let mut wire = front.wire().await;
    for _ in 0..2 {
        let answer = wire.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        assert_eq!((answer.text(), answer.header("connection")), ("hi", Some("keep-alive")));
    }
}

#[tokio::test]
async fn bodies_arrive_as_they_were_sent() {
    let mut backend = Backend::saying("ok").await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    for (request, framing, body) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", ("5", None), "hello"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", ("0", None), ""),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            ("", Some("chunked")),
            "hello",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            ("", Some("chunked")),
            "hi",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", ("2", None), "hi"),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", ("", None), ""),
    ] {
        assert_eq!(wire.ask(request).await.status(), 200, "{request}");
        let got = backend.next().await;
        assert_eq!(got.header("content-length").unwrap_or_default(), framing.0, "{request}");
        assert_eq!(got.header("transfer-encoding"), framing.1, "{request}");
        assert_eq!(got.text(), body, "{request}");
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_continue() {
    let mut backend = Backend::saying("thanks").await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert_eq!(wire.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    wire.send("hello").await;
    assert_eq!(wire.message().await.unwrap().text(), "thanks");
    let got = backend.next().await;
    assert_eq!((got.text(), got.header("expect")), ("hello", None));

    // Refused without the body: no `100`, and the connection is of no more use.
    front.gateway.set_backends("p", &[]);
    let mut wire = front.wire().await;
    let answer = wire
        .ask("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert_eq!(answer.status(), 503);
    assert!(wire.rest().await.is_empty());
}
