//! Makes objects young again: by a copy onto themselves that the server does alone, where it can.

use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::types::MetadataDirective;
use bytes::Bytes;
use futures_util::FutureExt;

use super::super::super::StoreError;
use super::client::reach;
use super::failure::{Failure, failure};
use super::object::{try_get_range, try_head, try_put};
use super::parts::{assembled, part_etag, part_number};
use super::probe::{self, Young};
use super::retry::{High, answered, retried, retried_bulk};
use super::upload::{memory, send_part};
use super::words::{WRITE, told};
use super::{Condition, Inner};

/// Bytes that the server copies with one request, at least.
const COPIED_PART: u64 = 512 << 20;

pub(super) async fn touch(inner: &Arc<Inner>, name: &str) -> Result<bool, StoreError> {
    // Boxed and without their types: the clients' futures are too deep for the compiler to look through.
    let done = match probe::young(inner).boxed().await? {
        Young::Copy => match onto_itself(inner, name).boxed().await {
            // It is too large for that.
            Err(Failure::Answer(answer)) if matches!(answer.status, 400 | 413) => {
                in_parts(inner, name).boxed().await
            }
            other => other,
        },
        Young::Parts => in_parts(inner, name).boxed().await,
        Young::Bytes => there_and_back(inner, name).boxed().await,
    };
    match done {
        Ok(there) => Ok(there),
        Err(failure) if failure.is_absent() => Ok(false),
        Err(failure) => Err(told(inner, WRITE, name, &failure)),
    }
}

/// With one request. `true`, or a failure, as the others.
pub(super) async fn onto_itself(inner: &Inner, name: &str) -> Result<bool, Failure> {
    let key = inner.place.key(name);
    retried(inner, |_| async {
        // Metadata that is replaced, if only by none, is what makes such a copy lawful.
        let request = reach(inner)
            .await
            .client
            .copy_object()
            .bucket(&inner.place.bucket)
            .copy_source(source(&inner.place.bucket, &key))
            .key(&key)
            .metadata_directive(MetadataDirective::Replace);
        answered(inner.limits.slow_answer, async { request.send().await.map_err(failure) }).await
    })
    .await?;
    Ok(true)
}

/// As a new object whose parts the server takes from the old one.
pub(super) async fn in_parts(inner: &Arc<Inner>, name: &str) -> Result<bool, Failure> {
    let Some(meta) = try_head(inner, name).await? else { return Ok(false) };
    if meta.size == 0 {
        return emptied(inner, name).await;
    }
    let part = inner.limits.part_of(meta.size).max(COPIED_PART);
    assembled(inner, name, meta.size, part, |id, number, range| async move {
        retried_bulk(inner, |_| copy_part(inner, name, &id, number, &range, meta.size)).await
    })
    .await?;
    Ok(true)
}

async fn copy_part(
    inner: &Inner,
    name: &str,
    id: &str,
    number: u64,
    range: &Range<u64>,
    size: u64,
) -> Result<String, Failure> {
    let key = inner.place.key(name);
    // Small objects may only be copied whole.
    let part = (*range != (0..size)).then(|| format!("bytes={}-{}", range.start, range.end - 1));
    let request = reach(inner)
        .await
        .client
        .upload_part_copy()
        .bucket(&inner.place.bucket)
        .copy_source(source(&inner.place.bucket, &key))
        .set_copy_source_range(part)
        .key(key)
        .upload_id(id)
        .part_number(part_number(number)?);
    let answer =
        answered(inner.limits.slow_answer, async { request.send().await.map_err(failure) });
    part_etag(answer.await?.copy_part_result.and_then(|copied| copied.e_tag))
}

/// Through this machine, a part at a time: where the server cannot copy.
async fn there_and_back(inner: &Arc<Inner>, name: &str) -> Result<bool, Failure> {
    let Some(meta) = try_head(inner, name).await? else { return Ok(false) };
    if meta.size == 0 {
        return emptied(inner, name).await;
    }
    if meta.size <= inner.limits.whole {
        let _memory = memory(inner, meta.size).await;
        let Some(bytes) = try_get_range(inner, name, &(0..meta.size)).await? else {
            return Ok(false);
        };
        try_put(inner, name, &bytes, Condition::Always, &|_| {}).await?;
        return Ok(true);
    }
    let part = inner.limits.part_of(meta.size);
    assembled(inner, name, meta.size, part, |id, number, range| async move {
        let _memory = memory(inner, range.end - range.start).await;
        let gone = || Failure::Changed("it was removed meanwhile".to_owned());
        let bytes = try_get_range(inner, name, &range).await?.ok_or_else(gone)?;
        let high = High::new(&|_| {});
        retried_bulk(inner, |_| send_part(inner, name, &id, number, &bytes, &high)).await
    })
    .await?;
    Ok(true)
}

async fn emptied(inner: &Inner, name: &str) -> Result<bool, Failure> {
    try_put(inner, name, &Bytes::new(), Condition::Always, &|_| {}).await?;
    Ok(true)
}

/// As the header wants it: percent-encoded, slashes kept.
fn source(bucket: &str, key: &str) -> String {
    let mut text = format!("{bucket}/");
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_copy_is_encoded() {
        assert_eq!(source("team", "a b/ü+%"), "team/a%20b/%C3%BC%2B%25");
    }
}
