//! An earlier release goes live again, whole: its files, environment and artifacts.

use tokio::sync::mpsc::UnboundedSender;

use super::place::Place;
use super::{Promotion, Rollout, RolloutError, RolloutFailure, Supervisor};
use crate::handover;
use crate::names::ServiceId;
use crate::release::Release;
use crate::runtime::docker::image::{Pull, Said};
use crate::runtime::docker::{Docker, DockerError};
use crate::source;

/// Prepares and promotes the release with this number, or the one that was live last. Nothing needs to be live.
pub(super) async fn roll_back(
    supervisor: &Supervisor,
    place: &Place,
    service: &ServiceId,
    to: Option<u64>,
    by: &str,
    progress: UnboundedSender<String>,
) -> Result<Result<Release, RolloutFailure>, RolloutError> {
    let live = place.state.live_release(service).await?.map(|live| live.id);
    let target = choose(place, service, to).await?;
    if Some(target.id) == live {
        return Ok(Ok(target));
    }
    if let Err(why) = is_whole(place, &target, &progress).await {
        return Ok(Err(failure(why)));
    }
    match secrets(place, &target).await? {
        Ok(told) => drop(told.map(|line| progress.send(line))),
        Err(why) => return Ok(Err(failure(why))),
    }
    let made = supervisor.make_ready(target.clone(), None, by.to_owned(), progress).await?;
    if let Err(failure) = made {
        return Ok(Err(failure));
    }
    let promotion = match supervisor.promote(target.id, live).await {
        Ok(promotion) => promotion,
        Err(error) => {
            // No run owns it, so nobody else would give it up.
            supervisor.abandon(target.id, &error.to_string()).await.unwrap_or_default();
            return Err(error);
        }
    };
    Ok(match promotion {
        Promotion::Promoted(_) => Ok(target),
        Promotion::Failed(failure) => Err(failure),
        Promotion::LiveIs(_) => {
            let why = "another release went live meanwhile";
            supervisor.abandon(target.id, why).await?;
            Err(failure(why.to_owned()))
        }
    })
}

/// The release with this number, or the one that was live last: going back twice goes back and forth.
async fn choose(
    place: &Place,
    service: &ServiceId,
    to: Option<u64>,
) -> Result<Release, RolloutError> {
    let (found, none) = if let Some(number) = to {
        let rows = place.state.releases(Some(service)).await?;
        let found = rows.into_iter().find(|row| row.release.number == number);
        (found, format!("there is no release {}@{number}", service.stage))
    } else {
        let found = place.state.live_before(service).await?;
        (found, format!("no other release of service `{service}` was ever live"))
    };
    Ok(found.ok_or(RolloutError::Unknown(none))?.release)
}

/// Whether all that it needs is still there; else what is gone. An image that came from a registry is pulled again.
async fn is_whole(
    place: &Place,
    release: &Release,
    progress: &UnboundedSender<String>,
) -> Result<(), String> {
    let (settings, snapshot) = (place.settings.source.clone(), release.notes.snapshot.clone());
    let opened = tokio::task::spawn_blocking(move || source::open(&settings, &snapshot).map(drop));
    let opened = opened.await.map_err(|error| error.to_string())?;
    let name = format!("{}@{}", release.service.stage, release.number);
    opened.map_err(|error| format!("{name} cannot come back: {error}"))?;
    for (input, part) in &release.behaviour.inputs {
        let entries = place.store.entries(&part.digest).await;
        entries.map_err(|error| format!("{name} cannot come back: input `{input}`: {error}"))?;
    }
    if let Some(container) = &release.behaviour.container {
        let docker = place.docker().map_err(|why| format!("{name} cannot come back: {why}"))?;
        let image = image(docker, release, &container.image, progress).await;
        image.map_err(|why| format!("{name} cannot come back: {why}"))?;
    }
    Ok(())
}

/// Has the image of a release here, by its id.
async fn image(
    docker: &Docker,
    release: &Release,
    id: &str,
    progress: &UnboundedSender<String>,
) -> Result<(), String> {
    let told = |error: DockerError| format!("{error}; {}", error.help());
    if docker.local_image(id).await.map_err(told)?.is_some() {
        return Ok(());
    }
    let known = release.notes.image.as_ref();
    let shown = known.map_or(id, |image| &image.reference);
    if let Some(digest) = known.and_then(|image| image.repo_digest.as_deref()) {
        let say = |said: Said| {
            if let Some(line) = said.lasting() {
                progress.send(line).unwrap_or_default();
            }
        };
        let pulled = docker.image(digest, Pull::Missing, &say).await.map_err(told)?;
        if pulled.id == id {
            return Ok(());
        }
    }
    let commit = release.notes.snapshot.commit.as_deref();
    let again = commit
        .map_or_else(String::new, |commit| format!(" --ref {}", &commit[..commit.len().min(8)]));
    Err(format!(
        "its image `{shown}` is not here any more; make a release of the same code with `flowrun apply{again}`"
    ))
}

/// What to say of secrets that have other values than when the release was made: it gets today's. Or why it cannot have them.
async fn secrets(
    place: &Place,
    release: &Release,
) -> Result<Result<Option<String>, String>, RolloutError> {
    let released = &release.behaviour.secrets;
    let name = format!("{}@{}", release.service.stage, release.number);
    let uses = released.values().map(|secret| &secret.takes);
    let vault = place.settings.vault.as_deref();
    if let Some(hindrance) = handover::check(&place.state, vault, uses).await?.first() {
        return Ok(Err(format!("{name} cannot come back: {}", hindrance.with_help())));
    }
    let moved = handover::moved(&place.state, released.values()).await?;
    let version = |version: Option<u64>| version.map_or("not set".to_owned(), |it| it.to_string());
    let moved = moved.into_iter().map(|(id, then, now)| {
        format!("`{id}` (version {} now, {} then)", version(now), version(then))
    });
    let moved: Vec<String> = moved.collect();
    Ok(Ok((!moved.is_empty())
        .then(|| format!("{name} gets today's values of {}", crate::words::list(&moved)))))
}

fn failure(why: String) -> RolloutFailure {
    RolloutFailure { why, log: Vec::new() }
}
