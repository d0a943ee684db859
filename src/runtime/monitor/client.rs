//! The monitor's side of its connections.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::holder::Holder;
use super::protocol::{Answer, Ask, Hello, Question, Reply, Secret, VERSION};
use crate::runtime::door;
use crate::secret::HandedSecret;

/// How long a monitor without jobs and clients waits for the next flowrun.
const LINGER: Duration = Duration::from_secs(2);

/// Longest question, bytes: a job with its variables.
const LONGEST_QUESTION: u64 = 64 << 20;

/// Serves connections and ends children until neither jobs nor clients are left.
pub(super) async fn serve(holder: Rc<Holder>, listener: UnixListener) -> std::io::Result<()> {
    let mut children = signal(SignalKind::child())?;
    // A signal to a whole session or container must not end the monitor before its jobs: it only ends when they did.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            _ = children.recv() => holder.reap(),
            connection = listener.accept() => {
                if let Ok((stream, _)) = connection && door::is_own(&stream) {
                    clients.spawn_local(serve_client(holder.clone(), stream));
                }
            }
            Some(_) = clients.join_next() => {}
            _ = hangup.recv() => {}
            _ = terminate.recv() => holder.stop_all(),
            () = holder.idle(), if clients.is_empty() => {
                let wait = tokio::time::timeout(LINGER, listener.accept()).await;
                match wait {
                    Err(_) => {
                        holder.stop_strays().await;
                        return Ok(());
                    }
                    Ok(Ok((stream, _))) if door::is_own(&stream) => {
                        clients.spawn_local(serve_client(holder.clone(), stream));
                    }
                    Ok(_) => {}
                }
            }
        }
    }
}

/// One connection until its other end goes away. What it waits for goes on without it.
async fn serve_client(holder: Rc<Holder>, stream: UnixStream) {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let (replies, mut outgoing) = mpsc::unbounded_channel::<Reply>();
    let mut waits = JoinSet::new();
    let hello = Hello { version: VERSION };
    if send(&mut writing, &hello).await.is_err() {
        return;
    }
    let mut line = Vec::new();
    let mut greeted = false;
    loop {
        tokio::select! {
            biased;
            Some(reply) = outgoing.recv() => {
                if send(&mut writing, &reply).await.is_err() {
                    return;
                }
            }
            Some(_) = waits.join_next() => {}
            // Dropped in the middle of a line it loses nothing: what was read so far stays in `line`.
            read = read_line(&mut reading, &mut line) => {
                if !matches!(read, Ok(more) if more > 0) || line.last() != Some(&b'\n') {
                    return;
                }
                if greeted {
                    let Ok(question) = serde_json::from_slice::<Question>(&line) else { return };
                    handle(&holder, question, &replies, &mut waits);
                } else {
                    // Another version reads our hello and says so to its user.
                    match serde_json::from_slice::<Hello>(&line) {
                        Ok(hello) if hello.version == VERSION => greeted = true,
                        _ => return,
                    }
                }
                line.clear();
            }
        }
    }
}

async fn read_line(
    reading: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
    line: &mut Vec<u8>,
) -> std::io::Result<usize> {
    reading.take(LONGEST_QUESTION).read_until(b'\n', line).await
}

fn handle(
    holder: &Rc<Holder>,
    question: Question,
    replies: &mpsc::UnboundedSender<Reply>,
    waits: &mut JoinSet<()>,
) {
    let id = question.id;
    let replies = replies.clone();
    // Fails only when the connection has ended, and then nobody asks any more.
    let reply = move |answer| replies.send(Reply { id, answer }).unwrap_or_default();
    match question.ask {
        Ask::Start { mut job, secrets } => {
            job.secrets = secrets.into_iter().map(HandedSecret::from).collect();
            reply(match holder.start(&job) {
                Ok(()) => Answer::Held,
                Err(why) => Answer::Failed { why },
            });
        }
        Ask::Stop { job, kill } => {
            holder.stop(&job, kill);
            reply(Answer::Held);
        }
        Ask::Handed { job } => reply(match holder.handed(&job) {
            Some(handed) => Answer::Handed {
                secrets: handed.secrets.iter().map(Secret::from).collect(),
                files: handed.files.clone(),
            },
            None => Answer::Failed { why: "it does not run".to_owned() },
        }),
        Ask::List => reply(Answer::Running { jobs: holder.running() }),
        Ask::Wait { job, folder } => {
            let holder = holder.clone();
            waits.spawn_local(async move {
                let answer = holder.wait(&job, &folder).await;
                reply(match answer {
                    Ok(report) => Answer::Ended { report },
                    Err(why) => Answer::Failed { why },
                });
            });
        }
    }
}

async fn send<T: serde::Serialize>(
    writing: &mut tokio::net::unix::OwnedWriteHalf,
    message: &T,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    writing.write_all(&line).await
}
