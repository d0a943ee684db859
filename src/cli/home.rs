//! The home: everything of flowrun's own, readable by its owner only.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::CliError;
use crate::names::RunId;

/// What lies in a home; a folder that holds none of it and is not empty is none.
const SIGNS: &[&str] = &[
    "state.db",
    "installation",
    "config.toml",
    "mirror",
    "runs",
    "store",
    "environments",
    "tmp",
    "services",
    "volumes",
    "key",
];

/// A home that exists.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// Makes the home and its folders unless they are there.
    ///
    /// Refuses a folder that holds other things, since its permissions are about to be narrowed to 0700.
    pub(crate) fn open(path: &Path) -> Result<Self, CliError> {
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        make_private(path)?;
        let found: Vec<_> = fs_err::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        if !found.is_empty() && !found.iter().any(|name| SIGNS.iter().any(|sign| name == sign)) {
            return Err(CliError::usage(
                format!("`{}` is not empty and no flowrun home", path.display()),
                "name an empty folder, or one that does not exist yet",
            ));
        }
        let mode = fs_err::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        }
        // The real path, so that what is compared and journalled does not depend on how the home was named.
        let home = Self(fs_err::canonicalize(path)?);
        for folder in [home.runs(), home.mirrors(), home.environments(), home.temporary()] {
            make_private(&folder)?;
        }
        Ok(home)
    }

    /// Its own folder.
    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// One folder per run.
    pub(crate) fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    /// The folder of a run.
    pub(crate) fn run(&self, run: RunId) -> PathBuf {
        self.runs().join(run.to_string())
    }

    /// One bare repo per origin.
    pub(crate) fn mirrors(&self) -> PathBuf {
        self.0.join("mirror")
    }

    /// One folder per environment.
    pub(crate) fn environments(&self) -> PathBuf {
        self.0.join("environments")
    }

    /// One folder per service, made when it is needed.
    pub(crate) fn services(&self) -> PathBuf {
        self.0.join("services")
    }

    /// One folder per pipeline with what its services keep, made when it is needed.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// What is made while the store is only read; made when it is needed.
    pub(crate) fn unshared(&self) -> PathBuf {
        self.0.join("unshared")
    }

    /// The key that opens secrets; made with the first secret.
    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("key")
    }

    /// For what is needed for a moment.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.0.join("tmp")
    }
}

/// Makes a folder 0700 unless it is there.
pub(crate) fn make_private(folder: &Path) -> std::io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(std::io::Error::new(
            error.kind(),
            format!("the folder `{}` cannot be made: {error}", folder.display()),
        )),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs_err::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_home_is_private_also_when_it_was_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/home");
        let home = Home::open(&path).unwrap();
        assert_eq!(mode(home.root()), 0o700);
        assert_eq!(mode(&home.runs()), 0o700);
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Home::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn a_folder_of_others_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("thesis.tex"), "").unwrap();
        fs_err::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Home::open(folder.path()).is_err());
        assert_eq!(mode(folder.path()), 0o755);
    }
}
