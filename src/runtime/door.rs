//! The one way to a run's monitor: a lock that only one can hold, and a socket.
//!
//! `monitor.lock` in the run folder is held by the living monitor and nobody else for long; the kernel frees it with its
//! holder. Who gets it may bind `monitor.sock` anew and hands both to the monitor it starts. So two that race to
//! start a monitor end up with the same one. The socket is bound and connected through `/proc/self/fd/<folder>`, as a socket's
//! path may hold 107 bytes only.

use fs_err::os::unix::fs::OpenOptionsExt;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOCK: &str = "monitor.lock";
const SOCKET: &str = "monitor.sock";
const LOG: &str = "monitor.log";

/// How long somebody else may hold the lock without a socket: while it starts a monitor, or stops what one left behind.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is at home in a run folder.
pub(super) enum Door {
    /// A monitor lives; this is a connection to it.
    Open(UnixStream),
    /// No monitor lives, and none can be started while this is held.
    Nobody(Lock),
}

/// The right to be the monitor of a run folder. Dropping it gives it back, unless it was handed on.
pub(super) struct Lock {
    file: fs_err::File,
    folder: PathBuf,
}

/// What a new monitor is born with.
pub(super) struct Birthright {
    pub(super) listener: UnixListener,
    pub(super) lock: fs_err::File,
    pub(super) log: fs_err::File,
}

/// Connects to the monitor of this folder or takes the lock. Makes the folder, and makes it private, when it has to.
pub(super) async fn knock(folder: &Path) -> std::io::Result<Door> {
    make_private(folder)?;
    let mut waited = Duration::ZERO;
    let pause = Duration::from_millis(5);
    loop {
        let mut options = fs_err::OpenOptions::new();
        let file =
            options.write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))?;
        match file.file().try_lock() {
            Ok(()) => return Ok(Door::Nobody(Lock { file, folder: folder.to_owned() })),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        match connect(folder) {
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
    /// Puts a fresh socket in place, for a monitor to be started with. Connections wait from now on.
    pub(super) fn open_door(self) -> std::io::Result<(Birthright, UnixStream)> {
        let socket = self.folder.join(SOCKET);
        match fs_err::remove_file(&socket) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let short = ShortPath::of(&self.folder)?;
        let listener = UnixListener::bind(short.path(SOCKET))?;
        fs_err::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        let mut options = fs_err::OpenOptions::new();
        let log = options.append(true).create(true).mode(0o600).open(self.folder.join(LOG))?;
        let stream = connect(&self.folder)?;
        Ok((Birthright { listener, lock: self.file, log }, stream))
    }
}

/// Whether a monitor lives, or somebody is just starting one. Changes nothing.
pub(super) fn is_somebody_there(folder: &Path) -> bool {
    let Ok(file) = fs_err::File::open(folder.join(LOCK)) else { return false };
    matches!(file.file().try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// The last words of a monitor that could not start.
pub(super) fn last_words(folder: &Path) -> Option<String> {
    let log = fs_err::read_to_string(folder.join(LOG)).ok()?;
    log.lines().last().map(str::to_owned)
}

/// Whether the other end belongs to the same user, or to root.
pub(super) fn is_own(stream: impl std::os::fd::AsFd) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid == own || peer.uid.is_root())
}

fn connect(folder: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(ShortPath::of(folder)?.path(SOCKET))?;
    if !is_own(&stream) {
        return Err(std::io::Error::new(
            ErrorKind::PermissionDenied,
            format!("the socket in `{}` belongs to another user", folder.display()),
        ));
    }
    Ok(stream)
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

    #[tokio::test]
    async fn one_holds_the_lock_and_the_others_connect_to_what_it_opened() {
        let folder = tempfile::tempdir().unwrap();
        // Far longer than a socket's path may be.
        let run = folder.path().join("long".repeat(40));
        let Door::Nobody(lock) = knock(&run).await.unwrap() else { panic!("nobody is there") };
        let (birthright, _first) = lock.open_door().unwrap();
        assert!(matches!(knock(&run).await.unwrap(), Door::Open(_)));
        assert!(is_somebody_there(&run));
        assert_eq!(fs_err::metadata(&run).unwrap().permissions().mode() & 0o777, 0o700);
        drop(birthright);
        assert!(!is_somebody_there(&run));
        assert!(
            matches!(knock(&run).await.unwrap(), Door::Nobody(_)),
            "the lock goes with its holder"
        );
    }
}
