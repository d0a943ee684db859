//! Paths below the base of a work folder, never through a link, and removing what an attempt left.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::store::inspect::is_absent;

/// What lies at a path below the base.
#[derive(Debug)]
pub(super) enum Below {
    /// Something; every folder on the way is a real one.
    There(PathBuf, std::fs::Metadata),
    /// Nothing.
    Nothing,
    /// The way leads through a link (or over a file): the part of the path up to there.
    Through(String),
    /// The path leaves the base or is absolute.
    Outside,
}

/// Looks at `path` below `base` with `lstat` only. The last part may itself be a link.
pub(super) fn look(base: &Path, path: &str) -> io::Result<Below> {
    let Some(parts) = parts(path) else { return Ok(Below::Outside) };
    let mut place = base.to_owned();
    let mut metadata = None;
    for (index, part) in parts.iter().enumerate() {
        place.push(part);
        let found = match fs_err::symlink_metadata(&place) {
            Ok(found) => found,
            Err(error) if is_absent(&error) => return Ok(Below::Nothing),
            Err(error) => return Err(error),
        };
        if index + 1 < parts.len() && !found.is_dir() {
            return Ok(Below::Through(parts[..=index].join("/")));
        }
        metadata = Some(found);
    }
    let metadata = match metadata {
        Some(metadata) => metadata,
        None => fs_err::symlink_metadata(&place)?,
    };
    Ok(Below::There(place, metadata))
}

/// Makes the folder `path` below `base` with all its parents. `Err(part)`: there is a file or link at that part of the path.
pub(super) fn make_folders(base: &Path, path: &str) -> io::Result<Result<PathBuf, String>> {
    let Some(parts) = parts(path) else { return Ok(Err(path.to_owned())) };
    let mut place = base.to_owned();
    for (index, part) in parts.iter().enumerate() {
        place.push(part);
        match fs_err::create_dir(&place) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !fs_err::symlink_metadata(&place)?.is_dir() {
                    return Ok(Err(parts[..=index].join("/")));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(place))
}

/// The same for the parent of `path`; returns where `path` itself is.
pub(super) fn make_parent(base: &Path, path: &str) -> io::Result<Result<PathBuf, String>> {
    let Some(parts) = parts(path) else { return Ok(Err(path.to_owned())) };
    let Some((name, parents)) = parts.split_last() else { return Ok(Ok(base.to_owned())) };
    if parents.is_empty() {
        return Ok(Ok(base.join(name)));
    }
    Ok(make_folders(base, &parents.join("/"))?.map(|parent| parent.join(name)))
}

/// Where `path` is below `base`, by its text alone. `spec` lets no path out, so one that leaves the base counts as the base.
pub(super) fn join(base: &Path, path: &str) -> PathBuf {
    let mut place = base.to_owned();
    place.extend(parts(path).unwrap_or_default());
    place
}

/// The names of a path, without `.` and a `/` at its end; none when it leaves where it starts.
pub(super) fn parts(path: &str) -> Option<Vec<&str>> {
    Path::new(path)
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect()
}

/// Removes the folder with all that is in it, also below folders that forbid it; links are removed, never followed. Nothing there is fine.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    match gone(fs_err::remove_dir_all(folder)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder)?;
            gone(fs_err::remove_dir_all(folder))
        }
        result => result,
    }
}

/// Gives the owner every right on each folder from here on down.
fn open_up(folder: &Path) -> io::Result<()> {
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        if !fs_err::symlink_metadata(&folder)?.is_dir() {
            continue;
        }
        fs_err::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        for item in fs_err::read_dir(&folder)? {
            let item = item?;
            if item.file_type()?.is_dir() {
                pending.push(item.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err::os::unix::fs::symlink;

    #[test]
    fn paths_are_split_by_text() {
        assert_eq!(parts("./a//b/"), Some(vec!["a", "b"]));
        assert_eq!(parts("."), Some(vec![]));
        assert_eq!(parts(""), Some(vec![]));
        assert_eq!(parts("a/../b"), None);
        assert_eq!(parts("/a"), None);
    }

    #[test]
    fn nothing_goes_through_a_link() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path();
        fs_err::create_dir_all(base.join("real/deep")).unwrap();
        symlink("real", base.join("link")).unwrap();
        assert!(matches!(look(base, "real/deep").unwrap(), Below::There(..)));
        assert!(matches!(look(base, "link").unwrap(), Below::There(_, m) if m.is_symlink()));
        assert!(matches!(look(base, "link/deep").unwrap(), Below::Through(part) if part == "link"));
        assert!(matches!(look(base, "real/none/x").unwrap(), Below::Nothing));
        assert!(matches!(look(base, "../x").unwrap(), Below::Outside));
        assert_eq!(make_folders(base, "link/new").unwrap(), Err("link".to_owned()));
        assert_eq!(make_folders(base, "real/new/x").unwrap(), Ok(base.join("real/new/x")));
        assert_eq!(make_parent(base, "a").unwrap(), Ok(base.join("a")));
        assert!(!base.join("a").exists());
    }

    #[test]
    fn removing_copes_with_read_only_folders_and_follows_no_link() {
        let outer = tempfile::tempdir().unwrap();
        let kept = outer.path().join("kept");
        fs_err::create_dir_all(kept.join("sub")).unwrap();
        let folder = outer.path().join("work");
        fs_err::create_dir_all(folder.join("shut/inner")).unwrap();
        fs_err::write(folder.join("shut/inner/file"), "x").unwrap();
        symlink(&kept, folder.join("shut/out")).unwrap();
        for path in ["shut/inner/file", "shut/inner", "shut"] {
            let mode = std::fs::Permissions::from_mode(0o000);
            fs_err::set_permissions(folder.join(path), mode).unwrap();
        }
        remove_folder(&folder).unwrap();
        assert!(!folder.exists() && kept.join("sub").exists());
        remove_folder(&folder).unwrap();
        symlink(&kept, &folder).unwrap();
        assert!(remove_folder(&folder).is_ok() && kept.join("sub").exists());
    }

    #[test]
    fn opening_up_follows_no_link() {
        let outer = tempfile::tempdir().unwrap();
        let kept = outer.path().join("kept");
        fs_err::create_dir(&kept).unwrap();
        fs_err::set_permissions(&kept, std::fs::Permissions::from_mode(0o750)).unwrap();
        let folder = outer.path().join("work");
        fs_err::create_dir_all(folder.join("shut")).unwrap();
        symlink(&kept, folder.join("shut/out")).unwrap();
        fs_err::set_permissions(folder.join("shut"), std::fs::Permissions::from_mode(0o500))
            .unwrap();
        open_up(&folder).unwrap();
        let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.join("shut")), mode(&kept)), (0o700, 0o750));
    }
}
