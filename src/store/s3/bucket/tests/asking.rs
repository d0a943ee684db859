//! Reading and listing.

use std::time::Duration;

use super::super::limits::Limits;
use super::server::{Reply, Server, Then, answer, error, gone, object, ranged, silence};
use super::{bucket, limits, told};

const TEXT: &[u8] = b"ten bytes.";

#[tokio::test]
async fn what_passes_is_tried_again() {
    let server = Server::script([
        error(503, "SlowDown"),
        error(500, "InternalError"),
        error(429, "TooManyRequests"),
        gone(),
        object(TEXT).cut(3, Then::Close),
        object(TEXT),
    ])
    .await;
    let got = bucket(&server, limits()).get("x").await.unwrap().unwrap();
    assert_eq!((&got.bytes[..], got.meta.size, got.meta.etag.as_str()), (TEXT, 10, "e1"));
    assert_eq!(got.meta.modified, 1_795_255_200_000);
    let lines = server.lines();
    assert_eq!(lines.len(), 6);
    assert!(lines.iter().all(|line| line.starts_with("GET /team/models/x")), "{lines:?}");
}

#[tokio::test]
async fn what_does_not_pass_is_told_at_once() {
    let region = |status, code: &str| {
        let text = format!("<Error><Code>{code}</Code><Message>because</Message></Error>");
        answer(status, "x-amz-bucket-region: eu-west-1", text.as_bytes())
    };
    for (reply, parts) in [
        (error(403, "AccessDenied"), ["read `x`", "`s3:GetObject`"]),
        (error(404, "NoSuchBucket"), ["no bucket `team`", "make the bucket"]),
        (error(403, "InvalidAccessKeyId"), ["credentials", "AWS_ACCESS_KEY_ID"]),
        (error(403, "SignatureDoesNotMatch"), ["credentials", "AWS_SECRET_ACCESS_KEY"]),
        (error(400, "ExpiredToken"), ["any more", "aws sso login"]),
        (error(403, "RequestTimeTooSkewed"), ["the time", "clock"]),
        (region(301, "PermanentRedirect"), ["region `eu-west-1`", "region=eu-west-1"]),
        (region(400, "AuthorizationHeaderMalformed"), ["`eu-west-1`", "AWS_REGION=eu-west-1"]),
    ] {
        let server = Server::script([reply]).await;
        let error = bucket(&server, limits()).get("x").await.unwrap_err();
        let (text, passes) = told(&error);
        assert!(text.contains("s3://team/models") && !passes, "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert_eq!(server.lines().len(), 1, "{text}");
    }
}

#[tokio::test]
async fn absent_objects_are_none_and_absent_buckets_are_not() {
    let server = Server::script([error(404, "NoSuchKey")]).await;
    assert_eq!(bucket(&server, limits()).get("x").await.unwrap(), None);

    let page = b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>";
    let absent = || answer(404, "", b"");
    let server = Server::script([absent(), answer(200, "", page), absent()]).await;
    let there = bucket(&server, limits());
    assert_eq!(there.head("x").await.unwrap(), None);
    assert_eq!(there.head("x").await.unwrap(), None);
    assert_eq!(server.lines().len(), 3);

    let server = Server::script([absent(), error(404, "NoSuchBucket")]).await;
    let (text, _) = told(&bucket(&server, limits()).head("x").await.unwrap_err());
    assert!(text.contains("no bucket `team`"), "{text}");
}

#[tokio::test]
async fn a_busy_server_is_given_up_after_a_while() {
    let server = Server::start(|_| error(503, "SlowDown")).await;
    let limits = Limits { give_up: Duration::from_millis(30), ..limits() };
    let (text, passes) = told(&bucket(&server, limits).get("x").await.unwrap_err());
    assert!(passes && text.contains("too busy") && text.contains("SlowDown"), "{text}");
    assert!(server.lines().len() > 1);
}

#[tokio::test]
async fn nobody_there_is_told_from_a_busy_server() {
    let server = Server::script([]).await;
    let limits = Limits { give_up_first: Duration::from_millis(30), ..limits() };
    let bucket = bucket(&server, limits);
    drop(server);
    let (text, passes) = told(&bucket.get("x").await.unwrap_err());
    assert!(passes && text.contains("nothing answers"), "{text}");
}

#[tokio::test]
async fn silence_is_tried_again() {
    let half = object(TEXT).cut(5, Then::Hang);
    let server = Server::script([silence(), half, object(TEXT)]).await;
    let limits = Limits { quiet: Duration::from_secs(2), ..limits() };
    let got = bucket(&server, limits).get("x").await.unwrap().unwrap();
    assert_eq!(&got.bytes[..], TEXT);
    assert_eq!(server.lines().len(), 3);

    let server = Server::start(|_| silence()).await;
    let (quiet, give_up) = (Duration::from_millis(50), Duration::from_millis(60));
    let limits = Limits { quiet, give_up, ..self::limits() };
    let (text, passes) = told(&bucket(&server, limits).get("x").await.unwrap_err());
    assert!(passes && text.contains("too slow"), "{text}");
}

#[tokio::test]
async fn a_body_of_unknown_length_is_never_taken_short() {
    let whole = || object(TEXT).unmeasured();
    let head = || answer_to_head(TEXT.len());
    let server = Server::script([whole().cut(4, Then::Close), head(), whole(), head()]).await;
    let got = bucket(&server, limits()).get("x").await.unwrap().unwrap();
    assert_eq!((&got.bytes[..], got.meta.size), (TEXT, 10));
    assert_eq!(server.lines().len(), 4);
}

fn answer_to_head(length: usize) -> Reply {
    let text = format!("HTTP/1.1 200 x\r\ncontent-length: {length}\r\netag: \"e1\"\r\n\r\n");
    Reply { bytes: text.into_bytes(), then: Then::Stay }
}

#[tokio::test]
async fn a_range_is_whole_whatever_the_server_says() {
    let says = |range: &str, body: &[u8]| answer(206, &format!("content-range: {range}"), body);
    let server = Server::script([
        // It says what was asked, and sends less with a length that fits.
        says("bytes 2-5/10", b"n b"),
        // It sends another range.
        says("bytes 2-4/10", b"n b"),
        says("bytes 2-5/10", b"n by"),
    ])
    .await;
    let got = bucket(&server, limits()).get_range("x", 2..6).await.unwrap().unwrap();
    assert_eq!(&got[..], b"n by");
    let asked = server.asked();
    assert_eq!((asked.len(), asked[0].range()), (3, Some((2, 5))));

    // It knows no ranges.
    let server = Server::script([object(TEXT)]).await;
    let got = bucket(&server, limits()).get_range("x", 2..6).await.unwrap().unwrap();
    assert_eq!(&got[..], b"n by");

    // The object is shorter.
    let server = Server::script([says("bytes 2-4/5", b"n b")]).await;
    let (text, passes) = told(&bucket(&server, limits()).get_range("x", 2..6).await.unwrap_err());
    assert!(!passes && text.contains("it has 5 bytes"), "{text}");
}

fn page(names: &[&str], count: usize, next: Option<&str>) -> Reply {
    let lines: Vec<String> = names
        .iter()
        .map(|name| format!("<Contents><Key>models/{name}</Key><Size>7</Size><LastModified>2026-11-21T10:00:00.000Z</LastModified></Contents>"))
        .collect();
    let lines = lines.concat();
    let next = next.map_or_else(
        || "<IsTruncated>false</IsTruncated>".to_owned(),
        |token| format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"),
    );
    let text =
        format!("<ListBucketResult><KeyCount>{count}</KeyCount>{next}{lines}</ListBucketResult>");
    answer(200, "", text.as_bytes())
}

#[tokio::test]
async fn a_listing_has_every_page_and_every_line() {
    let cut = page(&["a", "b"], 2, None).unmeasured();
    let lost = cut.bytes.len()
        - String::from_utf8_lossy(&cut.bytes).find("<Contents><Key>models/b").unwrap();
    let server = Server::script([
        page(&["blob/1", "blob/2"], 2, Some("more")),
        cut.cut(lost, Then::Close),
        page(&["blob/3"], 1, None),
    ])
    .await;
    let mut seen = Vec::new();
    let listed = bucket(&server, limits());
    listed
        .list("blob/", &mut |listed| seen.push((listed.name, listed.size, listed.modified)))
        .await
        .unwrap();
    let names: Vec<&str> = seen.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["blob/1", "blob/2", "blob/3"]);
    assert_eq!((seen[0].1, seen[0].2), (7, 1_795_255_200_000));
    let lines = server.lines();
    assert!(lines[0].contains("prefix=models%2Fblob%2F"), "{lines:?}");
    assert!(lines[1..].iter().all(|line| line.contains("continuation-token=more")), "{lines:?}");
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn ranged_is_what_the_tests_take_it_for() {
    let server = Server::start(|asked| ranged(asked, TEXT)).await;
    let got = bucket(&server, limits()).get_range("x", 9..10).await.unwrap().unwrap();
    assert_eq!(&got[..], b".");
}
