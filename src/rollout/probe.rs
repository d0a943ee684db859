//! Asks a replica whether it is ready or alive. An answer that is none is a fragment for a person: `GET /readyz answered 503`.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::texts;
use crate::names::JobName;
use crate::runtime::{Beside, Supervised};
use crate::words;

/// A try takes as long as the pause between two, within these bounds.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);

/// How a replica is asked; nothing is left to fill in.
#[derive(Debug, Clone)]
pub(super) enum Question {
    /// This path answers 2xx.
    Http(String),
    /// The port takes connections.
    Tcp,
    /// This command, beside the replica's program, ends with 0.
    Run(Beside),
}

/// Who is asked.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Holds the replica.
    pub(super) runtime: &'a dyn Supervised,
    /// The replica.
    pub(super) job: &'a JobName,
    /// Where it listens.
    pub(super) at: SocketAddr,
}

impl Question {
    /// Asks once. One that hangs is a failure: it gets as long as `interval`, at least 1 s and at most 10 s.
    pub(super) async fn ask(&self, whom: Asked<'_>, interval: Duration) -> Result<(), String> {
        let within = interval.clamp(SHORTEST, LONGEST);
        let answer = async {
            match self {
                Self::Http(path) => http(whom.at, path).await,
                Self::Tcp => connect(whom.at).await.map(drop),
                Self::Run(beside) => {
                    let asked = whom.runtime.ask(whom.job, beside).await;
                    asked.map_err(|error| format!("{} failed: {error}", self.name())).flatten()
                }
            }
        };
        tokio::time::timeout(within, answer).await.unwrap_or_else(|_| {
            let within = texts::seconds(words::millis(within));
            Err(format!("{} did not answer within {within}", self.name()))
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Http(path) => format!("GET {path}"),
            Self::Tcp => "a connection".to_owned(),
            Self::Run(beside) => format!("`{}`", words::shell_words(&beside.command)),
        }
    }
}

async fn connect(at: SocketAddr) -> Result<TcpStream, String> {
    let port = at.port();
    TcpStream::connect(at).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("nothing listens on its port {port} yet"),
        _ => format!("its port {port} cannot be reached: {error}"),
    })
}

async fn http(at: SocketAddr, path: &str) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("GET {path} failed: {error}");
    let stream = connect(at).await.map_err(|why| format!("GET {path}: {why}"))?;
    // The same wherever it runs: programs that look at it know this one.
    let host = format!("127.0.0.1:{}", at.port());
    let request = http::Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::USER_AGENT, "flowrun")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let answered = sender.send_request(request);
    tokio::pin!(answered);
    tokio::pin!(connection);
    // Only the head counts; the connection goes with what comes after it.
    let response = tokio::select! {
        biased;
        response = &mut answered => response,
        ended = &mut connection => match ended {
            Ok(()) => answered.await,
            Err(error) => Err(error),
        },
    }
    .map_err(|error| failed(&error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let code = status.as_u16();
    match response.headers().get(http::header::LOCATION) {
        Some(place) if status.is_redirection() => {
            let place = words::visible(&String::from_utf8_lossy(place.as_bytes())).into_owned();
            Err(format!("GET {path} answered {code}, a redirect to {place}"))
        }
        _ => Err(format!("GET {path} answered {code}")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::world::Machine;
    use super::*;
    use crate::names::RunId;

    /// Answers every request with these bytes; with none it hangs.
    async fn server(answer: Option<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let count = stream.read(&mut request).await.unwrap();
                assert!(request[..count].starts_with(b"GET /readyz HTTP/1.1\r\n"));
                match answer {
                    Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                    None => kept.push(stream),
                }
            }
        });
        at
    }

    async fn ask(answer: Option<&'static str>) -> Result<(), String> {
        let question = Question::Http("/readyz".to_owned());
        put(&question, server(answer).await, Duration::from_millis(1)).await
    }

    /// Of a program that nobody holds.
    async fn put(question: &Question, at: SocketAddr, interval: Duration) -> Result<(), String> {
        let machine = Machine::default();
        let job = JobName::new(RunId::new(1, 1), 1, 1);
        question.ask(Asked { runtime: &machine, job: &job, at }, interval).await
    }

    #[tokio::test]
    async fn only_2xx_is_ready() {
        assert_eq!(ask(Some("HTTP/1.1 204 No Content\r\n\r\n")).await, Ok(()));
        let busy = ask(Some("HTTP/1.1 503 Busy\r\ncontent-length: 100000\r\n\r\n")).await;
        assert_eq!(busy, Err("GET /readyz answered 503".to_owned()));
        let moved = "HTTP/1.1 307 Moved\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n";
        let why = "GET /readyz answered 307, a redirect to /login".to_owned();
        assert_eq!(ask(Some(moved)).await, Err(why));
        assert!(ask(Some("what?\r\n\r\n")).await.is_err());
    }

    #[tokio::test]
    async fn one_that_hangs_is_not_ready() {
        let why = "GET /readyz did not answer within 1s".to_owned();
        assert_eq!(ask(None).await, Err(why));
    }

    #[tokio::test]
    async fn nobody_there_is_said() {
        let at = SocketAddr::from(([127, 0, 0, 1], crate::ports::free_port()));
        let there = TcpListener::bind(at).await.unwrap();
        assert_eq!(put(&Question::Tcp, at, LONGEST).await, Ok(()));
        drop(there);
        let why = format!("nothing listens on its port {} yet", at.port());
        assert_eq!(put(&Question::Tcp, at, LONGEST).await, Err(why.clone()));
        let http = put(&Question::Http("/".to_owned()), at, LONGEST).await;
        assert_eq!(http, Err(format!("GET /: {why}")));
    }

    #[tokio::test]
    async fn a_command_is_put_to_the_replica_and_may_hang() {
        let beside = |text: &str| Beside {
            command: vec![text.to_owned()],
            directory: "/".into(),
            env: std::collections::BTreeMap::new(),
        };
        let at = SocketAddr::from(([127, 0, 0, 1], 1));
        let said = put(&Question::Run(beside("no")), at, LONGEST).await;
        assert_eq!(said, Err("`no` exited with code 1".to_owned()));
        let said = put(&Question::Run(beside("hang")), at, SHORTEST).await;
        assert_eq!(said, Err("`hang` did not answer within 1s".to_owned()));
    }
}
