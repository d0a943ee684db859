//! An address → a verified artifact. Owns fetching, and what the store remembers of what was fetched. Knows no stages or runs.
//!
//! What was fetched is remembered in the store itself, as records (see `memory.rs`): by its digests, so that content which is known is
//! never fetched again, also on another machine with the same store; and by its address with what the server says of its version, so that
//! a conditional request tells whether it changed.

mod bucket;
mod download;
mod error;
mod file;
mod hashing;
mod login;
mod memory;
mod part;
mod progress;
mod trouble;
mod web;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};

use crate::address::{Expected, Scheme, Wanted};
use crate::digest::Digest;
use crate::names::RunId;
use crate::secret::SecretText;
use crate::store::{Store, Traffic};
use download::Source;
pub use error::OutsideError;
use hashing::Hashes;
use memory::Remembered;
use part::Part;
pub use part::UNFINISHED;
use progress::Progress;
use trouble::Trouble;
use web::Web;

/// Downloads at once.
const AT_ONCE: usize = 4;

/// What the fetcher is told.
#[derive(Debug, Clone)]
pub struct OutsideSettings {
    /// For unfinished downloads; on the filesystem of the store, so that they need not be copied.
    pub folder: PathBuf,
    /// How long it waits for servers.
    pub patience: Patience,
    /// The user's `.netrc`, which need not be there.
    pub netrc: Option<PathBuf>,
}

/// How long and how often servers are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte.
    pub stall: Duration,
    /// Tries in a row that bring nothing new.
    pub tries: u32,
    /// Before the second try; doubled each time.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            stall: Duration::from_mins(1),
            tries: 5,
            pause: Duration::from_millis(500),
        }
    }
}

/// What an address was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The artifact; it is in the store.
    pub artifact: Digest,
    /// What tells this content from other content of the same address, for people: `etag "5f3a"`.
    pub version: String,
}

/// What is known of an address without fetching it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// It holds this artifact, which is in the store.
    Known(Digest),
    /// It holds something else than what was fetched last.
    Changed,
    /// It was never fetched, or what was fetched is not in the store any more.
    NotFetched,
    /// Nobody can tell without fetching it: its server names no version.
    Untold,
}

/// Who fetches, for the records of the store.
#[derive(Debug, Clone, Copy)]
pub struct Fetcher {
    /// The run.
    pub run: RunId,
    /// Unix milliseconds.
    pub now: u64,
}

/// What a server, bucket or disk says of the version of its content. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Version {
    /// An entity tag with its quotes, or another text that changes with the content.
    etag: Option<String>,
    /// `Last-Modified`, as the server wrote it.
    modified: Option<String>,
}

/// What a way of fetching came back with.
enum Got {
    /// It is what was remembered.
    Unchanged,
    /// It lies at this path, below the folder of unfinished downloads.
    Fetched { path: PathBuf, version: Version, hashes: Option<Hashes> },
}

/// Fetches what lies outside.
pub struct Outside {
    settings: OutsideSettings,
    store: Arc<dyn Store>,
    web: OnceCell<Web>,
    turns: Semaphore,
}

impl Outside {
    /// Asks nothing yet.
    pub fn new(settings: OutsideSettings, store: Arc<dyn Store>) -> Self {
        Self { settings, store, web: OnceCell::new(), turns: Semaphore::new(AT_ONCE) }
    }

    /// Brings what is wanted into the store, as far as it is not there, and says which artifact it is. `progress` gets lines for people.
    ///
    /// `token`: the value of the secret that the address takes. A crash midway leaves an unfinished download that the next call goes on with. Two processes fetch one address in turn.
    pub async fn pin(
        &self,
        wanted: &Wanted,
        token: Option<&SecretText>,
        fetcher: Fetcher,
        traffic: &Traffic,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Pinned, OutsideError> {
        if let Some(pinned) = self.known(wanted, traffic).await? {
            return Ok(pinned);
        }
        let Ok(_turn) = self.turns.acquire().await else { return Err(OutsideError::given_up()) };
        let mut progress = Progress::new(wanted.address.to_string(), progress);
        let id = wanted.address.id();
        let wants_b3 = matches!(wanted.expected, Some(Expected::Blake3(_)));
        let mut part = Part::open(&self.settings.folder, &id, wants_b3, &mut progress).await?;
        // Whoever held it until now may have fetched the same.
        if let Some(pinned) = self.known(wanted, traffic).await? {
            return Ok(pinned);
        }
        let memory = match wanted.expected {
            Some(_) => None,
            None => memory::of_address(&*self.store, &id).await?,
        };
        let before = memory.as_ref().map(|memory| &memory.version);
        let got = self.fetch(wanted, token, before, &mut part, &mut progress, traffic).await?;
        match (got, memory) {
            (Got::Unchanged, Some(memory)) => {
                traffic.spare(memory.size);
                Ok(Pinned { artifact: memory.artifact, version: memory.version.words() })
            }
            (Got::Unchanged, None) => Err(wanted_error(
                wanted,
                Trouble::odd("answers that nothing changed, and was not asked that"),
            )),
            (Got::Fetched { path, version, hashes }, _) => {
                self.take_in(wanted, fetcher, &path, version, hashes, traffic).await
            }
        }
    }

    /// Asks what an address holds without fetching it; a server is asked once, with a condition.
    pub async fn look(
        &self,
        wanted: &Wanted,
        token: Option<&SecretText>,
    ) -> Result<Outlook, OutsideError> {
        if let Some(expected) = &wanted.expected {
            let known = memory::of_digest(&*self.store, expected).await?;
            return Ok(known.map_or(Outlook::NotFetched, |memory| Outlook::Known(memory.artifact)));
        }
        let Some(memory) = memory::of_address(&*self.store, &wanted.address.id()).await? else {
            return Ok(Outlook::NotFetched);
        };
        if memory.version.is_empty() {
            return Ok(Outlook::Untold);
        }
        let outside = |trouble| wanted_error(wanted, trouble);
        let is_same = match wanted.address.scheme() {
            Scheme::Https | Scheme::Http => {
                let source = Source { web: self.web().await?, address: &wanted.address, token };
                download::is_same(&source, &memory.version).await
            }
            Scheme::S3 => bucket::is_same(&wanted.address, &memory.version).await,
            Scheme::File => file::is_same(&wanted.address, &memory.version),
        };
        let is_same = is_same.map_err(|trouble| outside(trouble.offline()))?;
        Ok(if is_same { Outlook::Known(memory.artifact) } else { Outlook::Changed })
    }

    /// What the store knows by the digest that is wanted.
    async fn known(
        &self,
        wanted: &Wanted,
        traffic: &Traffic,
    ) -> Result<Option<Pinned>, OutsideError> {
        let Some(expected) = &wanted.expected else { return Ok(None) };
        let memory = memory::of_digest(&*self.store, expected).await?;
        Ok(memory.map(|memory| {
            traffic.spare(memory.size);
            Pinned { artifact: memory.artifact, version: expected.to_string() }
        }))
    }

    async fn fetch(
        &self,
        wanted: &Wanted,
        token: Option<&SecretText>,
        before: Option<&Version>,
        part: &mut Part,
        progress: &mut Progress<'_>,
        traffic: &Traffic,
    ) -> Result<Got, OutsideError> {
        let address = &wanted.address;
        let got = match address.scheme() {
            Scheme::Https | Scheme::Http => {
                let source = Source { web: self.web().await?, address, token };
                download::download(&source, before, part, progress, traffic).await
            }
            Scheme::S3 => bucket::fetch(address, before, part, progress, traffic).await,
            Scheme::File => file::copy(address, before, part, progress).await,
        };
        got.map_err(|trouble| {
            let remembered = before.is_some();
            wanted_error(wanted, if remembered { trouble.offline() } else { trouble })
        })
    }

    /// Verifies what was fetched, and makes it an artifact that is remembered.
    async fn take_in(
        &self,
        wanted: &Wanted,
        fetcher: Fetcher,
        path: &std::path::Path,
        version: Version,
        hashes: Option<Hashes>,
        traffic: &Traffic,
    ) -> Result<Pinned, OutsideError> {
        let verified = match (wanted.expected, &hashes) {
            (Some(expected), Some(hashes)) => {
                hashes.differ(&expected).map_or(Ok(()), |is| Err(Trouble::wrong(&expected, &is)))
            }
            (Some(Expected::Sha256(_)), None) => Err(Trouble::folder_with_sha256()),
            (Some(Expected::Blake3(_)), None) | (None, _) => Ok(()),
        };
        if let Err(trouble) = verified {
            part::remove(path)?;
            return Err(wanted_error(wanted, trouble));
        }
        let taken = self.store.take_in(path, traffic).await?;
        // The store has a name of its own for each file by now.
        part::remove(path)?;
        let artifact = taken.map_err(|refused| wanted_error(wanted, Trouble::refused(&refused)))?;
        if let (Some(expected @ Expected::Blake3(wants)), None) = (wanted.expected, &hashes)
            && wants != artifact
        {
            let is = Expected::Blake3(artifact);
            return Err(wanted_error(wanted, Trouble::wrong(&expected, &is)));
        }
        self.store.sync().await?;
        let words = match &wanted.expected {
            Some(expected) => expected.to_string(),
            None => version.words(),
        };
        let remembered = Remembered {
            artifact,
            address: wanted.expected.is_none().then_some(&wanted.address),
            version,
            sha256: hashes.map(|hashes| hashes.sha256),
        };
        memory::remember(&*self.store, remembered, fetcher).await?;
        Ok(Pinned { artifact, version: words })
    }

    async fn web(&self) -> Result<&Web, OutsideError> {
        self.web
            .get_or_try_init(|| async {
                Web::new(self.settings.patience, self.settings.netrc.as_deref())
            })
            .await
    }
}

impl Version {
    fn is_empty(&self) -> bool {
        self.etag.is_none() && self.modified.is_none()
    }

    /// Whether both say something, and the same.
    fn is(&self, other: &Self) -> bool {
        match (&self.etag, &other.etag) {
            (Some(one), Some(other)) => weakly(one) == weakly(other),
            (None, None) => self.modified.is_some() && self.modified == other.modified,
            _ => false,
        }
    }

    fn words(&self) -> String {
        match (&self.etag, &self.modified) {
            (Some(etag), _) => format!("etag {etag}"),
            (None, Some(modified)) => format!("modified {modified}"),
            (None, None) => "no version".to_owned(),
        }
    }
}

/// Entity tags are compared weakly where only the content counts.
fn weakly(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

fn wanted_error(wanted: &Wanted, trouble: Trouble) -> OutsideError {
    trouble.at(&wanted.address)
}

#[cfg(test)]
mod tests;
