//! The command line itself: words, help, exit codes, settings, what is not available yet.

mod command;

use std::io::Read;
use std::process::Stdio;

use command::{Sandbox, show};

macro_rules! snapshot {
    ($sandbox:expr, $line:expr, @$text:literal) => {{
        let sandbox: &Sandbox = &$sandbox;
        sandbox.settings().bind(|| insta::assert_snapshot!(sandbox.shown($line), @$text));
    }};
}

const LATER: [&str; 9] = [
    "releases", "rollback", "diff", "restart", "scale", "down", "secret", "schedule", "server",
];

#[test]
fn version() {
    snapshot!(Sandbox::new(), "--version", @"");
}

#[test]
fn help_names_every_command() {
    let help = Sandbox::new().stdout("--help", 0);
    for name in [
        "validate", "plan", "apply", "status", "logs", "runs", "why", "resume", "cancel", "debug",
        "store", "gc", "doctor", "init", "schema", "completions",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(name)), "{name} is missing");
        let own = Sandbox::new().stdout(&format!("{name} --help"), 0);
        assert!(own.contains("Examples:"), "{name} has no examples");
    }
    for name in LATER {
        assert!(!help.lines().any(|line| line.starts_with(&format!("  {name}"))), "{name} is shown");
    }
}

#[test]
fn no_command_is_wrong_usage() {
    let output = Sandbox::new().run("");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty(), "help that nobody asked for is no data");
}

#[test]
fn an_unknown_command_gets_the_nearest() {
    snapshot!(Sandbox::new(), "aply", @"");
    snapshot!(Sandbox::new(), "frobnicate", @"");
}

#[test]
fn an_unknown_flag_is_wrong_usage() {
    let output = Sandbox::new().run("apply --forse train");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--force"), "{}", show(&output));
}

#[test]
fn what_comes_later_says_so_once() {
    for name in LATER {
        let output = Sandbox::new().run(&format!("{name} iris/serve --to 3"));
        assert_eq!(output.status.code(), Some(3), "{}", show(&output));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.starts_with(&format!("error: `flowrun {name}` is not available yet\nhelp: ")),
            "{said}"
        );
        assert_eq!(said.lines().count(), 2, "{said}");
    }
    snapshot!(Sandbox::new(), "apply --detach", @"");
    snapshot!(Sandbox::new(), "apply --runtime docker", @"");
    snapshot!(Sandbox::new(), "status --store s3://bucket/prefix", @"");
}

#[test]
fn settings_files_are_strict() {
    let sandbox = Sandbox::new().with_file("flowrun.toml", "jobs = 2\nmemry = \"4Gi\"\n");
    snapshot!(sandbox, "status", @"");
    let sandbox = Sandbox::new().with_variable("FLOWRUN_JOBS", "many");
    snapshot!(sandbox, "status", @"");
}

#[test]
fn a_missing_target_is_wrong_usage() {
    snapshot!(Sandbox::new(), "validate", @"");
    let sandbox = Sandbox::new().with_file("iris.yaml", "");
    snapshot!(sandbox, "validate irs.yaml", @"");
}

#[test]
fn a_folder_of_others_is_no_home() {
    let sandbox = Sandbox::new().with_file("thesis.tex", "");
    snapshot!(sandbox, "status --home .", @"");
}

#[test]
fn completions_are_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(Sandbox::new().stdout(&format!("completions {shell}"), 0).contains("flowrun"));
    }
    assert_eq!(Sandbox::new().run("completions tcsh").status.code(), Some(2));
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let mut child = Sandbox::new()
        .command("completions bash")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    // A script is longer than a pipe holds, so that the writer meets the closed end.
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("stderr").read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{said}");
    assert_eq!(said, "");
}

#[test]
#[cfg(target_os = "linux")]
fn data_that_cannot_be_written_is_an_error() {
    let full = fs_err::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = Sandbox::new()
        .command("completions bash")
        .stdout(full.into_parts().0)
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(5), "{}", show(&output));
}

#[test]
fn init_writes_a_pipeline_and_never_overwrites() {
    let sandbox = Sandbox::new();
    snapshot!(sandbox, "init My_Demo", @"");
    let pipeline = fs_err::read_to_string(sandbox.work().join("My_Demo/pipeline.yaml")).unwrap();
    assert!(pipeline.contains("\nname: my-demo\n"));
    fs_err::remove_file(sandbox.work().join("My_Demo/pipeline.yaml")).unwrap();
    snapshot!(sandbox, "init My_Demo", @"");
    assert!(!sandbox.work().join("My_Demo/pipeline.yaml").exists(), "all or nothing");
}
