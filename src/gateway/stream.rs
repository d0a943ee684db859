//! A TCP connection whose other side has to take what is written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::client::Client;
use super::patience::Patience;

/// Writing fails when the other side takes nothing for too long: the bodies' own limits cannot see that, as they are not asked for
/// more then.
pub(super) struct Stream {
    inner: TcpStream,
    patience: Patience,
    side: Side,
}

/// Whose connection it is, and who wants to know what it does.
enum Side {
    /// While it takes nothing it is not waited for.
    Client(Arc<Client>),
    /// Set with every byte that is read.
    Backend(Arc<AtomicBool>),
}

impl Stream {
    pub(super) fn of_client(stream: TcpStream, idle: Duration, client: Arc<Client>) -> Self {
        Self { inner: stream, patience: Patience::new(idle), side: Side::Client(client) }
    }

    pub(super) fn of_backend(stream: TcpStream, idle: Duration, heard: Arc<AtomicBool>) -> Self {
        Self { inner: stream, patience: Patience::new(idle), side: Side::Backend(heard) }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.inner
    }

    fn patient<T>(
        &mut self,
        task: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.patience.renew()
                && let Side::Client(client) = &self.side
            {
                client.watch.resume();
            }
            return written;
        }
        if let Side::Client(client) = &self.side {
            client.watch.pause();
        }
        self.patience.poll_end(task, None).map(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(task, buffer);
        if let Side::Backend(heard) = &self.side
            && buffer.filled().len() > before
        {
            heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(task, bytes);
        self.patient(task, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(task, bytes);
        self.patient(task, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(task)
    }
}
