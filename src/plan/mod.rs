//! Pure: which tasks a run has, what each one's key is, what will happen and why. Knows no IO, no clock.
//! (petgraph's one home.)

pub mod graph;
pub mod selection;
mod stages;

mod files;
pub mod key;
mod live;
pub mod marks;
pub mod release;
mod results;
mod scope;

pub mod around;
pub mod causes;
pub mod pick;
mod planner;
pub mod rollout_words;
mod told;
pub mod verdict;
pub mod why;

pub mod show;

#[cfg(test)]
mod expression_tests;
#[cfg(test)]
mod testing;

pub use around::{Around, OutsideFact};
pub use files::seen_files;
pub use graph::{Graph, PlannedTask, TaskIndex};
pub use key::{KeyContext, ResolvedInputs};
pub use pick::pick_winner;
pub use planner::plan;
pub use selection::resolve_selection;
pub use verdict::{Plan, SharedResults, Verdict};
