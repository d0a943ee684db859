use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::rollout::RolloutError;
use crate::server::link::{self, Gone, Greeted, Link};

fn release(number: u64) -> ReleaseId {
    ReleaseId::new(number, 0)
}

/// A server's side on its own task, whose answers are scripted.
struct Server {
    stopping: CancellationToken,
    ended: tokio::task::JoinHandle<Ended>,
}

/// `about` tells two lines and answers; `prepare` waits for the gate; everything else is done at once.
fn serve(gate: &Arc<Semaphore>) -> (UnixStream, Server) {
    let (client, server) = UnixStream::pair().unwrap();
    let stopping = CancellationToken::new();
    let gate = Arc::clone(gate);
    let ended = tokio::spawn({
        let stopping = stopping.clone();
        async move {
            let answering = move |ask: Ask, progress: UnboundedSender<String>| {
                let gate = Arc::clone(&gate);
                let answer: BoxFuture<'static, Answer> = Box::pin(async move {
                    match ask {
                        Ask::Services => {
                            progress.send("first".to_owned()).unwrap();
                            tokio::task::yield_now().await;
                            progress.send("second".to_owned()).unwrap();
                            Answer::Done
                        }
                        Ask::Prepare { .. } => {
                            gate.acquire().await.unwrap().forget();
                            Answer::Done
                        }
                        Ask::Abandon { why, .. } => Answer::Progress(why),
                        _ => Answer::Done,
                    }
                });
                answer
            };
            serve_client(server, &answering, &stopping).await
        }
    });
    (client, Server { stopping, ended })
}

async fn link(client: UnixStream) -> Link {
    match link::meet(client.into_std().unwrap()).await.unwrap() {
        Greeted::Link(link) => link,
        _ => panic!("it does not greet as it should"),
    }
}

#[tokio::test]
async fn answers_come_when_they_are_ready_and_progress_before_them() {
    let gate = Arc::new(Semaphore::new(0));
    let (client, server) = serve(&gate);
    let link = link(client).await;
    let (told, mut lines) = mpsc::unbounded_channel();
    let slow = link.ask(Ask::Prepare { release: release(1) }, None);
    let quick = async {
        let answer = link.ask(Ask::Services, Some(told)).await;
        // The slow one was asked first and is only now let go.
        gate.add_permits(1);
        answer
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!((slow, quick), (Ok(Answer::Done), Ok(Answer::Done)));
    assert_eq!(lines.recv().await.unwrap(), "first");
    assert_eq!(lines.recv().await.unwrap(), "second");
    assert_eq!(lines.recv().await, None);
    drop(link);
    assert_eq!(server.ended.await.unwrap().candidates, [release(1)]);
}

#[tokio::test]
async fn the_end_of_a_client_says_whose_end_it_is() {
    let gate = Arc::new(Semaphore::new(2));
    let (client, server) = serve(&gate);
    let link = link(client).await;
    for number in 1..=2 {
        link.ask(Ask::Prepare { release: release(number) }, None).await.unwrap();
    }
    link.ask(Ask::Promote { release: release(1), if_live_is: None }, None).await.unwrap();
    // Asked, and its answer not waited for.
    let asked = link.ask(Ask::Prepare { release: release(3) }, None);
    assert!(futures_util::poll!(Box::pin(asked)).is_pending());
    drop(link);
    let mut ended = server.ended.await.unwrap();
    // Also the one that was to be promoted: that may have come to nothing.
    assert_eq!(ended.candidates, [1, 2, 3].map(release));
    // Nobody waits for the preparation any more, so it goes without its turn.
    let (id, answer) = ended.unfinished.next().await.unwrap();
    assert!(id == 4 && matches!(answer, Answer::Failed(_)), "{answer:?}");
    assert_eq!(ended.unfinished.next().await, None);
}

#[tokio::test]
async fn a_stop_lets_answers_out_and_takes_no_more_questions() {
    let gate = Arc::new(Semaphore::new(0));
    let (client, server) = serve(&gate);
    let link = link(client).await;
    let mut asked = Box::pin(link.ask(Ask::Prepare { release: release(1) }, None));
    assert!(futures_util::poll!(&mut asked).is_pending());
    // The question has arrived when the one behind it was answered.
    link.ask(Ask::About, None).await.unwrap();
    server.stopping.cancel();
    gate.add_permits(1);
    assert_eq!(asked.await, Ok(Answer::Done));
    assert!(server.ended.await.unwrap().unfinished.is_empty());
    assert_eq!(link.ask(Ask::About, None).await, Err(Gone));
}

#[tokio::test]
async fn every_version_can_stop_the_server() {
    let (mut client, server) = serve(&Arc::new(Semaphore::new(0)));
    client.write_all(b"{\"version\":99,\"stop\":true}\n").await.unwrap();
    server.stopping.cancelled().await;
    server.ended.await.unwrap();
}

#[tokio::test]
async fn what_is_no_question_ends_the_connection_and_nothing_else() {
    let greeting = String::from_utf8(line_of(&Hello::own(false))).unwrap();
    let huge = "x".repeat(LONGEST_QUESTION + 1);
    for said in [
        "no greeting\n",
        "{\"version\":99}\n",
        "",
        &format!("{greeting}no question\n"),
        &format!("{greeting}{{\"id\":1,\"ask\":{{\"fly\":{{}}}}}}\n"),
        &format!("{greeting}{{\"id\":1"),
        &format!("{greeting}{huge}"),
    ] {
        let (mut client, server) = serve(&Arc::new(Semaphore::new(0)));
        // It may be gone before all of it is written.
        client.write_all(said.as_bytes()).await.unwrap_or_default();
        client.shutdown().await.unwrap_or_default();
        let ended = server.ended.await.unwrap();
        assert!(ended.candidates.is_empty() && ended.unfinished.is_empty());
        assert!(!server.stopping.is_cancelled());
        let mut hello = Vec::new();
        // What was not read by the other end becomes an error of this one.
        drop(client.read_to_end(&mut hello).await);
        assert!(hello.is_empty() || serde_json::from_slice::<Hello>(&hello).is_ok());
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_dropped() {
    let (mut client, server) = serve(&Arc::new(Semaphore::new(0)));
    client.write_all(&line_of(&Hello::own(false))).await.unwrap();
    let why = "x".repeat(LONGEST_QUESTION / 2);
    let ask = Ask::Abandon { release: release(1), why };
    let question = line_of(&Question { id: 1, ask });
    while client.write_all(&question).await.is_ok() {}
    server.ended.await.unwrap();
}

#[tokio::test]
async fn errors_of_the_services_reach_who_asked() {
    let (client, server) = UnixStream::pair().unwrap();
    let error = RolloutError::Unknown("there is no release 9".into());
    let answer = Answer::Failed(error.clone());
    let serving = tokio::spawn(async move {
        let answering = move |_: Ask, _: UnboundedSender<String>| {
            let answer: BoxFuture<'static, Answer> = Box::pin(std::future::ready(answer.clone()));
            answer
        };
        serve_client(server, &answering, &CancellationToken::new()).await
    });
    let link = link(client).await;
    assert_eq!(link.ask(Ask::About, None).await, Ok(Answer::Failed(error)));
    drop(link);
    serving.await.unwrap();
}
