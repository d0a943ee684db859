//! Listeners: from an accepted connection to the task that serves it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use super::client::{Client, Clients};
use super::pool::Pool;
use super::stream::Stream;
use super::{Shared, exchange, tcp};

/// After an error that comes of too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The smallest buffer that hyper works with.
const SMALLEST_BUFFER: usize = 8 * 1024;

/// A bound listener. Dropping it frees the address at once; connections that are open finish the request that is under way and close,
/// those that were upgraded and those of [`Protocol::Tcp`](crate::release::Protocol) go on.
pub struct Listener {
    /// Where it is bound.
    pub address: SocketAddr,
    number: u64,
    clients: Arc<Clients>,
    accepting: AbortHandle,
    /// The only lasting handle of the socket.
    _socket: Arc<TcpListener>,
}

/// Where the requests of a listener go.
#[derive(Clone)]
pub(super) enum Entry {
    /// By path.
    Routes,
    /// To one pool.
    Http(Arc<Pool>),
    /// Connections, to one pool.
    Tcp(Arc<Pool>),
}

/// Binds and starts to accept. On Unix the address can be bound at once after a process that died with open connections.
pub(super) async fn bind(
    shared: &Arc<Shared>,
    at: SocketAddr,
    entry: Entry,
) -> io::Result<Listener> {
    let socket = Arc::new(TcpListener::bind(at).await?);
    let address = socket.local_addr()?;
    let number = shared.clients.number();
    let accepting =
        tokio::spawn(accept(shared.clone(), number, Arc::downgrade(&socket), entry)).abort_handle();
    Ok(Listener { address, number, clients: shared.clients.clone(), accepting, _socket: socket })
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
        self.clients.close(self.number);
    }
}

async fn accept(shared: Arc<Shared>, number: u64, socket: Weak<TcpListener>, entry: Entry) {
    loop {
        // The socket is held only while it is asked, so that it closes when its `Listener` is dropped.
        let accepted = std::future::poll_fn(|task| match socket.upgrade() {
            Some(socket) => socket.poll_accept(task).map(Some),
            None => Poll::Ready(None),
        });
        match accepted.await {
            None => return,
            Some(Ok((stream, peer))) => {
                let Ok(slot) = shared.slots.clone().acquire_owned().await else { return };
                // To be taken up by the runtime that serves it.
                let Ok(stream) = stream.into_std() else { continue };
                shared.clients.open(&shared.lanes, number, peer, slot, |client| {
                    serve(shared.clone(), client, stream, entry.clone())
                });
            }
            Some(Err(error)) if of_one_connection(&error) => {}
            Some(Err(error)) => {
                warn!("no connection can be accepted: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The client went away before it was accepted.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

async fn serve(
    shared: Arc<Shared>,
    client: Arc<Client>,
    stream: std::net::TcpStream,
    entry: Entry,
) {
    let stream = match TcpStream::from_std(stream).and_then(|s| s.set_nodelay(true).map(|()| s)) {
        Ok(stream) => stream,
        Err(error) => return debug!("a client went away at once: {error}"),
    };
    match entry {
        Entry::Tcp(pool) => {
            // No head of a request is waited for.
            client.watch.set_busy();
            tcp::serve(&shared.limits, &client, stream, &pool).await;
        }
        Entry::Routes => serve_http(&shared, &client, stream, None).await,
        Entry::Http(pool) => serve_http(&shared, &client, stream, Some(&pool)).await,
    }
}

async fn serve_http(
    shared: &Arc<Shared>,
    client: &Arc<Client>,
    stream: TcpStream,
    pool: Option<&Arc<Pool>>,
) {
    let limits = &shared.limits;
    let service = service_fn(|request| {
        exchange::answer(shared, client, pool, request).map(Ok::<_, Infallible>)
    });
    let stream = TokioIo::new(Stream::of_client(stream, limits.idle, client.clone()));
    let connection = http1::Builder::new()
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.head_bytes.max(SMALLEST_BUFFER))
        .serve_connection(stream, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut is_closing = None;
    let ended = std::future::poll_fn(|task| {
        if is_closing.is_none() {
            client.wake_with(task.waker());
            is_closing = Some(false);
        }
        if is_closing == Some(false) && client.is_closing() {
            is_closing = Some(true);
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(task)
    })
    .await;
    if let Err(error) = ended {
        debug!("a client's connection ended: {error}");
    }
    if let Some(tunnel) = client.take_tunnel() {
        // No request is waited for any more.
        client.watch.set_busy();
        tunnel.await;
    }
}
