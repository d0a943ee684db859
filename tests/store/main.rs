//! What every store promises, in one text over all of them, and what each promises beside.
//!
//! Those on S3 need servers: `tests/servers/with cargo test --test store` starts them, and `tests/run` does.
//! `FLOWRUN_TEST_FULL=1` asks for the large sizes: 100,000 files and 5 GiB instead of 10,000 and 64 MiB.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod artifacts;
mod beside;
mod claims;
mod cloud;
mod damage;
mod dir;
#[path = "../faults/mod.rs"]
mod faults;
mod faulty;
mod fixture;
mod garbage;
mod names;
mod objects;
#[path = "../ports/mod.rs"]
mod ports;
mod records;
mod renewal;
mod s3;
mod server;
mod sizes;

/// Makes tests of functions that take a [`fixture::Place`]: one on each store.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        $crate::on_conditional_stores!($($name),*);
        mod on_s3s {
            use crate::{fixture::Place, server::Server};
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&Place::on(Server::S3s)).await; })*
        }
    };
}

/// The same where the store can tell the first writer from the second: s3s-fs takes conditions and overwrites all the same.
macro_rules! on_conditional_stores {
    ($($name:ident),* $(,)?) => {
        mod on_dir {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&crate::fixture::Place::on_dir()).await; })*
        }
        mod on_beside {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&crate::fixture::Place::on_beside()).await; })*
        }
        mod on_seaweed {
            use crate::{fixture::Place, server::Server};
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&Place::on(Server::Seaweed)).await; })*
        }
    };
}

/// Makes tests of functions that take a [`server::Server`].
macro_rules! on_both_servers {
    ($($name:ident),* $(,)?) => {
        mod on_seaweed {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::server::Server::Seaweed).await; })*
        }
        mod on_s3s {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::server::Server::S3s).await; })*
        }
    };
}
use {on_both_servers, on_conditional_stores, on_every_store};
