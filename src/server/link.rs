//! A client's side of one connection: questions out, answers back, any number at once.

use std::collections::HashMap;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::protocol::{
    Answer, Ask, Hello, LONGEST_LINE, LineRead, Question, Reply, VERSION, line_of, read_line,
};

/// Longest a living server may take for its greeting: a new one first takes over everything that runs.
const UNTIL_HELLO: Duration = Duration::from_mins(1);

/// The other end is gone; nobody can say what became of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// What came of a greeting.
pub(super) enum Greeted {
    /// It can be asked.
    Link(Link),
    /// It speaks another version; it was left untouched.
    Other(Other),
    /// It went away.
    Gone,
    /// It lives and says nothing.
    Silent,
}

/// A server of another version.
pub(super) struct Other {
    pub(super) hello: Hello,
    writing: OwnedWriteHalf,
}

impl Other {
    /// Asks it to stop; it may end meanwhile.
    pub(super) async fn ask_to_stop(mut self) {
        self.writing.write_all(&line_of(&Hello::own(true))).await.unwrap_or_default();
    }
}

/// A connection. It is closed when this is dropped.
pub(super) struct Link {
    questions: mpsc::UnboundedSender<Asked>,
}

/// A question and who waits for what is said to it.
struct Asked {
    ask: Ask,
    waiting: Waiting,
}

struct Waiting {
    answer: oneshot::Sender<Answer>,
    progress: Option<mpsc::UnboundedSender<String>>,
}

/// Reads the greeting of whoever listens at this stream.
pub(super) async fn meet(stream: std::os::unix::net::UnixStream) -> std::io::Result<Greeted> {
    stream.set_nonblocking(true)?;
    let (reading, mut writing) = UnixStream::from_std(stream)?.into_split();
    let mut reading = BufReader::new(reading);
    let mut line = Vec::new();
    let greeting = read_line(&mut reading, &mut line, LONGEST_LINE);
    match tokio::time::timeout(UNTIL_HELLO, greeting).await {
        Err(_) => return Ok(Greeted::Silent),
        Ok(LineRead::Whole) => {}
        Ok(LineRead::End | LineRead::TooLong) => return Ok(Greeted::Gone),
    }
    let Ok(hello) = serde_json::from_slice::<Hello>(&line) else { return Ok(Greeted::Gone) };
    if hello.version != VERSION {
        return Ok(Greeted::Other(Other { hello, writing }));
    }
    if writing.write_all(&line_of(&Hello::own(false))).await.is_err() {
        return Ok(Greeted::Gone);
    }
    let (questions, asked) = mpsc::unbounded_channel();
    tokio::spawn(carry(reading, writing, asked));
    Ok(Greeted::Link(Link { questions }))
}

/// Asks whoever listens at this stream to stop, whatever its version. Its process; none when it has gone or says nothing.
pub(super) async fn ask_to_stop(
    stream: std::os::unix::net::UnixStream,
) -> std::io::Result<Option<u32>> {
    stream.set_nonblocking(true)?;
    let mut stream = BufReader::new(UnixStream::from_std(stream)?);
    stream.write_all(&line_of(&Hello::own(true))).await.unwrap_or_default();
    let mut line = Vec::new();
    let greeting = read_line(&mut stream, &mut line, LONGEST_LINE);
    let read = tokio::time::timeout(UNTIL_HELLO, greeting).await;
    let hello = read.is_ok().then(|| serde_json::from_slice::<Hello>(&line).ok()).flatten();
    Ok(hello.map(|hello| hello.pid))
}

impl Link {
    /// Asks and waits for the answer; what is said meanwhile goes to `progress`.
    pub(super) async fn ask(
        &self,
        ask: Ask,
        progress: Option<mpsc::UnboundedSender<String>>,
    ) -> Result<Answer, Gone> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { answer, progress };
        self.questions.send(Asked { ask, waiting }).map_err(|_| Gone)?;
        answered.await.map_err(|_| Gone)
    }
}

/// Carries lines until either side goes away; whoever still waits for an answer then learns that it is gone.
async fn carry(
    mut reading: BufReader<OwnedReadHalf>,
    mut writing: OwnedWriteHalf,
    mut asked: mpsc::UnboundedReceiver<Asked>,
) {
    let mut unanswered: HashMap<u64, Waiting> = HashMap::new();
    let mut last = 0;
    let mut line = Vec::new();
    loop {
        tokio::select! {
            question = asked.recv() => {
                let Some(Asked { ask, waiting }) = question else { return };
                last += 1;
                unanswered.insert(last, waiting);
                if writing.write_all(&line_of(&Question { id: last, ask })).await.is_err() {
                    return;
                }
            }
            read = read_line(&mut reading, &mut line, LONGEST_LINE) => {
                if read != LineRead::Whole {
                    return;
                }
                let Ok(Reply { id, answer }) = serde_json::from_slice(&line) else { return };
                line.clear();
                give(&mut unanswered, id, answer);
            }
        }
    }
}

/// Whoever asked may have stopped waiting.
fn give(unanswered: &mut HashMap<u64, Waiting>, id: u64, answer: Answer) {
    if let Answer::Progress(text) = answer {
        if let Some(progress) = unanswered.get(&id).and_then(|waiting| waiting.progress.as_ref()) {
            progress.send(text).unwrap_or_default();
        }
    } else if let Some(waiting) = unanswered.remove(&id) {
        drop(waiting.answer.send(answer));
    }
}
