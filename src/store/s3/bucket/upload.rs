//! Files into objects: in one request where they are small, else in parts, several at once.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use fs_err::File;

use super::super::super::StoreError;
use super::body::{Progress, Watch};
use super::client::reach;
use super::failure::{Failure, failure};
use super::object::try_put;
use super::parts::{assembled, part_etag, part_number};
use super::retry::{High, retried_bulk, watched};
use super::words::{WRITE, told};
use super::{Condition, Inner};

pub(super) async fn upload(
    inner: &Arc<Inner>,
    name: &str,
    path: &Path,
    size: u64,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), StoreError> {
    let done = send(inner, name, path, size, moved).await;
    done.map_err(|failure| told(inner, WRITE, name, &failure))
}

async fn send(
    inner: &Arc<Inner>,
    name: &str,
    path: &Path,
    size: u64,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), Failure> {
    let file = Arc::new(File::open(path)?);
    if size <= inner.limits.whole {
        let _memory = memory(inner, size).await;
        let bytes = read(inner, &file, 0..size).await?;
        return try_put(inner, name, &bytes, Condition::Always, moved).await.map(drop);
    }
    assembled(inner, name, size, inner.limits.part_of(size), |id, number, range| {
        let file = &file;
        async move {
            let _memory = memory(inner, range.end - range.start).await;
            let bytes = read(inner, file, range).await?;
            let high = High::new(moved);
            retried_bulk(inner, |_| send_part(inner, name, &id, number, &bytes, &high)).await
        }
    })
    .await
}

/// Sends one part. Returns its etag.
pub(super) async fn send_part(
    inner: &Inner,
    name: &str,
    id: &str,
    number: u64,
    bytes: &Bytes,
    high: &High<'_>,
) -> Result<String, Failure> {
    let reach = reach(inner).await;
    let progress = Progress::default();
    let watch = Watch { bytes: bytes.clone(), progress: progress.clone() };
    let mut request = reach
        .client
        .upload_part()
        .bucket(&inner.place.bucket)
        .key(inner.place.key(name))
        .upload_id(id)
        .part_number(part_number(number)?)
        .body(ByteStream::from(bytes.clone()))
        .customize()
        .interceptor(watch);
    if reach.encrypted {
        request = request.disable_payload_signing();
    }
    let answer = watched(inner.limits.quiet, &progress, high, async {
        request.send().await.map_err(failure)
    });
    part_etag(answer.await?.e_tag)
}

/// Room for so many bytes of a part.
pub(super) async fn memory(inner: &Inner, bytes: u64) -> Option<tokio::sync::SemaphorePermit<'_>> {
    inner.memory.acquire_many(inner.limits.units_of(bytes)).await.ok()
}

/// Bytes of a file; one that ends before is an error.
async fn read(inner: &Inner, file: &Arc<File>, range: Range<u64>) -> Result<Bytes, Failure> {
    let (file, buffers) = (Arc::clone(file), inner.buffers.clone());
    let read = tokio::task::spawn_blocking(move || -> std::io::Result<Bytes> {
        let size = usize::try_from(range.end - range.start).map_err(std::io::Error::other)?;
        buffers.filled(size, |bytes| {
            file.file().read_exact_at(bytes, range.start).map_err(|error| {
                std::io::Error::new(error.kind(), format!("{}: {error}", file.path().display()))
            })
        })
    });
    Ok(read.await.map_err(std::io::Error::other)??)
}
