//! Requests that two readers could read in two ways: refused, or forwarded as exactly one request that cannot be.

use tokio::io::AsyncWriteExt;

use crate::wire::{Backend, Front, Message, get, ok};

/// What the gateway did with the bytes.
enum Outcome {
    Refused,
    /// One request with this first line and body reached the backend.
    One(&'static str, &'static str),
}

/// Sends the bytes, then a request that must stay apart from them, on one connection.
async fn try_it(name: &str, bytes: &[u8], wanted: Outcome) {
    let mut backend = Backend::saying("fine").await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    // The gateway may close while it is still being written to.
    drop(wire.stream.write_all(bytes).await);
    let answer = wire.message().await;
    match wanted {
        Outcome::Refused => {
            // 400, or 431 of a size; what cannot be read at all is closed without a word.
            let status = answer.as_ref().map_or(400, Message::status);
            assert!([400, 431].contains(&status), "{name}: {answer:?}");
            assert_eq!(backend.others(), [], "{name}");
            drop(wire.stream.write_all(get("/next").as_bytes()).await);
            let closed = answer.is_none_or(|answer| answer.header("connection") == Some("close"));
            assert!(closed, "{name}: what follows it is not read");
            wire.rest().await;
        }
        Outcome::One(line, body) => {
            let answer = answer.unwrap_or_else(|| panic!("{name}: no answer"));
            assert_eq!(answer.status(), 200, "{name}: {answer:?}");
            let got = backend.next().await;
            assert_eq!((got.first_line(), got.text()), (line, body), "{name}");
            well_formed(name, &got);
        }
    }
    // Never was a second request made of it.
    for request in backend.others() {
        assert_eq!(request.target(), "/next", "{name}");
    }
}

/// One way only to read it.
fn well_formed(name: &str, request: &Message) {
    let framed = (request.all("content-length").len(), request.all("transfer-encoding"));
    assert!(
        matches!((framed.0, framed.1.as_slice()), (0 | 1, []) | (0, ["chunked"])),
        "{name}: {}",
        request.head
    );
    assert_eq!(request.all("host").len(), 1, "{name}: {}", request.head);
    assert_eq!(request.all("connection"), Vec::<&str>::new(), "{name}: {}", request.head);
    for line in request.head.trim_end_matches("\r\n").split("\r\n") {
        assert!(!line.contains(['\r', '\n', '\0']), "{name}: {}", request.head);
    }
    assert_eq!(request.first_line().split(' ').count(), 3, "{name}: {}", request.head);
}

#[tokio::test]
async fn ambiguous_requests_are_refused_or_become_one_clear_request() {
    use Outcome::{One, Refused};
    let post = |lines: &str, body: &str| {
        format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}").into_bytes()
    };
    let hidden = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    let line = "POST /x HTTP/1.1";
    let cases: Vec<(&str, Vec<u8>, Outcome)> = vec![
        (
            "length and chunks",
            post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", chunked),
            One(line, "hello"),
        ),
        (
            "chunks and length",
            post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", chunked),
            One(line, "hello"),
        ),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), Refused),
        (
            "one length twice",
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            One(line, "hello"),
        ),
        ("a list of lengths", post("Content-Length: 5, 5\r\n", "hello"), Refused),
        ("a length with a sign", post("Content-Length: +5\r\n", "hello"), Refused),
        ("a negative length", post("Content-Length: -5\r\n", "hello"), Refused),
        ("a length in hexadecimal", post("Content-Length: 0x5\r\n", "hello"), Refused),
        ("a huge length", post("Content-Length: 99999999999999999999\r\n", "hello"), Refused),
        ("an empty length", post("Content-Length:\r\n", "hello"), Refused),
        ("another coding", post("Transfer-Encoding: xchunked\r\n", hidden), Refused),
        ("a coding with a tail", post("Transfer-Encoding: chunked\x0b\r\n", hidden), Refused),
        ("a quoted coding", post("Transfer-Encoding: \"chunked\"\r\n", hidden), Refused),
        ("identity last", post("Transfer-Encoding: chunked, identity\r\n", hidden), Refused),
        ("two codings", post("Transfer-Encoding: gzip, chunked\r\n", chunked), Refused),
        (
            "two lines of codings",
            post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", chunked),
            Refused,
        ),
        (
            "chunked twice",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked),
            Refused,
        ),
        ("a space before the colon", post("Transfer-Encoding : chunked\r\n", hidden), Refused),
        ("a space before the name", post(" Transfer-Encoding: chunked\r\n", hidden), Refused),
        ("a folded line", post("Transfer-Encoding:\r\n chunked\r\n", hidden), Refused),
        ("a folded value", post("X-A: b\r\n\tc\r\n", ""), Refused),
        (
            "a tab after the colon",
            post("Transfer-Encoding:\tchunked\r\n", chunked),
            One(line, "hello"),
        ),
        (
            "chunks in HTTP/1.0",
            b"POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            Refused,
        ),
        ("NUL in a value", post("X-A: b\0c\r\n", ""), Refused),
        ("NUL in a name", post("X\0A: b\r\n", ""), Refused),
        ("CR in a value", post("X-A: b\rContent-Length: 5\r\n", ""), Refused),
        ("a name with a bracket", post("X[A]: b\r\n", ""), Refused),
        ("no colon", post("Whatever\r\n", ""), Refused),
        ("an empty name", post(": b\r\n", ""), Refused),
        ("bare LF", b"GET /x HTTP/1.1\nHost: a\nX-A: b\n\n".to_vec(), One("GET /x HTTP/1.1", "")),
        (
            "an empty line first",
            b"\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            One("GET /x HTTP/1.1", ""),
        ),
        (
            "a bad chunk size",
            post("Transfer-Encoding: chunked\r\n", "5g\r\nhello\r\n0\r\n\r\n"),
            Refused,
        ),
        (
            "a chunk size beyond all bounds",
            post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
            Refused,
        ),
        (
            "a chunk without its end",
            post("Transfer-Encoding: chunked\r\n", "5\r\nhelloX\r\n0\r\n\r\n"),
            Refused,
        ),
        ("no host", b"GET /x HTTP/1.1\r\n\r\n".to_vec(), Refused),
        ("two hosts", b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(), Refused),
        ("a host with a path", b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec(), Refused),
        (
            "an absolute target",
            b"GET http://b.example/x?y HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            One("GET /x?y HTTP/1.1", ""),
        ),
        (
            "an absolute target with a user",
            b"GET http://u@b/x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            Refused,
        ),
        ("CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Refused),
        ("CONNECT with a path", b"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Refused),
        (
            "all of the server",
            b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            One("OPTIONS * HTTP/1.1", ""),
        ),
        (
            "slashes and dots",
            b"GET //x/..%2f../%2e%2e//y HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            One("GET //x/..%2f../%2e%2e//y HTTP/1.1", ""),
        ),
        ("a space in the target", b"GET /x y HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Refused),
        (
            "a control character in the target",
            b"GET /x\x01y HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            Refused,
        ),
        ("a target without a slash", b"GET x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Refused),
        (
            "a star for anything but `OPTIONS`",
            b"GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            Refused,
        ),
        ("a URL of another kind", b"GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Refused),
        ("no version", b"GET /x\r\nHost: a\r\n\r\n".to_vec(), Refused),
        ("another version", b"GET /x HTTP/3.0\r\nHost: a\r\n\r\n".to_vec(), Refused),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Refused),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), Refused),
    ];
    for (name, bytes, wanted) in cases {
        try_it(name, &bytes, wanted).await;
    }
}

#[tokio::test]
async fn what_follows_a_body_is_a_request_of_its_own() {
    let mut backend =
        Backend::start(|request| crate::wire::Reply::Keep(ok(request.target()).into())).await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    // The length wins nothing over the chunks, and such a connection is not read on.
    wire.send(
        "POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /two HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .await;
    let answer = wire.message().await.unwrap();
    assert_eq!((answer.text(), answer.header("connection")), ("/one", Some("close")));
    assert!(wire.rest().await.is_empty());
    assert_eq!(backend.next().await.body, b"");
    assert_eq!(backend.others(), []);
}

#[tokio::test]
async fn the_host_of_an_absolute_target_is_the_host() {
    let mut backend = Backend::saying("fine").await;
    let front = Front::to(&[backend.address]).await;
    front.wire().await.ask("GET http://b.example:81/ HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let got = backend.next().await;
    assert_eq!(got.all("host"), ["b.example:81"]);
    assert_eq!(got.all("x-forwarded-host"), ["b.example:81"]);
}
