//! Objects into files: a fresh file of the whole size, filled by several ranges at once. The file is there only when it is whole.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::Bytes;
use fs_err::{File, OpenOptions};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::super::super::StoreError;
use super::Inner;
use super::failure::Failure;
use super::object::{ask, bare, head, length, piece, said_range};
use super::retry::retried_bulk;
use super::words::{READ, told};

/// Bytes that are gathered before the disk is bothered.
const BATCH: usize = 1 << 20;
/// How often a download begins again because the object was written meanwhile. Who makes an object young writes it too.
const MOST_BEGINNINGS: usize = 4;

pub(super) async fn download(
    inner: &Arc<Inner>,
    name: &str,
    size: u64,
    path: &Path,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<bool, StoreError> {
    let mut beginnings = 1;
    loop {
        let file = Fresh::make(path, size).await?;
        if size == 0 {
            return empty(inner, name, file).await;
        }
        match fill(inner, name, size, file, moved).await {
            Ok(there) => return Ok(there),
            Err(Failure::Overwritten) if beginnings < MOST_BEGINNINGS => beginnings += 1,
            Err(failure) => return Err(told(inner, READ, name, &failure)),
        }
    }
}

/// Fetches all ranges. The file stays only where they are of one object.
async fn fill(
    inner: &Arc<Inner>,
    name: &str,
    size: u64,
    file: Fresh,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<bool, Failure> {
    let part = inner.limits.part_of(size);
    let mut ranges = (0..size.div_ceil(part)).map(|at| at * part..size.min((at + 1) * part));
    let same = OnceLock::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < inner.limits.at_once
            && let Some(range) = ranges.next()
        {
            under_way.push(fetch(inner, name, size, range, &file, &same));
        }
        match under_way.next().await {
            None => break,
            Some(Ok(bytes)) => moved(bytes),
            Some(Err(failure)) if failure.is_absent() => return Ok(false),
            Some(Err(failure)) => return Err(failure),
        }
    }
    drop(under_way);
    file.keep();
    Ok(true)
}

/// There is no range in an object without bytes.
async fn empty(inner: &Inner, name: &str, file: Fresh) -> Result<bool, StoreError> {
    let Some(meta) = head(inner, name).await? else { return Ok(false) };
    if meta.size != 0 {
        let failure = Failure::Changed(format!("it has {} bytes instead of none", meta.size));
        return Err(told(inner, READ, name, &failure));
    }
    file.keep();
    Ok(true)
}

/// A file that goes when it is not kept.
struct Fresh {
    file: Arc<File>,
    kept: bool,
}

impl Fresh {
    async fn make(path: &Path, size: u64) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let made = tokio::task::spawn_blocking(move || -> std::io::Result<Self> {
            let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            let fresh = Self { file: Arc::new(file), kept: false };
            fresh.file.set_len(size)?;
            Ok(fresh)
        });
        Ok(made.await.map_err(std::io::Error::other)??)
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs_err::remove_file(self.file.path())
        {
            tracing::debug!("what was fetched in part stays: {error}");
        }
    }
}

/// One range, tried again until it is whole. Returns how many bytes it has.
async fn fetch(
    inner: &Inner,
    name: &str,
    size: u64,
    range: Range<u64>,
    file: &Fresh,
    same: &OnceLock<String>,
) -> Result<u64, Failure> {
    retried_bulk(inner, |_| async {
        let part = (range != (0..size)).then_some(&range);
        let mut answer = ask(inner, name, part).await?;
        let said = said_range(&answer)?;
        let total = match &said {
            Some(said) => Some(said.total),
            None => answer.content_length().map(|said| length(Some(said))).transpose()?,
        };
        is_the_same(total, &bare(answer.e_tag()), size, same)?;
        let skipped = match said {
            Some(said) => said.holds(&range).map(|()| 0)?,
            None => range.start,
        };
        write(inner, &mut answer, skipped, &range, file).await?;
        Ok(range.end - range.start)
    })
    .await
}

/// All ranges come from one object of the right size.
fn is_the_same(
    total: Option<u64>,
    etag: &str,
    size: u64,
    same: &OnceLock<String>,
) -> Result<(), Failure> {
    if let Some(total) = total
        && total != size
    {
        return Err(Failure::Changed(format!("it has {total} bytes instead of {size}")));
    }
    if same.get_or_init(|| etag.to_owned()) == etag { Ok(()) } else { Err(Failure::Overwritten) }
}

/// Writes the bytes of a range to their place in the file, after `skipped` bytes that come before them.
async fn write(
    inner: &Inner,
    answer: &mut GetObjectOutput,
    mut skipped: u64,
    range: &Range<u64>,
    file: &Fresh,
) -> Result<(), Failure> {
    let expected = range.end - range.start;
    let (mut got, mut at) = (0, range.start);
    let mut batch: Vec<Bytes> = Vec::new();
    let mut held = 0;
    while let Some(mut piece) = piece(inner, &mut answer.body).await? {
        if skipped > 0 {
            let cut = piece.len().min(usize::try_from(skipped).unwrap_or(usize::MAX));
            let _before = piece.split_to(cut);
            skipped -= cut as u64;
        }
        let whole = answer.content_range.is_none();
        if whole {
            piece.truncate(usize::try_from(expected - got).unwrap_or(usize::MAX));
        }
        got += piece.len() as u64;
        if got > expected {
            return Err(Failure::Length { expected, got });
        }
        held += piece.len();
        batch.push(piece);
        if held >= BATCH {
            at = put_down(file, std::mem::take(&mut batch), at).await?;
            held = 0;
        }
        if whole && got == expected {
            break;
        }
    }
    if got != expected {
        return Err(Failure::Length { expected, got });
    }
    put_down(file, batch, at).await?;
    Ok(())
}

/// Writes pieces one after the other from `at` on. Returns where they end.
async fn put_down(file: &Fresh, pieces: Vec<Bytes>, at: u64) -> Result<u64, Failure> {
    let file = Arc::clone(&file.file);
    let written = tokio::task::spawn_blocking(move || -> std::io::Result<u64> {
        let mut at = at;
        for piece in pieces {
            file.file().write_all_at(&piece, at).map_err(|error| {
                std::io::Error::new(error.kind(), format!("{}: {error}", file.path().display()))
            })?;
            at += piece.len() as u64;
        }
        Ok(at)
    });
    Ok(written.await.map_err(std::io::Error::other)??)
}
