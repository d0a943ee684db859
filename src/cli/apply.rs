//! `flowrun apply`: what is asked → a run → its end.

use super::args::{ApplyArgs, SelectionFlags};
use super::asked::Asked;
use super::conduct::{Manner, conduct};
use super::error::CliError;
use super::exit::Exit;
use super::ground::{self, Purpose, RuntimeKind};
use super::home::Home;
use super::launch::{Ask, Launched, launch};
use super::leaving;
use super::load::{Loaded, load};
use super::needed_secrets;
use super::place::{self, Place};
use super::prepare::Prepared;
use super::question;
use super::screen::Screen;
use super::settings::Settings;
use super::signals;
use super::target::{self, Target};
use crate::engine::drive::Stop;
use crate::event::{RunOutcome, Selection};
use crate::report::commit_words;
use crate::source::Snapshot;
use crate::state::RunFilter;
use crate::words::{list, visible};

/// Runs a pipeline.
pub(crate) async fn apply(
    args: ApplyArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    refuse_detach(args.progress.detach)?;
    let target = target::resolve(&args.target, &settings.caller.folder)?;
    let home = Home::open(&settings.home)?;
    let (loaded, asked) =
        tokio::task::block_in_place(|| gather(&target, &args.selection, settings, &home, screen))?;
    asked.check_resources(settings)?;

    let place = Place::open(settings).await?;
    if matches!(target, Target::Git { .. }) {
        confirm_origin(&place, &asked.snapshot, args.yes).await?;
    }
    for remark in &asked.snapshot.remarks {
        screen.say(&format!("note: {}", visible(remark)));
    }
    let ground = ground::of_asked(&place, &asked, Purpose::Run, screen).await?;
    let prepared = Prepared::of(&place, asked, ground)?;
    let prepared = needed_secrets::check(&place, prepared).await?;
    if prepared.ground.kind() == RuntimeKind::Local {
        say_ignored(&loaded, screen);
    }
    let origin = &prepared.asked.snapshot.id.origin;
    let name = &prepared.asked.pipeline.name;
    place.state.bind_pipeline(name, origin, super::clock::now(), args.rebind).await?;

    let leaving = leaving::left(&place, &prepared).await?;
    leaving::refuse_conflicts(&place, &prepared, &leaving).await?;
    leaving::agree(&leaving, args.yes)?;

    let mut stop = signals::listen(Stop::No)?;
    let ask = Ask { overlap: args.overlap, keep_going: args.progress.keep_going };
    let owned = match launch(&place, &prepared, ask, &mut stop, screen).await? {
        Launched::Ours(owned) => owned,
        Launched::Skipped(other) => {
            screen.say(&format!("skipped: run {other} of this pipeline goes on"));
            return Ok(Exit::Done);
        }
        Launched::Cancelled => {
            return Err(CliError::Interrupted("stopped before the run began".into()));
        }
    };
    screen.say(&format!(
        "run {} of {name}, {}",
        owned.run,
        commit_words(&prepared.asked.snapshot.id)
    ));
    let manner = Manner {
        keep_going: args.progress.keep_going,
        keep_work: args.progress.keep_work,
        events: args.progress.events,
        json: args.output.json(),
        silent: false,
    };
    let run = owned.run;
    let outcome = conduct(&place, prepared, owned, manner, stop.clone(), screen).await?;
    if outcome == RunOutcome::Done {
        leaving::take_down(&place, run, &leaving, screen).await?;
    }
    Ok(Exit::of_run(outcome, *stop.borrow()))
}

/// Says which keys of the file are for containers only.
fn say_ignored(loaded: &Loaded, screen: Screen) {
    let ignored: Vec<String> =
        loaded.pipeline.ignored_on_local().iter().map(|key| format!("`{key}`")).collect();
    if !ignored.is_empty() {
        screen.warn(&format!(
            "{} of the file ha{} no effect: stages run as processes of this machine",
            list(&ignored),
            if ignored.len() == 1 { "s" } else { "ve" }
        ));
    }
}

/// Everything before the state is needed: file, params, selection, snapshot. Also of `plan`.
pub(crate) fn gather(
    target: &Target,
    asked: &SelectionFlags,
    settings: &Settings,
    home: &Home,
    screen: Screen,
) -> Result<(Loaded, Asked), CliError> {
    if asked.pipeline_target.is_some() {
        return Err(CliError::NotAvailable {
            what: "`--target`".into(),
            help: Some("leave it out, and give what differs with `--param`".into()),
        });
    }
    let sources = place::source(home, &settings.caller);
    let loaded = load(&sources, target)?;
    loaded.refuse_unavailable(screen)?;
    let params = loaded.params(&asked.params)?;
    let selection = selection(&loaded, asked)?;
    let snapshot = loaded.snapshot(&sources)?;
    let pipeline = std::sync::Arc::clone(&loaded.pipeline);
    let asked = Asked::new(loaded.file.clone(), pipeline, snapshot, params, selection);
    for (stage, glob) in asked.idle_globs() {
        let glob = visible(&glob);
        screen.warn(&format!(
            "no file matches `{glob}` in `files` of stage `{stage}`; it will not see it"
        ));
    }
    Ok((loaded, asked))
}

fn selection(loaded: &Loaded, asked: &SelectionFlags) -> Result<Selection, CliError> {
    crate::plan::resolve_selection(
        &loaded.pipeline,
        &asked.only,
        &asked.from,
        &asked.until,
        &asked.force,
    )
    .map_err(|error| CliError::usage(error.to_string(), error.help(&loaded.pipeline)))
}

/// `--detach` needs the server.
pub(crate) fn refuse_detach(detach: bool) -> Result<(), CliError> {
    if !detach {
        return Ok(());
    }
    Err(CliError::NotAvailable {
        what: "`--detach`".into(),
        help: Some("leave it out; `nohup flowrun apply &` goes on without a terminal".into()),
    })
}

/// Code from somewhere else runs with the caller's rights: the first time its origin and commit are shown and agreed to.
async fn confirm_origin(place: &Place, snapshot: &Snapshot, yes: bool) -> Result<(), CliError> {
    let id = &snapshot.id;
    let runs = place.state.runs(&RunFilter::default()).await?;
    if yes || runs.iter().any(|row| row.created.snapshot.origin == id.origin) {
        return Ok(());
    }
    let commit = id.commit.as_deref().unwrap_or("no commit");
    let what = format!("{} at {commit}", visible(&id.origin));
    if !question::can_be_asked() {
        return Err(CliError::usage(
            format!("{what} was never applied here, and nobody is there to be asked"),
            "add `--yes` if you trust it; its code runs with your rights",
        ));
    }
    let text = format!("{what}\nwas never applied here. Its code runs with your rights. Go on?");
    if question::yes(&text)? { Ok(()) } else { Err(CliError::Interrupted("not applied".into())) }
}
