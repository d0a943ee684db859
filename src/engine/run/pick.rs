//! Which copy of a stage with `pick` later stages see.

use std::collections::BTreeMap;

use crate::event::Metrics;
use crate::names::StageName;
use crate::plan::pick_winner;
use crate::spec::pipeline::Pick;

/// A stage with `pick` and what its copies gave so far.
#[derive(Debug)]
pub(super) struct PickedStage {
    pub(super) stage: StageName,
    pub(super) pick: Pick,
    /// Copies without a result.
    pub(super) missing: usize,
    /// By copy.
    pub(super) results: BTreeMap<u32, Metrics>,
    /// `Picked` was said.
    pub(super) decided: bool,
}

/// What the result of a copy means for its stage.
pub(super) enum Arrival {
    /// Other copies are still to come.
    More,
    /// All are there.
    Winner { copy: u32, value: f64 },
    /// All are there and none reported the metric; this copy's result does not count.
    NoMetric,
}

impl PickedStage {
    pub(super) fn new(stage: StageName, pick: Pick) -> Self {
        Self { stage, pick, missing: 0, results: BTreeMap::new(), decided: false }
    }

    pub(super) fn arrived(&mut self, copy: u32, metrics: Metrics) -> Arrival {
        self.results.insert(copy, metrics);
        self.missing -= 1;
        if self.missing > 0 {
            return Arrival::More;
        }
        if let Some((copy, value)) = self.winner() {
            self.decided = true;
            Arrival::Winner { copy, value }
        } else {
            self.results.remove(&copy);
            self.missing += 1;
            Arrival::NoMetric
        }
    }

    /// The best of the copies that are there; the first wins a tie.
    pub(super) fn winner(&self) -> Option<(u32, f64)> {
        pick_winner(&self.pick, self.results.iter().map(|(copy, metrics)| (*copy, metrics)))
    }
}
