//! The store: whether its folder can be opened, or its bucket answers, and what that can do.

use super::{Finding, fail, ok, warn};
use crate::cli::place::open_store;
use crate::cli::settings::{Settings, StoreChoice};
use crate::store::StoreError;
use crate::store::s3::bucket::{Bucket, BucketPlace, Condition};

const WHAT: &str = "store";

pub(super) async fn check(settings: &Settings) -> Finding {
    let shown = &settings.store;
    if let Err(error) = open_store(settings) {
        return fail(WHAT, error.to_string(), "set `store` to a folder that can be written");
    }
    match &settings.store {
        StoreChoice::Bucket { place, .. } => bucket(settings, place).await,
        StoreChoice::Folder(_) if settings.read_only_store => {
            ok(WHAT, format!("{shown}, read-only"))
        }
        StoreChoice::Folder(_) => {
            ok(WHAT, format!("{shown} (`flowrun store check` reads all of it)"))
        }
    }
}

/// Written and removed, to see whether that is allowed.
const TRIAL: &str = "doctor";

/// Reads one name; and where the store may be written, writes and removes one, and finds out what conditions are worth.
async fn bucket(settings: &Settings, place: &BucketPlace) -> Finding {
    let bucket = Bucket::new(place.clone());
    match asked(&bucket, settings.read_only_store).await {
        Ok(None) => ok(WHAT, format!("{place} answers, read-only")),
        Ok(Some(true)) => ok(WHAT, format!("{place} answers, and takes conditional writes")),
        Ok(Some(false)) => warn(
            WHAT,
            format!("{place} answers, and takes no conditional writes"),
            "know that two machines may compute the same stage at once: the last result wins",
        ),
        Err(error @ StoreError::Unreachable { .. }) => {
            fail(WHAT, told(&error), "see docs/s3.md for endpoints, credentials and permissions")
        }
        Err(error) => fail(WHAT, error.to_string(), "see docs/s3.md"),
    }
}

async fn asked(bucket: &Bucket, read_only: bool) -> Result<Option<bool>, StoreError> {
    // Fetched, since a server gives no reasons to who asks for the head alone.
    bucket.get("probe").await?;
    if read_only {
        return Ok(None);
    }
    // What `probe` remembers may be from somebody who could write.
    bucket.put(TRIAL, "flowrun doctor was here\n".into(), Condition::Always).await?;
    bucket.remove(&[TRIAL.to_owned()]).await?;
    bucket.is_conditional().await.map(Some)
}

fn told(error: &StoreError) -> String {
    match error {
        StoreError::Unreachable { help, .. } => format!("{error}; {help}"),
        _ => error.to_string(),
    }
}
