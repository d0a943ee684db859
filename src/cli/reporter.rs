//! Chooses who is told what happens in a run: the live view on a terminal, lines elsewhere, JSON for machines.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use jiff::tz::TimeZone;

use super::clock;
use super::conduct::Manner;
use super::screen::{Loudness, Screen};
use crate::engine::Report;
use crate::event::{Notice, RunEvent};
use crate::names::{RunId, StageName, TaskId};
use crate::report::{Background, JsonLines, KnownService, Lines, LinesOptions, Tally, Terminal};
use crate::state::Recorded;

/// What a report knows of a run before it begins.
pub(crate) struct Shown<'a> {
    /// The run.
    pub(crate) run: RunId,
    /// Its tasks in task-number order.
    pub(crate) tasks: Vec<(TaskId, String)>,
    /// By stage, the stages it needs.
    pub(crate) needs: BTreeMap<StageName, Vec<StageName>>,
    /// How long they took before, seconds.
    pub(crate) durations: &'a BTreeMap<TaskId, f64>,
    /// Tasks at once.
    pub(crate) jobs: u32,
    /// The services of its pipeline.
    pub(crate) services: BTreeMap<StageName, KnownService>,
    /// What happened already.
    pub(crate) journal: &'a [Recorded],
}

/// The report that fits the flags and the terminal.
pub(crate) fn choose(shown: Shown<'_>, manner: Manner, screen: Screen) -> Box<dyn Report> {
    if manner.silent {
        return Box::new(Silent);
    }
    if manner.events.is_some() {
        return Box::new(Background::new(JsonLines::new(shown.run, Box::new(std::io::stdout()))));
    }
    let mut tally = Tally::new(shown.run, shown.tasks, shown.needs, shown.durations, shown.jobs)
        .with_services(shown.services);
    for recorded in shown.journal {
        tally.fold(recorded.at, &recorded.event);
    }
    if std::io::stderr().is_terminal() && screen.loudness != Loudness::Quiet {
        return Box::new(Terminal::new(tally, clock::now(), screen.colour_err));
    }
    let options = LinesOptions {
        quiet: screen.loudness == Loudness::Quiet,
        colour: screen.colour_err,
        zone: TimeZone::system(),
    };
    Box::new(Background::new(Lines::new(tally, options, Box::new(std::io::stderr()))))
}

/// Tells nobody.
struct Silent;

impl Report for Silent {
    fn event(&mut self, _: u64, _: &RunEvent) {}
    fn notice(&mut self, _: u64, _: &Notice) {}
}
