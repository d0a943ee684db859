//! `flowrun plan`: what would run, and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::apply::gather;
use super::args::{PlanArgs, PlanFormat};
use super::clock;
use super::error::CliError;
use super::exit::Exit;
use super::ground::{self, Purpose};
use super::home::Home;
use super::leaving;
use super::needed_secrets;
use super::outside;
use super::place::Place;
use super::prepare::Prepared;
use super::screen::Screen;
use super::settings::Settings;
use super::target;
use crate::names::{PipelineName, StageName};
use crate::plan::show;
use crate::plan::{Around, Plan, SharedResults};
use crate::release::Release;
use crate::store::{Lookup, Store, StoreError};
use crate::words::visible;

/// Shows what `apply` would do.
pub(crate) async fn plan(
    args: PlanArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let target = target::resolve(&args.target, &settings.caller.folder)?;
    let home = Home::open(&settings.home)?;
    let (loaded, asked) =
        tokio::task::block_in_place(|| gather(&target, &args.selection, settings, &home, screen))?;
    asked.check_resources(settings)?;
    for remark in &asked.snapshot.remarks {
        screen.say(&format!("note: {}", visible(remark)));
    }
    let place = Place::open(settings).await?;
    let ground = ground::of_asked(&place, &asked, Purpose::Plan, screen).await?;
    let prepared = Prepared::of(&place, asked, ground)?;
    // What is missing is said below the plan, which does not need it.
    let (prepared, missing) = needed_secrets::look(&place, prepared).await?;
    let leaving = leaving::left(&place, &prepared).await?;
    leaving::refuse_conflicts(&place, &prepared, &leaving).await?;
    let plan = verdicts(&place, &prepared).await?;
    let (pipeline, graph) = (&loaded.pipeline, &prepared.asked.graph);
    let format = if args.output.json() { PlanFormat::Json } else { args.format };
    match format {
        PlanFormat::Tree => screen.data(&show::tree(pipeline, graph, &plan, screen.colour_out))?,
        PlanFormat::Dot => screen.data(&show::dot(pipeline, graph, &plan))?,
        PlanFormat::Mermaid => screen.data(&show::mermaid(pipeline, graph, &plan))?,
        PlanFormat::Json => screen.json(&show::json(pipeline, graph, &plan))?,
    }
    missing.map_or(Ok(exit_of(&plan, args.exit_code)), Err)
}

fn exit_of(plan: &Plan, asked: bool) -> Exit {
    if asked && plan.would_run() { Exit::WouldRun } else { Exit::Done }
}

async fn verdicts(place: &Place, prepared: &Prepared) -> Result<Plan, CliError> {
    let history = place.state.last_keys(&prepared.asked.pipeline.name, None).await?;
    let context = prepared.key_context("", &prepared.asked.snapshot.id);
    let around = Around {
        live: live_releases(place, &prepared.asked.pipeline.name).await?,
        outside: outside::look(place, prepared).await?,
    };
    let store: Arc<dyn Store> = Arc::clone(&place.store);
    // Keys hang on each other, so records cannot be read ahead; this thread may wait, the other worker goes on.
    tokio::task::block_in_place(|| {
        let handle = Handle::current();
        let mut broken: Option<StoreError> = None;
        let mut shared =
            place.shares_store().then(|| SharedResults::new(store.place_name(), clock::now()));
        let mut plan = crate::plan::plan(
            &prepared.asked.pipeline,
            &prepared.asked.graph,
            &context,
            &around,
            &history,
            clock::now(),
            &mut |key| {
                if broken.is_some() {
                    return Lookup::Miss;
                }
                let found = handle.block_on(store.look_up(key)).unwrap_or_else(|error| {
                    broken = Some(error);
                    Lookup::Miss
                });
                if let Some(shared) = &mut shared {
                    shared.saw(&found);
                }
                found
            },
        );
        plan.shared = shared;
        broken.map_or(Ok(plan), |error| Err(error.into()))
    })
}

/// The live releases of all services of a pipeline, also of those that its file does not have any more.
async fn live_releases(
    place: &Place,
    pipeline: &PipelineName,
) -> Result<BTreeMap<StageName, Release>, CliError> {
    let mut live = BTreeMap::new();
    for row in place.state.services(Some(pipeline)).await? {
        if row.live.is_some()
            && let Some(release) = place.state.live_release(&row.service).await?
        {
            live.insert(row.service.stage, release);
        }
    }
    Ok(live)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::event::Reason;
    use crate::plan::Verdict;

    #[test]
    fn the_exit_code_is_asked_for() {
        let reuse = Verdict::Reuse { key: Digest::of(b"k") };
        let run = Verdict::Run { key: None, why: Reason::FirstTime };
        let nothing = Plan {
            verdicts: vec![reuse.clone(), Verdict::Out, Verdict::Skip],
            leaving: Vec::new(),
            shared: None,
            in_containers: false,
        };
        let something = Plan { verdicts: vec![reuse, run], ..nothing.clone() };
        assert_eq!(exit_of(&nothing, true), Exit::Done);
        assert_eq!(exit_of(&something, true), Exit::WouldRun);
        assert_eq!(exit_of(&something, false), Exit::Done);
    }
}
