//! The scripted runtime beside the common text.

use flowrun::event::JobEnd;
use flowrun::runtime::Runtime;
use flowrun::runtime::scripted::{Behaviour, Script, ScriptedRuntime};

use crate::fixture::{Home, run};

#[tokio::test]
async fn scripted_can_contradict_itself_and_fail() {
    let home = Home::new();
    let report = |code| match Script::exits(code).behaviour {
        Behaviour::Ends { report, .. } => report,
        _ => unreachable!(),
    };
    let runtime = ScriptedRuntime::new(move |job| {
        let behaviour = match job.command[0].as_str() {
            "twice" => Behaviour::AnswersTwice { first: report(0), then: report(1) },
            "start" => Behaviour::FailsToStart("no start".to_owned()),
            _ => Behaviour::FailsToWait("no end".to_owned()),
        };
        Script { files: Vec::new(), behaviour }
    });
    let twice = home.job(&["twice"]);
    assert_eq!(run(&runtime, &twice).await.end, JobEnd::Exited(0));
    assert_eq!(run(&runtime, &twice).await.end, JobEnd::Exited(1));
    assert!(runtime.start(&home.job(&["start"])).await.is_err());
    let wait = home.job(&["wait"]);
    runtime.start(&wait).await.unwrap();
    assert!(runtime.wait(&wait.name, &wait.folder).await.is_err());
}
