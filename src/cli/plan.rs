//! `flowrun plan`: what would run, and why.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::apply::prepare;
use super::args::{PlanArgs, PlanFormat};
use super::clock;
use super::error::CliError;
use super::exit::Exit;
use super::home::Home;
use super::place::Place;
use super::prepare::Prepared;
use super::screen::Screen;
use super::settings::Settings;
use super::target;
use crate::plan::Plan;
use crate::plan::show;
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
    let (loaded, prepared) =
        tokio::task::block_in_place(|| prepare(&target, &args.selection, settings, &home, screen))?;
    prepared.check_resources(settings)?;
    for remark in &prepared.snapshot.remarks {
        screen.say(&format!("note: {}", visible(remark)));
    }
    let place = Place::open(settings).await?;
    let plan = verdicts(&place, &prepared).await?;
    let (pipeline, graph) = (&loaded.pipeline, &prepared.graph);
    let format = if args.output.json() { PlanFormat::Json } else { args.format };
    match format {
        PlanFormat::Tree => screen.data(&show::tree(pipeline, graph, &plan, screen.colour_out))?,
        PlanFormat::Dot => screen.data(&show::dot(pipeline, graph, &plan))?,
        PlanFormat::Mermaid => screen.data(&show::mermaid(pipeline, graph, &plan))?,
        PlanFormat::Json => screen.json(&show::json(pipeline, graph, &plan))?,
    }
    Ok(exit_of(&plan, args.exit_code))
}

fn exit_of(plan: &Plan, asked: bool) -> Exit {
    if asked && plan.would_run() { Exit::WouldRun } else { Exit::Done }
}

async fn verdicts(place: &Place, prepared: &Prepared) -> Result<Plan, CliError> {
    let history = place.state.last_keys(&prepared.pipeline.name, None).await?;
    let context = prepared.key_context("", &prepared.snapshot.id);
    let store: Arc<dyn Store> = Arc::clone(&place.store);
    // Keys hang on each other, so records cannot be read ahead; this thread may wait, the other worker goes on.
    tokio::task::block_in_place(|| {
        let handle = Handle::current();
        let mut broken: Option<StoreError> = None;
        let plan = crate::plan::plan(
            &prepared.pipeline,
            &prepared.graph,
            &context,
            &history,
            clock::now(),
            &mut |key| {
                if broken.is_some() {
                    return Lookup::Miss;
                }
                handle.block_on(store.look_up(key)).unwrap_or_else(|error| {
                    broken = Some(error);
                    Lookup::Miss
                })
            },
        );
        broken.map_or(Ok(plan), |error| Err(error.into()))
    })
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
        let nothing = Plan { verdicts: vec![reuse.clone(), Verdict::Out, Verdict::Skip] };
        let something = Plan { verdicts: vec![reuse, run] };
        assert_eq!(exit_of(&nothing, true), Exit::Done);
        assert_eq!(exit_of(&something, true), Exit::WouldRun);
        assert_eq!(exit_of(&something, false), Exit::Done);
    }
}
