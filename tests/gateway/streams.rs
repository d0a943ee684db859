//! Bodies that flow: nothing is held back, and nothing is taken that has no place to go.

use tokio::io::AsyncWriteExt;

use crate::wire::{Backend, ByHand, Front, Reply, get, ok, soon};

#[tokio::test]
async fn events_arrive_one_by_one() {
    let backend = ByHand::start().await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    wire.send(get("/events")).await;
    let mut at = backend.accept().await;
    at.message().await.unwrap();
    at.send(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await;
    assert!(wire.head().await.unwrap().contains("content-type: text/event-stream"));
    for event in ["data: 1\n\n", "data: 22\n\n"] {
        at.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert_eq!(wire.chunk().await.unwrap(), event.as_bytes());
    }
    // The client leaves: so does the gateway.
    drop(wire);
    at.rest().await;
}

#[tokio::test]
async fn uploads_arrive_one_by_one_and_may_be_answered_before_their_end() {
    let backend = ByHand::start().await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let mut at = backend.accept().await;
    assert!(at.head().await.unwrap().contains("transfer-encoding: chunked\r\n"));
    wire.send("3\r\none\r\n").await;
    assert_eq!(at.chunk().await.unwrap(), b"one");
    at.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nuno\r\n").await;
    wire.head().await.unwrap();
    assert_eq!(wire.chunk().await.unwrap(), b"uno");
    wire.send("3\r\ntwo\r\n").await;
    assert_eq!(at.chunk().await.unwrap(), b"two");
    at.send("3\r\ndos\r\n").await;
    assert_eq!(wire.chunk().await.unwrap(), b"dos");
    wire.send("0\r\n\r\n").await;
    assert_eq!(at.chunk().await.unwrap(), b"");
    at.send("0\r\n\r\n").await;
    assert_eq!(wire.chunk().await.unwrap(), b"");
}

#[tokio::test]
async fn an_early_answer_ends_an_upload() {
    let backend = ByHand::start().await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin").await;
    let mut at = backend.accept().await;
    at.head().await.unwrap();
    at.send("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
    let answer = wire.message().await.unwrap();
    assert_eq!((answer.status(), answer.text()), (413, "big"));
    // Neither connection can be used again.
    wire.rest().await;
    at.rest().await;
}

#[tokio::test]
async fn trailers_are_handed_on_to_those_who_want_them() {
    let mut backend = Backend::start(|_| {
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n";
        Reply::Keep(answer.into())
    })
    .await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    let body = "2\r\nhi\r\n0\r\nX-In: 5\r\n\r\n";
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-In\r\n";
    let answer = wire.ask(format!("{head}Connection: TE\r\nTE: trailers\r\n\r\n{body}")).await;
    assert_eq!((answer.text(), answer.trailers.as_str()), ("hi", "x-sum: 7\r\n"));
    let got = backend.next().await;
    assert_eq!((got.text(), got.trailers.as_str()), ("hi", "x-in: 5\r\n"));
    assert_eq!(got.header("te"), Some("trailers"));
    let answer = wire.ask(format!("{head}\r\n{body}")).await;
    assert_eq!((answer.text(), answer.trailers.as_str()), ("hi", ""));
}

/// 32 MiB that no two places of which look alike.
fn noise() -> Vec<u8> {
    (0..4_u64 << 20)
        .flat_map(|number| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_goes_through_whole_both_ways() {
    let body = noise();
    let backend = Backend::start(|request| {
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len())
                .into_bytes();
        answer.extend(&request.body);
        Reply::Keep(answer)
    })
    .await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()))
        .await;
    wire.send(&body).await;
    assert!(wire.message().await.unwrap().body == body);

    let mut chunked = Vec::new();
    for chunk in body.chunks(100_003) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        chunked.extend(chunk);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    wire.send(&chunked).await;
    assert!(wire.message().await.unwrap().body == body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_does_not_take_is_left_with_the_backend() {
    let backend = ByHand::start().await;
    let front = Front::to(&[backend.address]).await;
    let mut wire = front.wire().await;
    wire.send(get("/")).await;
    let mut at = backend.accept().await;
    at.message().await.unwrap();
    let total: usize = 512 << 20;
    at.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n")).await;
    wire.head().await.unwrap();
    // Until nothing more can be written: the sockets on the way are full then, and the gateway holds less than they do.
    let block = vec![7; 1 << 20];
    let mut written = 0;
    while let Ok(more) =
        tokio::time::timeout(std::time::Duration::from_millis(500), at.stream.write(&block)).await
    {
        written += more.unwrap();
        assert!(written < total / 2, "all of it is being taken in");
    }
    // And it goes on when the client does.
    let rest = tokio::spawn(async move {
        while written < total {
            let size = block.len().min(total - written);
            written += at.stream.write(&block[..size]).await.unwrap();
        }
        at
    });
    let mut taken = 0;
    while taken < total {
        taken += wire.exactly((total - taken).min(1 << 20)).await.unwrap().len();
    }
    let mut at = soon(rest).await.unwrap();
    wire.send(get("/again")).await;
    assert_eq!(at.message().await.unwrap().target(), "/again");
    at.send(ok("again")).await;
    assert_eq!(wire.message().await.unwrap().text(), "again");
}
