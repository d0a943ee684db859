//! The body of any answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::client::Client;
use super::download::{Download, DownloadError};

/// The gateway's own words, or what a backend says. Once it is given the client may ask again.
pub(super) struct Answer {
    client: Arc<Client>,
    content: Content,
}

pub(super) enum Content {
    Text(Option<Bytes>),
    Backend(Download),
}

impl Content {
    pub(super) fn text(text: String) -> Self {
        Self::Text(Some(text.into()))
    }

    pub(super) fn empty() -> Self {
        Self::Text(None)
    }
}

impl Answer {
    pub(super) fn new(client: Arc<Client>, content: Content) -> Self {
        Self { client, content }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.client.watch.set_idle();
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        match &mut self.get_mut().content {
            Content::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Content::Backend(download) => Pin::new(download).poll_frame(task),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Text(text) => text.is_none(),
            Content::Backend(download) => download.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Content::Backend(download) => download.size_hint(),
        }
    }
}
