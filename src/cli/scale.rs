//! `flowrun scale`: how many replicas of a service run.

use serde_json::json;

use super::args::ScaleArgs;
use super::error::CliError;
use super::exit::Exit;
use super::place::Place;
use super::screen::Screen;
use super::service_name::find_service_here;
use super::settings::Settings;
use super::telling::telling;
use crate::words::count;

/// Changes the number of replicas; does not wait for them.
pub(crate) async fn scale(
    args: ScaleArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let service = find_service_here(&place.state, &args.service).await?.service;
    let replicas = usize::try_from(args.replicas).unwrap_or(usize::MAX);
    if let Some(live) = place.state.live_release(&service).await?
        && replicas > 1
        && let Some(why) = live.behaviour.replaced_in_place()
    {
        return Err(CliError::usage(
            format!("`{service}` has one replica at most, as {why}"),
            "scale it to 0 or 1",
        ));
    }
    let ports = settings.replica_ports.len();
    if replicas > ports {
        return Err(CliError::usage(
            format!("replicas have {} to share", count(ports, "port")),
            "ask for fewer, or set `replica_ports` to a larger range",
        ));
    }
    let by = place.owner().user;
    telling(screen, async |told| {
        let client = place.client(told)?;
        Ok::<_, CliError>(client.scale(&service, args.replicas, &by).await?)
    })
    .await?;
    if args.output.json() {
        screen.json(&json!({"service": service.to_string(), "wanted": args.replicas}))?;
    } else {
        screen.say(&format!("`{service}` gets {}", count(replicas, "replica")));
    }
    Ok(Exit::Done)
}
