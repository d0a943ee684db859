//! A release: everything a service needs to be started again. Knows no IO.
//!
//! **Version rule.** A release names [`RELEASE_FORMAT`]. New optional fields keep the version; whoever renames, removes or changes
//! the meaning of one raises it (then every service is released anew) and keeps reading the old.

#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::{FieldChange, InputPart, JobEnd, Metrics, SnapshotId, Values};
use crate::names::{
    InputName, ParamName, PortName, ReleaseId, RunId, ServiceId, StageName, VolumeName,
};
use crate::scalar::Scalar;
use crate::secret::SecretUse;

/// The version of [`Behaviour`] and [`Release`].
pub const RELEASE_FORMAT: u32 = 1;

/// A release of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Its identity.
    pub id: ReleaseId,
    /// Whose it is.
    pub service: ServiceId,
    /// `serve@<number>`, from 1, never used again.
    pub number: u64,
    /// What decides how it behaves.
    pub behaviour: Behaviour,
    /// Everything else.
    pub notes: ReleaseNotes,
    /// Unix milliseconds.
    pub made_at: u64,
}

impl Release {
    /// As people name it: `iris/serve@3`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.service, self.number)
    }
}

/// What decides how a service behaves. Equal digest: nothing restarts and no gate is asked (ARCHITECTURE §9).
///
/// In `command` and `env` marks stand for what differs from start to start (see `plan::marks`): paths of inputs, the
/// port, the identity of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    /// [`RELEASE_FORMAT`].
    pub format: u32,
    /// The expanded command: `["sh", "-e", "-c", text]` for a string.
    pub command: Vec<String>,
    /// Declared `env`, expanded.
    pub env: BTreeMap<String, String>,
    /// Digest of the environment's definition.
    pub environment: Digest,
    /// `os/arch` and interpreter version on local.
    pub platform: String,
    /// Digest over (path, mode, blob id) of the service's files.
    pub files: Digest,
    /// Inputs: where they lie and what they are.
    pub inputs: BTreeMap<InputName, InputPart>,
    /// The params the service names.
    pub params: BTreeMap<ParamName, Scalar>,
    /// The current directory below the base.
    pub workdir: String,
    /// Ports and probes.
    pub serving: Serving,
    /// Volumes by name: the path in the service, below the base.
    pub volumes: BTreeMap<VolumeName, String>,
    /// Processors; none: no request.
    pub cpu: Option<f64>,
    /// Bytes; none: no request.
    pub memory: Option<u64>,
    /// Graphics processors.
    pub gpu: u32,
    /// `cpu` and `memory` are also limits.
    pub limit: bool,
    /// Services of the pipeline it may call, with their addresses.
    pub services: BTreeMap<StageName, String>,
    /// `container.network`.
    pub network: String,
    /// Secrets by variable, never values.
    pub secrets: BTreeMap<String, ReleasedSecret>,
    /// What its replicas are made of as containers; none: processes of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ReleasedContainer>,
}

/// A secret of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedSecret {
    /// What it is.
    pub takes: SecretUse,
    /// Its version when the release was made; none: an optional one that was not there.
    pub version: Option<u64>,
}

/// How replicas run as containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedContainer {
    /// The image by id.
    pub image: String,
    /// Arguments for the image's own program, expanded, with marks.
    pub args: Option<Vec<String>>,
    /// The image's own user, not the caller.
    pub image_user: bool,
    /// The root of the container can be written.
    pub writable_root: bool,
    /// Capabilities it keeps.
    pub capabilities: Vec<String>,
}

/// How the image of a release can be had again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedImage {
    /// What it was asked for as, or what was built.
    pub reference: String,
    /// `python@sha256:…` when it came from a registry.
    pub repo_digest: Option<String>,
}

/// Where a service is reached and how it is looked after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Serving {
    /// Where it is reached.
    pub port: u16,
    /// The port the program insists on; none: it listens on `$PORT`.
    pub listen: Option<u16>,
    /// What it speaks.
    pub protocol: Protocol,
    /// More ports by name, not routed: `PORT_<NAME>`.
    pub ports: BTreeMap<PortName, u16>,
    /// When a replica counts as ready.
    pub ready: Ready,
    /// When a replica that was ready is started anew.
    pub alive: Option<Alive>,
    /// How long an old replica may finish its requests.
    pub drain: Duration,
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1: requests are shared out one by one.
    Http,
    /// Connections are shared out.
    Tcp,
}

impl Protocol {
    /// How what listens there is named: `http://127.0.0.1:8000`. What listens everywhere is reached on this machine.
    pub fn url(self, at: SocketAddr) -> String {
        let host = if at.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { at.ip() };
        format!("{}://{}", self.scheme(), SocketAddr::new(host, at.port()))
    }

    /// The same of a host that is known by name.
    pub fn url_of(self, host: &str, port: u16) -> String {
        format!("{}://{host}:{port}", self.scheme())
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// `ready`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// How it is asked.
    pub probe: Probe,
    /// How long a new replica may take.
    pub within: Duration,
    /// Between two tries.
    pub interval: Duration,
}

/// How a replica is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A path that answers 2xx.
    Http(String),
    /// The port takes connections.
    Tcp,
    /// A command that ends with 0, in the replica's folder with its variables; expanded, with marks.
    Run(Vec<String>),
}

/// `alive`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alive {
    /// A path that answers 2xx.
    pub http: String,
    /// Between two tries.
    pub interval: Duration,
    /// So many failures in a row count.
    pub failures: u32,
}

/// What belongs to a release and does not decide how it behaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseNotes {
    /// The run that made it.
    pub run: RunId,
    /// Where its files come from.
    pub snapshot: SnapshotId,
    /// The pipeline file's name in the base; the service does not see it.
    pub file_name: String,
    /// Globs of its files; none: all below the base.
    pub files: Option<Vec<String>>,
    /// The environment's definition as JSON (`environment::Definition`); none for a stage without `run`.
    pub definition: Option<String>,
    /// The image of its containers; none for processes, and for releases of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ReleasedImage>,
    /// The environment's resolved versions, `name==version` a line.
    pub lock: String,
    /// What was passed through from the caller of the run: `PATH`, `USER`, …
    pub passed: BTreeMap<String, String>,
    /// Metrics of the stages of its run: what `live.<stage>.metrics` means while it is live.
    pub metrics: BTreeMap<StageName, Metrics>,
    /// Values of the stages of its run.
    pub values: BTreeMap<StageName, Values>,
    /// How many copies the file asked for.
    pub replicas: u32,
    /// The path of the gateway that leads to it.
    pub route: Option<String>,
    /// The expressions of its gate.
    pub gate: Vec<String>,
}

impl Behaviour {
    /// Over the canonical JSON.
    pub fn digest(&self) -> Digest {
        // A struct of maps and texts always serialises; the order of fields is fixed by the type.
        Digest::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    /// One replica, the old stopped before the new is started (ARCHITECTURE §11). Why, if so. Containers have addresses of their
    /// own, so several can listen on one port.
    pub fn replaced_in_place(&self) -> Option<&'static str> {
        let listens = self.serving.listen.is_some() && self.container.is_none();
        replaced_in_place(!self.volumes.is_empty(), listens)
    }
}

/// Why a service with volumes, or as a process with a port that its program insists on, is replaced in place.
pub fn replaced_in_place(has_volumes: bool, listens: bool) -> Option<&'static str> {
    if has_volumes {
        Some("it has volumes")
    } else if listens {
        Some("it insists on its own port (`listen`)")
    } else {
        None
    }
}

/// What became of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Made, and neither live nor abandoned yet.
    Candidate,
    /// It answers.
    Live,
    /// It was live until another release replaced it.
    Replaced,
    /// It never went live; why.
    Abandoned(String),
    /// It was live when its service was taken down.
    TakenDown,
}

/// What happens to a service outside of runs: the stream `service/<pipeline>/<stage>` of the journal.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceEvent {
    /// A replica ended by itself; only of the first few in a row.
    ReplicaEnded { replica: u32, release: ReleaseId, end: JobEnd },
    /// It ends again and again; the next start is at Unix milliseconds.
    CrashLooping { replica: u32, restarts: u32, next: u64 },
    /// It is ready again.
    Recovered { replica: u32 },
    /// A release went live.
    Promoted { release: ReleaseId, number: u64, replaced: Option<ReleaseId>, by: String },
    /// `scale`
    Scaled { wanted: u32, by: String },
    /// `rollback`
    RolledBack { to: ReleaseId, number: u64, by: String },
    /// `restart`
    Restarted { by: String },
    /// `down`
    TakenDown { by: String },
}

/// What a service is doing now, for people and `-o json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Which.
    pub service: ServiceId,
    /// As a whole.
    pub state: ServiceState,
    /// Why it is not ready, in words: the port is taken, the last end of a replica.
    pub message: Option<String>,
    /// The live release, if any.
    pub live: Option<ReleaseId>,
    /// Its number.
    pub number: Option<u64>,
    /// A release that is being rolled out, with its number.
    pub candidate: Option<(ReleaseId, u64)>,
    /// How many replicas shall run.
    pub wanted: u32,
    /// How many of the live release are ready.
    pub ready: u32,
    /// `http://127.0.0.1:8000`
    pub url: String,
    /// `http://127.0.0.1:8080/iris`, when it has a route.
    pub route: Option<String>,
    /// All that are there, candidates and old ones that drain included.
    pub replicas: Vec<ReplicaStatus>,
}

/// A service as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// All wanted replicas are ready.
    Ready,
    /// Some are.
    Degraded,
    /// None is yet.
    Starting,
    /// Its replicas end again and again, or never become ready.
    Crashing,
    /// It cannot be reached although replicas run: its port is taken, say.
    Unreachable,
    /// No replica is wanted.
    Stopped,
    /// The server does not run, so nobody knows.
    Unknown,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// From 1.
    pub replica: u32,
    /// Its release.
    pub release: ReleaseId,
    /// The release's number.
    pub number: u64,
    /// `starting ready draining stopping waiting`.
    pub state: String,
    /// The main process, when one runs.
    pub pid: Option<i32>,
    /// Where it listens: `127.0.0.1:21034`.
    pub address: Option<String>,
    /// Unix milliseconds of the present start.
    pub started_at: Option<u64>,
    /// Starts after the first.
    pub restarts: u32,
    /// How it ended last.
    pub last_end: Option<JobEnd>,
}

/// What differs between two releases, for people.
pub type Changes = Vec<FieldChange>;
