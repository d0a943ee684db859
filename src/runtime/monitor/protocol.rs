//! What flowrun and its monitor say to each other: JSON lines over a Unix socket.
//!
//! Both sides begin with [`Hello`]. Then flowrun sends [`Question`]s and the monitor one [`Reply`] to each, in any order.
//! Jobs are meant by name, so a question can be asked again after a lost connection.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::{Job, JobReport};
use crate::names::JobName;
use crate::secret::{HandedSecret, SecretText};

/// Raised with every change of these types, as a newer flowrun may meet an older monitor.
pub(in super::super) const VERSION: u32 = 3;

/// The first line of each side.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Hello {
    pub(in super::super) version: u32,
}

/// Something asked of the monitor.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Question {
    /// Comes back with the reply; unique on this connection.
    pub(in super::super) id: u64,
    pub(in super::super) ask: Ask,
}

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Ask {
    /// Start this job, unless its name was ever started or declared lost. Answer: `Held` or `Failed`.
    Start { job: Box<Job>, secrets: Vec<Secret> },
    /// Answer when the job has ended: `Ended`. A job this monitor never started is settled from its folder, and its name is
    /// never started after.
    Wait { job: JobName, folder: PathBuf },
    /// Stop a job. Answer at once: `Held`, also for a job that does not run.
    Stop { job: JobName, kill: bool },
    /// Answer: `Running`.
    List,
    /// What a job that runs was handed, for a command beside it. Answer: `Handed`, or `Failed` when it does not run.
    Handed { job: JobName },
}

/// A secret of a job on its way over the socket, which only its owner can open. It is written nowhere else.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Secret {
    variable: String,
    #[serde(with = "revealed")]
    value: SecretText,
    file: bool,
}

impl From<&HandedSecret> for Secret {
    fn from(secret: &HandedSecret) -> Self {
        let HandedSecret { variable, value, file } = secret.clone();
        Self { variable, value, file }
    }
}

impl From<Secret> for HandedSecret {
    fn from(Secret { variable, value, file }: Secret) -> Self {
        Self { variable, value, file }
    }
}

mod revealed {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::secret::SecretText;

    pub(super) fn serialize<S: Serializer>(
        value: &SecretText,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.reveal())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SecretText, D::Error> {
        String::deserialize(deserializer).map(SecretText::new)
    }
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Reply {
    pub(in super::super) id: u64,
    pub(in super::super) answer: Answer,
}

/// What can be answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Answer {
    /// Done, or it was so before.
    Held,
    /// How the job ended.
    Ended { report: JobReport },
    /// The jobs that run now.
    Running { jobs: Vec<JobName> },
    /// The secrets of a job, and where those lie that it reads from files, by variable.
    Handed { secrets: Vec<Secret>, files: Vec<(String, PathBuf)> },
    /// The monitor could not do it.
    Failed { why: String },
}
