//! The pipeline file: text → [`Pipeline`], or every [`Problem`] of it at once; and expressions.
//!
//! Owns the format (FORMAT.md), its words and its help. Knows nothing of runs, runtimes or stores.
//! After [`load`] no name dangles, no cycle exists and every expression compiles.

pub mod expression;
pub mod pipeline;
pub mod problem;

pub use expression::{Expression, Scope, Template};
pub use pipeline::Pipeline;
pub use problem::{Problem, Problems};

/// Reads a pipeline file of version 2.
///
/// `name` is how the file is called in messages, `bytes` its content (hostile content is fine: time and memory
/// are bounded). Returns the pipeline, or every problem, sorted by place.
pub fn load(name: &str, bytes: &[u8]) -> Result<Pipeline, Problems> {
    let _ = (name, bytes);
    todo!()
}
