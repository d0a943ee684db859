//! The text that holds for every runtime.

use flowrun::event::JobEnd;
use flowrun::runtime::scripted::{Script, ScriptedRuntime};
use flowrun::runtime::{Job, Runtime};

use crate::fixture::{Home, end, run, stderr, work};
use crate::on_both;

on_both!(it_conforms, codes_and_signals_are_told_apart, what_cannot_start_says_so_in_its_log);

/// Holds for every runtime; `failing` ends with 3, `hanging` runs until it is stopped.
pub(crate) async fn conformance(
    runtime: &dyn Runtime,
    good: &Job,
    failing: &Job,
    hanging: &Job,
    unknown: &Job,
) {
    assert_eq!(run(runtime, good).await.end, JobEnd::Exited(0));
    assert_eq!(run(runtime, failing).await.end, JobEnd::Exited(3));
    assert_eq!(
        end(runtime, failing).await,
        end(runtime, failing).await,
        "the end can be asked again"
    );
    runtime.start(failing).await.unwrap();
    assert!(!runtime.is_running(&failing.name).await.unwrap(), "a name starts once");

    runtime.start(hanging).await.unwrap();
    assert!(runtime.is_running(&hanging.name).await.unwrap());
    let waiting = async { tokio::join!(end(runtime, hanging), end(runtime, hanging)) };
    let stopping = async { runtime.stop(&hanging.name, false).await.unwrap() };
    let ((one, two), ()) = tokio::join!(waiting, stopping);
    assert_eq!(one.end, JobEnd::Cancelled);
    assert_eq!(one, two);
    assert!(!runtime.is_running(&hanging.name).await.unwrap());
    runtime.stop(&hanging.name, true).await.unwrap();

    runtime.stop(&unknown.name, false).await.unwrap();
    assert!(matches!(end(runtime, unknown).await.end, JobEnd::Lost { .. }));
    runtime.start(unknown).await.unwrap();
    assert!(!runtime.is_running(&unknown.name).await.unwrap(), "what is lost never starts");
    assert!(matches!(end(runtime, unknown).await.end, JobEnd::Lost { .. }));
}

async fn it_conforms(home: &Home) {
    let unknown = home.sh("touch started");
    let runtime = home.runtime();
    let (good, failing) = (home.job(&["true"]), home.sh("exit 3"));
    conformance(&*runtime, &good, &failing, &home.sh("sleep 1000"), &unknown).await;
    assert!(!work(&unknown).join("started").exists());
}

#[tokio::test]
async fn scripted_conforms() {
    let home = Home::new();
    let runtime = ScriptedRuntime::new(|job| match job.command[0].as_str() {
        "good" => Script::exits(0).after(3).writing("model/weights", "1"),
        "failing" => Script::exits(3),
        _ => Script::hangs(),
    });
    let good = home.job(&["good"]);
    conformance(&runtime, &good, &home.job(&["failing"]), &home.job(&["hang"]), &home.job(&["-"]))
        .await;
    assert_eq!(fs_err::read(good.directory.join("model/weights")).unwrap(), b"1");
    assert_eq!(runtime.started().len(), 3);
    assert_eq!(runtime.stops().len(), 3);
}

async fn codes_and_signals_are_told_apart(home: &Home) {
    let runtime = home.runtime();
    assert_eq!(run(&*runtime, &home.sh("exit 7")).await.end, JobEnd::Exited(7));
    assert_eq!(run(&*runtime, &home.sh("exit 255")).await.end, JobEnd::Exited(255));
    // What an engine tells of a container is the same for both; see `docker/end.rs`.
    let signalled = |number| {
        if home.is_docker() { JobEnd::Exited(128 + number) } else { JobEnd::Signalled(number) }
    };
    assert_eq!(run(&*runtime, &home.sh("kill -9 $$")).await.end, signalled(9));
    assert_eq!(run(&*runtime, &home.sh("kill -SEGV $$")).await.end, signalled(11));
    assert_eq!(run(&*runtime, &home.sh("exit 137")).await.end, JobEnd::Exited(137));
}

async fn what_cannot_start_says_so_in_its_log(home: &Home) {
    let runtime = home.runtime();
    let missing = home.job(&["no-such-program-here"]);
    let plain = home.job(&["./plain"]);
    fs_err::write(work(&plain).join("plain"), "plain").unwrap();
    for (job, code, words) in [(missing, 127, "no-such-program-here"), (plain, 126, "./plain")] {
        assert_eq!(run(&*runtime, &job).await.end, JobEnd::Exited(code));
        assert!(stderr(&job).contains(words), "{}", stderr(&job));
    }
}
