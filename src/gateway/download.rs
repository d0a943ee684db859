//! The body of an answer on its way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::backend::Hold;
use super::patience::{Patience, Progress};
use super::upstream::Upstream;

/// Streams what the backend sends, as fast as the client takes it, and moves the backend's connection meanwhile, the rest of the
/// request's body included. At the end the connection waits for the next request and the backend is free.
pub(super) struct Download {
    incoming: Incoming,
    /// Until the end of the body.
    source: Option<Source>,
    patience: Patience,
    progress: Option<Arc<Progress>>,
}

struct Source {
    upstream: Upstream,
    hold: Hold,
}

/// The answer cannot be given to its end; the client sees its connection break.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    #[error("the backend sent nothing for {0:?}")]
    Idle(Duration),
    #[error("the backend's answer broke off")]
    Broken(#[source] hyper::Error),
}

impl Download {
    pub(super) fn new(
        incoming: Incoming,
        upstream: Upstream,
        hold: Hold,
        idle: Duration,
        progress: Option<Arc<Progress>>,
    ) -> Self {
        let source = Some(Source { upstream, hold });
        let mut download = Self { incoming, source, patience: Patience::new(idle), progress };
        if download.incoming.is_end_stream() {
            // Nobody asks an empty body for its end.
            download.finish(&mut Context::from_waker(Waker::noop()));
        }
        download
    }

    fn finish(&mut self, task: &mut Context<'_>) {
        if let Some(Source { mut upstream, hold }) = self.source.take()
            && upstream.is_reusable(task)
        {
            hold.keep(upstream);
        }
    }

    fn poll_incoming(
        &mut self,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(task);
        let (true, Some(source)) = (frame.is_pending(), &mut self.source) else { return frame };
        source.upstream.advance(task);
        Pin::new(&mut self.incoming).poll_frame(task)
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = this.poll_incoming(task) else {
            return this
                .patience
                .poll_end(task, this.progress.as_deref())
                .map(|idle| Some(Err(DownloadError::Idle(idle))));
        };
        this.patience.renew();
        if let Some(progress) = &this.progress {
            progress.moved();
        }
        // hyper asks no further after the last byte of a body whose length it knows.
        if frame.is_none() || this.incoming.is_end_stream() {
            this.finish(task);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(DownloadError::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
