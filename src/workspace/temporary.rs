//! `TMPDIR`: short paths outside the home, for sockets and tools that want them short.
//!
//! A run (or a replica) has one folder with an unpredictable name, readable by its owner only, and in it one for each attempt
//! (start). `<its folder>/tmp` names it, so that a later process finds and removes it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::below;

const NAME_FILE: &str = "tmp";

/// The run's folder: the one that an earlier process made, if it is still there and still only ours, else a new one in `parent`.
pub fn of_run(run_folder: &Path, parent: &Path) -> io::Result<PathBuf> {
    if let Some(folder) = named(run_folder) {
        return Ok(folder);
    }
    let folder = tempfile::Builder::new()
        .prefix("flowrun-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)?
        .keep();
    fs_err::create_dir_all(run_folder)?;
    fs_err::write(run_folder.join(NAME_FILE), folder.as_os_str().as_encoded_bytes())?;
    Ok(folder)
}

/// An attempt's own, empty.
pub fn of_attempt(folder: &Path) -> io::Result<()> {
    below::remove_folder(folder)?;
    std::fs::DirBuilder::new().mode(0o700).create(folder).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot make {}: {error}", folder.display()))
    })
}

/// The folder that `runs/<run>/tmp` names. A folder of that name that somebody else made meanwhile is not taken.
pub fn named(run_folder: &Path) -> Option<PathBuf> {
    let folder = PathBuf::from(fs_err::read_to_string(run_folder.join(NAME_FILE)).ok()?);
    let is = fs_err::symlink_metadata(&folder).ok()?;
    let ours = is.uid() == rustix::process::geteuid().as_raw() && is.mode() & 0o777 == 0o700;
    (is.is_dir() && ours).then_some(folder)
}

/// Removes the run's folder and its name, when the run has ended.
pub fn remove(run_folder: &Path) -> io::Result<()> {
    if let Some(folder) = named(run_folder) {
        below::remove_folder(&folder)?;
        fs_err::remove_file(run_folder.join(NAME_FILE))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_process_finds_the_same_folder() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        let first = of_run(&run, home.path()).unwrap();
        assert_eq!(of_run(&run, home.path()).unwrap(), first);
        assert_eq!(fs_err::metadata(&first).unwrap().mode() & 0o777, 0o700);
        of_attempt(&first.join("1-1")).unwrap();
        fs_err::write(first.join("1-1/old"), "").unwrap();
        of_attempt(&first.join("1-1")).unwrap();
        assert_eq!(fs_err::read_dir(first.join("1-1")).unwrap().count(), 0);
        remove(&run).unwrap();
        assert!(!first.exists());
        remove(&run).unwrap();
        assert_ne!(of_run(&run, home.path()).unwrap(), first);
    }

    #[test]
    fn a_link_in_its_place_is_not_taken() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        let first = of_run(&run, home.path()).unwrap();
        fs_err::remove_dir(&first).unwrap();
        std::os::unix::fs::symlink(home.path(), &first).unwrap();
        assert_eq!(named(&run), None);
    }
}
