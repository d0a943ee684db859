//! Conditional writes, removals, and what a server is found to be able to do.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::{Condition, Put};
use super::server::{Asked, Reply, Server, answer, error, gone, object};
use super::{bucket, limits, told};

const OWN: &[u8] = b"mine";

fn written(etag: &str) -> Reply {
    answer(200, &format!("etag: \"{etag}\""), b"")
}

async fn put_when_absent(replies: Vec<Reply>) -> (Put, Vec<Asked>) {
    let server = Server::script(replies).await;
    let bytes = Bytes::from_static(OWN);
    let put = bucket(&server, limits()).put("record/k", bytes, Condition::Absent).await.unwrap();
    (put, server.asked())
}

#[tokio::test]
async fn a_condition_reaches_the_server_with_the_bytes() {
    let (put, asked) = put_when_absent(vec![written("e7")]).await;
    assert_eq!(put, Put::Done { etag: "e7".to_owned() });
    assert_eq!(asked.len(), 1);
    assert!(asked[0].line.starts_with("PUT /team/models/record/k"), "{asked:?}");
    assert_eq!((asked[0].header("if-none-match"), &asked[0].body[..]), (Some("*"), OWN));

    let server = Server::script([written("e8")]).await;
    let bucket = bucket(&server, limits());
    bucket.put("x", Bytes::from_static(OWN), Condition::Matches("e7")).await.unwrap();
    assert_eq!(server.asked()[0].header("if-match"), Some("\"e7\""));
}

#[tokio::test]
async fn who_comes_late_has_lost() {
    let (put, asked) = put_when_absent(vec![error(412, "PreconditionFailed")]).await;
    assert_eq!((put, asked.len()), (Put::Lost, 1));

    for (status, code) in [(412, "PreconditionFailed"), (404, "NoSuchKey")] {
        let server = Server::script([error(status, code)]).await;
        let bucket = bucket(&server, limits());
        let put = bucket.put("x", Bytes::from_static(OWN), Condition::Matches("old")).await;
        assert_eq!(put.unwrap(), Put::Lost);
    }
}

#[tokio::test]
async fn two_at_once_are_sorted_out_by_trying_again() {
    let conflict = || error(409, "ConditionalRequestConflict");
    let (put, asked) = put_when_absent(vec![conflict(), conflict(), written("e1")]).await;
    assert_eq!((put, asked.len()), (Put::Done { etag: "e1".to_owned() }, 3));

    // Nothing was written under a conflict, so that a lost one is lost, whatever is there.
    let (put, asked) = put_when_absent(vec![conflict(), error(412, "PreconditionFailed")]).await;
    assert_eq!((put, asked.len()), (Put::Lost, 2));
}

#[tokio::test]
async fn an_own_write_whose_answer_was_lost_is_no_loss() {
    for first in
        [gone(), error(500, "InternalError"), written("e1").cut(10, super::server::Then::Close)]
    {
        let late = || error(412, "PreconditionFailed");
        let (put, asked) = put_when_absent(vec![first.clone(), late(), object(OWN)]).await;
        assert_eq!((put, asked.len()), (Put::Done { etag: "e1".to_owned() }, 3));

        let (put, asked) = put_when_absent(vec![first, late(), object(b"theirs")]).await;
        assert_eq!((put, asked.len()), (Put::Lost, 3));
    }
}

#[tokio::test]
async fn a_forbidden_write_names_the_right_that_is_missing() {
    let page = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let server = Server::script([error(403, "AccessDenied"), answer(200, "", page)]).await;
    let bucket = bucket(&server, limits());
    let failed = bucket.put("x", Bytes::from_static(OWN), Condition::Always).await.unwrap_err();
    let (text, passes) = told(&failed);
    assert!(!passes && text.contains("`s3:PutObject`"), "{text}");
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("blob/{number}")).collect()
}

#[tokio::test]
async fn many_are_removed_with_few_requests() {
    let done = || answer(200, "", b"<DeleteResult></DeleteResult>");
    let refused = b"<DeleteResult><Error><Key>models/blob/7</Key><Code>InternalError</Code></Error></DeleteResult>";
    let server = Server::script([answer(200, "", refused), done(), done(), done()]).await;
    bucket(&server, limits()).remove(&names(2100)).await.unwrap();
    let lines = server.lines();
    assert_eq!(lines.len(), 4, "the first thousand again, for the one that failed");
    assert!(lines.iter().all(|line| line.starts_with("POST /team/?delete")), "{lines:?}");

    let forbidden = b"<DeleteResult><Error><Key>models/blob/1</Key><Code>AccessDenied</Code></Error></DeleteResult>";
    let server = Server::script([answer(200, "", forbidden)]).await;
    let (text, _) = told(&bucket(&server, limits()).remove(&names(2)).await.unwrap_err());
    assert!(text.contains("`s3:DeleteObject`"), "{text}");
}

#[tokio::test]
async fn a_server_that_removes_only_single_objects_is_asked_so() {
    let server = Server::start(|asked| match asked.line.split(' ').next() {
        Some("POST") => error(501, "NotImplemented"),
        _ if asked.line.contains("blob/1") => error(404, "NoSuchKey"),
        _ => answer(204, "", b""),
    })
    .await;
    let bucket = bucket(&server, limits());
    bucket.remove(&names(3)).await.unwrap();
    bucket.remove(&names(2)).await.unwrap();
    let lines = server.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("POST")).count(), 1, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("DELETE")).count(), 5, "{lines:?}");
}

/// Keeps one marker and takes every other write, whatever its condition.
fn heedless() -> impl FnMut(&Asked) -> Reply + Send + 'static {
    let mut marker: Option<Vec<u8>> = None;
    move |asked| {
        let is_marker = asked
            .line
            .split_once("/team/models/probe")
            .is_some_and(|(_, rest)| !rest.starts_with('.'));
        match (asked.line.split(' ').next(), is_marker) {
            (Some("PUT"), true) => {
                marker = Some(asked.body.clone());
                written("e1")
            }
            (Some("PUT"), false) => written("e1"),
            (Some("DELETE"), _) => answer(204, "", b""),
            _ => marker.as_deref().map_or_else(|| error(404, "NoSuchKey"), object),
        }
    }
}

#[tokio::test]
async fn a_server_that_overwrites_anyway_is_found_out_once() {
    let server = Server::start(heedless()).await;
    assert!(!bucket(&server, limits()).is_conditional().await.unwrap());
    let before = server.lines().len();
    assert!(before > 8);
    let another = bucket(&server, limits());
    assert!(!another.is_conditional().await.unwrap());
    assert!(!another.is_conditional().await.unwrap());
    assert_eq!(server.lines().len(), before + 1, "the marker remembers it");
}

/// Keeps conditions as it should, but that it forgets for one moment of the second object that something is there.
#[tokio::test]
async fn a_server_whose_writers_meet_only_now_and_then_is_found_out() {
    let mut objects: BTreeMap<String, String> = BTreeMap::new();
    let (mut written_until_now, mut slips) = (0, 1);
    let server = Server::start(move |asked| {
        let name = asked.line.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
        match asked.line.split(' ').next() {
            Some("PUT") => {
                let there = objects.get(&name).cloned();
                let is_second = objects.len() == 2 && there.is_some();
                let fits = match (asked.header("if-none-match"), asked.header("if-match")) {
                    (Some(_), _) if is_second && slips > 0 => {
                        slips -= 1;
                        true
                    }
                    (Some(_), _) => there.is_none(),
                    (None, Some(etag)) => there.is_some_and(|there| etag == format!("\"{there}\"")),
                    (None, None) => true,
                };
                if !fits {
                    return error(412, "PreconditionFailed");
                }
                written_until_now += 1;
                objects.insert(name, format!("e{written_until_now}"));
                written(&format!("e{written_until_now}"))
            }
            Some("DELETE") => answer(204, "", b""),
            _ => error(404, "NoSuchKey"),
        }
    })
    .await;
    assert!(!bucket(&server, limits()).is_conditional().await.unwrap());
}

#[tokio::test]
async fn a_server_without_conditions_says_so() {
    let server = Server::start(|asked| {
        if asked.header("if-none-match").is_some() {
            return error(501, "NotImplemented");
        }
        match asked.line.split(' ').next() {
            Some("GET") => error(404, "NoSuchKey"),
            _ => written("e1"),
        }
    })
    .await;
    assert!(!bucket(&server, limits()).is_conditional().await.unwrap());
}
