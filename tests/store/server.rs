//! The S3 servers of the tests, and a place of its own for each test.

/// A server of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Seaweed,
    S3s,
}

impl Server {
    /// The URL of its bucket, as `tests/servers` says it.
    #[expect(clippy::disallowed_methods, reason = "who starts the server says where it is")]
    pub(crate) fn url(self) -> String {
        let name = match self {
            Self::Seaweed => "FLOWRUN_TEST_S3_SEAWEED",
            Self::S3s => "FLOWRUN_TEST_S3_S3S",
        };
        std::env::var(name).unwrap_or_else(|_| {
            panic!("`{name}` is not set: `tests/servers/with cargo test --test store` starts the servers and sets it")
        })
    }
}

/// The URL of a part of a bucket that belongs to one test.
pub(crate) fn below(url: &str, prefix: &str) -> String {
    let (bucket, parameters) = url.split_once('?').unwrap();
    format!("{bucket}/{prefix}?{parameters}")
}
