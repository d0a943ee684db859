//! The one way to a process of which a folder has one: a lock that only one can hold, and a socket.
//!
//! The lock file is held by the living process and nobody else for long; the kernel frees it with its holder. Who gets it may
//! bind the socket anew and hands both to the process it starts. So two that race to start one end up with the same.
//! The socket is bound and connected through `/proc/self/fd/<folder>`, as a socket's path may hold 107 bytes only.
//! Runs and replicas have a monitor behind such a door, a home its server.

use fs_err::os::unix::fs::OpenOptionsExt;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The files of a door in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DoorFiles {
    /// Held by whoever is behind the door.
    pub(crate) lock: &'static str,
    /// Where it is talked to.
    pub(crate) socket: &'static str,
    /// What it says when there is nobody else to tell.
    pub(crate) log: &'static str,
}

/// The door of a run's or a replica's monitor.
pub(super) const MONITOR: DoorFiles =
    DoorFiles { lock: "monitor.lock", socket: "monitor.sock", log: "monitor.log" };

/// How long somebody else may hold the lock without a socket: while it starts its process, or stops what one left behind.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is behind a door.
pub(crate) enum Door {
    /// The process lives; this is a connection to it.
    Open(UnixStream),
    /// Nobody, and nobody can be started while this is held.
    Nobody(Lock),
}

/// The right to be the process of a folder. Dropping it gives it back, unless it was handed on.
pub(crate) struct Lock {
    file: fs_err::File,
    folder: PathBuf,
    files: DoorFiles,
}

/// What the new process is born with.
pub(crate) struct Birthright {
    pub(crate) listener: UnixListener,
    pub(crate) lock: fs_err::File,
    pub(crate) log: fs_err::File,
}

/// Connects to the process of this folder or takes the lock. Makes the folder, and makes it private, when it has to.
pub(crate) async fn knock(folder: &Path, files: DoorFiles) -> std::io::Result<Door> {
    make_private(folder)?;
    let mut waited = Duration::ZERO;
    let pause = Duration::from_millis(5);
    loop {
        let mut options = fs_err::OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(folder.join(files.lock))?;
        match file.file().try_lock() {
            Ok(()) => return Ok(Door::Nobody(Lock { file, folder: folder.to_owned(), files })),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        match connect(folder, files) {
            Ok(stream) => return Ok(Door::Open(stream)),
            Err(error) if waited >= PATIENCE => return Err(error),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::WouldBlock
                ) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause).await;
        waited += pause;
    }
}

impl Lock {
    /// Puts a fresh socket in place, for a process to be started with. Connections wait from now on.
    pub(crate) fn open_door(self) -> std::io::Result<(Birthright, UnixStream)> {
        let socket = self.folder.join(self.files.socket);
        match fs_err::remove_file(&socket) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let short = ShortPath::of(&self.folder)?;
        let listener = UnixListener::bind(short.path(self.files.socket))?;
        fs_err::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        let mut options = fs_err::OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let log = options.open(self.folder.join(self.files.log))?;
        let stream = connect(&self.folder, self.files)?;
        Ok((Birthright { listener, lock: self.file, log }, stream))
    }
}

/// Takes the listening socket and the lock that this process was started with from its standard input and output, and puts
/// `/dev/null` in their place. Nothing, and nothing changed, when it was started otherwise.
pub(crate) fn inherited() -> std::io::Result<Option<(UnixListener, OwnedFd)>> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    if !rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false) {
        return Ok(None);
    }
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    let lock = std::io::stdout().as_fd().try_clone_to_owned()?;
    let null = fs_err::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(Some((listener, lock)))
}

/// Whether the process lives, or somebody is just starting it. Changes nothing.
pub(crate) fn is_somebody_there(folder: &Path, files: DoorFiles) -> bool {
    let Ok(file) = fs_err::File::open(folder.join(files.lock)) else { return false };
    matches!(file.file().try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// The last words of a process that could not start.
pub(super) fn last_words(folder: &Path, files: DoorFiles) -> Option<String> {
    let log = fs_err::read_to_string(folder.join(files.log)).ok()?;
    log.lines().last().map(str::to_owned)
}

/// Whether the other end belongs to the same user, or to root.
pub(crate) fn is_own(stream: impl std::os::fd::AsFd) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid == own || peer.uid.is_root())
}

fn connect(folder: &Path, files: DoorFiles) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(ShortPath::of(folder)?.path(files.socket))?;
    if !is_own(&stream) {
        return Err(std::io::Error::new(
            ErrorKind::PermissionDenied,
            format!("the socket in `{}` belongs to another user", folder.display()),
        ));
    }
    Ok(stream)
}

/// Whether a folder can have a door: binds a socket there. The folder is left to whoever asks.
pub(crate) fn try_bind(folder: &Path) -> std::io::Result<()> {
    UnixListener::bind(ShortPath::of(folder)?.path("socket")).map(drop)
}

fn make_private(folder: &Path) -> std::io::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| {
        std::io::Error::new(error.kind(), format!("cannot make `{}`: {error}", folder.display()))
    })?;
    let rights = fs_err::metadata(folder)?.permissions().mode();
    if rights & 0o077 != 0 {
        fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// A folder under a path that is always short, for as long as this lives.
struct ShortPath(fs_err::File);

impl ShortPath {
    fn of(folder: &Path) -> std::io::Result<Self> {
        fs_err::File::open(folder).map(Self)
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::soon;

    #[tokio::test]
    async fn one_holds_the_lock_and_the_others_connect_to_what_it_opened() {
        let folder = tempfile::tempdir().unwrap();
        // Far longer than a socket's path may be.
        let run = folder.path().join("long".repeat(40));
        let Door::Nobody(lock) = knock(&run, MONITOR).await.unwrap() else {
            panic!("nobody is there")
        };
        let (birthright, _first) = lock.open_door().unwrap();
        assert!(matches!(knock(&run, MONITOR).await.unwrap(), Door::Open(_)));
        assert!(is_somebody_there(&run, MONITOR));
        assert_eq!(fs_err::metadata(&run).unwrap().permissions().mode() & 0o777, 0o700);
        drop(birthright);
        assert!(soon(|| !is_somebody_there(&run, MONITOR)));
        assert!(
            matches!(knock(&run, MONITOR).await.unwrap(), Door::Nobody(_)),
            "the lock goes with its holder"
        );
    }
}
