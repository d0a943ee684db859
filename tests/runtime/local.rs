//! What the local runtime promises beside the common text.

use std::time::Duration;

use flowrun::event::JobEnd;
use flowrun::runtime::local::LocalSettings;

use crate::conformance::conformance;
use crate::fixture::{
    Home, end, pid_from, pid_in, run, stderr, stdout, timed_out_once_ready, until,
};

/// The monitor of the home's run.
fn monitor(home: &Home) -> Option<i32> {
    let folder = home.run_folder();
    processes().into_iter().find(|pid| {
        let line = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        words.get(1) == Some(&b"__monitor".as_slice())
            && words.get(2) == Some(&folder.as_os_str().as_encoded_bytes())
    })
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

#[tokio::test]
async fn it_conforms_also_without_control_groups() {
    let home = Home::with(LocalSettings { cgroups: false });
    let (good, failing, unknown) = (home.job(&["true"]), home.sh("exit 3"), home.sh("true"));
    conformance(&*home.runtime(), &good, &failing, &home.sh("sleep 1000"), &unknown).await;
}

#[tokio::test]
async fn a_program_sees_its_variables_and_its_folder_and_nothing_else() {
    let home = Home::new();
    let mut job = home.sh("pwd; env | sort; ls -l /proc/self/fd | wc -l; cat");
    job.env.insert("GREETING".to_owned(), "grüße\nzwei".to_owned());
    assert_eq!(run(&*home.runtime(), &job).await.end, JobEnd::Exited(0));
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
        assert_eq!(run(&*runtime, &job).await.end, JobEnd::Exited(code));
        let said = stderr(&job);
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn a_timeout_reaches_everything_gently_first() {
    for settings in [LocalSettings { cgroups: true }, LocalSettings { cgroups: false }] {
        let home = Home::with(settings);
        let runtime = home.runtime();
        let script = "trap 'echo got it; exit 7' TERM; setsid sh -c 'echo $$ > escaped; exec sleep 1000' & \
                      until test -s escaped; do sleep 0.05; done; echo > ready; while :; do sleep 0.05; done";
        let job = timed_out_once_ready(&home, &*runtime, script).await;
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
        assert_eq!(end(&*runtime, &job).await.end, JobEnd::Cancelled);
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
    assert_eq!(end(&*runtime, &job).await.end, JobEnd::Cancelled);
    assert_eq!(stdout(&job), "saved\n");
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
        let report = run(&*runtime, &job).await;
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
        assert_eq!(end(&*runtime, &bystander).await.end, JobEnd::Cancelled);
        assert!(!is_alive(pid_in(&job.directory.join("c"))), "it goes with the last job");
    }
}

#[tokio::test]
async fn what_is_about_to_end_by_itself_may() {
    let home = Home::new();
    let job = home.sh("echo head\n(sleep 0.05; echo tail) &");
    let report = run(&*home.runtime(), &job).await;
    assert_eq!(stdout(&job), "head\ntail\n");
    assert_eq!(report.remarks, Vec::<String>::new());
}

#[tokio::test]
async fn the_monitor_ends_when_nobody_needs_it_and_the_report_stays() {
    let home = Home::new();
    let job = home.job(&["true"]);
    let runtime = home.runtime();
    let report = run(&*runtime, &job).await;
    assert!(monitor(&home).is_some());
    drop(runtime);
    until("the end of the monitor", || monitor(&home).is_none()).await;
    let later = home.runtime();
    assert_eq!(end(&*later, &job).await, report);
    later.start(&job).await.unwrap();
    assert!(!later.is_running(&job.name).await.unwrap());
    assert_eq!(end(&*later, &job).await, report);
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
        let first = monitor(&home).unwrap();
        let (report, ()) = tokio::join!(end(&*runtime, &job), async { kill(first) });
        assert!(matches!(report.end, JobEnd::Lost { .. }), "{report:?}");
        assert!(!is_alive(main) && !is_alive(escaped));
        assert_eq!(end(&*runtime, &job).await, report);
        runtime.start(&job).await.unwrap();
        assert_eq!(end(&*runtime, &job).await, report, "what is lost never starts");
        assert_eq!(
            run(&*runtime, &home.sh("exit 2")).await.end,
            JobEnd::Exited(2),
            "a new monitor"
        );
        assert_ne!(monitor(&home), Some(first));
    }
}

#[tokio::test]
async fn two_that_start_a_monitor_at_once_get_the_same() {
    let home = Home::new();
    let runtimes: Vec<_> = (0..8).map(|_| home.runtime()).collect();
    let job = home.sh("echo once");
    let runs = runtimes.iter().map(|runtime| run(&**runtime, &job));
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
    let waiting = futures_util::future::join_all(jobs.iter().map(|job| end(&*runtime, job)));
    let stopping = async {
        for job in &jobs {
            runtime.stop(&job.name, true).await.unwrap();
        }
    };
    let (reports, ()) = tokio::join!(waiting, stopping);
    assert!(reports.iter().all(|report| report.end == JobEnd::Cancelled));
}
