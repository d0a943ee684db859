//! flowrun: from a git commit to a live, health-checked release with one YAML file.
//!
//! Modules stand in reading order; each may use what stands above it (docs/architecture.md).

#[cfg(test)]
#[path = "../tests/ports/mod.rs"]
mod ports;
#[cfg(test)]
mod testing;

pub mod address;
pub mod digest;
pub mod event;
pub mod names;
pub mod release;
pub mod scalar;
pub mod secret;
pub mod weather;
pub mod words;

pub mod spec;

pub mod gateway;
pub mod runtime;
pub mod source;
pub mod state;
pub mod store;
pub mod vault;

pub mod environment;
pub mod handover;
pub mod outside;
pub mod workspace;

pub mod plan;
pub mod rollout;

pub mod engine;

pub mod report;
pub mod server;

pub mod cli;
