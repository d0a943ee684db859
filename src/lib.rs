//! flowrun: from a git commit to a live, health-checked release with one YAML file.
//!
//! Modules stand in reading order; each may use what stands above it (docs/architecture.md).

pub mod digest;
pub mod event;
pub mod names;
pub mod scalar;
pub mod words;

pub mod spec;

pub mod runtime;
pub mod source;
pub mod state;
pub mod store;

pub mod environment;
pub mod workspace;

pub mod engine;
pub mod plan;

pub mod cli;
pub mod report;
