//! `flowrun rollback`: an earlier release goes live again, whole.

use serde_json::json;

use super::args::RollbackArgs;
use super::error::CliError;
use super::exit::Exit;
use super::place::Place;
use super::screen::Screen;
use super::service_name::{find_release_of, find_service_id, here};
use super::settings::Settings;
use super::telling::{failed, telling};
use crate::names::ServiceId;
use crate::release::{Fate, Release};
use crate::state::ReleaseRow;
use crate::words::visible;

/// Puts a release live that was live before, and waits until it answers.
pub(crate) async fn rollback(
    args: RollbackArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let service = find_service_id(&place.state, &args.service).await?;
    let rows = place.state.services(Some(&service.pipeline)).await?;
    here(rows.into_iter().filter(|row| row.service == service).collect(), true)?;
    let row = wanted(&place, &service, args.to.as_deref()).await?;
    let number = row.release.number;
    let release = if row.fate == Fate::Live {
        screen.say(&format!("release {number} of `{service}` is live already"));
        row.release
    } else {
        // The release is named from here on, so that being asked twice is the same as being asked once.
        let by = place.owner().user;
        let rolled_back = telling(screen, async |told| {
            let client = place.client(told.clone())?;
            Ok::<_, CliError>(client.roll_back(&service, Some(number), &by, told).await?)
        })
        .await?;
        let release = rolled_back.map_err(|failure| {
            failed(&service, &format!("was not rolled back to release {number}"), &failure)
        })?;
        screen.say(&format!("`{service}` is release {} again{}", release.number, origin(&release)));
        release
    };
    if args.output.json() {
        screen.json(&json!({
            "service": service.to_string(),
            "release": release.number,
            "id": release.id.to_string(),
            "commit": release.notes.snapshot.commit,
            "run": release.notes.run,
        }))?;
    }
    Ok(Exit::Done)
}

/// The release that is named, else the one that was live before.
async fn wanted(
    place: &Place,
    service: &ServiceId,
    to: Option<&str>,
) -> Result<ReleaseRow, CliError> {
    if let Some(to) = to {
        return find_release_of(&place.state, service, to).await;
    }
    place.state.live_before(service).await?.ok_or_else(|| {
        CliError::usage(
            format!("no other release of `{service}` was ever live"),
            format!("name one with `--to`; they are in `flowrun releases {service}`"),
        )
    })
}

fn origin(release: &Release) -> String {
    let snapshot = &release.notes.snapshot;
    let commit = snapshot.commit.as_deref().map(|commit| &commit[..commit.len().min(8)]);
    match commit {
        Some(commit) => format!(", commit {}", visible(commit)),
        None => String::new(),
    }
}
