//! Stages in containers that mean harm: each is held, and the status says what happened.

use crate::place::{Output, Place, assert_no_process};

const IMAGE: &str = "flowrun-test/python:bookworm";

/// As many threads as there may be, so that the children after them are few, whatever the limit is; those stay until the end.
const FORKS: &str = r#"
import os, threading, time

threading.stack_size(65536)
threads = 0
try:
    while threads < 4000:
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        threads += 1
except RuntimeError:
    pass
children = 0
try:
    while children < 2000:
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "98123"])
        children += 1
    print("nothing held", threads, children, flush=True)
except OSError as error:
    print("held:", os.strerror(error.errno), flush=True)
os._exit(7)
"#;

const MEMORY: &str = "
hoard = []
while True:
    hoard.append(bytearray(b'x' * (1 << 20)))
";

/// Everything it should not be able to; a line for each.
const SPY: &str = r#"
import ctypes, os, pathlib, subprocess

for path in ["/harm", "/etc/harm", "/usr/bin/harm", "/flowrun/harm", "/root/harm", os.environ["FLOWRUN_INPUT_MODEL"]]:
    try:
        with open(path, "a") as file:
            file.write("harm")
        print("wrote", path)
    except OSError as error:
        print("refused", path)

hits = []
for folder, folders, files in os.walk("/"):
    if folder == "/":
        folders[:] = [name for name in folders if name not in ("proc", "sys")]
    hits += [os.path.join(folder, name) for name in files + folders if name in ("docker.sock", "state.db", "order.json", "pipeline.yaml")]
print("found", hits)
print("home", os.path.exists(os.environ["LOOK_FOR"]))

status = dict(line.split(":\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
print("capabilities", int(status["CapEff"], 16), "bounding", int(status["CapBnd"], 16), "no new", status["NoNewPrivs"])
libc = ctypes.CDLL(None, use_errno=True)
print("mounted", libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0)
print("others", [name for name in os.listdir("/proc") if name.isdigit() and int(name) > 50])
subprocess.Popen(["sleep", "98124"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("secret", os.environ["KEY"], flush=True)
print("spelled", os.environ["KEY"].encode().hex()[:4], flush=True)
"#;

fn place(stage: &str, program: &str) -> Place {
    let port = crate::ports::free_port();
    let place = Place::repo();
    place.write(
        "pipeline.yaml",
        &format!(
            "version: \"2\"\nname: harm-{port}\ndefaults: {{image: \"{IMAGE}\"}}\nstages:\n{stage}"
        ),
    );
    place.write("harm.py", program);
    place.commit("first");
    place
}

fn apply(place: &Place) -> Output {
    place.run(&["apply", "--runtime", "docker"])
}

#[test]
fn a_fork_bomb_ends_at_the_limit_of_its_container() {
    let place = place("  harm:\n    run: python3 harm.py\n    files: [harm.py]\n", FORKS);
    let failed = apply(&place);
    assert_eq!(failed.code, 4, "{failed:?}");
    assert!(failed.stderr.contains("exit code 7"), "{}", failed.stderr);
    let logs = place.run(&["logs", "harm"]).success().stdout;
    assert!(logs.contains("held: Resource temporarily unavailable"), "{logs}");
    assert_no_process("sleep 98123");
    assert_eq!(place.states(), ["harm failed"]);
}

#[test]
fn a_memory_bomb_ends_as_out_of_memory() {
    let stage =
        "  harm:\n    run: python3 harm.py\n    files: [harm.py]\n    resources: {memory: 64Mi}\n";
    let place = place(stage, MEMORY);
    let failed = apply(&place);
    assert_eq!(failed.code, 4, "{failed:?}");
    assert!(failed.stderr.contains("out of memory"), "{}", failed.stderr);
    let status = place.run(&["status", "latest"]);
    assert!(status.stdout.contains("out of memory"), "{}", status.stdout);
}

#[test]
fn a_spy_finds_nothing_changes_nothing_and_its_secret_is_masked() {
    let stages = r#"  train:
    run: "echo model > \"$FLOWRUN_OUTPUT_MODEL\""
    files: []
    outputs: {model: model.txt}
  harm:
    run: python3 harm.py
    files: [harm.py]
    inputs: {model: train.model}
    env: {LOOK_FOR: "HOME_OF_FLOWRUN"}
    secrets: {KEY: harmless}
"#;
    let place = place(stages, SPY);
    let file = fs_err::read_to_string(place.folder().join("pipeline.yaml")).unwrap();
    place.write("pipeline.yaml", &file.replace("HOME_OF_FLOWRUN", place.home().to_str().unwrap()));
    place.commit("home");
    place.shell("printf swordfish-4711 | \"$FLOWRUN\" secret set harmless KEY").success();

    let done = apply(&place).success();
    let logs = place.run(&["logs", "harm"]).success().stdout;
    assert!(!logs.contains("wrote ") && logs.matches("refused ").count() == 6, "{logs}");
    assert!(logs.contains("found []") && logs.contains("home False"), "{logs}");
    assert!(logs.contains("capabilities 0 bounding 0 no new 1"), "{logs}");
    assert!(logs.contains("mounted False") && logs.contains("others []"), "{logs}");
    assert!(logs.contains("secret ***"), "{logs}");
    for said in [&logs, &done.stdout, &done.stderr] {
        assert!(!said.contains("swordfish"), "{said}");
    }
    let folder = place.attempt_file("harm", "stdout");
    let kept = fs_err::read_to_string(folder).unwrap();
    assert!(!kept.contains("swordfish"), "{kept}");
    assert_no_process("sleep 98124");
    assert_eq!(place.output("train", "model"), "model\n", "its input is as it was");
}
