//! Jobs outlive whoever started them, and their logs have neither a gap nor a repeat.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use flowrun::event::{JobEnd, Stream};
use flowrun::runtime::Job;
use flowrun::runtime::local::LocalSettings;

use crate::fixture::{
    Home, Place, end, engine, go, pid_from, pid_in, run, runtime, stdout, stream, work,
};
use crate::on_both;

on_both!(
    another_runtime_of_the_run_adopts_its_jobs,
    jobs_outlive_a_killed_flowrun_and_its_pipes_end,
    twenty_kills_leave_neither_a_gap_nor_a_repeat,
    the_end_is_known_to_whoever_comes_after_it,
    a_stop_is_remembered_by_who_comes_next,
);

const ORDER: &str = "FLOWRUN_TEST_ORDER";

/// The process that tests kill: starts the job that stands in its order, or adopts it, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helper_that_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "the test that starts it hands the job over so")]
    let Ok(order) = std::env::var(ORDER) else { return };
    let (image, run_folder, job): (Option<String>, PathBuf, Job) =
        serde_json::from_str(&order).unwrap();
    let place = match image {
        None => Place::Local(LocalSettings::default()),
        Some(image) => Place::Docker { docker: engine("runtime-tests"), image },
    };
    let runtime = runtime(&place, &run_folder);
    runtime.start(&job).await.unwrap();
    println!("\nstarted");
    end(&*runtime, &job).await;
}

fn helper(home: &Home, job: &Job) -> Child {
    let image = match &home.place {
        Place::Local(_) => None,
        Place::Docker { image, .. } => Some(image),
    };
    let order = serde_json::to_string(&(image, home.run_folder(), job)).unwrap();
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["adoption::helper_that_is_killed", "--exact", "--nocapture"])
        .env(ORDER, order)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn another_runtime_of_the_run_adopts_its_jobs(home: &Home) {
    let job =
        home.sh("echo $$ > main; until test -e go; do sleep 0.01; done; echo adopted; exit 5");
    let first = home.runtime();
    first.start(&job).await.unwrap();
    let main = pid_from(&job, "main").await;
    drop(first);
    let second = home.runtime();
    second.start(&job).await.unwrap();
    assert!(second.is_running(&job.name).await.unwrap());
    go(&job);
    assert_eq!(end(&*second, &job).await.end, JobEnd::Exited(5));
    assert_eq!(stdout(&job), "adopted\n");
    assert_eq!(pid_in(&work(&job).join("main")), main, "it ran once");
}

async fn jobs_outlive_a_killed_flowrun_and_its_pipes_end(home: &Home) {
    let job = home.sh("echo before; until test -e go; do sleep 0.01; done; echo after; exit 4");
    let mut helper = helper(home, &job);
    let mut lines = BufReader::new(helper.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "started"));
    helper.kill().unwrap();
    helper.wait().unwrap();
    assert_eq!(lines.count(), 0, "nobody else holds its output");
    let runtime = home.runtime();
    assert!(runtime.is_running(&job.name).await.unwrap());
    go(&job);
    assert_eq!(end(&*runtime, &job).await.end, JobEnd::Exited(4));
    assert_eq!(stdout(&job), "before\nafter\n");
}

/// Numbers that look random; the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Every other time the process that follows the job is killed; else its runtime is dropped.
async fn twenty_kills_leave_neither_a_gap_nor_a_repeat(home: &Home) {
    let moment = std::time::UNIX_EPOCH.elapsed().unwrap();
    let mut chance = Chance(u64::try_from(moment.as_micros()).unwrap());
    let job = home.sh(
        "n=0; until test -e go; do n=$((n+1)); printf \"$n \\377\\000\\n\"; echo \"e $n\" >&2; \
         test $((n % 100)) != 0 || sleep 0.01; done; echo $n > count; printf 'last \\376'",
    );
    let first = home.runtime();
    first.start(&job).await.unwrap();
    drop(first);
    for kill in 0..20 {
        let moment = Duration::from_millis(chance.below(300));
        if kill % 2 == 0 {
            let mut helper = helper(home, &job);
            tokio::time::sleep(moment).await;
            helper.kill().unwrap();
            helper.wait().unwrap();
        } else {
            let runtime = home.runtime();
            let waiting = runtime.wait(&job.name, &job.folder);
            let ended = tokio::time::timeout(moment, waiting).await;
            assert!(ended.is_err(), "it runs until it is told: {ended:?}");
        }
    }
    go(&job);
    let runtime = home.runtime();
    assert_eq!(end(&*runtime, &job).await.end, JobEnd::Exited(0));
    let count = pid_in(&work(&job).join("count"));
    assert!(count > 100, "{count}");
    let mut out = Vec::new();
    let mut err = String::new();
    for number in 1..=count {
        out.extend_from_slice(format!("{number} ").as_bytes());
        out.extend_from_slice(b"\xff\x00\n");
        err.push_str(&format!("e {number}\n"));
    }
    out.extend_from_slice(b"last \xfe");
    let seen = stream(&job, Stream::Stdout);
    let same = out.iter().zip(&seen).take_while(|(one, other)| one == other).count();
    assert!(out == seen, "stdout differs after {same} of {} and {} bytes", out.len(), seen.len());
    assert!(err.as_bytes() == stream(&job, Stream::Stderr), "stderr differs");
}

async fn the_end_is_known_to_whoever_comes_after_it(home: &Home) {
    let job = home
        .sh("until test -e go; do sleep 0.01; done; echo done > done; printf 'the end'; exit 6");
    let first = home.runtime();
    first.start(&job).await.unwrap();
    drop(first);
    go(&job);
    crate::fixture::until("its end", || work(&job).join("done").exists()).await;
    let later = home.runtime();
    let report = end(&*later, &job).await;
    assert_eq!(report.end, JobEnd::Exited(6));
    assert_eq!(stdout(&job), "the end");
    assert_eq!(end(&*home.runtime(), &job).await, report);
    assert_eq!(run(&*home.runtime(), &job).await, report, "a name starts once");
}

async fn a_stop_is_remembered_by_who_comes_next(home: &Home) {
    let job = home.sh(
        "trap 'echo stopping; until test -e go; do sleep 0.01; done; exit 0' TERM; echo $$ > main; \
         while :; do sleep 0.02; done",
    );
    let first = home.runtime();
    first.start(&job).await.unwrap();
    pid_from(&job, "main").await;
    first.stop(&job.name, false).await.unwrap();
    crate::fixture::until("the signal", || stdout(&job) == "stopping\n").await;
    drop(first);
    go(&job);
    assert_eq!(end(&*home.runtime(), &job).await.end, JobEnd::Cancelled);
}
