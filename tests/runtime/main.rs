//! What every runtime promises, in one text over local, docker and scripted, and what each promises beside.
//!
//! Those of docker need an engine and the images of `tests/run`; without them they fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod adoption;
mod conformance;
mod docker;
mod fixture;
mod limits;
mod local;
mod logs;
mod scripted;
mod secrets;

/// Makes tests of functions that take a [`fixture::Home`]: one on local, one on docker.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_local {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&crate::fixture::Home::new()).await; })*
        }
        mod on_docker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&crate::fixture::Home::docker().await).await; })*
        }
    };
}
use on_both;
