//! Pure: which tasks a run has, what each one's key is, what will happen and why. Knows no IO, no clock.
//! (petgraph's one home.)

pub mod graph;
pub mod key;
pub mod verdict;
pub mod why;

pub use graph::{Graph, PlannedTask, TaskIndex};
pub use key::{KeyContext, ResolvedInputs};
pub use verdict::{Plan, Verdict, plan};
