//! A web server that behaves as a test says: it cuts, delays, redirects and lies.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Counted from 0.
    pub(super) number: usize,
    pub(super) path: String,
    /// By name in lower case.
    pub(super) headers: BTreeMap<String, String>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// `Range: bytes=5-` → 5
    pub(super) fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// What the header says, where it is not the truth.
    length: Option<usize>,
    /// Says nothing more after the body, but holds the connection.
    silent: bool,
}

pub(super) fn answer(status: u16) -> Answer {
    Answer { status, headers: Vec::new(), body: Vec::new(), length: None, silent: false }
}

/// The bytes from `from` on, with an entity tag, as a good server gives them.
pub(super) fn part(body: &[u8], from: Option<usize>, etag: &str) -> Answer {
    let whole = answer(200).with("ETag", etag);
    match from {
        None => whole.body(body),
        Some(from) if from >= body.len() => answer(416),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
            answer(206).with("ETag", etag).with("Content-Range", &range).body(&body[from..])
        }
    }
}

impl Answer {
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// Only so many bytes of the body come.
    pub(super) fn cut(mut self, after: usize) -> Self {
        self.length = Some(self.body.len());
        self.body.truncate(after);
        self
    }

    pub(super) fn silent(mut self) -> Self {
        self.silent = true;
        self
    }
}

/// Ends when dropped.
pub(super) struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    listening: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Server {
    pub(super) async fn start(say: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let port = crate::ports::free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (say, seen) = (Arc::new(say), Arc::clone(&asked));
        let listening = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (say, seen) = (Arc::clone(&say), Arc::clone(&seen));
                tokio::spawn(async move {
                    // The client may be gone: that is its business.
                    serve(stream, &seen, &*say).await.ok();
                });
            }
        });
        Self { port, asked, listening: listening.abort_handle() }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    seen: &Mutex<Vec<Asked>>,
    say: &(dyn Fn(&Asked) -> Answer + Send + Sync),
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let asked = {
        let mut seen = seen.lock().unwrap();
        let asked = Asked { number: seen.len(), path, headers };
        seen.push(asked.clone());
        asked
    };
    let Answer { status, headers, body, length, silent } = say(&asked);
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    for (name, value) in &headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if status != 304 && !headers.iter().any(|(name, _)| name == "Transfer-Encoding") {
        head.push_str(&format!("Content-Length: {}\r\n", length.unwrap_or(body.len())));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.flush().await?;
    if silent {
        std::future::pending::<()>().await;
    }
    stream.shutdown().await
}
