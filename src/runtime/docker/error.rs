//! What goes wrong with an engine, and how its client's errors are told.

use std::error::Error as _;
use std::io::ErrorKind;

/// What to do when no engine answers.
const START_IT: &str = "start Docker, look at `DOCKER_HOST` if it is set, or use `--runtime local`";

/// The engine, a registry or an image does not work.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// No engine answers, with why and what to do.
    #[error("the Docker Engine cannot be reached: {why}")]
    Absent { why: String, help: String },
    /// An image cannot be had: missing, login refused, registry unreachable. A fragment and what to do.
    #[error("image `{image}` {why}")]
    Image { image: String, why: String, help: String },
    /// An image cannot be built; the last lines of the build.
    #[error("the image of `{context}` cannot be built")]
    Build { context: String, log: String },
    /// The engine refuses.
    #[error("the Docker Engine cannot {what}: {why}")]
    Refused { what: String, why: String },
    /// The host's disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl DockerError {
    /// An error of the client, with what was asked of the engine (`create container x`).
    pub(super) fn of(what: impl Into<String>, error: &bollard::errors::Error) -> Self {
        match why_absent(error) {
            Some(absent) => absent,
            None => Self::Refused { what: what.into(), why: words(error) },
        }
    }

    /// No engine answers for a reason that only starting one mends.
    pub(super) fn absent(why: impl Into<String>) -> Self {
        Self::Absent { why: why.into(), help: START_IT.to_owned() }
    }

    /// What to do, one imperative sentence.
    pub fn help(&self) -> &str {
        match self {
            Self::Absent { help, .. } | Self::Image { help, .. } => help,
            Self::Build { .. } => "mend the Dockerfile, or what it copies and runs",
            Self::Refused { .. } | Self::Io(_) => "run `flowrun doctor`",
        }
    }

    /// The same again, for another one who waits for the same.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Absent { why, help } => Self::Absent { why: why.clone(), help: help.clone() },
            Self::Image { image, why, help } => {
                Self::Image { image: image.clone(), why: why.clone(), help: help.clone() }
            }
            Self::Build { context, log } => {
                Self::Build { context: context.clone(), log: log.clone() }
            }
            Self::Refused { what, why } => Self::Refused { what: what.clone(), why: why.clone() },
            Self::Io(error) => Self::Io(std::io::Error::new(error.kind(), error.to_string())),
        }
    }
}

/// The status that the engine answered with; nothing when it did not answer.
pub(super) fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine said, else what its client says, on one line.
pub(super) fn words(error: &bollard::errors::Error) -> String {
    let said = match error {
        bollard::errors::Error::DockerResponseServerError { message, .. } => message.clone(),
        other => deepest(other),
    };
    said.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Clients wrap what happened in sentences that say nothing; the innermost one tells.
fn deepest(error: &bollard::errors::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        said = inner.to_string();
        next = inner.source();
    }
    said
}

fn why_absent(error: &bollard::errors::Error) -> Option<DockerError> {
    use bollard::errors::Error;
    match error {
        Error::SocketNotFoundError(path) => {
            return Some(DockerError::absent(format!("there is no socket `{path}`")));
        }
        Error::RequestTimeoutError => {
            return Some(DockerError::absent("it does not answer"));
        }
        Error::UnsupportedURISchemeError { uri } => {
            return Some(DockerError::Absent {
                why: format!("`{uri}` is neither `unix://` nor `tcp://`"),
                help: "set `DOCKER_HOST` to `unix:///path/of/the/socket` or `tcp://host:port`"
                    .to_owned(),
            });
        }
        _ => {}
    }
    // This one passes for what it holds, which is then none of its sources.
    let mut next: Option<&(dyn std::error::Error + 'static)> = match error {
        Error::IOError { err } => Some(err),
        other => Some(other),
    };
    let mut broken = matches!(
        error,
        Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } | Error::IOError { .. }
    );
    while let Some(inner) = next {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            broken = true;
            match io.kind() {
                ErrorKind::PermissionDenied => {
                    return Some(DockerError::Absent {
                        why: "its socket may not be used by this user".to_owned(),
                        help: "add yourself to the group `docker` and log in again".to_owned(),
                    });
                }
                ErrorKind::NotFound => {
                    return Some(DockerError::absent("its socket is not there"));
                }
                ErrorKind::ConnectionRefused => {
                    return Some(DockerError::absent("nobody listens at its address"));
                }
                _ => {}
            }
        }
        next = inner.source();
    }
    broken.then(|| DockerError::absent(deepest(error)))
}

#[cfg(test)]
mod tests {
    use bollard::errors::Error;

    use super::*;

    #[test]
    fn what_the_engine_said_is_told_on_one_line() {
        let error = Error::DockerResponseServerError {
            status_code: 409,
            message: "Conflict.\n The name is\tin use".to_owned(),
        };
        let told = DockerError::of("create container `x`", &error).to_string();
        let expected =
            "the Docker Engine cannot create container `x`: Conflict. The name is in use";
        assert_eq!(told, expected);
        assert_eq!(status(&error), Some(409));
    }

    #[test]
    fn an_engine_that_is_not_there_has_its_mend() {
        let told = |kind: ErrorKind| {
            let error = Error::IOError { err: std::io::Error::from(kind) };
            match DockerError::of("look", &error) {
                DockerError::Absent { why, help } => (why, help),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told(ErrorKind::ConnectionRefused).0, "nobody listens at its address");
        assert!(told(ErrorKind::PermissionDenied).1.contains("group `docker`"));
        assert_eq!(told(ErrorKind::BrokenPipe).1, START_IT);
        let missing = Error::SocketNotFoundError("/run/docker.sock".to_owned());
        let missing = DockerError::of("look", &missing).to_string();
        let expected = "the Docker Engine cannot be reached: there is no socket `/run/docker.sock`";
        assert_eq!(missing, expected);
    }
}
