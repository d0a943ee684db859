//! One connection of a client: greeting, questions, answers. Knows not what is answered.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::protocol::{
    Answer, Ask, Hello, LONGEST_QUESTION, LineRead, Question, Reply, VERSION, line_of, read_line,
};
use crate::names::ReleaseId;
use crate::rollout::RolloutError;

/// How long a client may take for its greeting.
const UNTIL_HELLO: Duration = Duration::from_secs(10);

/// Bytes that wait for a client to read them; one that lets more come together is dropped.
const UNREAD: usize = 64 << 20;

/// Questions of one client at once; more wait in its socket.
const AT_ONCE: usize = 256;

/// Answers one question; what is sent meanwhile goes to the client as progress.
pub(super) type Answering<'a> =
    dyn Fn(Ask, UnboundedSender<String>) -> BoxFuture<'static, Answer> + Send + Sync + 'a;

/// How a connection ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Candidates it asked for, whatever became of them since.
    pub(super) candidates: Vec<ReleaseId>,
    /// What nobody waits for any more, and still has to be done.
    pub(super) unfinished: FuturesUnordered<BoxFuture<'static, (u64, Answer)>>,
}

/// Serves a client until it is gone, misbehaves, or, once `stopping` is cancelled, has its answers. A client may cancel it.
///
/// Plan: everything in one loop, so that questions begin in the order in which they came, and before the end of the connection
/// is seen. What is to be written stays in a buffer until the client takes it, and never holds up an answer.
pub(super) async fn serve_client(
    stream: UnixStream,
    answering: &Answering<'_>,
    stopping: &CancellationToken,
) -> Ended {
    let mut ended = Ended::default();
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    if writing.write_all(&line_of(&Hello::own(false))).await.is_err() {
        return ended;
    }
    match greeting(&mut reading).await {
        Some(hello) if hello.stop => {
            tracing::info!("process {} asks the server to stop", hello.pid);
            stopping.cancel();
            return ended;
        }
        Some(hello) if hello.version == VERSION => {}
        // It has read our greeting, and knows what to do.
        _ => return ended,
    }
    let mut candidates = BTreeSet::new();
    let gone = CancellationToken::new();
    let mut answers = FuturesUnordered::new();
    let (progress, mut told) = unbounded_channel();
    let mut unsent: Vec<u8> = Vec::new();
    let mut line = Vec::new();
    let mut listening = true;
    while listening || !answers.is_empty() || !unsent.is_empty() {
        tokio::select! {
            biased;
            Some((id, answer)) = answers.next(), if !answers.is_empty() => {
                push_progress(&mut told, &mut unsent);
                unsent.extend(line_of(&Reply { id, answer }));
            }
            Some(reply) = told.recv() => unsent.extend(line_of(&reply)),
            written = writing.write(&unsent), if !unsent.is_empty() => match written {
                Ok(count) if count > 0 => drop(unsent.drain(..count)),
                _ => break,
            },
            read = read_line(&mut reading, &mut line, LONGEST_QUESTION),
                if listening && answers.len() < AT_ONCE =>
            {
                let question = match read {
                    LineRead::Whole => serde_json::from_slice::<Question>(&line),
                    LineRead::End => break,
                    LineRead::TooLong => {
                        tracing::warn!("a client sent a line of more than {LONGEST_QUESTION} bytes and is dropped");
                        break;
                    }
                };
                line.clear();
                let Question { id, ask } = match question {
                    Ok(question) => question,
                    Err(error) => {
                        tracing::warn!("a client sent what is no question and is dropped: {error}");
                        break;
                    }
                };
                let mut wanted = None;
                if let Ask::Prepare { release } = &ask {
                    candidates.insert(*release);
                    wanted = Some(gone.clone());
                }
                answers.push(answer(id, ask, answering, progress.clone(), wanted));
            }
            () = stopping.cancelled(), if listening => listening = false,
        }
        if unsent.len() > UNREAD {
            tracing::warn!("a client does not read its answers and is dropped");
            break;
        }
    }
    gone.cancel();
    ended.candidates = candidates.into_iter().collect();
    ended.unfinished = answers;
    ended
}

async fn greeting(reading: &mut BufReader<OwnedReadHalf>) -> Option<Hello> {
    let mut line = Vec::new();
    let read = read_line(reading, &mut line, LONGEST_QUESTION);
    match tokio::time::timeout(UNTIL_HELLO, read).await {
        Ok(LineRead::Whole) => serde_json::from_slice(&line).ok(),
        _ => None,
    }
}

/// One question with its progress, which all comes before its answer. With `gone` it ends when the client does: what waits for its
/// turn must not be begun for nobody.
fn answer(
    id: u64,
    ask: Ask,
    answering: &Answering<'_>,
    progress: UnboundedSender<Reply>,
    gone: Option<CancellationToken>,
) -> BoxFuture<'static, (u64, Answer)> {
    let (sender, mut lines) = unbounded_channel();
    let mut work = answering(ask, sender);
    // The other end lives for as long as the connection, and without it nobody reads.
    let tell = move |line| {
        progress.send(Reply { id, answer: Answer::Progress(line) }).unwrap_or_default();
    };
    Box::pin(async move {
        let client_gone = async {
            match &gone {
                Some(gone) => gone.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(client_gone);
        let answer = loop {
            tokio::select! {
                biased;
                Some(line) = lines.recv() => tell(line),
                answer = &mut work => break answer,
                () = &mut client_gone => {
                    let why = "who asked is gone".to_owned();
                    break Answer::Failed(RolloutError::Server(why));
                }
            }
        };
        while let Ok(line) = lines.try_recv() {
            tell(line);
        }
        (id, answer)
    })
}

fn push_progress(told: &mut UnboundedReceiver<Reply>, unsent: &mut Vec<u8>) {
    while let Ok(reply) = told.try_recv() {
        unsent.extend(line_of(&reply));
    }
}

#[cfg(test)]
mod tests;
