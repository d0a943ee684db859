//! Short-lived containers that build something for flowrun itself, such as an environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};

use super::container::Begun;
use super::create::{Surroundings, mount};
use super::output::{Piece, Source};
use super::{Docker, DockerError, INSTALLATION};
use crate::event::Stream;
use crate::runtime::Mount;

/// What is run once, to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// What it is for: a part of the container's name. A container of an earlier process is removed first, so only one process
    /// of this installation at a time may use it.
    pub name: String,
    /// The image by id.
    pub image: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its current directory.
    pub directory: PathBuf,
    /// Variables beside the image's.
    pub env: BTreeMap<String, String>,
    /// What it sees.
    pub mounts: Vec<Mount>,
}

/// Told each line that it writes.
pub type Lines<'a> = &'a (dyn Fn(String) + Send + Sync);

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolEnd {
    /// Its exit code.
    pub code: i64,
    /// The end of what it wrote, both streams, at most 64 KiB.
    pub log: String,
}

/// How much of its output is kept, bytes.
const KEPT: usize = 64 << 10;

impl Docker {
    /// Ends a tool that an earlier process began, and removes it.
    pub async fn discard_tool(&self, name: &str) -> Result<(), DockerError> {
        let name = self.tool_name(name);
        if self.find_job(&name).await?.is_some() {
            self.discard(&name).await?;
        }
        Ok(())
    }

    /// The name of a tool's container: homes at one engine do not disturb each other.
    fn tool_name(&self, name: &str) -> String {
        format!("flowrun-{}-{name}", self.short_installation())
    }

    /// Runs it as the caller's user with the usual network and removes it. Each line it writes goes to `progress`. Dropped midway,
    /// the container stays and is removed by the next of this name.
    pub async fn run_tool(&self, tool: &Tool, progress: Lines<'_>) -> Result<ToolEnd, DockerError> {
        let around = self.surroundings().await?;
        let name = self.tool_name(&tool.name);
        self.discard_tool(&tool.name).await?;
        if !self.make(&name, request(tool, &around)).await? {
            return Err(DockerError::Refused {
                what: format!("make container `{name}`"),
                why: "another process uses its name".to_owned(),
            });
        }
        let mut output = match self.begin(&name).await {
            Ok(Begun::Running(output)) => Source::live(output),
            Ok(Begun::NotStartable { code, why }) => {
                self.discard(&name).await?;
                return Ok(ToolEnd { code: code.into(), log: why });
            }
            Err(error) => {
                // What is told is why it did not start.
                drop(self.discard(&name).await);
                return Err(error);
            }
        };
        let mut log = Vec::new();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Piece::Bytes(stream, bytes) = output.next().await {
            let line = match stream {
                Stream::Stdout => &mut stdout,
                Stream::Stderr => &mut stderr,
            };
            for byte in &bytes {
                match byte {
                    b'\n' | b'\r' => tell(line, progress),
                    byte => line.push(*byte),
                }
            }
            log.extend_from_slice(&bytes);
            if log.len() > 2 * KEPT {
                log.drain(..log.len() - KEPT);
            }
        }
        tell(&mut stdout, progress);
        tell(&mut stderr, progress);
        self.exit(&name).await?;
        let state = self.find_job(&name).await?.and_then(|found| found.0.state);
        let Some(code) = state.and_then(|state| state.exit_code) else {
            return Err(DockerError::Refused {
                what: format!("run `{name}` to its end"),
                why: "its container was removed by somebody else".to_owned(),
            });
        };
        self.discard(&name).await?;
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(KEPT)..]).into_owned();
        Ok(ToolEnd { code, log })
    }
}

fn tell(line: &mut Vec<u8>, progress: Lines<'_>) {
    if !line.is_empty() {
        progress(String::from_utf8_lossy(line).into_owned());
        line.clear();
    }
}

fn request(tool: &Tool, around: &Surroundings) -> ContainerCreateBody {
    let mut command = tool.command.iter().cloned();
    let labels = BTreeMap::new();
    ContainerCreateBody {
        image: Some(tool.image.clone()),
        entrypoint: command.next().map(|program| vec![program]),
        cmd: Some(command.collect()),
        working_dir: Some(tool.directory.to_string_lossy().into_owned()),
        user: Some(around.user.clone()),
        env: Some(tool.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some([(INSTALLATION.to_owned(), around.installation.clone())].into()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            init: Some(true),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            cap_drop: Some(vec!["ALL".to_owned()]),
            userns_mode: around.host_users.then(|| "host".to_owned()),
            network_mode: Some("bridge".to_owned()),
            mounts: Some(tool.mounts.iter().map(|one| mount(one, around, &labels)).collect()),
            // It is read as it comes and nobody adopts it.
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}
