//! What a plan knows of the world outside its run.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::names::{InputName, StageName};
use crate::release::Release;
use crate::spec::pipeline::{Input, Stage};

/// What lies outside a run and decides what it does.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// All live releases of the pipeline, also of services that are not in the file any more.
    pub live: BTreeMap<StageName, Release>,
    /// Inputs from outside, by [`Wanted::id`](crate::address::Wanted::id).
    pub outside: BTreeMap<Digest, OutsideFact>,
}

/// What is known of an input from outside before it is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutsideFact {
    /// It is this artifact.
    Fetched(Digest),
    /// It is something else than what was fetched last.
    Changed,
    /// Nobody knows.
    NotFetched,
}

impl Around {
    /// What is fetched already.
    pub(super) fn fetched(&self) -> impl Iterator<Item = (Digest, Digest)> {
        self.outside.iter().filter_map(|(wanted, fact)| match fact {
            OutsideFact::Fetched(artifact) => Some((*wanted, *artifact)),
            OutsideFact::Changed | OutsideFact::NotFetched => None,
        })
    }

    /// The first input of a stage that a run fetches, and whether it is known to be another than before.
    pub(super) fn not_fetched<'s>(&self, stage: &'s Stage) -> Option<(&'s InputName, bool)> {
        stage.inputs.iter().find_map(|(name, input)| {
            let Input::Outside { wanted, .. } = input else { return None };
            match self.outside.get(&wanted.id()) {
                Some(OutsideFact::Fetched(_)) => None,
                fact => Some((name, fact == Some(&OutsideFact::Changed))),
            }
        })
    }
}
