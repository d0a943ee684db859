//! Ends that somebody else than the program brings: timeouts, stops, memory.

use std::time::Duration;

use flowrun::event::JobEnd;
use flowrun::runtime::local::LocalRuntime;
use flowrun::runtime::{Job, JobReport, Runtime};

use crate::fixture::{Home, end, go, pid_from, run, stdout, timed_out_once_ready, work};
use crate::on_both;

on_both!(
    a_timeout_asks_first,
    a_stop_asks_every_process_and_leaves_each_its_time,
    a_stop_right_after_the_start_needs_no_grace,
    a_stop_reaches_what_is_born_meanwhile,
    what_ignores_the_signal_is_killed_after_its_grace,
    a_kill_needs_no_grace,
    what_is_left_behind_does_not_stay,
    too_much_memory_is_told_where_it_can_be_limited,
    usage_is_counted,
);

async fn a_timeout_asks_first(home: &Home) {
    let script = "trap 'echo got it; exit 7' TERM; echo > ready; while :; do sleep 0.05; done";
    let job = timed_out_once_ready(home, &*home.runtime(), script).await;
    assert_eq!(stdout(&job), "got it\n");
}

/// The outer shell dies of the signal at once, and the inner one still has its time.
async fn a_stop_asks_every_process_and_leaves_each_its_time(home: &Home) {
    let runtime = home.runtime();
    let job = home.sh(
        "sh -c 'trap \"sleep 0.3; echo saved; exit 0\" TERM; echo $$ > child; while :; do sleep 0.05; done'; echo never",
    );
    runtime.start(&job).await.unwrap();
    pid_from(&job, "child").await;
    runtime.stop(&job.name, false).await.unwrap();
    assert_eq!(end(&*runtime, &job).await.end, JobEnd::Cancelled);
    assert_eq!(stdout(&job), "saved\n");
}

/// Without an end by the signal the tests would run into their patience.
async fn a_stop_right_after_the_start_needs_no_grace(home: &Home) {
    for _ in 0..20 {
        let runtime = home.runtime();
        let mut job = home.sh("sleep 1000");
        job.grace = Duration::from_secs(1000);
        runtime.start(&job).await.unwrap();
        runtime.stop(&job.name, false).await.unwrap();
        assert_eq!(end(&*runtime, &job).await.end, JobEnd::Cancelled);
    }
}

/// A child that is born between a look at the processes and the signal to its parent must be asked too.
async fn a_stop_reaches_what_is_born_meanwhile(home: &Home) {
    for _ in 0..20 {
        let runtime = home.runtime();
        let mut job = home.sh(
            "i=0; while test $i -lt 500; do sleep 1000 & i=$((i + 1)); test $i != 5 || echo $$ > main; done; wait",
        );
        job.grace = Duration::from_secs(1000);
        runtime.start(&job).await.unwrap();
        pid_from(&job, "main").await;
        runtime.stop(&job.name, false).await.unwrap();
        assert_eq!(end(&*runtime, &job).await.end, JobEnd::Cancelled);
    }
}

async fn what_ignores_the_signal_is_killed_after_its_grace(home: &Home) {
    let runtime = home.runtime();
    let mut job = home.sh("trap '' TERM; echo $$ > main; while :; do sleep 1; done");
    job.grace = Duration::from_millis(100);
    runtime.start(&job).await.unwrap();
    pid_from(&job, "main").await;
    runtime.stop(&job.name, false).await.unwrap();
    assert_eq!(end(&*runtime, &job).await.end, JobEnd::Cancelled);
}

async fn a_kill_needs_no_grace(home: &Home) {
    let runtime = home.runtime();
    let mut job = home.sh("trap '' TERM; echo $$ > main; while :; do sleep 1; done");
    job.grace = Duration::from_secs(1000);
    runtime.start(&job).await.unwrap();
    pid_from(&job, "main").await;
    runtime.stop(&job.name, false).await.unwrap();
    runtime.stop(&job.name, true).await.unwrap();
    assert_eq!(end(&*runtime, &job).await.end, JobEnd::Cancelled);
}

/// Processes in the background, as a daemon, and as one that forgot its variables; each holds the pipes open and would write for ever.
async fn what_is_left_behind_does_not_stay(home: &Home) {
    let forever = "while :; do date +%s%N > beat; sleep 0.01; done";
    let job = home.sh(&format!(
        "({forever}) & setsid sh -c '{forever}' & (env -i PATH=/usr/bin:/bin setsid sh -c '{forever}' &) ; \
         until test -s beat; do sleep 0.01; done; echo end"
    ));
    assert_eq!(run(&*home.runtime(), &job).await.end, JobEnd::Exited(0));
    assert_eq!(stdout(&job), "end\n");
    let beat = || fs_err::read(work(&job).join("beat")).unwrap();
    let last = beat();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(beat(), last, "nothing of it writes any more");
}

async fn too_much_memory_is_told_where_it_can_be_limited(home: &Home) {
    let runtime = home.runtime();
    if let (false, Err(why)) = (home.is_docker(), LocalRuntime::limits_available()) {
        #[expect(clippy::print_stderr, reason = "what is not tested is said")]
        {
            eprintln!("not tested here: {why}");
        }
        return;
    }
    let limit = 32 << 20;
    let greedy = format!("head -c 200000000 /dev/zero | tail | wc -c; {COUNTED}");
    let mut job = home.sh(&format!("{greedy}; exit 3"));
    job.memory_limit = Some(limit);
    job.cpu_limit = Some(0.5);
    let report = run_counted(&*runtime, &job).await;
    assert_eq!(report.end, JobEnd::OutOfMemory { limit });
    assert!(report.usage.peak_memory > limit / 2, "{:?}", report.usage);
    let mut survivor = home.sh(&greedy);
    survivor.memory_limit = Some(limit);
    let report = run_counted(&*runtime, &survivor).await;
    assert_eq!(report.end, JobEnd::Exited(0));
    assert_eq!(report.remarks.len(), 1, "{:?}", report.remarks);
}

/// The last words of a script: the counters of a container are looked at while it lives.
const COUNTED: &str = "echo $$ > counted; until test -e go; do sleep 0.05; done";

async fn run_counted(runtime: &dyn Runtime, job: &Job) -> JobReport {
    runtime.start(job).await.unwrap();
    pid_from(job, "counted").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    go(job);
    end(runtime, job).await
}

async fn usage_is_counted(home: &Home) {
    let job = home.sh(&format!("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; {COUNTED}"));
    let usage = run_counted(&*home.runtime(), &job).await.usage;
    assert!(usage.cpu_ms > 0 && usage.wall_ms > 0 && usage.peak_memory > 100_000, "{usage:?}");
}
