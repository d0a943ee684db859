//! `flowrun releases` and `flowrun diff`: the history of services as text or JSON.

use super::args::{DiffArgs, ReleasesArgs};
use super::clock;
use super::error::CliError;
use super::exit::Exit;
use super::place::Place;
use super::screen::Screen;
use super::service_name::{find_release, find_service_id};
use super::settings::Settings;
use crate::plan::release::release_changes;
use crate::release::Fate;
use crate::report::{release_diff_json, release_diff_text, releases_json, releases_text};
use crate::state::{ReleaseRow, State};

/// Lists releases, newest first.
pub(crate) async fn releases(
    args: ReleasesArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let service = match &args.service {
        Some(text) => Some(find_service_id(&place.state, text).await?),
        None => None,
    };
    let rows = place.state.releases(service.as_ref()).await?;
    if args.output.json() {
        screen.json(&releases_json(&rows))?;
    } else {
        screen.data(&releases_text(clock::now(), &rows, screen.colour_out))?;
    }
    Ok(Exit::Done)
}

/// Shows what differs between two releases.
pub(crate) async fn diff(
    args: DiffArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let (before, after) = match &args.after {
        Some(after) => {
            let before = find_release(&place.state, &args.before).await?;
            (before, find_release(&place.state, after).await?)
        }
        None => beside_live(&place.state, &args.before).await?,
    };
    let changes = release_changes(&before.release.behaviour, &after.release.behaviour);
    if args.output.json() {
        screen.json(&release_diff_json(&before, &after, &changes))?;
    } else {
        let now = clock::now();
        screen.data(&release_diff_text(now, &before, &after, &changes, screen.colour_out))?;
    }
    Ok(Exit::Done)
}

/// For a service: what was live before, and what is live. For a release: it, and what is live.
async fn beside_live(state: &State, text: &str) -> Result<(ReleaseRow, ReleaseRow), CliError> {
    let named = match find_service_id(state, text).await {
        Ok(service) => Err(service),
        // What looks like a service and is none is said so, unless it is a release.
        Err(error) => Ok(find_release(state, text)
            .await
            .map_err(|other| if text.contains('@') { other } else { error })?),
    };
    let service = named.as_ref().map_or_else(|service| service, |row| &row.release.service);
    let rows = state.releases(Some(service)).await?;
    let live = rows.into_iter().find(|row| row.fate == Fate::Live).ok_or_else(|| {
        CliError::usage(
            format!("no release of `{service}` is live"),
            format!("name two of `flowrun releases {service}`"),
        )
    })?;
    let before = match named {
        Ok(row) => Some(row),
        Err(service) => state.live_before(&service).await?,
    };
    match before {
        Some(before) => Ok((before, live)),
        None => Err(CliError::usage(
            format!("nothing was live before `{}`", live.release.name()),
            "name two releases: `flowrun diff RELEASE RELEASE`",
        )),
    }
}
