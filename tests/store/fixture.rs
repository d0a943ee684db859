//! A store under test, the tricks that are played on it, and what is put into it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use flowrun::digest::Digest;
use flowrun::event::{KEY_FORMAT, KeyParts};
use flowrun::names::RunId;
use flowrun::scalar::Scalar;
use flowrun::store::s3::bucket::Bucket;
use flowrun::store::{Claim, Record, Refused, Store, Traffic};

use crate::beside::BesideTricks;
use crate::dir::DirTricks;
use crate::faults::{Plan, Proxy};
use crate::s3::S3Tricks;
use crate::server::{Server, below};

/// How long something may take that only has to happen: nothing is measured with it.
pub(crate) const LONG: Duration = Duration::from_mins(2);

/// What a test can do to a store beside using it.
#[async_trait]
pub(crate) trait Tricks: Send + Sync {
    /// The same store, opened by another process of this machine.
    fn again(&self) -> Box<dyn Store>;

    /// The same store, opened on a machine that holds nothing of it yet, where the store has machines.
    fn elsewhere(&self) -> Box<dyn Store>;

    /// Writes over these bytes wherever the store itself holds them; what machines keep in front of it stays. Panics when they are nowhere.
    async fn damage(&self, bytes: &[u8]);

    /// Removes every object of the store that holds these bytes. Panics when there is none.
    async fn lose(&self, bytes: &[u8]);

    /// Puts an object into the store's bucket, where it has one.
    async fn remember(&self, name: &str, bytes: &[u8]);
}

/// A folder with a store.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) store: Box<dyn Store>,
    pub(crate) tricks: Box<dyn Tricks>,
}

impl Place {
    pub(crate) fn on_dir() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tricks = Box::new(DirTricks::new(folder.path()));
        Self { store: tricks.again(), tricks, folder }
    }

    /// In a folder beside an empty store that is only read.
    pub(crate) fn on_beside() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tricks = Box::new(BesideTricks::new(folder.path()));
        Self { store: tricks.again(), tricks, folder }
    }

    /// On a server, below a prefix that nobody else has.
    pub(crate) fn on(server: Server) -> Self {
        let url = server.url();
        Self::on_url(&url, &url)
    }

    /// On a server behind a proxy that does what the plan says.
    pub(crate) fn on_faulty(server: Server, plan: Plan) -> (Self, Proxy) {
        let direct = server.url();
        let (proxy, url) = Proxy::in_front_of(&direct, plan);
        (Self::on_url(&url, &direct), proxy)
    }

    /// The same, with the way to its bucket that goes through no proxy.
    pub(crate) fn on_aging(server: Server, plan: Plan) -> (Self, Proxy, Bucket) {
        let (place, proxy) = Self::on_faulty(server, plan);
        let bucket = Bucket::new(below(&server.url(), &place.prefix()).parse().unwrap());
        (place, proxy, bucket)
    }

    fn prefix(&self) -> String {
        self.folder.path().file_name().unwrap().to_str().unwrap().replace('.', "test-")
    }

    fn on_url(url: &str, direct: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().file_name().unwrap().to_str().unwrap().replace('.', "test-");
        let (url, direct) = (below(url, &prefix), below(direct, &prefix));
        let tricks = Box::new(S3Tricks::new(url, &direct, folder.path()));
        Self { store: tricks.again(), tricks, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn again(&self) -> Box<dyn Store> {
        self.tricks.again()
    }

    pub(crate) async fn take(&self, path: &Path) -> Digest {
        self.store.take_in(path, &Traffic::default()).await.unwrap().unwrap()
    }

    pub(crate) async fn refuses(&self, path: &Path) -> Refused {
        self.store.take_in(path, &Traffic::default()).await.unwrap().unwrap_err()
    }

    /// Places an artifact below a name of this folder.
    pub(crate) async fn place(&self, artifact: &Digest, name: &str, own: bool) -> PathBuf {
        self.place_from(&*self.store, artifact, name, own).await
    }

    /// The same on a machine that has to fetch it.
    pub(crate) async fn fetch(&self, artifact: &Digest, name: &str) -> PathBuf {
        self.place_from(&*self.tricks.elsewhere(), artifact, name, false).await
    }

    async fn place_from(
        &self,
        store: &dyn Store,
        artifact: &Digest,
        name: &str,
        own: bool,
    ) -> PathBuf {
        let target = self.path(name);
        fs_err::create_dir_all(target.parent().unwrap()).unwrap();
        store.place(artifact, &target, own, &Traffic::default()).await.unwrap();
        target
    }
}

/// The claim, as soon as it can be had: a store on a network gives one back a moment after it was dropped.
pub(crate) async fn claim_when_free(store: &dyn Store, key: &Digest, holder: &str) -> Claim {
    let claimed = async {
        loop {
            match store.claim(key, holder).await.unwrap() {
                Ok(claim) => return claim,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(LONG, claimed).await.expect("the claim is never given back")
}

pub(crate) fn parts(command: &str) -> KeyParts {
    KeyParts {
        args: None,
        format: KEY_FORMAT,
        command: vec![command.to_owned()],
        env: BTreeMap::new(),
        environment: Digest::of(b"environment"),
        platform: "linux/x86_64".to_owned(),
        files: Digest::of(b"files"),
        inputs: BTreeMap::new(),
        params: BTreeMap::new(),
        matrix: BTreeMap::new(),
        outputs: BTreeMap::new(),
        metrics: None,
        values: None,
        workdir: ".".to_owned(),
        network: "default".to_owned(),
        secrets: BTreeMap::new(),
    }
}

pub(crate) fn record(command: &str, output: Option<Digest>) -> Record {
    let parts = parts(command);
    Record {
        format: 1,
        key: parts.key(),
        parts,
        outputs: output.map(|digest| ("model".parse().unwrap(), digest)).into_iter().collect(),
        // The nearest number above 0.1 + 0.2, which a careless reader of JSON loses.
        metrics: BTreeMap::from([("loss".to_owned(), 0.300_000_000_000_000_04)]),
        values: BTreeMap::from([("kind".to_owned(), Scalar::Text("a".to_owned()))]),
        seconds: 1.25,
        peak_memory: 7,
        made_by: run(1),
        made_at: 1_700_000_000_000,
        made_on: None,
    }
}

pub(crate) fn run(number: u128) -> RunId {
    RunId::new(1_700_000_000_000, number)
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs_err::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// Whether the large sizes are asked for.
#[expect(clippy::disallowed_methods, reason = "said from outside")]
pub(crate) fn is_full() -> bool {
    std::env::var_os("FLOWRUN_TEST_FULL").is_some()
}
