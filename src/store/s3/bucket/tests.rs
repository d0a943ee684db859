//! A bucket against servers that fail as servers do. Nothing here looks at a clock.

mod asking;
pub(in crate::store::s3) mod memory;
mod moving;
pub(in crate::store::s3) mod server;
mod writing;

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};

use self::server::Server;
use super::authorities::Authorities;
use super::client::{assembled, http_client};
use super::limits::Limits;
use super::{Bucket, StoreError};

/// Small parts and short pauses.
fn limits() -> Limits {
    Limits {
        part: 1000,
        whole: 1000,
        memory: 4 << 20,
        quiet: Duration::from_secs(20),
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
        tick: Duration::ZERO,
        ..Limits::default()
    }
}

/// A bucket on that server, with credentials of its own.
fn bucket(server: &Server, limits: Limits) -> Bucket {
    let text = format!("s3://team/models?endpoint={}", server.url());
    let bucket = Bucket::with(text.parse().unwrap(), limits);
    let keys = Credentials::new("key", "word", None, None, "tests");
    let found = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http_client(&Authorities::default()))
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .build();
    let mut reach = assembled(&bucket.inner, &found);
    reach.endpoint = Some(server.url());
    let config = reach.client.config().to_builder().endpoint_url(server.url());
    reach.client = aws_sdk_s3::Client::from_conf(config.force_path_style(true).build());
    reach.encrypted = false;
    bucket.inner.reach.set(reach).unwrap();
    bucket
}

/// The same for tests of what uses buckets.
pub(in crate::store::s3) fn bucket_on(server: &Server) -> Bucket {
    bucket(server, limits())
}

/// What a person reads, and whether it may pass.
fn told(error: &StoreError) -> (String, bool) {
    match error {
        StoreError::Unreachable { help, passes, .. } => (format!("{error}\n{help}"), *passes),
        other => (other.to_string(), false),
    }
}

/// The whole surface can be used from tasks that move between threads.
#[test]
fn every_call_can_be_sent() {
    fn sent<T: Send>(_: &T) {}
    fn check(bucket: &Bucket, each: &mut (dyn FnMut(super::Listed) + Send)) {
        sent(&bucket.head("x"));
        sent(&bucket.get("x"));
        sent(&bucket.get_range("x", 0..1));
        sent(&bucket.put("x", bytes::Bytes::new(), super::Condition::Absent));
        sent(&bucket.upload("x", "x".as_ref(), 1, &|_| {}));
        sent(&bucket.download("x", 1, "x".as_ref(), &|_| {}));
        sent(&bucket.list("x", each));
        sent(&bucket.remove(&[]));
        sent(&bucket.touch("x"));
        sent(&bucket.is_conditional());
        sent(&bucket.sweep_uploads(Duration::ZERO, &|_| true, true));
    }
    check(&Bucket::new("s3://team".parse().unwrap()), &mut |_| {});
}
