//! Objects away: a thousand with one request, or one by one where the server knows only that.

use std::sync::atomic::Ordering;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures_util::FutureExt;
use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};

use super::super::super::StoreError;
use super::client::reach;
use super::failure::{Answer, Failure, failure};
use super::retry::{answered, once, retried};
use super::words::{REMOVE, told};
use super::{Inner, Removed};

/// S3's own: objects of one request.
const BATCH: usize = 1000;
/// Single removals at once.
const AT_ONCE: usize = 16;

pub(super) async fn remove(inner: &Inner, names: &[String]) -> Result<(), StoreError> {
    for names in names.chunks(BATCH) {
        if names.len() == 1 || inner.removes_singly.load(Ordering::Relaxed) {
            one_by_one(inner, names).await?;
            continue;
        }
        match retried(inner, |_| together(inner, names)).await {
            Ok(()) => {}
            Err(failure) if is_unknown(&failure) => {
                one_by_one(inner, names).await?;
                inner.removes_singly.store(true, Ordering::Relaxed);
            }
            Err(failure) => return Err(told(inner, REMOVE, &names[0], &failure)),
        }
    }
    Ok(())
}

/// At most [`BATCH`] of them.
pub(super) async fn remove_once(inner: &Inner, names: &[String]) -> Result<Removed, StoreError> {
    let Some(first) = names.first() else { return Ok(Removed::All) };
    let done = if names.len() == 1 || inner.removes_singly.load(Ordering::Relaxed) {
        // Collected, since the compiler does not look through a stream that still makes them.
        let removing: Vec<_> = names.iter().map(|name| single_once(inner, name).boxed()).collect();
        stream::iter(removing).buffer_unordered(AT_ONCE).try_collect().await
    } else {
        once(inner, together(inner, names).boxed()).await
    };
    match done {
        Ok(()) => Ok(Removed::All),
        Err(failure) => {
            let error = told(inner, REMOVE, first, &failure);
            if names.len() > 1 && is_unknown(&failure) {
                inner.removes_singly.store(true, Ordering::Relaxed);
                Ok(Removed::Unknown(error))
            } else if failure.passes() {
                Ok(Removed::Unknown(error))
            } else {
                Err(error)
            }
        }
    }
}

async fn single_once(inner: &Inner, name: &str) -> Result<(), Failure> {
    match once(inner, single(inner, name).boxed()).await {
        Err(failure) if failure.is_absent() => Ok(()),
        done => done,
    }
}

/// The server refuses the request itself, and not what it is about.
fn is_unknown(failure: &Failure) -> bool {
    failure.answer().is_some_and(|answer| {
        matches!(answer.status, 400 | 405 | 411 | 501)
            || answer.status == 404 && answer.code != "NoSuchBucket"
    })
}

async fn together(inner: &Inner, names: &[String]) -> Result<(), Failure> {
    let wrong = |error: aws_sdk_s3::error::BuildError| Failure::Setup(error.to_string());
    let objects = names
        .iter()
        .map(|name| ObjectIdentifier::builder().key(inner.place.key(name)).build().map_err(wrong))
        .collect::<Result<Vec<_>, _>>()?;
    let objects =
        Delete::builder().set_objects(Some(objects)).quiet(true).build().map_err(wrong)?;
    let reach = reach(inner).await;
    let request = reach.client.delete_objects().bucket(&inner.place.bucket).delete(objects);
    let answer =
        answered(inner.limits.quiet, async { request.send().await.map_err(failure) }).await?;
    let refused = answer.errors().iter().find(|error| error.code() != Some("NoSuchKey"));
    match refused {
        None => Ok(()),
        Some(error) => {
            let code = error.code().unwrap_or_default();
            Err(Failure::Answer(Answer {
                status: if code == "AccessDenied" { 403 } else { 500 },
                code: code.to_owned(),
                message: error.message().unwrap_or_default().to_owned(),
                ..Answer::default()
            }))
        }
    }
}

async fn one_by_one(inner: &Inner, names: &[String]) -> Result<(), StoreError> {
    let mut names = names.iter();
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < AT_ONCE
            && let Some(name) = names.next()
        {
            under_way.push(one(inner, name));
        }
        match under_way.next().await {
            Some(removed) => removed?,
            None => return Ok(()),
        }
    }
}

async fn one(inner: &Inner, name: &str) -> Result<(), StoreError> {
    match retried(inner, |_| single(inner, name)).await {
        Ok(()) => Ok(()),
        Err(failure) if failure.is_absent() => Ok(()),
        Err(failure) => Err(told(inner, REMOVE, name, &failure)),
    }
}

async fn single(inner: &Inner, name: &str) -> Result<(), Failure> {
    let reach = reach(inner).await;
    let request =
        reach.client.delete_object().bucket(&inner.place.bucket).key(inner.place.key(name));
    answered(inner.limits.quiet, async { request.send().await.map_err(failure) }).await?;
    Ok(())
}
