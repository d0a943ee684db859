//! flowrun's side of a connection to a monitor: questions out, replies back, any number at once.

use std::collections::HashMap;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::RuntimeError;
use super::monitor::protocol::{Answer, Ask, Hello, Question, Reply, VERSION};

/// Longest a living monitor may take for its first line.
const UNTIL_HELLO: std::time::Duration = std::time::Duration::from_secs(30);

/// The other end is gone; nobody can say what became of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// A connection. It is closed when this is dropped.
pub(super) struct Link {
    questions: mpsc::UnboundedSender<(Ask, oneshot::Sender<Answer>)>,
}

impl Link {
    /// Greets the other side; `Ok(Err(Gone))` when it went away meanwhile.
    pub(super) async fn open(
        stream: std::os::unix::net::UnixStream,
    ) -> Result<Result<Self, Gone>, RuntimeError> {
        stream.set_nonblocking(true)?;
        let (reading, mut writing) = UnixStream::from_std(stream)?.into_split();
        let mut reading = BufReader::new(reading);
        if send(&mut writing, &Hello { version: VERSION }).await.is_err() {
            return Ok(Err(Gone));
        }
        let mut line = Vec::new();
        let greeting = reading.read_until(b'\n', &mut line);
        match tokio::time::timeout(UNTIL_HELLO, greeting).await {
            Ok(Ok(count)) if count > 0 => {}
            Ok(_) => return Ok(Err(Gone)),
            Err(_) => return Err(RuntimeError::Monitor("it does not answer".to_owned())),
        }
        let hello: Hello = serde_json::from_slice(&line)
            .map_err(|error| RuntimeError::Monitor(format!("it does not greet: {error}")))?;
        if hello.version != VERSION {
            return Err(RuntimeError::Monitor(format!(
                "it was started by another version of flowrun (it speaks {}, this one {VERSION}); use that version until its run has ended",
                hello.version
            )));
        }
        let (questions, asked) = mpsc::unbounded_channel();
        tokio::spawn(carry(reading, writing, asked));
        Ok(Ok(Self { questions }))
    }

    /// Asks and waits for the answer.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Answer, Gone> {
        let (sender, answer) = oneshot::channel();
        self.questions.send((ask, sender)).map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

/// Carries lines until either side goes away; whoever still waits for an answer then learns that it is gone.
async fn carry(
    mut reading: BufReader<OwnedReadHalf>,
    mut writing: OwnedWriteHalf,
    mut asked: mpsc::UnboundedReceiver<(Ask, oneshot::Sender<Answer>)>,
) {
    let mut unanswered: HashMap<u64, oneshot::Sender<Answer>> = HashMap::new();
    let mut last = 0;
    let mut line = Vec::new();
    loop {
        tokio::select! {
            question = asked.recv() => {
                let Some((ask, sender)) = question else { return };
                last += 1;
                unanswered.insert(last, sender);
                if send(&mut writing, &Question { id: last, ask }).await.is_err() {
                    return;
                }
            }
            // Dropped in the middle of a line it loses nothing: what was read so far stays in `line`.
            read = reading.read_until(b'\n', &mut line) => {
                if !matches!(read, Ok(count) if count > 0) {
                    return;
                }
                let Ok(reply) = serde_json::from_slice::<Reply>(&line) else { return };
                line.clear();
                if let Some(sender) = unanswered.remove(&reply.id) {
                    // Whoever asked may have stopped unanswered.
                    drop(sender.send(reply.answer));
                }
            }
        }
    }
}

async fn send<T: serde::Serialize>(
    writing: &mut OwnedWriteHalf,
    message: &T,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    writing.write_all(&line).await
}
