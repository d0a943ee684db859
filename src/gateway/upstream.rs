//! A connection to a backend, moved by whoever uses it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Limits;
use super::stream::Stream;
use super::upload::Upload;

/// The most that one read takes in; a head that is longer is none.
const BUFFER: usize = 64 * 1024;

/// The head of an answer, or the request when nothing of it was sent.
pub(super) type Sent = Result<Response<Incoming>, TrySendError<Request<Upload>>>;

/// One HTTP/1.1 connection to a backend. Nothing happens on it unless it is advanced.
pub(super) struct Upstream {
    sender: SendRequest<Upload>,
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    ended: bool,
    /// Its last answer says that it may be used again.
    kept: bool,
    used: bool,
    heard: Arc<AtomicBool>,
}

impl Upstream {
    /// Connects. Errors: refused, unreachable, or [`io::ErrorKind::TimedOut`]; nothing was sent then.
    pub(super) async fn connect(address: SocketAddr, limits: &Limits) -> io::Result<Self> {
        let stream = connect(address, limits.connect).await?;
        let heard = Arc::new(AtomicBool::new(false));
        let stream = TokioIo::new(Stream::of_backend(stream, limits.idle, heard.clone()));
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let connection = Box::pin(connection.with_upgrades());
        Ok(Self { sender, connection, ended: false, kept: true, used: false, heard })
    }

    /// Whether a request went over it before: the backend may have closed it since.
    pub(super) fn was_used(&self) -> bool {
        self.used
    }

    /// Whether a byte came since the last request was sent.
    pub(super) fn was_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Reads and writes what can be.
    pub(super) fn advance(&mut self, task: &mut Context<'_>) {
        if !self.ended {
            self.ended = self.connection.as_mut().poll(task).is_ready();
        }
    }

    /// After an answer: whether the next request may follow.
    pub(super) fn is_reusable(&mut self, task: &mut Context<'_>) -> bool {
        self.advance(task);
        self.kept && !self.ended && self.sender.is_ready()
    }

    /// Looks whether the other side closed it while it waited.
    pub(super) fn is_open(&mut self) -> bool {
        self.is_reusable(&mut Context::from_waker(Waker::noop()))
    }

    /// Begins a request; [`Upstream::poll_head`] goes on with it.
    pub(super) fn send(&mut self, request: Request<Upload>) -> impl Future<Output = Sent> + use<> {
        self.used = true;
        self.heard.store(false, Ordering::Relaxed);
        self.sender.try_send_request(request)
    }

    /// Waits for the head of the answer.
    pub(super) fn poll_head(
        &mut self,
        task: &mut Context<'_>,
        sending: Pin<&mut impl Future<Output = Sent>>,
    ) -> Poll<Sent> {
        self.advance(task);
        let head = sending.poll(task);
        if let Poll::Ready(Ok(response)) = &head {
            // An HTTP/1.0 server gets no chunked body over a kept connection: hyper would leave it out.
            self.kept = response.version() == http::Version::HTTP_11;
        }
        head
    }

    /// Moves it until it has ended, as it does after an answer that upgrades it.
    pub(super) async fn end(mut self) {
        std::future::poll_fn(|task| {
            self.advance(task);
            if self.ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// A TCP connection, within the time there is for it.
pub(super) async fn connect(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(within, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
