//! Who owns what containers make: a caller who is not root, and the users of images.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::container_shop::docker;
use crate::containers::{Harbour, PYTHON};
use crate::place::{Output, Place};

/// A user without a name and without a home, who may use the engine.
const SOMEBODY: &str = "64321";

/// Nothing unless this test is root, who alone can be somebody else.
fn as_somebody(harbour: &Harbour, arguments: &[&str]) -> Output {
    let place = &harbour.place;
    let program = place.outside("flowrun");
    if !program.exists() {
        // Not by this process: a child that another test forks meanwhile would have the copy open for writing.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_flowrun")).arg(&program).status();
        assert!(copied.unwrap().success());
        let root = program.parent().unwrap();
        let given = Command::new("chown").args(["-R", "64321:64321"]).arg(root).status().unwrap();
        assert!(given.success());
    }
    let group = fs_err::metadata("/var/run/docker.sock").unwrap().gid().to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", SOMEBODY, "--regid", SOMEBODY, "--groups", &group])
        .arg(&program)
        .args(arguments);
    place.dress(&mut command);
    command.env("FLOWRUN", &program).env("HOME", "/nowhere");
    command.env_remove("USER").env_remove("LOGNAME");
    Output::of(&mut command)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Everything below a folder that belongs to somebody else.
fn not_somebodys(place: &Place) -> Vec<std::path::PathBuf> {
    let root = place.home();
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.metadata().unwrap().uid().to_string() != SOMEBODY)
        .map(walkdir::DirEntry::into_path)
        .collect()
}

#[test]
fn a_caller_who_is_not_root_owns_everything_that_stages_make() {
    if !is_root() {
        return;
    }
    let stages = r#"  make:
    run: ["sh", "-c", "echo $USER $LOGNAME $HOME > \"$FLOWRUN_OUTPUT_WHO\"; echo x > \"$HOME/x\"; echo x > /tmp/x"]
    files: []
    outputs: {who: who.txt}
  by_image:
    image: "IMAGE"
    run: ["sh", "-c", "umask 077; id -u > \"$FLOWRUN_OUTPUT_ID\"; mkdir deep; echo x > deep/x"]
    files: []
    outputs: {id: id.txt}
    container: {user: image, root: writable}
"#;
    let harbour = Harbour::new("nobody", &stages.replace("IMAGE", PYTHON));
    let said = as_somebody(&harbour, &["apply", "--runtime", "docker", "--keep-work"]);
    said.success();
    assert_eq!(not_somebodys(&harbour.place), Vec::<std::path::PathBuf>::new());
    let output = |task: &str, name: &str| {
        let status = as_somebody(&harbour, &["status", "latest", "-o", "json"]).success().stdout;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let tasks = status["tasks"].as_array().unwrap();
        let row = tasks.iter().find(|row| row["task"] == task).unwrap();
        let digest = row["outputs"][name].as_str().unwrap().to_owned();
        let target = harbour.place.outside(name);
        as_somebody(&harbour, &["store", "get", &digest, target.to_str().unwrap()]).success();
        fs_err::read_to_string(target).unwrap()
    };
    assert_eq!(output("make", "who"), format!("{SOMEBODY} {SOMEBODY} /home/stage\n"));
    assert_eq!(output("by_image", "id"), "0\n", "the image's own user made it");
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_given_back_is_a_failure_with_its_mend() {
    if !is_root() {
        return;
    }
    let tag = format!("flowrun-test/without-chown:{}", std::process::id());
    let stages = format!(
        r#"  by_image:
    image: "{tag}"
    run: ["sh", "-c", "umask 077; mkdir deep; echo x > deep/x; echo x > \"$FLOWRUN_OUTPUT_ID\""]
    files: []
    outputs: {{id: id.txt}}
    container: {{user: image, root: writable}}
"#
    );
    let harbour = Harbour::new("kept", &stages);
    let file = harbour.place.outside("Dockerfile");
    fs_err::write(&file, format!("FROM {PYTHON}\nRUN rm /bin/chown\n")).unwrap();
    let build = ["build", "-q", "--network", "none", "-t", &tag, "-f", file.to_str().unwrap()];
    docker(&[&build[..], &[harbour.place.folder().to_str().unwrap()]].concat());
    let said = as_somebody(&harbour, &["apply", "--runtime", "docker"]);
    docker(&["rmi", &tag]);
    assert_eq!(said.code, 4, "{}", said.stderr);
    assert!(
        said.stderr.contains("cannot be given back to you: its image has no `chown`"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("`id.txt` cannot be read by you"), "{}", said.stderr);
    assert!(said.stderr.contains("leave out `container: {user: image}`"), "{}", said.stderr);
    let settings = "[keep]\nruns = 0\ndays = 0\n";
    fs_err::write(harbour.place.folder().join("flowrun.toml"), settings).unwrap();
    let said = as_somebody(&harbour, &["gc"]).success();
    assert!(said.stderr.contains("stays: ") && said.stderr.contains("as root"), "{said:?}");
}
