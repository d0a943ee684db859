//! What comes after a death, a damage or an interruption that nobody of flowrun saw.

use std::time::{Duration, Instant};

use crate::patience::await_that;
use crate::place::{Place, assert_no_process};

#[test]
fn resume_tries_again_what_failed_while_nobody_was_there() {
    let place = Place::repo();
    let (go, mended) = (place.outside("go"), place.outside("mended"));
    place.write(
        "pipeline.yaml",
        &format!(
            "version: \"2\"\nname: unseen\nstages:\n  one:\n    run: while ! test -e {}; do sleep 0.02; done; test -e {}\n",
            go.display(),
            mended.display()
        ),
    );
    place.commit("first");
    let run = place.spawn(&["apply"]);
    place.await_running("one");
    Place::await_path(&place.attempt_file("one", "order.json"));
    run.kill();
    fs_err::write(&go, "").unwrap();
    Place::await_path(&place.attempt_file("one", "end.json"));
    let again = place.run(&["resume"]);
    assert_eq!(again.code, 4, "it tries once more and no oftener: {}", again.stderr);
    let tries = place.tasks()[0]["attempts"].as_u64();
    assert_eq!(tries, Some(2), "{}", again.stderr);

    fs_err::remove_file(&go).unwrap();
    let run = place.spawn(&["resume"]);
    place.await_running("one");
    Place::await_path(&place.attempt_file("one", "order.json"));
    run.kill();
    fs_err::write(&go, "").unwrap();
    Place::await_path(&place.attempt_file("one", "end.json"));
    fs_err::write(&mended, "").unwrap();
    place.run(&["resume"]).success();
}

#[test]
fn a_failed_stage_that_wrote_into_its_input_is_told_and_the_next_run_makes_it_again() {
    let place = Place::with(
        "version: \"2\"\nname: spoilt\nstages:\n  one:\n    run: echo data > o\n    files: []\n    outputs: {o: o}\n  \
         two:\n    run: chmod u+w \"$FLOWRUN_INPUT_O\"; echo more >> \"$FLOWRUN_INPUT_O\"; exit 3\n    files: []\n    inputs: {o: one.o}\n    retries: {max: 2, backoff: 10ms}\n",
    );
    if place.reflinks() {
        return;
    }
    let output = place.run(&["apply"]);
    assert_eq!(output.code, 4, "{}", output.stderr);
    assert!(output.stderr.contains("wrote into its input `o`"), "{}", output.stderr);
    assert_eq!(place.tasks()[1]["attempts"], 1, "it would do so again");
    // The artifact is gone, so this run can only end, and it says how to go on.
    let output = place.run(&["resume"]);
    assert_eq!(output.code, 4, "{}", output.stderr);
    assert!(output.stderr.contains("`flowrun apply` makes it again"), "{}", output.stderr);
    place.run(&["apply", "--until", "one"]).success();
    assert_eq!(place.output("one", "o"), "data\n");
}

#[test]
fn a_log_can_be_followed_before_its_task_begins() {
    let place = Place::with(
        "version: \"2\"\nname: later\nstages:\n  one:\n    run: until test -e \"$GATE\"; do sleep 0.05; done\n    env: {GATE: \"${{ params.gate }}\"}\n  \
         two:\n    run: echo at last\n    needs: [one]\nparams: {gate: none}\n",
    );
    let gate = place.outside("gate");
    let run = place.spawn(&["apply", "--param", &format!("gate={}", gate.display())]);
    place.await_running("one");
    let log = place.spawn(&["logs", "-f", "two"]);
    log.await_word("waiting");
    fs_err::write(gate, "").unwrap();
    assert_eq!(log.finish().success().stdout, "at last\n");
    assert_eq!(run.finish().code, 0);
}

#[test]
fn following_a_log_ends_when_nobody_can_write_to_it_any_more() {
    let place = Place::with(
        "version: \"2\"\nname: silent\nstages:\n  one:\n    run: echo begun; sleep 71.5\n",
    );
    let run = place.spawn(&["apply"]);
    place.await_running("one");
    await_that("the line", || {
        (place.run(&["logs", "latest", "one"]).stdout == "begun\n").then_some(())
    });
    run.kill();
    place.kill_monitors();
    let start = Instant::now();
    let log = place.run(&["logs", "-f", "latest", "one"]).success();
    assert_eq!(log.stdout, "begun\n");
    assert!(start.elapsed() < Duration::from_mins(1), "it waited for the job");
    place.run(&["cancel", "latest"]).success();
    assert_no_process("sleep 71.5");
}

#[test]
fn a_stage_may_ruin_its_own_folder() {
    let place = Place::with(
        "version: \"2\"\nname: ruin\nstages:\n  all:\n    run: rm -rf \"$(dirname \"$HOME\")\"\n  \
         work:\n    run: rm -rf \"$PWD\"\n    outputs: {o: o}\n  \
         con:\n    run: mkdir shut && touch shut/x && chmod 000 shut .; chmod 000 \"$TMPDIR\"\n",
    );
    assert_eq!(place.run(&["apply", "--keep-going"]).code, 4);
    assert_eq!(place.states(), ["all done", "work failed", "con done"]);
    place.run(&["logs", "-f", "latest", "all"]).success();
}

#[test]
fn a_program_that_was_replaced_meanwhile_still_starts_its_monitor() {
    let place = Place::repo();
    let program = place.outside("flowrun");
    // The shell's parent is the monitor.
    place.write(
        "pipeline.yaml",
        &format!(
            "version: \"2\"\nname: replaced\nstages:\n  one:\n    run: test $FLOWRUN_ATTEMPT = 2 || {{ rm {}; kill -9 $PPID; sleep 72.5; }}\n",
            program.display()
        ),
    );
    place.commit("first");
    let program = program.display();
    let output = place.shell(&format!("cp \"$FLOWRUN\" {program} && {program} apply"));
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stderr.contains("lost"), "{}", output.stderr);
    assert_no_process("sleep 72.5");
}

#[test]
fn a_temporary_folder_that_a_death_left_goes_with_gc() {
    let place = Place::with("version: \"2\"\nname: left\nstages:\n  one:\n    run: echo one\n");
    place.run(&["apply"]).success();
    let folder = tempfile::tempdir().unwrap().keep();
    place.shell(&format!("chmod 700 {0}; mkdir {0}/1-1", folder.display())).success();
    let run = place.attempt_file("one", "..").canonicalize().unwrap();
    fs_err::write(run.join("tmp"), folder.to_str().unwrap()).unwrap();
    place.run(&["gc"]).success();
    assert!(!folder.exists());
}

#[test]
fn a_log_comes_out_as_it_was_written_and_following_it_ends_with_its_reader() {
    let place = Place::with(
        "version: \"2\"\nname: raw\nstages:\n  one:\n    run: printf 'a\\377\\000b\\nlast'\n  \
         two:\n    run: while sleep 0.05; do echo on; done\n    needs: [one]\n    timeout: 60s\n",
    );
    let run = place.spawn(&["apply"]);
    place.await_running("two");
    let log = place.shell("\"$FLOWRUN\" logs latest one | od -An -c").success();
    let seen: Vec<&str> = log.stdout.split_whitespace().collect();
    assert_eq!(seen, ["a", "377", "\\0", "b", "\\n", "l", "a", "s", "t", "\\n"]);
    let log = place.shell("\"$FLOWRUN\" logs -f latest two | head -n 1").success();
    assert_eq!(log.stdout, "on\n");
    assert_eq!(place.states()[1], "two running", "it did not wait for the end");
    place.run(&["cancel", "latest", "--kill"]).success();
    run.finish();
}
