//! Single requests for single objects: what is said of one, its bytes, a piece of them, a new one.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::{Bytes, BytesMut};

use super::super::super::StoreError;
use super::body::{Progress, Watch};
use super::client::reach;
use super::failure::{Failure, failure, of_chain};
use super::retry::{High, answered, retried, retried_bulk, watched};
use super::words::{READ, WRITE, told};
use super::{Condition, Inner, Meta, Object, Put};

pub(super) async fn head(inner: &Inner, name: &str) -> Result<Option<Meta>, StoreError> {
    try_head(inner, name).await.map_err(|failure| told(inner, READ, name, &failure))
}

pub(super) async fn try_head(inner: &Inner, name: &str) -> Result<Option<Meta>, Failure> {
    let found = found(retried(inner, |_| head_once(inner, name)).await)?;
    if found.is_none() {
        there_is_a_bucket(inner).await?;
    }
    Ok(found)
}

async fn head_once(inner: &Inner, name: &str) -> Result<Meta, Failure> {
    let reach = reach(inner).await;
    let request = reach.client.head_object().bucket(&inner.place.bucket).key(inner.place.key(name));
    let answer =
        answered(inner.limits.quiet, async { request.send().await.map_err(failure) }).await?;
    let size = length(answer.content_length())?;
    Ok(Meta { size, modified: millis(answer.last_modified()), etag: bare(answer.e_tag()) })
}

/// An answer to `HEAD` has no body that would tell an absent bucket from an absent object.
async fn there_is_a_bucket(inner: &Inner) -> Result<(), Failure> {
    if inner.bucket_is_there.load(Ordering::Relaxed) {
        return Ok(());
    }
    let asked = retried(inner, |_| async {
        let reach = reach(inner).await;
        let request = reach.client.list_objects_v2().bucket(&inner.place.bucket).max_keys(1);
        let request = request.prefix(inner.place.key(""));
        answered(inner.limits.quiet, async { request.send().await.map_err(failure) }).await
    })
    .await;
    match asked {
        Err(failure) if failure.answer().is_some_and(|answer| answer.code == "NoSuchBucket") => {
            Err(failure)
        }
        // Who may not list knows no more than before.
        Ok(_) | Err(_) => {
            inner.bucket_is_there.store(true, Ordering::Relaxed);
            Ok(())
        }
    }
}

pub(super) async fn get(inner: &Inner, name: &str) -> Result<Option<Object>, StoreError> {
    try_get(inner, name).await.map_err(|failure| told(inner, READ, name, &failure))
}

pub(super) async fn try_get(inner: &Inner, name: &str) -> Result<Option<Object>, Failure> {
    let got = retried(inner, |_| async {
        let answer = ask(inner, name, None).await?;
        let meta =
            Meta { size: 0, modified: millis(answer.last_modified()), etag: bare(answer.e_tag()) };
        let expected = match answer.content_length() {
            Some(length) => self::length(Some(length))?,
            // Without a length, a body that was cut can look whole.
            None => head_once(inner, name).await?.size,
        };
        let bytes = body(inner, answer.body, expected).await?;
        Ok(Object { meta: Meta { size: expected, ..meta }, bytes })
    })
    .await;
    found(got)
}

pub(super) async fn get_range(
    inner: &Inner,
    name: &str,
    range: Range<u64>,
) -> Result<Option<Bytes>, StoreError> {
    let got = try_get_range(inner, name, &range).await;
    got.map_err(|failure| told(inner, READ, name, &failure))
}

pub(super) async fn try_get_range(
    inner: &Inner,
    name: &str,
    range: &Range<u64>,
) -> Result<Option<Bytes>, Failure> {
    if range.is_empty() {
        return Ok(try_head(inner, name).await?.map(|_| Bytes::new()));
    }
    let got = retried_bulk(inner, |_| async {
        let answer = ask(inner, name, Some(range)).await?;
        ranged(inner, answer, range).await
    });
    found(got.await)
}

/// The same, of the object with this etag alone.
pub(super) async fn get_range_of(
    inner: &Inner,
    name: &str,
    etag: &str,
    range: Range<u64>,
) -> Result<Option<Bytes>, StoreError> {
    let got = retried_bulk(inner, |_| async {
        let answer = ask(inner, name, Some(&range)).await?;
        if bare(answer.e_tag()) != etag {
            return Err(Failure::Changed("it was overwritten while it was read".to_owned()));
        }
        ranged(inner, answer, &range).await
    });
    found(got.await).map_err(|failure| told(inner, READ, name, &failure))
}

/// The bytes of a range that was asked for.
async fn ranged(
    inner: &Inner,
    answer: GetObjectOutput,
    range: &Range<u64>,
) -> Result<Bytes, Failure> {
    let expected = range.end - range.start;
    if let Some(said) = said_range(&answer)? {
        said.holds(range)?;
        return body(inner, answer.body, expected).await;
    }
    // The server does not know ranges and sends everything.
    let size = length(answer.content_length())?;
    if size < range.end {
        return Err(Failure::Changed(format!("it has {size} bytes, at least {} were", range.end)));
    }
    let whole = body(inner, answer.body, size).await?;
    let (start, end) = (place_in(range.start)?, place_in(range.end)?);
    Ok(whole.slice(start..end))
}

/// What a server says it sends of an object.
pub(super) struct SaidRange {
    first: u64,
    last: u64,
    /// Bytes of the whole object.
    pub total: u64,
}

impl SaidRange {
    /// It is what was asked for.
    pub(super) fn holds(&self, range: &Range<u64>) -> Result<(), Failure> {
        if self.total < range.end {
            let (total, end) = (self.total, range.end);
            return Err(Failure::Changed(format!("it has {total} bytes, at least {end} were")));
        }
        if (self.first, self.last.saturating_add(1)) == (range.start, range.end) {
            return Ok(());
        }
        let (expected, got) = (range.end - range.start, (self.last + 1).saturating_sub(self.first));
        Err(Failure::Length { expected, got })
    }
}

/// `bytes 0-99/1234`; none where the server sends everything.
pub(super) fn said_range(answer: &GetObjectOutput) -> Result<Option<SaidRange>, Failure> {
    let Some(text) = answer.content_range() else { return Ok(None) };
    let numbers = text.strip_prefix("bytes ").and_then(|text| {
        let (range, total) = text.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let total = total.parse().ok()?;
        Some(SaidRange { first: first.parse().ok()?, last: last.parse().ok()?, total })
    });
    let odd = || Failure::Setup(format!("the server sends the range `{text}`"));
    numbers.map(Some).ok_or_else(odd)
}

fn place_in(at: u64) -> Result<usize, Failure> {
    usize::try_from(at).map_err(|_| Failure::Changed("it is too large for this machine".to_owned()))
}

fn found<T>(got: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match got {
        Ok(got) => Ok(Some(got)),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Asks for an object or a range of it; the body is still to come.
pub(super) async fn ask(
    inner: &Inner,
    name: &str,
    range: Option<&Range<u64>>,
) -> Result<GetObjectOutput, Failure> {
    let reach = reach(inner).await;
    let range = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
    let request = reach
        .client
        .get_object()
        .bucket(&inner.place.bucket)
        .key(inner.place.key(name))
        .set_range(range);
    answered(inner.limits.quiet, async { request.send().await.map_err(failure) }).await
}

/// All of a body that has to be `expected` bytes long.
pub(super) async fn body(
    inner: &Inner,
    mut stream: ByteStream,
    expected: u64,
) -> Result<Bytes, Failure> {
    let mut bytes = BytesMut::with_capacity(place_in(expected)?);
    while let Some(piece) = piece(inner, &mut stream).await? {
        if bytes.len() as u64 + piece.len() as u64 > expected {
            let got = bytes.len() as u64 + piece.len() as u64;
            return Err(Failure::Length { expected, got });
        }
        bytes.extend_from_slice(&piece);
    }
    if bytes.len() as u64 != expected {
        return Err(Failure::Length { expected, got: bytes.len() as u64 });
    }
    Ok(bytes.freeze())
}

/// The next bytes of a body.
pub(super) async fn piece(
    inner: &Inner,
    stream: &mut ByteStream,
) -> Result<Option<Bytes>, Failure> {
    let quiet = inner.limits.quiet;
    match tokio::time::timeout(quiet, stream.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(error))) => Err(match of_chain(&error) {
            passing if passing.passes() => passing,
            other => Failure::Cut(format!("{other:?}")),
        }),
        Err(_) => Err(Failure::Silent(quiet)),
    }
}

pub(super) async fn put(
    inner: &Inner,
    name: &str,
    bytes: Bytes,
    condition: Condition<'_>,
) -> Result<Put, StoreError> {
    let done = try_put(inner, name, &bytes, condition, &|_| {}).await;
    done.map_err(|failure| told(inner, WRITE, name, &failure))
}

pub(super) async fn try_put(
    inner: &Inner,
    name: &str,
    bytes: &Bytes,
    condition: Condition<'_>,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<Put, Failure> {
    let high = High::new(moved);
    // An earlier try may have arrived although its answer did not.
    let unsure = AtomicBool::new(false);
    let done = retried(inner, |_| async {
        let result = put_once(inner, name, bytes, condition, &high).await;
        if result.as_ref().is_err_and(Failure::may_be_done) {
            unsure.store(true, Ordering::Relaxed);
        }
        result
    })
    .await;
    match done {
        Ok(etag) => Ok(Put::Done { etag }),
        Err(failure) if lost(&failure, condition) => {
            if unsure.load(Ordering::Relaxed)
                && let Some(object) = try_get(inner, name).await?
                && object.bytes == *bytes
            {
                return Ok(Put::Done { etag: object.meta.etag });
            }
            Ok(Put::Lost)
        }
        Err(failure) => {
            // Some servers call a bucket that is not there forbidden.
            if failure.answer().is_some_and(|answer| answer.status == 403) {
                there_is_a_bucket(inner).await?;
            }
            Err(failure)
        }
    }
}

fn lost(failure: &Failure, condition: Condition<'_>) -> bool {
    failure.answer().is_some_and(|answer| {
        answer.status == 412 || matches!(condition, Condition::Matches(_)) && failure.is_absent()
    })
}

async fn put_once(
    inner: &Inner,
    name: &str,
    bytes: &Bytes,
    condition: Condition<'_>,
    high: &High<'_>,
) -> Result<String, Failure> {
    let reach = reach(inner).await;
    let mut request = reach
        .client
        .put_object()
        .bucket(&inner.place.bucket)
        .key(inner.place.key(name))
        .body(ByteStream::from(bytes.clone()));
    request = match condition {
        Condition::Always => request,
        Condition::Absent => request.if_none_match("*"),
        Condition::Matches(etag) => request.if_match(format!("\"{etag}\"")),
    };
    let progress = Progress::default();
    let watch = Watch { bytes: bytes.clone(), progress: progress.clone() };
    let mut request = request.customize().interceptor(watch);
    if reach.encrypted {
        request = request.disable_payload_signing();
    }
    let sent = watched(inner.limits.quiet, &progress, high, async {
        request.send().await.map_err(failure)
    });
    Ok(bare(sent.await?.e_tag()))
}

/// Without quotes.
pub(super) fn bare(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_start_matches("W/").trim_matches('"').to_owned()
}

/// A length that the server said.
pub(super) fn length(said: Option<i64>) -> Result<u64, Failure> {
    said.and_then(|length| u64::try_from(length).ok())
        .ok_or_else(|| Failure::Setup("the server does not say how long objects are".to_owned()))
}

/// Unix milliseconds; 0 where nothing is said.
pub(super) fn millis(time: Option<&DateTime>) -> u64 {
    time.and_then(|time| time.to_millis().ok())
        .and_then(|millis| u64::try_from(millis).ok())
        .unwrap_or(0)
}
