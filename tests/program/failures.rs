//! Every failure leaves a non-zero exit code and one message that says what to do, and nothing is lost.

use std::path::PathBuf;
use std::time::Duration;

use crate::patience::await_that;
use crate::place::{Place, assert_no_process};

#[test]
fn a_failed_stage_is_resumed_after_the_mend() {
    let place = Place::repo();
    let switch = place.outside("switch");
    place.write(
        "pipeline.yaml",
        &format!(
            "version: \"2\"\nname: mend\nstages:\n  \
             first:\n    run: echo first >> {0}.first\n  \
             second:\n    run: echo looking; test -e {0}\n    needs: [first]\n  \
             third:\n    run: echo third\n    needs: [second]\n",
            switch.display()
        ),
    );
    place.commit("first");
    let failed = place.run(&["apply"]);
    assert_eq!(failed.code, 4, "{}", failed.stderr);
    assert!(failed.stderr.contains("exit code 1"), "{}", failed.stderr);
    assert!(
        failed.stderr.contains("looking"),
        "the last lines of the log are shown: {}",
        failed.stderr
    );
    assert!(failed.stderr.contains("flowrun resume"), "{}", failed.stderr);
    assert_eq!(place.states(), ["first done", "second failed", "third blocked"]);

    let shell =
        place.run(&["debug", "latest", "second", "--", "sh", "-c", "echo $FLOWRUN_STAGE; pwd"]);
    let shell = shell.success();
    assert!(shell.stdout.starts_with("second\n"), "{}", shell.stdout);
    assert!(shell.stdout.contains("/2-1/work"), "the very folder of the attempt: {}", shell.stdout);

    fs_err::write(&switch, "").unwrap();
    place.run(&["resume"]).success();
    assert_eq!(place.states(), ["first done", "second done", "third done"]);
    // `first` is not cached, and still it ran once in this run.
    let lines = fs_err::read_to_string(switch.with_extension("first")).unwrap();
    assert_eq!(lines, "first\n");
    let nothing = place.run(&["resume"]);
    assert_eq!(nothing.code, 2, "{}", nothing.stderr);
}

#[test]
fn ends_are_told_apart() {
    for (command, words) in [
        ("exit 7", "exit code 7"),
        ("kill -SEGV $$", "signal 11"),
        ("nosuchprogram", "exit code 127"),
        ("sleep 60\n    timeout: 300ms", "timed out after 0.3s"),
    ] {
        let place = Place::with(&format!(
            "version: \"2\"\nname: ends\nstages:\n  one:\n    run: {command}\n"
        ));
        let output = place.run(&["apply"]);
        assert_eq!(output.code, 4, "{command}: {}", output.stderr);
        assert!(output.stderr.contains(words), "{command}: {}", output.stderr);
    }
}

#[test]
fn retries_are_counted_and_their_logs_kept() {
    let place = Place::repo();
    let count = place.outside("count");
    place.write(
        "pipeline.yaml",
        &format!(
            "version: \"2\"\nname: again\nstages:\n  flaky:\n    run: |\n      echo x >> {0}\n      echo \"attempt $FLOWRUN_ATTEMPT\"\n      test $(wc -l < {0}) -ge 3\n    \
             retries: {{max: 2, backoff: 10ms}}\n",
            count.display()
        ),
    );
    place.commit("first");
    place.run(&["apply"]).success();
    for attempt in ["1", "2", "3"] {
        let log = place.run(&["logs", "latest", "flaky", "--attempt", attempt]).success();
        assert_eq!(log.stdout, format!("attempt {attempt}\n"));
    }
    let why = place.run(&["why", "latest", "flaky"]).success();
    assert!(why.stdout.contains("exit code 1"), "{}", why.stdout);
}

#[test]
fn the_whole_run_has_a_timeout_and_hooks() {
    let place = Place::repo();
    let told = place.outside("told");
    place.write(
        "pipeline.yaml",
        &format!(
            "version: \"2\"\nname: hooks\ntimeout: 1s\non_failure: alert\non_exit: tidy\nstages:\n  \
             slow:\n    run: sleep 60\n  \
             alert:\n    run: echo \"alert $FLOWRUN_OUTCOME\" >> {0}\n  \
             tidy:\n    run: echo \"tidy $FLOWRUN_OUTCOME\" >> {0}\n",
            told.display()
        ),
    );
    place.commit("first");
    let output = place.run(&["apply"]);
    assert_eq!(output.code, 4, "{}", output.stderr);
    assert!(output.stderr.contains("`timeout`"), "{}", output.stderr);
    assert_eq!(fs_err::read_to_string(told).unwrap(), "alert failed\ntidy failed\n");
}

/// A repo with this pipeline, in which `GATE` is a path outside, and that path.
fn gated(text: &str) -> (Place, PathBuf) {
    let place = Place::repo();
    let gate = place.outside("gate");
    place.write("pipeline.yaml", &text.replace("GATE", gate.to_str().unwrap()));
    place.commit("first");
    (place, gate)
}

#[test]
fn keep_going_finishes_what_it_can() {
    let text = "version: \"2\"\nname: going\nstages:\n  bad:\n    run: exit 1\n  after_bad:\n    run: echo no\n    needs: [bad]\n  \
                slow:\n    run: until test -e GATE; do sleep 0.05; done\n  after_slow:\n    run: echo yes\n    needs: [slow]\n";
    for (arguments, after_slow) in [(&["--keep-going"][..], "after_slow done"), (&[], "")] {
        let (place, gate) = gated(text);
        let run = place.spawn(&[&["apply", "--jobs", "2"], arguments].concat());
        place.await_running("slow");
        await_that("the failure", || (place.states()[0] == "bad failed").then_some(()));
        fs_err::write(gate, "").unwrap();
        assert_eq!(run.finish().code, 4);
        let states = place.states();
        assert_eq!((&*states[0], &*states[2]), ("bad failed", "slow done"));
        if after_slow.is_empty() {
            assert_ne!(states[3], "after_slow done");
        } else {
            assert_eq!((&*states[1], &*states[3]), ("after_bad blocked", after_slow));
        }
    }
}

#[test]
fn two_applies_never_mix() {
    let (place, gate) = gated(
        "version: \"2\"\nname: twice\nstages:\n  slow:\n    run: until test -e GATE; do sleep 0.05; done\n",
    );
    let first = place.spawn(&["apply"]);
    place.await_running("slow");
    let skipped = place.run(&["apply", "--overlap", "skip", "--force", "slow"]).success();
    assert!(skipped.stderr.contains("skip"), "{}", skipped.stderr);
    let second = place.spawn(&["apply", "--force", "slow"]);
    second.await_word("wait");
    fs_err::write(&gate, "").unwrap();
    second.finish().success();
    assert_eq!(first.finish().code, 0);
    assert_eq!(place.runs().len(), 2);

    fs_err::remove_file(&gate).unwrap();
    let third = place.spawn(&["apply"]);
    place.await_running("slow");
    let replacing = place.spawn(&["apply", "--overlap", "replace", "--force", "slow"]);
    assert_eq!(third.finish().code, 130);
    fs_err::write(&gate, "").unwrap();
    replacing.finish().success();
    let outcomes: Vec<String> =
        place.runs().iter().map(|run| run["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["done", "cancelled", "done", "done"]);
}

#[test]
fn cancel_and_interrupt_stop_everything_and_can_be_resumed() {
    let place = Place::with(
        "version: \"2\"\nname: stop\nstages:\n  slow:\n    run: setsid sleep 61.5 & sleep 62.5\n  after:\n    run: echo after\n    needs: [slow]\n",
    );
    let run = place.spawn(&["apply"]);
    place.await_running("slow");
    place.run(&["cancel", "latest"]).success();
    assert_eq!(run.finish().code, 130);
    assert_eq!(place.states()[0], "slow cancelled");
    assert_no_process("sleep 61.5");
    assert_no_process("sleep 62.5");

    let run = place.spawn(&["resume"]);
    place.await_running("slow");
    run.interrupt();
    let output = run.finish();
    assert_eq!(output.code, 130, "{}", output.stderr);
    assert!(output.stderr.contains("flowrun resume"), "{}", output.stderr);
    assert_no_process("sleep 61.5");
    assert_no_process("sleep 62.5");
}

#[test]
fn a_stage_that_leaves_a_process_behind_does_not_hang() {
    let place = Place::with(
        "version: \"2\"\nname: leaves\nstages:\n  one:\n    run: |\n      setsid sleep 63.5 &\n      (sleep 64.5 &) \n      echo out > o\n    outputs: {o: o}\n",
    );
    place.run(&["apply"]).success();
    assert_no_process("sleep 63.5");
    assert_no_process("sleep 64.5");
}

#[test]
fn apply_into_a_pipe_never_hangs() {
    let place = Place::with(
        "version: \"2\"\nname: pipe\nstages:\n  one:\n    run: sleep 65.5 & echo done\n",
    );
    let start = std::time::Instant::now();
    let output = place.shell("\"$FLOWRUN\" apply 2>&1 | cat");
    assert_eq!(output.code, 0, "{}", output.stdout);
    assert!(start.elapsed() < Duration::from_mins(1), "the pipe was held open");
    let output = place.shell("\"$FLOWRUN\" status | head -n 1");
    assert!(!output.stderr.contains("panic"), "{}", output.stderr);
}

#[test]
fn a_stage_that_writes_into_its_input_fails_and_the_store_stays_whole() {
    let place = Place::with(
        "version: \"2\"\nname: greedy\nstages:\n  one:\n    run: echo data > o\n    files: []\n    outputs: {o: o}\n  \
         two:\n    run: chmod u+w \"$FLOWRUN_INPUT_O\"; echo more >> \"$FLOWRUN_INPUT_O\"\n    files: []\n    inputs: {o: one.o}\n",
    );
    let output = place.run(&["apply"]);
    if place.reflinks() {
        output.success();
    } else {
        assert_eq!(output.code, 4, "{}", output.stderr);
        assert!(output.stderr.contains("wrote into its input `o`"), "{}", output.stderr);
    }
    // The damaged blob is never used: the first stage runs again.
    place.run(&["apply", "--until", "one"]).success();
    assert_eq!(place.output("one", "o"), "data\n");
}

#[test]
fn what_cannot_be_stored_is_refused_by_name() {
    for (command, words) in [
        ("mkfifo out/pipe", "pipe"),
        ("ln -s /etc/passwd out/link", "link"),
        ("ln -s ../../../.. out/up", "up"),
    ] {
        let place = Place::with(&format!(
            "version: \"2\"\nname: refused\nstages:\n  one:\n    run: mkdir -p out; {command}\n    outputs: {{o: out/}}\n"
        ));
        let output = place.run(&["apply"]);
        assert_eq!(output.code, 4, "{}", output.stderr);
        assert!(output.stderr.contains(words), "{command}: {}", output.stderr);
    }
    let place = Place::with(
        "version: \"2\"\nname: absent\nstages:\n  one:\n    run: echo nothing\n    outputs: {o: out/x}\n",
    );
    let output = place.run(&["apply"]);
    assert_eq!(output.code, 4);
    assert!(output.stderr.contains("out/x"), "{}", output.stderr);
}

#[test]
fn bad_metrics_are_named() {
    for (metrics, words) in [
        ("{\"loss\": NaN}", "loss"),
        ("{\"a\": {\"b\": 1}}", "`a`"),
        ("{\"name\": \"x\"}", "`name`"),
        ("[1]", "object"),
    ] {
        let place = Place::with(&format!(
            "version: \"2\"\nname: metrics\nstages:\n  one:\n    run: [sh, -c, 'echo \"$1\" > m.json', x, '{}']\n    metrics: m.json\n",
            metrics.replace('\'', "''")
        ));
        let output = place.run(&["apply"]);
        assert_eq!(output.code, 4, "{}", output.stderr);
        assert!(output.stderr.contains(words), "{metrics}: {}", output.stderr);
    }
}

#[test]
fn a_flood_of_output_is_capped_and_said() {
    let place = Place::with(
        "version: \"2\"\nname: flood\nstages:\n  one:\n    run: head -c 1073741824 /dev/zero | tr '\\0' 'y'; echo; echo last >&2\n",
    );
    let output = place.run_with(&[("FLOWRUN_LOG_CAP", "1Mi")], &["apply"]).success();
    assert!(output.stderr.len() < 8 << 20, "the screen is not flooded either");
    let size = place.attempt_file("one", "stdout").metadata().unwrap().len();
    assert!(size <= 2 << 20, "the log holds {size} bytes");
    let log = place.run(&["logs", "latest", "one"]).success();
    assert!(log.stdout.contains("bytes of log were not kept"), "what is missing is said");
    assert!(log.stdout.contains("\nlast\n"), "the other stream is whole");
}

#[test]
fn a_full_disk_is_named_and_mended_by_resume() {
    let Some(place) = Place::on_small_disk(24 << 20) else {
        panic!("this test mounts a small tmpfs: run it as root");
    };
    place.write(
        "pipeline.yaml",
        "version: \"2\"\nname: full\nstages:\n  one:\n    run: echo one > o\n    files: []\n    outputs: {o: o}\n  \
         two:\n    run: head -c 40000000 /dev/zero > \"$FLOWRUN_OUTPUT_BIG\"\n    files: []\n    inputs: {o: one.o}\n    outputs: {big: big}\n",
    );
    place.commit("first");
    let output = place.run(&["apply"]);
    assert!([4, 5].contains(&output.code), "{}: {}", output.code, output.stderr);
    assert!(output.stderr.to_lowercase().contains("no space"), "{}", output.stderr);
    place.grow_disk(256 << 20);
    place.run(&["resume"]).success();
    assert_eq!(place.states(), ["one done", "two done"]);
}

#[test]
fn memory_is_limited_where_a_cgroup_can_be_had() {
    let place = Place::with(
        "version: \"2\"\nname: hungry\nstages:\n  one:\n    run: [python3, -c, 'x = bytearray(400_000_000); print(len(x))']\n    resources: {memory: 100Mi}\n    \
         retries: {max: 1, backoff: 10ms, on_oom: {memory: 8x, max: 900Mi}}\n",
    );
    let doctor = place.run(&["doctor"]);
    let output = place.run(&["apply"]);
    if doctor.stdout.contains("cannot be limited") {
        assert!(
            output.stderr.contains("memory"),
            "it is said that nothing is limited: {}",
            output.stderr
        );
        return;
    }
    output.success();
    let why = place.run(&["why", "latest", "one"]).success();
    assert!(why.stdout.contains("out of memory"), "{}", why.stdout);
}

#[test]
fn hostile_files_are_refused_in_time() {
    let place = Place::repo();
    let bomb = {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..20 {
            let from = level - 1;
            let row = vec![format!("*a{from}"); 10].join(", ");
            text += &format!("a{level}: &a{level} [{row}]\n");
        }
        text
    };
    for (name, bytes) in [
        ("bomb.yaml", bomb.into_bytes()),
        ("deep.yaml", "[".repeat(10_000).into_bytes()),
        ("invalid.yaml", vec![0xff, 0xfe, 0x00, 0xc3]),
        ("nul.yaml", b"version: \"2\"\nname: a\0b\n".to_vec()),
        ("empty.yaml", Vec::new()),
        ("huge.yaml", vec![b'a'; 100 << 20]),
    ] {
        place.write_bytes(name, &bytes);
        let output = place.run(&["validate", name]);
        assert_eq!(output.code, 3, "{name}: {}", output.stderr);
        assert!(output.stderr.contains(name), "{name}: {}", output.stderr);
    }
    place.shell("mkfifo pipe.yaml && mkdir folder.yaml");
    for name in ["pipe.yaml", "folder.yaml"] {
        let output = place.run(&["validate", name]);
        assert!([2, 3].contains(&output.code), "{name}: {} {}", output.code, output.stderr);
    }
}

#[test]
fn what_comes_later_is_refused_at_its_place() {
    for (text, key) in [
        (
            "  serve:\n    run: echo\n    service: {port: 8000, route: {path: /a, weight: 10}}\n",
            "weight",
        ),
        ("  one:\n    run: echo\n    inputs: {d: {url: \"models:/iris/1\"}}\n", "url"),
    ] {
        let place = Place::with(&format!("version: \"2\"\nname: later\nstages:\n{text}"));
        let output = place.run(&["apply"]);
        assert_eq!(output.code, 3, "{key}: {}", output.stderr);
        assert!(output.stderr.contains("not available yet"), "{key}: {}", output.stderr);
        assert!(output.stderr.contains("pipeline.yaml:"), "{key}: {}", output.stderr);
    }
    let place =
        Place::with("version: \"2\"\nname: later\nstages:\n  one:\n    image: python:3.12\n");
    let output = place.run(&["apply"]);
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert!(output.stderr.contains("needs `--runtime docker`"), "{}", output.stderr);
    assert!(output.stderr.contains("pipeline.yaml:"), "{}", output.stderr);
    let place = Place::with("version: \"2\"\nname: later\nstages:\n  one:\n    run: echo\n");
    for arguments in
        [&["apply", "--detach"][..], &["apply", "--runtime", "kubernetes"], &["schedule", "ls"]]
    {
        let output = place.run(arguments);
        assert_eq!(output.code, 3, "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains("not available yet"), "{arguments:?}: {}", output.stderr);
    }
}
