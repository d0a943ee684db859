//! What can go wrong with one request, told apart by what helps against it.

use std::error::Error;
use std::io;
use std::time::Duration;

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// One failed try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server answered with an error.
    Answer(Answer),
    /// Nobody listens there.
    Refused(String),
    /// The host has no address.
    UnknownHost(String),
    /// No connection within the time for it.
    NoConnection,
    /// TLS was not agreed on.
    Tls(String),
    /// Not a byte for so long.
    Silent(Duration),
    /// The connection ended in the middle.
    Cut(String),
    /// Fewer or more bytes than there should be.
    Length { expected: u64, got: u64 },
    /// The object has another size than it should, or went between two requests.
    Changed(String),
    /// Somebody wrote the object between two requests, perhaps with the same bytes.
    Overwritten,
    /// No credentials were found, or asking for them failed.
    Credentials(String),
    /// The request could not be made.
    Setup(String),
    /// The local file.
    File(io::ErrorKind, String),
}

/// An error as the server told it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Answer {
    pub status: u16,
    /// Empty where the body said nothing.
    pub code: String,
    pub message: String,
    /// Where the bucket lies, when it is said.
    pub region: Option<String>,
    /// When to come again, when it is said.
    pub after: Option<Duration>,
}

impl Failure {
    /// Trying again may help.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Answer(answer) => answer.passes(),
            Self::Refused(_)
            | Self::UnknownHost(_)
            | Self::NoConnection
            | Self::Silent(_)
            | Self::Cut(_)
            | Self::Length { .. } => true,
            Self::Tls(_)
            | Self::Changed(_)
            | Self::Overwritten
            | Self::Credentials(_)
            | Self::Setup(_)
            | Self::File(..) => false,
        }
    }

    /// It looks like an address where no server is.
    pub(super) fn is_unmet(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::UnknownHost(_) | Self::NoConnection)
    }

    /// The server may have done what it was asked for.
    pub(super) fn may_be_done(&self) -> bool {
        match self {
            Self::Answer(answer) => answer.status >= 500,
            Self::Silent(_) | Self::Cut(_) | Self::Length { .. } => true,
            _ => false,
        }
    }

    /// The status and code of an answer.
    pub(super) fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answer(answer) => Some(answer),
            _ => None,
        }
    }

    /// There is a bucket, but no such object.
    pub(super) fn is_absent(&self) -> bool {
        self.answer().is_some_and(|answer| answer.status == 404 && answer.code != "NoSuchBucket")
    }

    /// The server did not do it, and will not.
    pub(super) fn is_refusal(&self) -> bool {
        self.answer().is_some_and(|answer| (400..500).contains(&answer.status))
    }
}

impl Answer {
    pub(super) fn passes(&self) -> bool {
        matches!(self.status, 408 | 409 | 425 | 429) && self.code != "BucketNotEmpty"
            || self.status >= 500 && self.status != 501
            || matches!(self.code.as_str(), "RequestTimeout" | "SlowDown" | "InternalError")
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::File(error.kind(), error.to_string())
    }
}

/// What an error of the client means.
#[expect(clippy::needless_pass_by_value, reason = "what errors are mapped with takes them")]
pub(super) fn failure<E>(error: SdkError<E>) -> Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match &error {
        SdkError::ServiceError(told) => {
            let raw = told.raw();
            let code = told.err().code().unwrap_or_default();
            if raw.status().is_success() && code.is_empty() {
                return Failure::Cut("its answer cannot be read".to_owned());
            }
            let header = |name: &str| raw.headers().get(name).map(str::to_owned);
            Failure::Answer(Answer {
                status: raw.status().as_u16(),
                code: code.to_owned(),
                message: told.err().message().unwrap_or_default().to_owned(),
                region: header("x-amz-bucket-region"),
                after: header("retry-after")
                    .and_then(|seconds| seconds.parse().ok())
                    .map(Duration::from_secs),
            })
        }
        SdkError::ResponseError(_) => Failure::Cut(root(&error)),
        SdkError::TimeoutError(_) => Failure::NoConnection,
        SdkError::ConstructionFailure(_) => match of_chain(&error) {
            Failure::Cut(text) => Failure::Setup(text),
            known => known,
        },
        _ => of_chain(&error),
    }
}

/// What the errors behind an error mean.
pub(super) fn of_chain(error: &(dyn Error + 'static)) -> Failure {
    let text = format!("{}", DisplayErrorContext(error));
    for link in chain(error) {
        if let Some(io) = link.downcast_ref::<io::Error>()
            && let Some(failure) = of_io(io)
        {
            return failure;
        }
    }
    let lower = text.to_lowercase();
    if lower.contains("dns error") {
        Failure::UnknownHost(root(error))
    } else if lower.contains("credential") || lower.contains("identity") {
        Failure::Credentials(plain(&root(error)))
    } else if lower.contains("certificate") || lower.contains("tls") {
        Failure::Tls(root(error))
    } else if lower.contains("timeout") || lower.contains("timed out") {
        Failure::NoConnection
    } else {
        Failure::Cut(root(error))
    }
}

fn of_io(error: &io::Error) -> Option<Failure> {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(Failure::Refused(text)),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::NotConnected => Some(Failure::Cut(text)),
        io::ErrorKind::TimedOut => Some(Failure::NoConnection),
        io::ErrorKind::InvalidData => Some(Failure::Tls(text)),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some(Failure::Refused(text))
        }
        _ => None,
    }
}

/// An error and those behind it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Without the list of all the places that were looked at.
fn plain(text: &str) -> String {
    if text.starts_with("no credentials found") {
        return "none were found".to_owned();
    }
    text.lines().next().unwrap_or_default().to_owned()
}

/// What the last error of the chain says.
fn root(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}
