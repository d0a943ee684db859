//! Services that left the file: the plan lists them, and they go after a successful run of the whole file.

use futures_util::future;

use super::error::CliError;
use super::place::Place;
use super::prepare::Prepared;
use super::question;
use super::screen::Screen;
use super::telling::telling;
use crate::names::{PipelineName, RunId, ServiceId};
use crate::state::RunFilter;
use crate::words::list;

/// The services of the pipeline that are live and not in the file; none for a run of a part of it.
pub(crate) async fn left(place: &Place, prepared: &Prepared) -> Result<Vec<ServiceId>, CliError> {
    let selection = &prepared.asked.selection;
    if [&selection.only, &selection.from, &selection.until].iter().any(|part| !part.is_empty()) {
        return Ok(Vec::new());
    }
    let pipeline = &prepared.asked.pipeline;
    let is_in = |service: &ServiceId| {
        pipeline.stages.get(&service.stage).is_some_and(|stage| stage.service().is_some())
    };
    let rows = place.state.services_here(Some(&pipeline.name)).await?;
    Ok(rows.into_iter().map(|row| row.service).filter(|service| !is_in(service)).collect())
}

/// A new service cannot have a port or a route that one which leaves still answers at: it goes only after the run.
pub(crate) async fn refuse_conflicts(
    place: &Place,
    prepared: &Prepared,
    leaving: &[ServiceId],
) -> Result<(), CliError> {
    let rows = place.state.services_here(Some(&prepared.asked.pipeline.name)).await?;
    for row in rows.iter().filter(|row| leaving.contains(&row.service)) {
        for stage in prepared.asked.pipeline.stages.values() {
            let Some(service) = stage.service() else { continue };
            let what = if service.port == row.port {
                format!("port {}", row.port)
            } else if let Some(route) = row.route.as_ref().filter(|_| service.route == row.route) {
                format!("route `{route}`")
            } else {
                continue;
            };
            let (old, new) = (&row.service, &stage.name);
            return Err(CliError::usage(
                format!("`{new}` wants {what}, where `{old}` answers, which left the file"),
                format!(
                    "take it down first with `flowrun down {old}`, or give `{new}` another one"
                ),
            ));
        }
    }
    Ok(())
}

/// Asks before the run, unless that was answered beforehand.
pub(crate) fn agree(leaving: &[ServiceId], yes: bool) -> Result<(), CliError> {
    if leaving.is_empty() || yes {
        return Ok(());
    }
    let what = words(leaving);
    if !question::can_be_asked() {
        return Err(CliError::usage(
            format!("{what}, and nobody is there to be asked"),
            "add `--yes`, or write the service into the file again",
        ));
    }
    if question::yes(&format!("{what}. Go on?"))? {
        Ok(())
    } else {
        Err(CliError::Interrupted("not applied".into()))
    }
}

/// Whether no later run of the pipeline was made: what a later one brings live is not this one's to take down.
pub(crate) async fn is_newest(
    place: &Place,
    pipeline: &PipelineName,
    run: RunId,
) -> Result<bool, CliError> {
    let pipeline = Some(pipeline.clone());
    let filter = RunFilter { pipeline, limit: Some(1), ..RunFilter::default() };
    Ok(place.state.runs(&filter).await?.first().is_none_or(|newest| newest.id == run))
}

/// Takes them down after this run, unless a later one has begun: that one has a file of its own, and takes down what is not in it.
pub(crate) async fn take_down(
    place: &Place,
    run: RunId,
    leaving: &[ServiceId],
    screen: Screen,
) -> Result<(), CliError> {
    let Some(first) = leaving.first() else { return Ok(()) };
    if !is_newest(place, &first.pipeline, run).await? {
        let names: Vec<String> = leaving.iter().map(|service| format!("`{service}`")).collect();
        let names = list(&names);
        screen.say(&format!("{names} left the file and stays up: a later run has begun"));
        return Ok(());
    }
    let by = place.owner().user;
    telling(screen, async |told| {
        let client = &place.client(told.clone())?;
        let (by, told) = (&by, &told);
        let each = leaving.iter().map(async |service| {
            client.down(service, false, by).await?;
            told.send(format!("took down `{service}`, which left the file")).unwrap_or_default();
            Ok::<_, CliError>(())
        });
        future::join_all(each).await.into_iter().collect()
    })
    .await
}

fn words(leaving: &[ServiceId]) -> String {
    let names: Vec<String> = leaving.iter().map(|service| format!("`{service}`")).collect();
    let (verb, them) = if names.len() == 1 { ("is", "it") } else { ("are", "they") };
    format!(
        "{} {verb} live and no more in the file: {them} will be taken down after the run",
        list(&names)
    )
}
