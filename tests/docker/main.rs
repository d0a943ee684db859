//! What flowrun says to a Docker Engine and to registries, tried with real ones.
//!
//! Needs an engine that answers, the image `flowrun-test/tiny:1` (tests/images/make), and Debian's `docker-registry` and `htpasswd`.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its scene must fail")]

mod builds;
mod cleaning;
mod engine;
mod environments;
mod images;
mod networks;
#[path = "../ports/mod.rs"]
mod ports;
mod registry;
