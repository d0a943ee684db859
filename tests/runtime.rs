//! What every runtime promises, and what the local one promises beside: the conformance suite of the trait `Runtime`.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flowrun::event::{JobEnd, Stream};
use flowrun::names::{JobName, RunId};
use flowrun::runtime::local::{LocalRuntime, LocalSettings};
use flowrun::runtime::log::{LogPosition, LogReader};
use flowrun::runtime::log_lines::{LogEntry, LogFollower, read_entries};
use flowrun::runtime::scripted::{Behaviour, Script, ScriptedRuntime};
use flowrun::runtime::{Job, JobReport, Runtime};
use tempfile::TempDir;

const LONG: Duration = Duration::from_mins(1);

/// A home with one run; each has a run number of its own, as processes are found by job name over the whole machine.
struct Home {
    folder: TempDir,
    run: RunId,
    last: AtomicU32,
    settings: LocalSettings,
}

impl Home {
    fn new() -> Self {
        Self::with(LocalSettings::default())
    }

    fn with(settings: LocalSettings) -> Self {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let number = u128::from(RUNS.fetch_add(1, Ordering::Relaxed));
        let run = RunId::new(1, (u128::from(std::process::id()) << 32) | number);
        Self { folder: tempfile::tempdir().unwrap(), run, last: AtomicU32::new(0), settings }
    }

    fn run_folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn runtime(&self) -> LocalRuntime {
        LocalRuntime::new(env!("CARGO_BIN_EXE_flowrun").into(), self.run_folder(), self.settings)
    }

    fn job(&self, command: &[&str]) -> Job {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let folder = self.run_folder().join(format!("{number}-1"));
        let directory = folder.join("work");
        fs_err::create_dir_all(&directory).unwrap();
        Job {
            name: JobName::new(self.run, number, 1),
            folder,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            directory,
            env: BTreeMap::from([
                ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
                ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ]),
            memory_limit: None,
            cpu_limit: None,
            timeout: None,
            grace: Duration::from_secs(10),
            log_cap: 100 << 20,
        }
    }

    fn sh(&self, script: &str) -> Job {
        self.job(&["sh", "-e", "-c", script])
    }

    fn monitor(&self) -> Option<i32> {
        let folder = self.run_folder();
        processes().into_iter().find(|pid| {
            let line = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).collect();
            words.get(1) == Some(&b"__monitor".as_slice())
                && words.get(2) == Some(&folder.as_os_str().as_encoded_bytes())
        })
    }
}

fn processes() -> Vec<i32> {
    let entries = fs_err::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect()
}

fn is_alive(pid: i32) -> bool {
    fs_err::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Waits for something that comes without an event to wait for, as a process of a process.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came: {what}");
}

async fn run(runtime: &dyn Runtime, job: &Job) -> JobReport {
    runtime.start(job).await.unwrap();
    end(runtime, job).await
}

async fn end(runtime: &dyn Runtime, job: &Job) -> JobReport {
    tokio::time::timeout(LONG, runtime.wait(&job.name, &job.folder))
        .await
        .expect("it ends")
        .unwrap()
}

fn stream(job: &Job, stream: Stream) -> Vec<u8> {
    let mut reader = LogReader::open(&job.folder, LogPosition::default());
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        if chunk.stream == stream {
            bytes.extend(chunk.bytes);
        }
    }
    bytes
}

fn stdout(job: &Job) -> String {
    String::from_utf8(stream(job, Stream::Stdout)).unwrap()
}

fn pid_in(path: &Path) -> i32 {
    fs_err::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// Waits until the job has written a line to this file, and gives its number.
async fn pid_from(job: &Job, file: &str) -> i32 {
    let path = job.directory.join(file);
    until("a process number", || {
        fs_err::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    pid_in(&path)
}

/// Holds for every runtime; `failing` ends with 3, `hanging` runs until it is stopped.
async fn conformance(
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

#[tokio::test]
async fn local_conforms() {
    for settings in [LocalSettings { cgroups: true }, LocalSettings { cgroups: false }] {
        let home = Home::with(settings);
        let unknown = home.sh("touch started");
        conformance(
            &home.runtime(),
            &home.job(&["true"]),
            &home.sh("exit 3"),
            &home.sh("sleep 1000"),
            &unknown,
        )
        .await;
        assert!(!unknown.directory.join("started").exists());
    }
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

#[tokio::test]
async fn codes_and_signals_are_told_apart() {
    let home = Home::new();
    let runtime = home.runtime();
    assert_eq!(run(&runtime, &home.sh("exit 137")).await.end, JobEnd::Exited(137));
    assert_eq!(run(&runtime, &home.sh("kill -9 $$")).await.end, JobEnd::Signalled(9));
    assert_eq!(run(&runtime, &home.sh("kill -SEGV $$")).await.end, JobEnd::Signalled(11));
}

#[tokio::test]
async fn a_program_sees_its_variables_and_its_folder_and_nothing_else() {
    let home = Home::new();
    let mut job = home.sh("pwd; env | sort; ls -l /proc/self/fd | wc -l; cat");
    job.env.insert("GREETING".to_owned(), "grüße\nzwei".to_owned());
    assert_eq!(run(&home.runtime(), &job).await.end, JobEnd::Exited(0));
    let out = stdout(&job);
    let expected = [
        job.directory.to_str().unwrap(),
        &format!("FLOWRUN_JOB={}", job.name),
        "GREETING=grüße",
        "LANG=C.UTF-8",
    ];
    for line in expected {
        assert!(out.lines().any(|seen| seen == line), "{line} in {out}");
    }
    assert!(!out.contains("CARGO"), "{out}");
    // `total`, three streams and the folder that `ls` reads.
    assert!(out.ends_with("\n5\n"), "{out}");
}

#[tokio::test]
async fn what_cannot_start_says_so_in_its_log() {
    let home = Home::new();
    let runtime = home.runtime();
    let missing = home.job(&["no-such-program-here"]);
    let mut nowhere = home.sh("true");
    nowhere.directory = home.folder.path().join("not-there");
    let script = home.job(&["./script"]);
    fs_err::write(script.directory.join("script"), "#!/no/such/python\n").unwrap();
    let plain = home.job(&["./plain"]);
    fs_err::write(plain.directory.join("plain"), "plain").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(script.directory.join("script"), executable).unwrap();
    let mut huge = home.job(&["true"]);
    huge.env.insert("HUGE".to_owned(), "x".repeat(4 << 20));
    for (job, code, words) in [
        (missing, 127, "`no-such-program-here` was not found in PATH"),
        (nowhere, 127, "not-there"),
        (script, 127, "interpreter"),
        (plain, 126, "not an executable file"),
        (huge, 126, "too long"),
    ] {
        assert_eq!(run(&runtime, &job).await.end, JobEnd::Exited(code));
        let said = String::from_utf8(stream(&job, Stream::Stderr)).unwrap();
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn streams_are_apart_and_in_order_and_whole() {
    let home = Home::new();
    let runtime = home.runtime();
    let many = home.sh("seq 10000; seq 10000 >&2");
    let raw = home.sh(r"printf 'caf\303\251 \342\230\203 \000\377\376 no end'; printf 'err' >&2");
    run(&runtime, &many).await;
    run(&runtime, &raw).await;
    let numbers: Vec<String> = (1..=10000).map(|number| number.to_string()).collect();
    let numbers = numbers.join("\n") + "\n";
    assert_eq!(stdout(&many), numbers);
    assert_eq!(stream(&many, Stream::Stderr), numbers.as_bytes());
    let entries = read_entries(&many.folder).unwrap();
    assert_eq!(entries.len(), 20000);
    assert_eq!(stream(&raw, Stream::Stdout), b"caf\xc3\xa9 \xe2\x98\x83 \x00\xff\xfe no end");
    let texts: Vec<_> = read_entries(&raw.folder).unwrap().iter().map(LogEntry::text).collect();
    assert_eq!(texts, ["café ☃ \0\u{fffd}\u{fffd} no end", "err"]);
}

#[tokio::test]
async fn a_log_is_followed_line_by_line_until_its_end() {
    let home = Home::new();
    let runtime = home.runtime();
    let job =
        home.sh("echo one; until test -e go; do sleep 0.01; done; echo two >&2; printf three");
    let mut follower = LogFollower::new(&job.folder, LogPosition::default());
    runtime.start(&job).await.unwrap();
    let first = follower.next().await.unwrap().unwrap();
    assert_eq!(first[0].text(), "one");
    fs_err::write(job.directory.join("go"), "").unwrap();
    let mut texts = Vec::new();
    while let Some(entries) = follower.next().await.unwrap() {
        texts.extend(entries.iter().map(|entry| (entry.stream(), entry.text())));
    }
    assert_eq!(texts, [(Stream::Stderr, "two".to_owned()), (Stream::Stdout, "three".to_owned())]);
    assert_eq!(end(&runtime, &job).await.end, JobEnd::Exited(0));
}

#[tokio::test]
async fn much_output_is_capped_and_counted() {
    let home = Home::new();
    let mut job = home.sh("head -c 67108864 /dev/zero; echo done >&2");
    job.log_cap = 100_000;
    assert_eq!(run(&home.runtime(), &job).await.end, JobEnd::Exited(0));
    assert_eq!(std::fs::metadata(job.folder.join("stdout")).unwrap().len(), 100_000);
    let mut reader = LogReader::open(&job.folder, LogPosition::default());
    let mut dropped = 0;
    while let Some(chunk) = reader.next_chunk().unwrap() {
        dropped += chunk.dropped;
    }
    assert_eq!(dropped, 67_108_864 - 100_000);
    assert_eq!(stream(&job, Stream::Stderr), b"done\n");
}

#[tokio::test]
async fn a_timeout_reaches_everything_gently_first() {
    for settings in [LocalSettings { cgroups: true }, LocalSettings { cgroups: false }] {
        let home = Home::with(settings);
        let runtime = home.runtime();
        let mut job = home.sh(
            "trap 'echo got it; exit 7' TERM; setsid sh -c 'echo $$ > escaped; exec sleep 1000' & \
             while :; do sleep 0.05; done",
        );
        job.timeout = Some(Duration::from_millis(300));
        let report = run(&runtime, &job).await;
        assert_eq!(report.end, JobEnd::TimedOut { after: Duration::from_millis(300) });
        assert_eq!(stdout(&job), "got it\n");
        assert!(!is_alive(pid_in(&job.directory.join("escaped"))));
    }
}

#[tokio::test]
async fn what_ignores_the_signal_is_killed_after_its_grace_with_its_escaped_children() {
    for settings in [LocalSettings { cgroups: true }, LocalSettings { cgroups: false }] {
        let home = Home::with(settings);
        let runtime = home.runtime();
        let deaf = "trap '' TERM; echo $$ > escaped; while :; do sleep 1; done";
        let mut job = home.sh(&format!(
            "trap '' TERM; setsid sh -c \"{}\" & while :; do sleep 1; done",
            deaf.replace('$', "\\$")
        ));
        job.grace = Duration::from_millis(100);
        runtime.start(&job).await.unwrap();
        let escaped = pid_from(&job, "escaped").await;
        runtime.stop(&job.name, false).await.unwrap();
        assert_eq!(end(&runtime, &job).await.end, JobEnd::Cancelled);
        assert!(!is_alive(escaped));
    }
}

#[tokio::test]
async fn a_stop_gives_children_their_grace_when_the_shell_is_gone() {
    let home = Home::new();
    let runtime = home.runtime();
    let job = home.sh("sh -c 'trap \"echo saved; exit 0\" TERM; echo $$ > child; while :; do sleep 0.05; done'; :");
    runtime.start(&job).await.unwrap();
    pid_from(&job, "child").await;
    runtime.stop(&job.name, false).await.unwrap();
    assert_eq!(end(&runtime, &job).await.end, JobEnd::Cancelled);
    assert_eq!(stdout(&job), "saved\n");
}

#[tokio::test]
async fn a_kill_needs_no_grace() {
    let home = Home::new();
    let runtime = home.runtime();
    let mut job = home.sh("trap '' TERM; echo $$ > main; while :; do sleep 1; done");
    job.grace = Duration::from_secs(1000);
    runtime.start(&job).await.unwrap();
    pid_from(&job, "main").await;
    runtime.stop(&job.name, false).await.unwrap();
    runtime.stop(&job.name, true).await.unwrap();
    assert_eq!(end(&runtime, &job).await.end, JobEnd::Cancelled);
}

#[tokio::test]
async fn what_is_left_behind_is_stopped_before_the_end_is_told() {
    for settings in [LocalSettings { cgroups: true }, LocalSettings { cgroups: false }] {
        let home = Home::with(settings);
        let runtime = home.runtime();
        // In the background, as a daemon, and as one that forgot its variables; each holds the pipes open.
        let job =
            home.sh("sleep 1000 & echo $! > a; setsid sh -c 'echo $$ > b; exec sleep 1000' & \
             (env -i /usr/bin/setsid /bin/sh -c 'echo $$ > c; exec /bin/sleep 1000' &) ; \
             until test -s b && test -s c; do sleep 0.01; done; echo end");
        let bystander = home.sh("sleep 1000");
        runtime.start(&bystander).await.unwrap();
        let report = run(&runtime, &job).await;
        assert_eq!(report.end, JobEnd::Exited(0));
        assert_eq!(stdout(&job), "end\n");
        for file in ["a", "b"] {
            assert!(!is_alive(pid_in(&job.directory.join(file))), "{file}");
        }
        if settings.cgroups {
            assert!(!is_alive(pid_in(&job.directory.join("c"))));
            assert_eq!(report.remarks, ["3 processes that it left behind were stopped"]);
        }
        assert!(runtime.is_running(&bystander.name).await.unwrap());
        runtime.stop(&bystander.name, true).await.unwrap();
        assert_eq!(end(&runtime, &bystander).await.end, JobEnd::Cancelled);
        assert!(!is_alive(pid_in(&job.directory.join("c"))), "it goes with the last job");
    }
}

#[tokio::test]
async fn what_is_about_to_end_by_itself_may() {
    let home = Home::new();
    let job = home.sh("(sleep 0.05; echo tail) &\necho head");
    let report = run(&home.runtime(), &job).await;
    assert_eq!(stdout(&job), "head\ntail\n");
    assert_eq!(report.remarks, Vec::<String>::new());
}

#[tokio::test]
async fn too_much_memory_is_told_where_it_can_be_limited() {
    let home = Home::new();
    let runtime = home.runtime();
    if let Err(why) = LocalRuntime::limits_available() {
        eprintln!("not tested here: {why}");
        return;
    }
    let limit = 32 << 20;
    let mut job = home.sh("head -c 200000000 /dev/zero | tail | wc -c; exit 3");
    job.memory_limit = Some(limit);
    job.cpu_limit = Some(0.5);
    let report = run(&runtime, &job).await;
    assert_eq!(report.end, JobEnd::OutOfMemory { limit });
    assert!(report.usage.peak_memory > limit / 2, "{:?}", report.usage);
    let mut survivor = home.sh("head -c 200000000 /dev/zero | tail || :");
    survivor.memory_limit = Some(limit);
    let report = run(&runtime, &survivor).await;
    assert_eq!(report.end, JobEnd::Exited(0));
    assert_eq!(report.remarks.len(), 1, "{:?}", report.remarks);
}

#[tokio::test]
async fn usage_is_counted() {
    let home = Home::new();
    let job = home.sh("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done");
    let usage = run(&home.runtime(), &job).await.usage;
    assert!(usage.cpu_ms > 0 && usage.wall_ms > 0 && usage.peak_memory > 100_000, "{usage:?}");
}

#[tokio::test]
async fn another_runtime_of_the_run_adopts_its_jobs() {
    let home = Home::new();
    let job =
        home.sh("echo $$ > main; until test -e go; do sleep 0.01; done; echo adopted; exit 5");
    let first = home.runtime();
    first.start(&job).await.unwrap();
    let main = pid_from(&job, "main").await;
    drop(first);
    let second = home.runtime();
    second.start(&job).await.unwrap();
    assert!(second.is_running(&job.name).await.unwrap());
    assert!(is_alive(main));
    fs_err::write(job.directory.join("go"), "").unwrap();
    assert_eq!(end(&second, &job).await.end, JobEnd::Exited(5));
    assert_eq!(stdout(&job), "adopted\n");
    assert_eq!(pid_in(&job.directory.join("main")), main, "it ran once");
}

#[tokio::test]
async fn the_monitor_ends_when_nobody_needs_it_and_the_report_stays() {
    let home = Home::new();
    let job = home.job(&["true"]);
    let runtime = home.runtime();
    let report = run(&runtime, &job).await;
    assert!(home.monitor().is_some());
    drop(runtime);
    until("the end of the monitor", || home.monitor().is_none()).await;
    let later = home.runtime();
    assert_eq!(end(&later, &job).await, report);
    later.start(&job).await.unwrap();
    assert!(!later.is_running(&job.name).await.unwrap());
    assert_eq!(end(&later, &job).await, report);
}

#[tokio::test]
async fn a_killed_monitor_loses_its_jobs_and_nothing_of_them_lives_on() {
    for settings in [LocalSettings { cgroups: true }, LocalSettings { cgroups: false }] {
        let home = Home::with(settings);
        let runtime = home.runtime();
        let job = home
            .sh("setsid sh -c 'echo $$ > escaped; exec sleep 1000' & echo $$ > main; sleep 1000");
        runtime.start(&job).await.unwrap();
        let (main, escaped) = (pid_from(&job, "main").await, pid_from(&job, "escaped").await);
        let monitor = home.monitor().unwrap();
        let (report, ()) = tokio::join!(end(&runtime, &job), async { kill(monitor) });
        assert!(matches!(report.end, JobEnd::Lost { .. }), "{report:?}");
        assert!(!is_alive(main) && !is_alive(escaped));
        assert_eq!(end(&runtime, &job).await, report);
        runtime.start(&job).await.unwrap();
        assert_eq!(end(&runtime, &job).await, report, "what is lost never starts");
        assert_eq!(run(&runtime, &home.sh("exit 2")).await.end, JobEnd::Exited(2), "a new monitor");
        assert_ne!(home.monitor(), Some(monitor));
    }
}

#[tokio::test]
async fn two_that_start_a_monitor_at_once_get_the_same() {
    let home = Home::new();
    let runtimes: Vec<_> = (0..8).map(|_| home.runtime()).collect();
    let job = home.sh("echo once");
    let runs = runtimes.iter().map(|runtime| run(runtime, &job));
    let reports = futures_util::future::join_all(runs).await;
    assert!(reports.iter().all(|report| *report == reports[0]));
    assert_eq!(stdout(&job), "once\n");
}

#[tokio::test]
async fn a_thousand_jobs_run_at_once() {
    let home = Home::new();
    let runtime = home.runtime();
    let jobs: Vec<_> = (0..1000).map(|_| home.job(&["sleep", "1000"])).collect();
    for job in &jobs {
        runtime.start(job).await.unwrap();
    }
    let waiting = futures_util::future::join_all(jobs.iter().map(|job| end(&runtime, job)));
    let stopping = async {
        for job in &jobs {
            runtime.stop(&job.name, true).await.unwrap();
        }
    };
    let (reports, ()) = tokio::join!(waiting, stopping);
    assert!(reports.iter().all(|report| report.end == JobEnd::Cancelled));
}

/// The process that the next test kills: starts the job described in its stdin's place and says so.
#[tokio::test]
async fn helper_that_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "the test that starts it hands the job over so")]
    let Ok(order) = std::env::var("FLOWRUN_TEST_ORDER") else { return };
    let (run_folder, job): (PathBuf, Job) = serde_json::from_str(&order).unwrap();
    let settings = LocalSettings::default();
    let runtime = LocalRuntime::new(env!("CARGO_BIN_EXE_flowrun").into(), run_folder, settings);
    runtime.start(&job).await.unwrap();
    println!("\nstarted");
    end(&runtime, &job).await;
    panic!("it was to be killed");
}

#[tokio::test]
async fn jobs_outlive_a_killed_flowrun_and_its_pipes_end() {
    let home = Home::new();
    let job = home.sh("echo before; until test -e go; do sleep 0.01; done; echo after; exit 4");
    let order = serde_json::to_string(&(home.run_folder(), &job)).unwrap();
    let mut helper = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["helper_that_is_killed", "--exact", "--nocapture"])
        .env("FLOWRUN_TEST_ORDER", order)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(helper.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "started"));
    helper.kill().unwrap();
    helper.wait().unwrap();
    assert_eq!(lines.count(), 0, "nobody else holds its output");
    let runtime = home.runtime();
    assert!(runtime.is_running(&job.name).await.unwrap());
    fs_err::write(job.directory.join("go"), "").unwrap();
    assert_eq!(end(&runtime, &job).await.end, JobEnd::Exited(4));
    assert_eq!(stdout(&job), "before\nafter\n");
}
