//! An object of a bucket, in pieces of which several are on their way at once and that are written in their order, so that another
//! process can go on. Trying again is the bucket's own business.

use futures_util::stream::{self, StreamExt};

use super::part::Part;
use super::progress::Progress;
use super::trouble::Trouble;
use super::{Got, Version};
use crate::address::Address;
use crate::store::s3::bucket::{Bucket, Meta};
use crate::store::{StoreError, Traffic};

/// Bytes that are asked for at once.
const PIECE: u64 = 8 << 20;

/// Pieces of one object that are on their way at once; they are held in memory until it is their turn.
const AT_ONCE: usize = 4;

/// Fetches it, unless it still is what it was `before`.
pub(super) async fn fetch(
    address: &Address,
    before: Option<&Version>,
    part: &mut Part,
    progress: &mut Progress<'_>,
    traffic: &Traffic,
) -> Result<Got, Trouble> {
    let (bucket, key) = open(address)?;
    let found = find(&bucket, &key).await?;
    let version = version_of(&found);
    if before.is_some_and(|before| before.is(&version)) {
        part.forget()?;
        return Ok(Got::Unchanged);
    }
    // Bytes of an earlier try are of use when they are of the object that is there now.
    let goes_on = part.goes_on().is_some()
        && version.is(part.version())
        && part.total == Some(found.size)
        && part.here <= found.size;
    if !goes_on {
        part.restart(version.clone(), Some(found.size))?;
    }
    let (from, etag, key) = (part.here, found.etag.as_str(), key.as_str());
    let count = (found.size - from).div_ceil(PIECE);
    let pieces = (0..count).map(|at| {
        let start = from + at * PIECE;
        bucket.get_range_of(key, etag, start..found.size.min(start + PIECE))
    });
    let mut pieces = stream::iter(pieces).buffered(AT_ONCE);
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece.ok_or_else(absent)?,
            Err(error) => return Err(of_piece(error, part, &bucket, key, &version).await),
        };
        part.write(&piece)?;
        let came = piece.len() as u64;
        traffic.receive(came);
        progress.moved(came, part.here, part.total);
    }
    drop(pieces);
    let (path, hashes) = part.finish()?;
    Ok(Got::Fetched { path, version, hashes: Some(hashes) })
}

/// What a piece that did not come means: when the object is another one by now, what is here is of no use.
async fn of_piece(
    error: StoreError,
    part: &mut Part,
    bucket: &Bucket,
    key: &str,
    version: &Version,
) -> Trouble {
    let is_another = match find(bucket, key).await {
        Ok(found) => version_of(&found) != *version,
        Err(_) => false,
    };
    if !is_another {
        return error.into();
    }
    match part.forget() {
        Ok(()) => Trouble::passing("changed while it was fetched", "`flowrun resume` tries again"),
        Err(error) => error.into(),
    }
}

/// Whether it still is this version.
pub(super) async fn is_same(address: &Address, version: &Version) -> Result<bool, Trouble> {
    let (bucket, key) = open(address)?;
    Ok(version_of(&find(&bucket, &key).await?).is(version))
}

fn open(address: &Address) -> Result<(Bucket, String), Trouble> {
    let Some((place, key)) = address.object() else {
        return Err(Trouble::lasting("names no object", "write it like `s3://bucket/data.csv`"));
    };
    let help = "mend the address in the pipeline file";
    let place =
        place.parse().map_err(|error| Trouble::lasting(format!("is wrong: {error}"), help))?;
    Ok((Bucket::new(place), key))
}

async fn find(bucket: &Bucket, key: &str) -> Result<Meta, Trouble> {
    bucket.head(key).await?.ok_or_else(absent)
}

fn absent() -> Trouble {
    Trouble::lasting("is not there: the bucket has no such object", "check the object's key")
}

fn version_of(found: &Meta) -> Version {
    Version { etag: Some(format!("\"{}\"", found.etag.trim_matches('"'))), modified: None }
}
