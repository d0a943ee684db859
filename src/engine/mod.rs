//! Does a run. `run.rs` decides (pure), `drive.rs` acts (the one loop), `attempt.rs` is one attempt from key to record.
//! Knows no clap, no terminal.

mod attempt;
mod clock;
pub mod drive;
mod error;
mod mend;
mod results;
pub mod run;
mod settings;
mod tail;

pub use error::EngineError;
pub use mend::STORE_PATIENCE;
pub use settings::{DockerPlace, EngineSettings};

use crate::event::{Notice, RunEvent};

/// Who is told what happens. Cannot fail a run and must not block it.
pub trait Report: Send {
    /// A journalled event (after it was journalled), at Unix milliseconds.
    fn event(&mut self, at: u64, event: &RunEvent);
    /// Something passing.
    fn notice(&mut self, at: u64, notice: &Notice);
}
