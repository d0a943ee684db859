//! Who may be the server of a home: whoever holds its lock. Another process of flowrun hands it over with the socket, or it
//! is taken here.

use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::{FILES, start};
use crate::runtime::door::{self, Door};

/// The right to be the server of a home.
pub struct Birth {
    pub(super) home: PathBuf,
    pub(super) listener: UnixListener,
    /// Held for as long as the server lives.
    pub(super) lock: std::fs::File,
    /// The server was started by another process of flowrun, and its stderr is the log.
    pub(super) in_background: bool,
}

/// Why this process cannot be the server.
#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    /// Another one is.
    #[error("the server of this home runs already{}", .0.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Taken(Option<u32>),
    /// The lock or the socket.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Birth {
    /// Takes what this process was started with, else the lock and a fresh socket of the home.
    pub async fn take(home: &Path) -> Result<Self, BirthError> {
        let (listener, lock, in_background) = match door::inherited()? {
            Some((listener, lock)) => {
                // What ends its caller's terminal does not end it. Fails only for a process group's leader, and such a
                // server is on its own already.
                rustix::process::setsid().map(drop).unwrap_or_default();
                std::env::set_current_dir("/")?;
                (listener, lock, true)
            }
            None => match door::knock(home, FILES).await? {
                Door::Open(_) => return Err(BirthError::Taken(start::pid_of(home))),
                Door::Nobody(lock) => {
                    let (birthright, _own) = lock.open_door()?;
                    birthright.listener.set_nonblocking(true)?;
                    (birthright.listener, OwnedFd::from(birthright.lock.into_file()), false)
                }
            },
        };
        let mut lock = std::fs::File::from(lock);
        // For people who look for the process, and for a server that does not answer.
        lock.set_len(0)?;
        lock.rewind()?;
        write!(lock, "{}", std::process::id())?;
        Ok(Self { home: home.to_owned(), listener, lock, in_background })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::soon;

    #[tokio::test]
    async fn a_home_has_one_server_and_its_lock_names_it() {
        let home = tempfile::tempdir().unwrap();
        assert!(!start::is_running(home.path()));
        let first = Birth::take(home.path()).await.unwrap();
        assert!(start::is_running(home.path()));
        let second = Birth::take(home.path()).await;
        let own = std::process::id();
        assert!(matches!(second, Err(BirthError::Taken(Some(pid))) if pid == own));
        drop(first);
        assert!(soon(|| !start::is_running(home.path())));
        Birth::take(home.path()).await.unwrap();
    }
}
