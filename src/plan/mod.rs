//! Pure: which tasks a run has, what each one's key is, what will happen and why. Knows no IO, no clock.
//! (petgraph's one home.)

pub mod graph;
pub mod selection;
mod stages;

mod files;
pub mod key;
mod scope;

pub mod causes;
pub mod pick;
mod told;
pub mod verdict;
pub mod why;

pub mod show;

#[cfg(test)]
mod expression_tests;
#[cfg(test)]
mod testing;

pub use graph::{Graph, PlannedTask, TaskIndex};
pub use key::{KeyContext, ResolvedInputs};
pub use pick::pick_winner;
pub use selection::resolve_selection;
pub use verdict::{Plan, Verdict, plan};
