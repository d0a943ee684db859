//! Why the gateway answers itself, and with what.

use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::answer::Content;

/// An answer that is not the backend's. The sentence is what the client reads.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the request is not valid: {0}")]
    Request(&'static str),
    #[error("the body of the request broke off")]
    BrokenUpload,
    #[error("the body of the request stood still for too long")]
    IdleUpload,
    #[error("no service is routed at this path")]
    Route,
    #[error("nothing is ready behind `{0}`")]
    Nothing(String),
    #[error("`{0}` cannot be reached")]
    Unreachable(String),
    #[error("`{0}` gave no valid answer")]
    Answer(String),
    #[error("`{0}` did not answer in time")]
    Late(String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Request(_) | Self::BrokenUpload => StatusCode::BAD_REQUEST,
            Self::IdleUpload => StatusCode::REQUEST_TIMEOUT,
            Self::Route => StatusCode::NOT_FOUND,
            Self::Nothing(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable(_) | Self::Answer(_) => StatusCode::BAD_GATEWAY,
            Self::Late(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    pub(super) fn response(&self) -> Response<Content> {
        let mut response = Response::new(Content::text(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self {
            Self::Nothing(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // What follows may be a part of it for whoever sent it.
            Self::Request(_) | Self::BrokenUpload | Self::IdleUpload => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
