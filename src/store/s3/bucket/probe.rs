//! What the server can do, found out by trying, once per bucket. The object `probe` remembers it.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};

use super::super::super::StoreError;
use super::copy::{in_parts, onto_itself};
use super::failure::Failure;
use super::object::{get, head, put, try_get, try_head, try_put};
use super::remove::remove;
use super::words::{WRITE, told};
use super::{Condition, Inner, Put};
use std::sync::Arc;

const MARKER: &str = "probe";
const FORMAT: u32 = 1;
/// Writers that all want to be the first, at once.
const WRITERS: u8 = 8;
/// How often they try it, each time with another object: a server that looks first and writes then is found out only when they meet.
const ROUNDS: usize = 2;
/// Bytes of each write: the more of them are on their way, the longer is the time between its look and its write.
const LENGTH: usize = 64 << 10;

/// What the marker says; what is not known yet is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conditional: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    young: Option<Young>,
}

/// How an object is made young.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Young {
    /// By a copy onto itself.
    Copy,
    /// By such a copy in parts: some servers empty an object that is copied onto itself.
    Parts,
    /// By fetching and sending it.
    Bytes,
}

/// Whether conditions are kept.
pub(super) async fn conditional(inner: &Inner) -> Result<bool, StoreError> {
    let found = inner.conditional.get_or_try_init(|| async {
        if let Some(known) = marker(inner).await?.conditional {
            return Ok(known);
        }
        let (mut rounds, mut nobody) = (0, 0);
        while rounds < ROUNDS && nobody < ROUNDS {
            let tried = with_object(inner, async |name| {
                match keeps_conditions(inner, name).boxed().await {
                    // It says that it knows no conditions.
                    Err(Failure::Answer(answer)) if matches!(answer.status, 400 | 501) => {
                        Ok(Tried::Breaks)
                    }
                    tried => tried,
                }
            });
            match tried.await? {
                Tried::Keeps => rounds += 1,
                Tried::Breaks => break,
                Tried::Nobody => nobody += 1,
            }
        }
        let found = rounds == ROUNDS;
        remember(inner, |known| known.conditional = Some(found)).await?;
        Ok(found)
    });
    found.await.copied()
}

/// How objects are made young here.
pub(super) async fn young(inner: &Arc<Inner>) -> Result<Young, StoreError> {
    let found = inner.young.get_or_try_init(|| async {
        if let Some(known) = marker(inner).await?.young {
            return Ok(known);
        }
        let found = with_object(inner, async |name| best_way(inner, name).await).await?;
        remember(inner, |known| known.young = Some(found)).await?;
        Ok(found)
    });
    found.await.copied()
}

async fn marker(inner: &Inner) -> Result<Known, StoreError> {
    let known = get(inner, MARKER)
        .await?
        .and_then(|marker| serde_json::from_slice::<Known>(&marker.bytes).ok())
        .filter(|known| known.format == FORMAT);
    Ok(known.unwrap_or_default())
}

async fn remember(inner: &Inner, learn: impl FnOnce(&mut Known)) -> Result<(), StoreError> {
    let mut known = Known { format: FORMAT, ..marker(inner).await? };
    learn(&mut known);
    let text = serde_json::to_vec(&known).map_err(std::io::Error::other)?;
    put(inner, MARKER, Bytes::from(text), Condition::Always).await?;
    Ok(())
}

/// Does `work` with the name of an object that is removed afterwards.
async fn with_object<T>(
    inner: &Inner,
    work: impl AsyncFnOnce(&str) -> Result<T, Failure>,
) -> Result<T, StoreError> {
    let name = format!("{MARKER}.{}", ulid::Ulid::generate());
    let ended = work(&name).await;
    remove(inner, std::slice::from_ref(&name)).await?;
    ended.map_err(|failure| told(inner, WRITE, &name, &failure))
}

/// Of many that write only where nothing is, one wins; later ones lose, and so does who names another version; and of many that name
/// the right one, one wins.
async fn keeps_conditions(inner: &Inner, name: &str) -> Result<Tried, Failure> {
    let write = |number: u8, condition| {
        let bytes = Bytes::from(vec![number; LENGTH]);
        async move { try_put(inner, name, &bytes, condition, &|_| {}).await }.boxed()
    };
    let many = |first: u8, condition| -> Vec<Write<'_>> {
        (first..first + WRITERS).map(|number| write(number, condition)).collect()
    };
    let first = match winners(many(0, Condition::Absent)).await?.as_slice() {
        [] => return Ok(Tried::Nobody),
        [first] => first.clone(),
        _ => return Ok(Tried::Breaks),
    };
    let late = write(WRITERS, Condition::Absent).await?;
    let other = Condition::Matches("00000000000000000000000000000000");
    let wrong = write(WRITERS + 1, other).await?;
    if late != Put::Lost || wrong != Put::Lost {
        return Ok(Tried::Breaks);
    }
    Ok(match winners(many(WRITERS + 2, Condition::Matches(&first))).await?.as_slice() {
        [] => Tried::Nobody,
        [second] if *second != first => Tried::Keeps,
        _ => Tried::Breaks,
    })
}

/// How a round ended.
enum Tried {
    /// As it should.
    Keeps,
    /// Two won, or one that should not.
    Breaks,
    /// No writer heard that it won, which a bad network can do.
    Nobody,
}

type Write<'a> = BoxFuture<'a, Result<Put, Failure>>;

/// The etags of those that win when all write at once.
async fn winners(writes: Vec<Write<'_>>) -> Result<Vec<String>, Failure> {
    let mut winners = Vec::new();
    for ended in join_all(writes).await {
        if let Put::Done { etag } = ended? {
            winners.push(etag);
        }
    }
    Ok(winners)
}

async fn best_way(inner: &Arc<Inner>, name: &str) -> Result<Young, Failure> {
    if survives(inner, name, async || onto_itself(inner, name).await).await? {
        return Ok(Young::Copy);
    }
    if survives(inner, name, async || in_parts(inner, name).await).await? {
        return Ok(Young::Parts);
    }
    Ok(Young::Bytes)
}

/// Whether an object is whole and younger after `copy`.
async fn survives(
    inner: &Inner,
    name: &str,
    copy: impl AsyncFnOnce() -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let text = Bytes::from_static(b"copied onto itself");
    try_put(inner, name, &text, Condition::Always, &|_| {}).await?;
    let Some(before) = try_head(inner, name).await? else { return Ok(false) };
    tokio::time::sleep(inner.limits.tick).await;
    match copy().await {
        Ok(true) => {}
        Ok(false) => return Ok(false),
        Err(Failure::Answer(answer)) if !answer.passes() && answer.status != 403 => {
            return Ok(false);
        }
        Err(failure) => return Err(failure),
    }
    let after = try_get(inner, name).await?;
    Ok(after.is_some_and(|after| after.bytes == text && after.meta.modified > before.modified))
}

/// Unix milliseconds by the server's clock: the age of an object that is written now.
pub(super) async fn server_time(inner: &Inner) -> Result<u64, StoreError> {
    let name = format!("{MARKER}.{}", ulid::Ulid::generate());
    put(inner, &name, Bytes::new(), Condition::Always).await?;
    let meta = head(inner, &name).await;
    remove(inner, std::slice::from_ref(&name)).await?;
    Ok(meta?.map_or(0, |meta| meta.modified))
}
