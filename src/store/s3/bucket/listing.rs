//! What lies below a prefix: objects, and parts of uploads that nobody will finish.

use std::time::Duration;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::MultipartUpload;

use super::super::super::StoreError;
use super::client::reach;
use super::failure::{Failure, failure};
use super::object::millis;
use super::retry::{answered, retried};
use super::words::{ABORT, LIST, UPLOADS, told};
use super::{Inner, Listed, probe};

pub(super) async fn list(
    inner: &Inner,
    prefix: &str,
    each: &mut (dyn FnMut(Listed) + Send),
) -> Result<(), StoreError> {
    let mut token: Option<String> = None;
    loop {
        let asked = retried(inner, |_| async {
            let reach = reach(inner).await;
            let request = reach
                .client
                .list_objects_v2()
                .bucket(&inner.place.bucket)
                .prefix(inner.place.key(prefix))
                .set_continuation_token(token.clone());
            let page =
                answered(inner.limits.quiet, async { request.send().await.map_err(failure) });
            whole(page.await?)
        });
        let page = asked.await.map_err(|failure| told(inner, LIST, prefix, &failure))?;
        for object in page.contents.unwrap_or_default() {
            let Some(name) = object.key().and_then(|key| inner.place.name(key)) else { continue };
            each(Listed {
                name: name.to_owned(),
                size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                modified: millis(object.last_modified()),
            });
        }
        token = page.next_continuation_token.filter(|_| page.is_truncated == Some(true));
        if token.is_none() {
            return Ok(());
        }
    }
}

/// A page that was cut can still be read: it just has fewer lines. What is unlisted would be taken for absent.
fn whole(page: ListObjectsV2Output) -> Result<ListObjectsV2Output, Failure> {
    let lines = page.contents().len() + page.common_prefixes().len();
    let counts = page.key_count().is_none_or(|said| usize::try_from(said) == Ok(lines));
    if counts && (page.is_truncated().is_some() || page.key_count().is_some()) {
        return Ok(page);
    }
    Err(Failure::Cut("a page of the listing is not whole".to_owned()))
}

pub(super) async fn sweep_uploads(
    inner: &Inner,
    older_than: Duration,
    ours: &(dyn Fn(&str) -> bool + Send + Sync),
    dry_run: bool,
) -> Result<u64, StoreError> {
    let now = probe::server_time(inner).await?;
    let before = now.saturating_sub(crate::words::millis(older_than));
    let mut swept = 0;
    for upload in uploads(inner).await? {
        let name = upload.key().and_then(|key| inner.place.name(key));
        if millis(upload.initiated()) > before || !name.is_some_and(ours) {
            continue;
        }
        swept += 1;
        if !dry_run {
            let aborted = retried(inner, |_| abort(inner, &upload)).await;
            match aborted {
                Err(failure) if !failure.is_absent() => {
                    return Err(told(inner, ABORT, upload.key().unwrap_or_default(), &failure));
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(swept)
}

async fn uploads(inner: &Inner) -> Result<Vec<MultipartUpload>, StoreError> {
    let mut found = Vec::new();
    let mut after: (Option<String>, Option<String>) = (None, None);
    loop {
        let asked = retried(inner, |_| async {
            let reach = reach(inner).await;
            let request = reach
                .client
                .list_multipart_uploads()
                .bucket(&inner.place.bucket)
                .prefix(inner.place.key(""))
                .set_key_marker(after.0.clone())
                .set_upload_id_marker(after.1.clone());
            answered(inner.limits.quiet, async { request.send().await.map_err(failure) }).await
        });
        let page = match asked.await {
            Ok(page) => page,
            // A server that cannot list them has a rule of its own for them.
            Err(failure) if failure.answer().is_some_and(|answer| answer.status == 501) => {
                return Ok(found);
            }
            Err(failure) => return Err(told(inner, UPLOADS, "", &failure)),
        };
        found.extend(page.uploads.unwrap_or_default());
        if page.is_truncated != Some(true) || page.next_key_marker.is_none() {
            return Ok(found);
        }
        after = (page.next_key_marker, page.next_upload_id_marker);
    }
}

async fn abort(inner: &Inner, upload: &MultipartUpload) -> Result<(), Failure> {
    let reach = reach(inner).await;
    let request = reach
        .client
        .abort_multipart_upload()
        .bucket(&inner.place.bucket)
        .set_key(upload.key.clone())
        .set_upload_id(upload.upload_id.clone());
    answered(inner.limits.quiet, async { request.send().await.map_err(failure) }).await?;
    Ok(())
}
