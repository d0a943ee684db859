//! `flowrun down`: services go, with their replicas and, when asked for, what they kept.

use std::collections::BTreeSet;

use futures_util::future;
use serde_json::json;

use super::args::DownArgs;
use super::error::CliError;
use super::exit::Exit;
use super::place::Place;
use super::question;
use super::screen::Screen;
use super::service_name::{find_service_id, find_services, here};
use super::settings::Settings;
use super::telling::telling;
use crate::names::{PipelineName, ServiceId};
use crate::runtime::docker::FoundVolume;
use crate::words::{count, list};

/// What is about to go.
struct Leaving {
    services: Vec<ServiceId>,
    /// `iris/serve (release 3, port 8000)`
    shown: Vec<String>,
    /// Volumes of the services, `iris/data`.
    volumes: BTreeSet<String>,
    /// Pipelines whose volumes nothing uses afterwards.
    left: Vec<PipelineName>,
    /// Their volumes at the engine.
    engine: Vec<FoundVolume>,
}

/// Takes services down: a service, those of a pipeline, or all of this home. Only what flowrun made is touched.
pub(crate) async fn down(
    args: DownArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let leaving = leaving(&place, args.target.as_deref(), args.volumes).await?;
    if leaving.services.is_empty() && leaving.volumes.is_empty() {
        screen.say("there is nothing to take down");
    } else {
        agree(&leaving, &args, screen)?;
        take_down(&place, &leaving, args.volumes, screen).await?;
    }
    if args.output.json() {
        let services: Vec<String> = leaving.services.iter().map(ToString::to_string).collect();
        let volumes = if args.volumes { leaving.volumes } else { BTreeSet::new() };
        screen.json(&json!({"services": services, "volumes": volumes}))?;
    }
    Ok(Exit::Done)
}

/// Shows what goes and asks, unless that was answered beforehand.
fn agree(leaving: &Leaving, args: &DownArgs, screen: Screen) -> Result<(), CliError> {
    let mut text = String::new();
    for one in &leaving.shown {
        text.push_str(&format!("{one}\n"));
    }
    let volumes: Vec<String> = leaving.volumes.iter().map(|name| format!("`{name}`")).collect();
    if !volumes.is_empty() {
        let noun = if volumes.len() == 1 { "volume" } else { "volumes" };
        let fate =
            if args.volumes { "with all data" } else { "stays, as `--volumes` is not given" };
        let fate = if volumes.len() > 1 { fate.replace("stays", "stay") } else { fate.to_owned() };
        text.push_str(&format!("{noun} {}: {fate}\n", list(&volumes)));
    }
    let what = match leaving.services.len() {
        0 => count(leaving.volumes.len(), "volume"),
        many => count(many, "service"),
    };
    if args.yes {
        screen.say(text.trim_end());
        return Ok(());
    }
    if !question::can_be_asked() {
        return Err(CliError::usage(
            format!(
                "{what} would be taken down, and nobody is there to be asked\n{}",
                text.trim_end()
            ),
            "add `--yes`",
        ));
    }
    if question::yes(&format!("{text}Take this down?"))? {
        Ok(())
    } else {
        Err(CliError::Interrupted("nothing was taken down".into()))
    }
}

async fn take_down(
    place: &Place,
    leaving: &Leaving,
    volumes: bool,
    screen: Screen,
) -> Result<(), CliError> {
    let by = place.owner().user;
    if !leaving.services.is_empty() {
        telling(screen, async |told| {
            let client = &place.client(told.clone())?;
            let (by, told) = (&by, &told);
            let each = leaving.services.iter().map(async |service| {
                client.down(service, volumes, by).await?;
                told.send(format!("took down `{service}`")).unwrap_or_default();
                Ok::<_, CliError>(())
            });
            future::join_all(each).await.into_iter().collect::<Result<(), _>>()
        })
        .await?;
    }
    if volumes {
        for pipeline in &leaving.left {
            let folder = place.home.volumes().join(pipeline.as_str());
            // A run may have brought a service back meanwhile.
            if folder.exists() && place.state.services_here(Some(pipeline)).await?.is_empty() {
                crate::workspace::remove_folder(&folder)?;
            }
        }
        remove_at_engine(place, &leaving.engine).await?;
        if leaving.services.is_empty() {
            let names: Vec<String> =
                leaving.volumes.iter().map(|name| format!("`{name}`")).collect();
            let noun = if names.len() == 1 { "volume" } else { "volumes" };
            screen.say(&format!("removed {noun} {}", list(&names)));
        }
    }
    Ok(())
}

/// Removes volumes of pipelines that have no service any more.
async fn remove_at_engine(place: &Place, volumes: &[FoundVolume]) -> Result<(), CliError> {
    for volume in volumes {
        let Ok(pipeline) = volume.pipeline.parse() else { continue };
        if place.state.services(Some(&pipeline)).await?.is_empty() {
            place.docker()?.remove_volume(&volume.name).await?;
        }
    }
    Ok(())
}

async fn leaving(place: &Place, target: Option<&str>, volumes: bool) -> Result<Leaving, CliError> {
    let rows = match find_services(&place.state, target).await {
        Err(error) if !was_there(place, target).await? => return Err(error),
        rows => rows.unwrap_or_default(),
    };
    let mut leaving = Leaving {
        services: Vec::new(),
        shown: Vec::new(),
        volumes: BTreeSet::new(),
        left: Vec::new(),
        engine: Vec::new(),
    };
    for row in here(rows, target.is_some())? {
        let live = place.state.live_release(&row.service).await?;
        let release = live.as_ref().map(|live| format!("release {}, ", live.number));
        let release = release.unwrap_or_default();
        leaving.shown.push(format!("{} ({release}port {})", row.service, row.port));
        let volumes = live.iter().flat_map(|live| live.behaviour.volumes.keys());
        leaving.volumes.extend(volumes.map(|name| format!("{}/{name}", row.service.pipeline)));
        leaving.services.push(row.service);
    }
    if volumes {
        let is_asked = |name: &str| target.is_none_or(|text| text.trim_end_matches('/') == name);
        for pipeline in pipelines_with_volumes(place)? {
            if is_asked(pipeline.as_str()) {
                leaving.volumes.extend(volumes_of(place, &pipeline)?);
                leaving.left.push(pipeline);
            }
        }
        leaving.engine = engine_volumes(place).await?;
        leaving.engine.retain(|volume| is_asked(&volume.pipeline));
        let names = leaving.engine.iter();
        leaving.volumes.extend(names.map(|one| format!("{}/{}", one.pipeline, one.volume)));
    }
    Ok(leaving)
}

/// Whether the words name what was taken down before.
async fn was_there(place: &Place, target: Option<&str>) -> Result<bool, CliError> {
    let Some(text) = target else { return Ok(false) };
    if find_service_id(&place.state, text).await.is_ok() {
        return Ok(true);
    }
    let releases = place.state.releases(None).await?;
    let pipeline = text.trim_end_matches('/');
    Ok(releases.iter().any(|row| row.release.service.pipeline.as_str() == pipeline))
}

fn pipelines_with_volumes(place: &Place) -> Result<Vec<PipelineName>, CliError> {
    let names = names_in(&place.home.volumes())?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The volumes of this home at the engine; none where no release ever had one there.
async fn engine_volumes(place: &Place) -> Result<Vec<FoundVolume>, CliError> {
    let releases = place.state.releases(None).await?;
    let has_one = releases.iter().any(|row| {
        let behaviour = &row.release.behaviour;
        let container = behaviour.container.as_ref();
        !behaviour.volumes.is_empty() && container.is_some_and(|container| container.image_user)
    });
    if has_one { Ok(place.docker()?.volumes().await?) } else { Ok(Vec::new()) }
}

fn volumes_of(place: &Place, pipeline: &PipelineName) -> Result<Vec<String>, CliError> {
    let names = names_in(&place.home.volumes().join(pipeline.as_str()))?;
    Ok(names.iter().map(|name| format!("{pipeline}/{name}")).collect())
}

/// What lies in a folder; nothing when it is not there.
fn names_in(folder: &std::path::Path) -> Result<Vec<String>, CliError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}
