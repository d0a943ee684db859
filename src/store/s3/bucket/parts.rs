//! Objects put together from parts. Nothing is seen before the server joined them; parts of a call that failed or was dropped are
//! removed as far as the server can be reached.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::Inner;
use super::client::reach;
use super::failure::{Failure, failure};
use super::object::try_head;
use super::retry::{answered, retried};

/// The name that the server gave to an upload.
pub(super) type UploadId = Arc<str>;

/// Makes an object of `size` bytes from what `send` sends: a part's number from 0 and its bytes, for its etag.
pub(super) async fn assembled<W>(
    inner: &Arc<Inner>,
    name: &str,
    size: u64,
    part: u64,
    mut send: impl FnMut(UploadId, u64, Range<u64>) -> W,
) -> Result<(), Failure>
where
    W: Future<Output = Result<String, Failure>>,
{
    let id: UploadId = retried(inner, |_| begin(inner, name)).await?.into();
    let unfinished = Unfinished { upload: Some((Arc::clone(inner), name.to_owned(), id.clone())) };
    let mut numbers = 0..size.div_ceil(part);
    let mut under_way = FuturesUnordered::new();
    let mut done = Vec::new();
    let result = loop {
        while under_way.len() < inner.limits.at_once
            && let Some(number) = numbers.next()
        {
            let range = number * part..size.min((number + 1) * part);
            let sending = send(id.clone(), number, range);
            under_way.push(async move { (number, sending.await) });
        }
        match under_way.next().await {
            Some((number, Ok(etag))) => done.push((number, etag)),
            Some((_, Err(failure))) => break Err(failure),
            None => break Ok(()),
        }
    };
    drop(under_way);
    done.sort();
    let ended = match result {
        Ok(()) => join(inner, name, &id, size, &done).await,
        Err(failure) => Err(failure),
    };
    unfinished.ends(ended.is_ok()).await;
    ended
}

/// An upload whose parts have to go when it does not end well.
struct Unfinished {
    upload: Option<(Arc<Inner>, String, UploadId)>,
}

impl Unfinished {
    async fn ends(mut self, well: bool) {
        if let Some((inner, name, id)) = self.upload.take()
            && !well
        {
            abort(&inner, &name, &id).await;
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((inner, name, id)) = self.upload.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { abort(&inner, &name, &id).await });
        }
    }
}

/// As well as it can be done now; what stays is found by a sweep.
async fn abort(inner: &Inner, name: &str, id: &str) {
    let reach = reach(inner).await;
    let request = reach
        .client
        .abort_multipart_upload()
        .bucket(&inner.place.bucket)
        .key(inner.place.key(name))
        .upload_id(id);
    let done = answered(inner.limits.connect, async { request.send().await.map_err(failure) });
    if let Err(failure) = done.await {
        tracing::debug!("parts of `{name}` stay until a sweep: {failure:?}");
    }
}

async fn begin(inner: &Inner, name: &str) -> Result<String, Failure> {
    let reach = reach(inner).await;
    let request = reach
        .client
        .create_multipart_upload()
        .bucket(&inner.place.bucket)
        .key(inner.place.key(name));
    let answer = answered(inner.limits.quiet, async { request.send().await.map_err(failure) });
    let unnamed = || Failure::Setup("the server gives uploads no names".to_owned());
    answer.await?.upload_id.ok_or_else(unnamed)
}

/// As S3 counts parts, from 1.
pub(super) fn part_number(number: u64) -> Result<i32, Failure> {
    i32::try_from(number + 1).map_err(|_| Failure::Setup("a file has too many parts".to_owned()))
}

/// What a part needs to have when it arrived.
pub(super) fn part_etag(etag: Option<String>) -> Result<String, Failure> {
    etag.ok_or_else(|| Failure::Setup("the server gives parts no etags".to_owned()))
}

/// Joins the parts. When a lost answer is followed by word that there is no such upload (s3s-fs says that it may not be touched), the
/// object says how it ended.
async fn join(
    inner: &Inner,
    name: &str,
    id: &str,
    size: u64,
    parts: &[(u64, String)],
) -> Result<(), Failure> {
    let parts = parts
        .iter()
        .map(|(number, etag)| {
            Ok(CompletedPart::builder().part_number(part_number(*number)?).e_tag(etag).build())
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let mut unsure = false;
    let joined = retried(inner, |tries| {
        unsure |= tries > 0;
        join_once(inner, name, id, parts.clone())
    })
    .await;
    match joined {
        Err(failure) if unsure && failure.is_refusal() => match try_head(inner, name).await? {
            Some(meta) if meta.size == size => Ok(()),
            _ => Err(failure),
        },
        other => other,
    }
}

async fn join_once(
    inner: &Inner,
    name: &str,
    id: &str,
    parts: CompletedMultipartUpload,
) -> Result<(), Failure> {
    let reach = reach(inner).await;
    let request = reach
        .client
        .complete_multipart_upload()
        .bucket(&inner.place.bucket)
        .key(inner.place.key(name))
        .upload_id(id)
        .multipart_upload(parts);
    answered(inner.limits.slow_answer, async { request.send().await.map_err(failure) }).await?;
    Ok(())
}
