//! Seals and opens secrets with the key of the home (age, x25519). Owns the key and the sealed form; knows no rows, stages or runs.

mod key_file;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use age::DecryptError;
use age::x25519::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::SecretText;

/// The way to the key of a home. The key is read anew for each use, so that one that is made, brought back or taken away counts at once
/// for every process.
pub struct Vault {
    given: Option<Identity>,
    file: PathBuf,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Vault")
    }
}

/// A secret that cannot be sealed or opened. No sentence holds a key or a value.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// What was given as the key is none.
    #[error("{place} holds no key")]
    NoKey {
        /// The variable or the file.
        place: String,
    },
    /// There is no key.
    #[error("the key `{}` is not there", .file.display())]
    Absent {
        /// Where it should be.
        file: PathBuf,
    },
    /// Others can read the key.
    #[error("the key `{}` is not for you alone", .file.display())]
    NotPrivate {
        /// Where it is.
        file: PathBuf,
    },
    /// It was sealed with another key.
    #[error("it was sealed with another key")]
    OtherKey,
    /// What is sealed is not what was once sealed.
    #[error("what is kept of it is damaged")]
    Damaged,
    /// The disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl VaultError {
    /// What to do, one imperative sentence.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoKey { place } if place.contains('/') => {
                "bring it back from a backup, or move it away and set every secret again".to_owned()
            }
            Self::NoKey { .. } => "give the whole line that begins with `AGE-SECRET-KEY-1`".to_owned(),
            Self::Absent { .. } => "bring it back from a backup or give it as `FLOWRUN_KEY`; when it is lost, remove the secrets with \
                `flowrun secret rm` and set them again"
                .to_owned(),
            Self::NotPrivate { file } => format!(
                "make it so with `chown $(id -u) {0} && chmod 600 {0}`, and set new values when somebody could have read it",
                file.display()
            ),
            Self::OtherKey => "give the key that it was sealed with as `FLOWRUN_KEY` or as the file `key` of the home, or set it again with \
                `flowrun secret set`"
                .to_owned(),
            Self::Damaged => "set it again with `flowrun secret set`".to_owned(),
            Self::Io(_) => return None,
        })
    }
}

impl Vault {
    /// The vault of the key that is `given` (`FLOWRUN_KEY`: an `AGE-SECRET-KEY-1…`), else of the one in `file`, which is read when it is
    /// needed.
    pub fn open(given: Option<&SecretText>, file: &Path) -> Result<Self, VaultError> {
        let parse = |text: &SecretText| text.reveal().trim().parse::<Identity>();
        let wrong = |_| VaultError::NoKey { place: "`FLOWRUN_KEY`".to_owned() };
        let given = given.map(parse).transpose().map_err(wrong)?;
        Ok(Self { given, file: file.to_owned() })
    }

    /// Makes a key when there is none: for the first secret of a home, and never while others are sealed with one that is gone.
    pub fn make_key(&self) -> Result<(), VaultError> {
        if self.given.is_none() && key_file::read(&self.file)?.is_none() {
            key_file::make(&self.file)?;
        }
        Ok(())
    }

    /// Whether there is a key; an error when it cannot be used.
    pub fn has_key(&self) -> Result<bool, VaultError> {
        Ok(self.given.is_some() || key_file::read(&self.file)?.is_some())
    }

    /// Seals a value into one line of text (base64 of an age file).
    pub fn seal(&self, value: &SecretText) -> Result<String, VaultError> {
        let sealed = age::encrypt(&self.key()?.to_public(), value.reveal().as_bytes());
        // Only writing can fail, and it is written into memory.
        let sealed =
            sealed.map_err(|error| VaultError::Io(std::io::Error::other(error.to_string())))?;
        Ok(STANDARD.encode(sealed))
    }

    /// Opens what was sealed.
    pub fn unseal(&self, sealed: &str) -> Result<SecretText, VaultError> {
        let key = self.key()?;
        let sealed = STANDARD.decode(sealed).map_err(|_| VaultError::Damaged)?;
        let opened = age::decrypt(&key, &sealed).map_err(|error| match error {
            DecryptError::NoMatchingKeys => VaultError::OtherKey,
            _ => VaultError::Damaged,
        })?;
        String::from_utf8(opened).map(SecretText::new).map_err(|_| VaultError::Damaged)
    }

    fn key(&self) -> Result<Identity, VaultError> {
        match &self.given {
            Some(given) => Ok(given.clone()),
            None => key_file::read(&self.file)?
                .ok_or_else(|| VaultError::Absent { file: self.file.clone() }),
        }
    }
}
