//! `flowrun restart`: fresh replicas of the live release.

use serde_json::json;

use super::args::RestartArgs;
use super::error::CliError;
use super::exit::Exit;
use super::place::Place;
use super::screen::Screen;
use super::service_name::find_service_here;
use super::settings::Settings;
use super::telling::{failed, telling};

/// Replaces the replicas of a service and waits until the new ones answer.
pub(crate) async fn restart(
    args: RestartArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let service = find_service_here(&place.state, &args.service).await?.service;
    let Some(live) = place.state.live_release(&service).await? else {
        return Err(CliError::usage(
            format!("no release of `{service}` is live"),
            format!("see `flowrun releases {service}`"),
        ));
    };
    let by = place.owner().user;
    let restarted = telling(screen, async |told| {
        let client = place.client(told.clone())?;
        Ok::<_, CliError>(client.restart(&service, &by, told).await?)
    })
    .await?;
    if let Err(failure) = restarted {
        return Err(failed(&service, "was not restarted", &failure));
    }
    if args.output.json() {
        screen.json(&json!({"service": service.to_string(), "release": live.number}))?;
    } else {
        screen.say(&format!("restarted `{service}`, release {}", live.number));
    }
    Ok(Exit::Done)
}
