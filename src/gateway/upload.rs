//! The body of a request on its way to a backend.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::patience::{Patience, Progress};

/// Streams what the client sends, as fast as the backend takes it.
pub(super) struct Upload(Option<Moving>);

struct Moving {
    incoming: Incoming,
    patience: Patience,
    progress: Arc<Progress>,
}

/// The client did not send what it promised.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("the client sent nothing for {0:?}")]
    Idle(Duration),
    #[error("the client's request broke off")]
    Broken(#[source] hyper::Error),
}

impl Upload {
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn new(incoming: Incoming, idle: Duration, progress: Arc<Progress>) -> Self {
        Self(Some(Moving { incoming, patience: Patience::new(idle), progress }))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(moving) = &mut self.0 else { return Poll::Ready(None) };
        match Pin::new(&mut moving.incoming).poll_frame(task) {
            Poll::Ready(frame) => {
                moving.patience.renew();
                moving.progress.moved();
                Poll::Ready(frame.map(|frame| frame.map_err(UploadError::Broken)))
            }
            Poll::Pending => moving
                .patience
                .poll_end(task, Some(&moving.progress))
                .map(|idle| Some(Err(UploadError::Idle(idle)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|moving| moving.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |moving| moving.incoming.size_hint())
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.progress.set_sent();
    }
}
