//! Files up and down, in parts and ranges.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::super::StoreError;
use super::server::{Asked, Reply, Server, Then, answer, error, gone, object, ranged};
use super::{bucket, limits, told};

/// Bytes that no two parts share.
fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect()
}

fn file(folder: &tempfile::TempDir, content: &[u8]) -> PathBuf {
    let path = folder.path().join("file");
    fs_err::write(&path, content).unwrap();
    path
}

/// A server's side of one upload.
#[derive(Debug, Default)]
struct Parts {
    sent: BTreeMap<u64, Vec<u8>>,
    object: Option<Vec<u8>>,
    aborted: bool,
}

fn begun() -> Reply {
    answer(
        200,
        "",
        b"<InitiateMultipartUploadResult><UploadId>up1</UploadId></InitiateMultipartUploadResult>",
    )
}

fn joined() -> Reply {
    answer(
        200,
        "",
        b"<CompleteMultipartUploadResult><ETag>e1-3</ETag></CompleteMultipartUploadResult>",
    )
}

fn number(asked: &Asked) -> Option<u64> {
    let (_, rest) = asked.line.split_once("partNumber=")?;
    rest.split('&').next()?.parse().ok()
}

impl Parts {
    fn answer(&mut self, asked: &Asked) -> Reply {
        match (asked.line.split(' ').next(), number(asked)) {
            (Some("PUT"), Some(number)) => {
                self.sent.insert(number, asked.body.clone());
                answer(200, &format!("etag: \"part{number}\""), b"")
            }
            (Some("POST"), _) if asked.line.contains("uploads") => begun(),
            (Some("POST"), _) => {
                let named = String::from_utf8_lossy(&asked.body).matches("<PartNumber>").count();
                assert_eq!(named, self.sent.len());
                self.object = Some(self.sent.values().flatten().copied().collect());
                joined()
            }
            (Some("DELETE"), _) => {
                self.aborted = true;
                answer(204, "", b"")
            }
            _ => error(418, "NotExpected"),
        }
    }
}

#[tokio::test]
async fn parts_that_fail_are_sent_again_and_put_together() {
    let content = bytes(4500);
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, &content);
    let state = Arc::new(Mutex::new(Parts::default()));
    let (shared, mut tries) = (Arc::clone(&state), BTreeMap::<u64, u32>::new());
    let server = Server::start(move |asked| {
        if let Some(number) = number(asked) {
            let count = tries.entry(number).or_default();
            *count += 1;
            match (number, *count) {
                (2, 1) => return error(503, "SlowDown"),
                (3, 1) => return gone(),
                (4, 1) => return error(400, "RequestTimeout"),
                _ => {}
            }
        }
        shared.lock().unwrap().answer(asked)
    })
    .await;
    let moved = AtomicU64::new(0);
    let count = |bytes| {
        moved.fetch_add(bytes, Ordering::Relaxed);
    };
    bucket(&server, limits()).upload("blob/x", &path, 4500, &count).await.unwrap();
    let state = state.lock().unwrap();
    assert!(state.object.as_deref() == Some(&content[..]) && !state.aborted);
    assert_eq!(moved.load(Ordering::Relaxed), 4500, "what was sent twice counts once");
    assert_eq!(server.lines().len(), 1 + 5 + 3 + 1);
}

#[tokio::test]
async fn an_upload_that_fails_leaves_no_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, &bytes(4500));
    let state = Arc::new(Mutex::new(Parts::default()));
    let shared = Arc::clone(&state);
    let server = Server::start(move |asked| match number(asked) {
        Some(3) => error(403, "AccessDenied"),
        _ => shared.lock().unwrap().answer(asked),
    })
    .await;
    let failed = bucket(&server, limits()).upload("blob/x", &path, 4500, &|_| {}).await;
    let (text, _) = told(&failed.unwrap_err());
    assert!(text.contains("`s3:PutObject`"), "{text}");
    let state = state.lock().unwrap();
    assert!(state.aborted && state.object.is_none());
}

#[tokio::test]
async fn a_file_that_became_shorter_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, &bytes(2500));
    let state = Arc::new(Mutex::new(Parts::default()));
    let shared = Arc::clone(&state);
    let server = Server::start(move |asked| shared.lock().unwrap().answer(asked)).await;
    let failed = bucket(&server, limits()).upload("blob/x", &path, 4500, &|_| {}).await;
    assert!(
        matches!(failed.unwrap_err(), StoreError::Io(error) if error.to_string().contains("file"))
    );
    assert!(state.lock().unwrap().aborted);
}

#[tokio::test]
async fn an_upload_that_is_dropped_leaves_no_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, &bytes(2500));
    let (part_came, mut part) = tokio::sync::mpsc::unbounded_channel();
    let (abort_came, mut abort) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |asked| {
        if number(asked).is_some() {
            part_came.send(()).unwrap();
            return super::server::silence();
        }
        if asked.line.starts_with("DELETE") {
            abort_came.send(asked.line.clone()).unwrap();
            return answer(204, "", b"");
        }
        begun()
    })
    .await;
    let bucket = bucket(&server, limits());
    let mut upload =
        tokio::spawn(async move { bucket.upload("blob/x", &path, 2500, &|_| {}).await });
    tokio::select! {
        _ = part.recv() => {}
        ended = &mut upload => panic!("{ended:?}"),
    }
    upload.abort();
    let line = abort.recv().await.unwrap();
    assert!(line.starts_with("DELETE /team/models/blob/x?") && line.contains("up1"), "{line}");
}

#[tokio::test]
async fn parts_whose_joining_was_not_heard_of_are_joined() {
    for (size, fine) in [(2500, true), (2400, false)] {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, &bytes(2500));
        let mut joins = 0;
        let server = Server::start(move |asked| {
            if asked.line.starts_with("HEAD") {
                let text = format!("HTTP/1.1 200 x\r\ncontent-length: {size}\r\n\r\n");
                return Reply { bytes: text.into_bytes(), then: Then::Stay };
            }
            if asked.line.starts_with("POST") && !asked.line.contains("uploads") {
                joins += 1;
                return if joins == 1 { gone() } else { error(404, "NoSuchUpload") };
            }
            Parts::default().answer(asked)
        })
        .await;
        let done = bucket(&server, limits()).upload("blob/x", &path, 2500, &|_| {}).await;
        assert_eq!(done.is_ok(), fine, "{done:?}");
    }
}

#[tokio::test]
async fn ranges_that_fail_are_fetched_again_into_one_file() {
    let content = bytes(5300);
    let (whole, mut tries) = (content.clone(), BTreeMap::<usize, u32>::new());
    let server = Server::start(move |asked| {
        let first = asked.range().unwrap().0;
        let count = tries.entry(first).or_default();
        *count += 1;
        let good = ranged(asked, &whole);
        match (first, *count) {
            (0, 1) => good.cut(400, Then::Close),
            (1000, 1) => error(503, "SlowDown"),
            (2000, 1) => gone(),
            // Shorter than asked for, with lengths that fit each other.
            (3000, 1) => {
                let range = "etag: \"e1\"\ncontent-range: bytes 3000-3499/5300";
                answer(206, range, &whole[3000..3500])
            }
            (4000, 1) => good.cut(1, Then::Close),
            _ => good,
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fresh");
    let moved = AtomicU64::new(0);
    let count = |bytes| {
        moved.fetch_add(bytes, Ordering::Relaxed);
    };
    assert!(bucket(&server, limits()).download("blob/x", 5300, &path, &count).await.unwrap());
    assert!(fs_err::read(&path).unwrap() == content);
    assert_eq!(moved.load(Ordering::Relaxed), 5300);
    assert_eq!(server.lines().len(), 6 + 5);
}

#[tokio::test]
async fn a_server_without_ranges_serves_whole_files() {
    let content = bytes(2500);
    let whole = content.clone();
    let server = Server::start(move |_| object(&whole)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fresh");
    assert!(bucket(&server, limits()).download("blob/x", 2500, &path, &|_| {}).await.unwrap());
    assert!(fs_err::read(&path).unwrap() == content);
}

#[tokio::test]
async fn what_cannot_be_fetched_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fresh");

    let server = Server::start(|_| error(404, "NoSuchKey")).await;
    assert!(!bucket(&server, limits()).download("x", 2500, &path, &|_| {}).await.unwrap());
    assert!(!path.exists());

    let server = Server::start(|asked| ranged(asked, &bytes(2600))).await;
    let failed = bucket(&server, limits()).download("x", 2500, &path, &|_| {}).await;
    let (text, passes) = told(&failed.unwrap_err());
    assert!(!passes && text.contains("2600 bytes instead of 2500"), "{text}");
    assert!(!path.exists());

    let mut version = 0;
    let server = Server::start(move |asked| {
        version += 1;
        let (first, last) = asked.range().unwrap();
        let head = format!("etag: \"v{version}\"\ncontent-range: bytes {first}-{last}/2500");
        answer(206, &head, &bytes(2500)[first..=last])
    })
    .await;
    let failed = bucket(&server, limits()).download("x", 2500, &path, &|_| {}).await;
    let (text, _) = told(&failed.unwrap_err());
    assert!(text.contains("overwritten again and again"), "{text}");
    assert!(!path.exists());

    fs_err::write(&path, "somebody's").unwrap();
    let failed = bucket(&server, limits()).download("x", 2500, &path, &|_| {}).await;
    assert!(matches!(failed.unwrap_err(), StoreError::Io(_)));
    assert_eq!(fs_err::read_to_string(&path).unwrap(), "somebody's");
}

/// Who makes an object young gives it another etag, and the same bytes.
#[tokio::test]
async fn an_object_that_is_written_while_it_is_fetched_is_fetched_again() {
    let content = bytes(2500);
    let (whole, mut asked_for) = (content.clone(), 0);
    let server = Server::start(move |asked| {
        asked_for += 1;
        let version = if asked_for == 1 { "before" } else { "after" };
        let (first, last) = asked.range().unwrap();
        let head = format!("etag: \"{version}\"\ncontent-range: bytes {first}-{last}/2500");
        answer(206, &head, &whole[first..=last])
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fresh");
    assert!(bucket(&server, limits()).download("x", 2500, &path, &|_| {}).await.unwrap());
    assert!(fs_err::read(&path).unwrap() == content);
}

#[tokio::test]
async fn an_object_without_bytes_is_a_file_without_bytes() {
    let head = || Reply {
        bytes: b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n".to_vec(),
        then: Then::Stay,
    };
    let server = Server::script([head()]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fresh");
    assert!(bucket(&server, limits()).download("x", 0, &path, &|_| {}).await.unwrap());
    assert_eq!(fs_err::metadata(&path).unwrap().len(), 0);
}
