//! The command line itself: words, help, exit codes, settings, what is not available yet.

use std::io::Read as _;
use std::process::Stdio;

use crate::place::Place;

macro_rules! snapshot {
    ($place:expr, $line:expr, @$text:literal) => {
        insta::assert_snapshot!($place.shown($line), @$text)
    };
}

const LATER: &[&str] = &["schedule"];

#[test]
fn version() {
    snapshot!(Place::new(), "--version", @r#"
    exit 0
    --- stdout
    flowrun 0.1.0
    --- stderr
    "#);
}

#[test]
fn help_names_every_command() {
    let help = Place::new().line("--help").success().stdout;
    for name in [
        "validate",
        "plan",
        "apply",
        "status",
        "logs",
        "runs",
        "why",
        "resume",
        "cancel",
        "debug",
        "releases",
        "diff",
        "rollback",
        "restart",
        "scale",
        "down",
        "server",
        "store",
        "gc",
        "doctor",
        "init",
        "schema",
        "completions",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(name)), "{name} is missing");
        let own = Place::new().line(&format!("{name} --help")).success().stdout;
        assert!(own.contains("Examples:"), "{name} has no examples");
    }
    for name in LATER {
        assert!(
            !help.lines().any(|line| line.starts_with(&format!("  {name}"))),
            "{name} is shown"
        );
    }
}

#[test]
fn a_home_without_services_says_so() {
    let place = Place::new();
    snapshot!(place, "releases", @r"
    exit 0
    --- stdout
    no releases yet: `flowrun apply` makes those of a pipeline's services
    --- stderr
    ");
    snapshot!(place, "diff serve@1", @r"
    exit 2
    --- stdout
    --- stderr
    error: there is no service `serve`
    help: there is none yet; `flowrun apply` makes those of a pipeline
    ");
    let data = place.line("releases -o json").success().stdout;
    assert_eq!(data, "[]\n");
}

#[test]
fn no_command_is_wrong_usage() {
    let output = Place::new().line("");
    assert_eq!(output.code, 2);
    assert!(output.stdout.is_empty(), "help that nobody asked for is no data");
}

#[test]
fn an_unknown_command_gets_the_nearest() {
    snapshot!(Place::new(), "aply", @r#"
    exit 2
    --- stdout
    --- stderr
    error: there is no command `aply`
    help: did you mean `flowrun apply`?
    "#);
    snapshot!(Place::new(), "frobnicate", @r#"
    exit 2
    --- stdout
    --- stderr
    error: there is no command `frobnicate`
    help: see `flowrun --help` for the commands
    "#);
}

#[test]
fn an_unknown_flag_is_wrong_usage() {
    let output = Place::new().line("apply --forse train");
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("--force"), "{output:?}");
}

#[test]
fn what_comes_later_says_so_once() {
    for name in LATER {
        let output = Place::new().line(&format!("{name} iris/serve --to 3"));
        assert_eq!(output.code, 3, "{output:?}");
        let said = output.stderr;
        assert!(
            said.starts_with(&format!("error: `flowrun {name}` is not available yet\nhelp: ")),
            "{said}"
        );
        assert_eq!(said.lines().count(), 2, "{said}");
    }
    snapshot!(Place::new(), "apply --detach", @r#"
    exit 3
    --- stdout
    --- stderr
    error: `--detach` is not available yet
    help: leave it out; `nohup flowrun apply &` goes on without a terminal
    "#);
    snapshot!(Place::new(), "apply --runtime kubernetes", @r#"
    exit 3
    --- stdout
    --- stderr
    error: the runtime `kubernetes` is not available yet
    help: use `--runtime local` or `--runtime docker`
    "#);
    snapshot!(Place::new(), "status --store s3://b?zone=1", @r#"
    exit 2
    --- stdout
    --- stderr
    error: the flag `--store`: `b` cannot be the name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens
    help: give a folder, or `s3://bucket/prefix`
    "#);
}

#[test]
fn settings_files_are_strict() {
    let place = Place::new();
    place.write("flowrun.toml", "jobs = 2\nmemry = \"4Gi\"\n");
    snapshot!(place, "status", @r#"
    exit 3
    --- stdout
    --- stderr
    error: [work]/flowrun.toml:2:1: there is no setting `memry`
    help: did you mean `memory`?
    "#);
    let said = Place::new().run_with(&[("FLOWRUN_JOBS", "many")], &["status"]).stderr;
    insta::assert_snapshot!(said, @r#"
    error: the variable `FLOWRUN_JOBS` is `many`
    help: give a whole number from 1 (default: the machine's processors)
    "#);
}

#[test]
fn a_missing_target_is_wrong_usage() {
    snapshot!(Place::new(), "validate", @r#"
    exit 2
    --- stdout
    --- stderr
    error: there is no pipeline file (`pipeline.yaml`, `flowrun.yaml`, `bodywork.yaml`) in `.`
    help: name a file, or write a first one with `flowrun init`
    "#);
    let place = Place::new();
    place.write("iris.yaml", "");
    snapshot!(place, "validate irs.yaml", @r#"
    exit 2
    --- stdout
    --- stderr
    error: there is no file or folder `irs.yaml`
    help: did you mean `iris.yaml`?
    "#);
}

#[test]
fn a_folder_of_others_is_no_home() {
    let place = Place::new();
    place.write("thesis.tex", "");
    snapshot!(place, "status --home .", @r#"
    exit 2
    --- stdout
    --- stderr
    error: `[work]` is not empty and no flowrun home
    help: name an empty folder, or one that does not exist yet
    "#);
}

#[test]
fn completions_are_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            Place::new().line(&format!("completions {shell}")).success().stdout.contains("flowrun")
        );
    }
    assert_eq!(Place::new().line("completions tcsh").code, 2);
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let place = Place::new();
    let mut child = place
        .command(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A script is longer than a pipe holds, so that the writer meets the closed end.
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert_eq!(said, "");
}

#[test]
#[cfg(target_os = "linux")]
fn data_that_cannot_be_written_is_an_error() {
    let full = fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let place = Place::new();
    let output =
        place.command(&["completions", "bash"]).stdout(full.into_parts().0).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
}

#[test]
fn init_writes_a_pipeline_and_never_overwrites() {
    let place = Place::new();
    snapshot!(place, "init My_Demo", @r#"
    exit 0
    --- stdout
    --- stderr
    wrote My_Demo/pipeline.yaml
    wrote My_Demo/prepare.py
    wrote My_Demo/train.py
    wrote My_Demo/evaluate.py
    next: `flowrun plan My_Demo`, then `flowrun apply My_Demo`
    "#);
    let pipeline = fs_err::read_to_string(place.folder().join("My_Demo/pipeline.yaml")).unwrap();
    assert!(pipeline.contains("\nname: my-demo\n"));
    fs_err::remove_file(place.folder().join("My_Demo/pipeline.yaml")).unwrap();
    snapshot!(place, "init My_Demo", @r#"
    exit 2
    --- stdout
    --- stderr
    error: `My_Demo/prepare.py` exists
    help: name another folder; nothing is overwritten
    "#);
    assert!(!place.folder().join("My_Demo/pipeline.yaml").exists(), "all or nothing");
}

#[test]
fn validate_gives_the_same_as_data() {
    let place = Place::new();
    let stages = "version: \"2\"\nname: x\nstages:\n";
    place.write(
        "good.yaml",
        &format!("{stages}  a: {{run: echo}}\nschedule: {{cron: \"0 3 * * *\"}}\n"),
    );
    place.write("bad.yaml", &format!("{stages}  a: {{rum: echo}}\n"));

    let told = place.json(&["validate", "good.yaml", "-o", "json"]);
    assert_eq!(told["valid"], true, "{told}");
    assert_eq!(told["stages"], serde_json::json!(["a"]), "{told}");
    assert_eq!(told["not_available"][0]["line"], 5, "{told}");

    let output = place.line("validate bad.yaml -o json");
    assert_eq!(output.code, 3, "{output:?}");
    let told: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(told["valid"], false, "{told}");
    assert_eq!(told["file"], "bad.yaml", "{told}");
    assert!(told["problems"].as_array().is_some_and(|list| !list.is_empty()), "{told}");
}

#[test]
fn what_was_reused_is_found_where_it_was_made() {
    let place = Place::new();
    place.line("init .").success();
    place.line("apply").success();
    let made = place.runs()[0]["run"].as_str().unwrap().to_owned();
    place.line("apply").success();

    let log = place.line("logs evaluate").success();
    assert!(log.stdout.contains("mean error"), "{log:?}");
    assert!(log.stderr.contains(&made), "{log:?}");

    let seen = place.line("debug latest evaluate -- env").success().stdout;
    assert!(seen.contains("FLOWRUN_STAGE=evaluate"), "{seen}");
    assert!(!seen.contains("FLOWRUN_JOB="), "the shell is no part of the job: {seen}");
}

#[test]
fn artifacts_are_named_by_output_or_the_beginning_of_a_digest() {
    let place = Place::new();
    place.line("init .").success();
    place.line("apply").success();

    // Under the name of a stage with `pick` stands its winner.
    place.line("store get train.model winner.json").success();
    place.line("store get train[rate=0.01].model best.json").success();
    let read = |name: &str| fs_err::read(place.folder().join(name)).unwrap();
    assert_eq!(read("winner.json"), read("best.json"));
    assert_eq!(place.line("store get train.model winner.json").code, 2, "nothing is overwritten");

    let whole = place.json(&["store", "ls", "train.model", "-o", "json"]);
    let digest = whole["digest"].as_str().unwrap();
    let short = place.json(&["store", "ls", &digest[..20], "-o", "json"]);
    assert_eq!(short["digest"], digest);
}
