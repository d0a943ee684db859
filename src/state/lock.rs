//! Who owns a run among the processes of a home: a file lock, which the kernel frees with the process, so that taking over needs no
//! clock.

use std::fs::TryLockError;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use fs_err::os::unix::fs::OpenOptionsExt;
use fs_err::{File, OpenOptions};

use super::StateError;

/// The lock of a run; held until dropped, and no longer than the process lives. Children do not inherit it.
#[derive(Debug)]
pub(super) struct FileLock {
    /// Closing it frees the lock.
    _file: File,
}

/// Tries before a held lock is believed: [`is_locked`] holds it for an instant too, and a process that was just killed until
/// the kernel is done with it.
const TRIES: u32 = 20;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

impl FileLock {
    /// Takes the lock of the run with this folder (made when missing, 0700), or says `None` when a living process has it.
    pub(super) fn try_acquire(folder: &Path) -> Result<Option<Self>, StateError> {
        let broken = |why: std::io::Error| StateError::Database {
            place: folder.display().to_string(),
            why: why.to_string(),
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(broken)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(folder.join("lock"))
            .map_err(broken)?;
        for round in 1..=TRIES {
            match file.file().try_lock() {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(TryLockError::Error(error)) => return Err(broken(error)),
                Err(TryLockError::WouldBlock) if round < TRIES => {
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
        Ok(None)
    }
}

/// Whether a living process holds the lock of the run with this folder. Changes nothing.
pub(super) fn is_locked(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join("lock")) else {
        return false;
    };
    matches!(file.file().try_lock_shared(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::soon;

    #[test]
    fn one_owner_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("runs/01K");
        assert!(!is_locked(&folder));
        let lock = FileLock::try_acquire(&folder).unwrap().expect("nobody has it");
        assert!(is_locked(&folder));
        assert!(FileLock::try_acquire(&folder).unwrap().is_none());
        drop(lock);
        assert!(soon(|| !is_locked(&folder)));
        assert!(FileLock::try_acquire(&folder).unwrap().is_some());
    }

    #[test]
    fn the_lock_goes_with_its_process() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().to_path_buf();
        fs_err::write(folder.join("lock"), "").unwrap();
        // Locks the file on descriptor 9, says so, and sleeps until it is killed.
        let mut child = std::process::Command::new("sh")
            .arg("-c")
            .arg("exec 9>lock; flock -n 9 && echo held; exec sleep 600")
            .current_dir(&folder)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_eq!(line, "held\n", "the `flock` program is needed");
        assert!(is_locked(&folder));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(soon(|| !is_locked(&folder)));
        assert!(FileLock::try_acquire(&folder).unwrap().is_some());
    }
}
