//! Values that nobody may see, and what a stage asks for. Knows no IO.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value that is never printed, written or digested. [`SecretText::reveal`] is the one way to it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Hides a value.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, for whoever hands it to the program it is meant for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// Which entry of which secret: `[group/]name#entry`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretId {
    /// The group; empty: none.
    pub group: String,
    /// The secret's name in its group.
    pub name: String,
    /// One of its entries.
    pub entry: String,
}

impl fmt::Display for SecretId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.group.is_empty() {
            write!(formatter, "{}/", self.group)?;
        }
        write!(formatter, "{}#{}", self.name, self.entry)
    }
}

/// Whether a text can be the name of a group, a secret or an entry.
pub fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 200
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// What a variable of a stage takes from a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Which entry.
    pub id: SecretId,
    /// The variable holds the path of a file with the value instead of the value.
    #[serde(default)]
    pub file: bool,
    /// Without the secret the variable is not set; else the run does not start.
    #[serde(default)]
    pub optional: bool,
}

/// A secret that is handed to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedSecret {
    /// The variable.
    pub variable: String,
    /// The value.
    pub value: SecretText,
    /// The variable holds the path of a file with the value; the runtime makes the file, in memory only, and the path.
    pub file: bool,
}
