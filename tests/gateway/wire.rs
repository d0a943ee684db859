//! Both ends of the wire: backends that record every request, clients that read one answer at a time.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flowrun::gateway::{Gateway, Limits, Listener};
use flowrun::release::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::ports::free_port;

pub(crate) const ANY: &str = "127.0.0.1:0";

/// Everything that should happen soon happens within this, also on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it did not happen")
}

/// One request or answer, as it was on the wire; the body without its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// After the last chunk.
    pub(crate) trailers: String,
}

impl Message {
    pub(crate) fn first_line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn status(&self) -> u16 {
        self.first_line().split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn target(&self) -> &str {
        self.first_line().split(' ').nth(1).unwrap()
    }

    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A connection that is read message by message.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Whether more came; false at the end, orderly or not.
    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(read) if read > 0)
    }

    /// Reads until this much is there, or the end.
    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    async fn take_line(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let line = self.take(at + end.len()).await?;
                return Some(String::from_utf8(line).unwrap());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The head of a message, its last empty line included; none at the end.
    pub(crate) async fn head(&mut self) -> Option<String> {
        soon(self.take_line(b"\r\n\r\n")).await
    }

    pub(crate) async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        soon(self.take(count)).await
    }

    /// One chunk of a chunked body, empty for the last.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = soon(self.take_line(b"\r\n")).await?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        if size == 0 {
            return Some(Vec::new());
        }
        let mut chunk = soon(self.take(size + 2)).await?;
        chunk.truncate(size);
        Some(chunk)
    }

    /// All that comes until the other side ends.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        soon(async { while self.fill().await {} }).await;
        std::mem::take(&mut self.buffer)
    }

    /// A request, or an answer to anything but `HEAD`.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        let head = self.head().await?;
        let mut message = Message { head, body: Vec::new(), trailers: String::new() };
        let is_answer = message.head.starts_with("HTTP/");
        if let Some(coding) = message.header("transfer-encoding") {
            assert_eq!(coding, "chunked");
            loop {
                let chunk = self.chunk().await?;
                if chunk.is_empty() {
                    break;
                }
                message.body.extend(chunk);
            }
            loop {
                let line = soon(self.take_line(b"\r\n")).await?;
                if line == "\r\n" {
                    break;
                }
                message.trailers += &line;
            }
        } else if let Some(length) = message.header("content-length") {
            message.body = self.exactly(length.parse().unwrap()).await?;
        } else if is_answer && ![101, 204, 304].contains(&message.status()) {
            message.body = self.rest().await;
        }
        Some(message)
    }

    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request).await;
        self.message().await.expect("the connection ended without an answer")
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Message {
    Wire::to(address).await.ask(request).await
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n")
}

pub(crate) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: example.com\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// What a backend does with a request.
pub(crate) enum Reply {
    /// These bytes, and the connection is kept.
    Keep(Vec<u8>),
    /// These bytes, and the connection is closed.
    Close(Vec<u8>),
}

/// A server that reads whole requests. Dropping it closes its listener and all its connections.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) requests: mpsc::UnboundedReceiver<Message>,
    pub(crate) connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Backend {
    /// Answers every request with a word.
    pub(crate) async fn saying(word: &'static str) -> Self {
        Self::start(move |_| Reply::Keep(ok(word).into())).await
    }

    pub(crate) async fn start(reply: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, requests) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let (reply, counted) = (Arc::new(reply), connections.clone());
        let serving = tokio::spawn(async move {
            // Dropped with this task, and ends its connections then.
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let (told, reply) = (told.clone(), reply.clone());
                open.spawn(async move {
                    let mut wire = Wire::over(stream);
                    // No limit on the wait for a request: an idle connection is none of its business.
                    while wire.fill().await {
                        let Some(message) = wire.message().await else { return };
                        let reply = reply(&message);
                        if told.send(message).is_err() {
                            return;
                        }
                        match reply {
                            Reply::Keep(bytes) => wire.send(bytes).await,
                            Reply::Close(bytes) => return wire.send(bytes).await,
                        }
                    }
                });
            }
        });
        Self { address, requests, connections, serving }
    }

    pub(crate) async fn next(&mut self) -> Message {
        soon(self.requests.recv()).await.unwrap()
    }

    /// What came that nobody asked for yet.
    pub(crate) fn others(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A backend whose connections are handled by hand.
pub(crate) struct ByHand {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
}

impl ByHand {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(ANY).await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    pub(crate) async fn accept(&self) -> Wire {
        Wire::over(soon(self.listener.accept()).await.unwrap().0)
    }
}

/// An address that refuses.
pub(crate) fn nobody() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// A gateway with one pool `p` behind one listener.
pub(crate) struct Front {
    pub(crate) gateway: Gateway,
    pub(crate) listener: Listener,
}

impl Front {
    /// Connections to backends are kept also when a busy machine stands still for a while.
    pub(crate) async fn to(backends: &[SocketAddr]) -> Self {
        let limits = Limits { kept: Duration::from_mins(10), ..Limits::default() };
        Self::limited(limits, Protocol::Http, backends).await
    }

    pub(crate) async fn limited(
        limits: Limits,
        protocol: Protocol,
        backends: &[SocketAddr],
    ) -> Self {
        let gateway = Gateway::new(limits);
        gateway.set_backends("p", backends);
        let listener = gateway.listen(ANY.parse().unwrap(), "p", protocol).await.unwrap();
        Self { gateway, listener }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.address
    }

    pub(crate) async fn wire(&self) -> Wire {
        Wire::to(self.address()).await
    }
}

/// A gateway that routes by path, each pool with one backend.
pub(crate) async fn routed(routes: &[(&str, SocketAddr)]) -> Front {
    let gateway = Gateway::new(Limits::default());
    let mut table = BTreeMap::new();
    for (prefix, backend) in routes {
        gateway.set_backends(prefix, &[*backend]);
        table.insert((*prefix).to_owned(), (*prefix).to_owned());
    }
    gateway.set_routes(table);
    let listener = gateway.listen_routes(ANY.parse().unwrap()).await.unwrap();
    Front { gateway, listener }
}
