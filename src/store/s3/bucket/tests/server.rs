//! A server that answers as it is told, byte for byte, and remembers what it was asked.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// One request.
#[derive(Debug, Clone, Default)]
pub(in crate::store::s3) struct Asked {
    /// `GET /team/models/x?partNumber=1`.
    pub line: String,
    /// `name: value` in lower case, a line each.
    pub head: String,
    pub body: Vec<u8>,
}

impl Asked {
    /// The value of a header.
    pub(in crate::store::s3) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The first and last byte that were asked for.
    pub(in crate::store::s3) fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    }
}

/// Bytes, and what becomes of the connection after them.
#[derive(Debug, Clone)]
pub(in crate::store::s3) struct Reply {
    pub bytes: Vec<u8>,
    pub then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::s3) enum Then {
    Stay,
    Close,
    /// Says nothing more, but holds the connection.
    Hang,
}

/// A whole answer.
pub(in crate::store::s3) fn answer(status: u16, headers: &str, body: &[u8]) -> Reply {
    let head =
        format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{}\r\n", body.len(), lines(headers));
    Reply { bytes: [head.as_bytes(), body].concat(), then: Then::Stay }
}

fn lines(headers: &str) -> String {
    headers.lines().flat_map(|line| [line, "\r\n"]).collect()
}

/// An object, or what was asked of it.
pub(in crate::store::s3) fn object(body: &[u8]) -> Reply {
    answer(200, "etag: \"e1\"\nlast-modified: Sat, 21 Nov 2026 10:00:00 GMT", body)
}

/// What was asked of an object, as servers do that know ranges.
pub(in crate::store::s3) fn ranged(asked: &Asked, whole: &[u8]) -> Reply {
    let Some((first, last)) = asked.range() else { return object(whole) };
    let range = format!("etag: \"e1\"\ncontent-range: bytes {first}-{last}/{}", whole.len());
    answer(206, &range, &whole[first..=last])
}

/// What S3 says when something is wrong.
pub(in crate::store::s3) fn error(status: u16, code: &str) -> Reply {
    let text = format!("<Error><Code>{code}</Code><Message>because</Message></Error>");
    answer(status, "content-type: application/xml", text.as_bytes())
}

/// The connection ends without an answer.
pub(in crate::store::s3) fn gone() -> Reply {
    Reply { bytes: Vec::new(), then: Then::Close }
}

/// No answer ever.
pub(in crate::store::s3) fn silence() -> Reply {
    Reply { bytes: Vec::new(), then: Then::Hang }
}

impl Reply {
    /// Without its last `bytes`.
    pub(in crate::store::s3) fn cut(mut self, bytes: usize, then: Then) -> Self {
        self.bytes.truncate(self.bytes.len() - bytes);
        self.then = then;
        self
    }

    /// Without a length: the end of the connection is the end of the body.
    pub(in crate::store::s3) fn unmeasured(mut self) -> Self {
        let text = String::from_utf8(self.bytes).unwrap();
        let start = text.find("content-length").unwrap();
        let end = start + text[start..].find("\r\n").unwrap() + 2;
        self.bytes = format!("{}{}", &text[..start], &text[end..]).into_bytes();
        self.then = Then::Close;
        self
    }
}

type Answers = Box<dyn FnMut(&Asked) -> Reply + Send>;

/// Ends with its value.
pub(in crate::store::s3) struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    _work: JoinSet<()>,
}

impl Server {
    /// Gives these answers, one after the other.
    pub(in crate::store::s3) async fn script(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut replies: VecDeque<Reply> = replies.into_iter().collect();
        let over = || error(418, "TheScriptIsOver");
        Self::start(move |_| replies.pop_front().unwrap_or_else(over)).await
    }

    /// Answers each request as `answers` says.
    pub(in crate::store::s3) async fn start(
        answers: impl FnMut(&Asked) -> Reply + Send + 'static,
    ) -> Self {
        let port = crate::ports::free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: Arc<Mutex<Answers>> = Arc::new(Mutex::new(Box::new(answers)));
        let mut work = JoinSet::new();
        let seen = Arc::clone(&asked);
        work.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&seen), Arc::clone(&answers)));
            }
        });
        Self { port, asked, _work: work }
    }

    pub(in crate::store::s3) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked until now.
    pub(in crate::store::s3) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The methods and paths of it.
    pub(in crate::store::s3) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Asked>>>, answers: Arc<Mutex<Answers>>) {
    let mut buffer = Vec::new();
    while let Some(asked) = read(&mut stream, &mut buffer).await {
        seen.lock().unwrap().push(asked.clone());
        let reply = (answers.lock().unwrap())(&asked);
        if stream.write_all(&reply.bytes).await.is_err() {
            return;
        }
        match reply.then {
            Then::Stay => {}
            Then::Close => return,
            Then::Hang => std::future::pending().await,
        }
    }
}

/// The next request; none at the end of the connection.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Asked> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let (line, head) = head.split_once("\r\n").unwrap();
    let line = line.rsplit_once(' ').unwrap().0.to_owned();
    let head = head.replace("\r\n", "\n");
    let mut asked = Asked { line, head, body: Vec::new() };
    let length = asked.header("content-length").map_or(0, |text| text.parse().unwrap());
    buffer.drain(..end + 4);
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    asked.body = buffer.drain(..length).collect();
    Some(asked)
}
