//! Secrets: from the command line to the stage, and never anywhere else.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::place::{Output, Place};

const VALUE: &str = "correct-horse-battery-staple";

/// Sets a value through stdin.
pub(crate) fn set(place: &Place, words: &str, value: &str) -> Output {
    place.shell(&format!("printf '%s\\n' '{value}' | \"$FLOWRUN\" secret set {words}"))
}

fn versions(place: &Place) -> Vec<String> {
    let all = place.json(&["secret", "ls", "-o", "json"]);
    let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = all.as_array().unwrap().iter();
    rows.map(|row| {
        format!(
            "{}/{}#{} {}",
            text(row, "group"),
            text(row, "name"),
            text(row, "entry"),
            row["version"]
        )
    })
    .collect()
}

/// Files below a folder that hold a text. What goes while it is looked at holds none.
pub(crate) fn holding(folder: &Path, text: &str) -> Vec<std::path::PathBuf> {
    let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(|entry| match entry {
        Err(error) if error.io_error().is_some_and(is_gone) => None,
        entry => Some(entry.unwrap()),
    });
    let files: Vec<_> = files.filter(|entry| entry.file_type().is_file()).collect();
    assert!(files.len() > 3, "nothing was looked at");
    let holds = |path: &Path| match fs_err::read(path) {
        Err(error) if is_gone(&error) => false,
        bytes => bytes.unwrap().windows(text.len()).any(|window| window == text.as_bytes()),
    };
    files.into_iter().map(walkdir::DirEntry::into_path).filter(|path| holds(path)).collect()
}

#[test]
fn a_value_is_set_from_every_source_and_listed_without_it() {
    let place = Place::new();
    set(&place, "aws KEY", VALUE).success();
    place.write("value", VALUE);
    place.write("aws.env", "A='one-value'\nB=two-value\n");
    place.line("secret set tls KEY --from-file value").success();
    let given = [("HUSH", VALUE)];
    place
        .run_with(&given, &["secret", "set", "--group", "g", "db", "PW", "--from-variable", "HUSH"])
        .success();
    place.line("secret set many --env-file aws.env").success();
    assert_eq!(
        versions(&place),
        ["/aws#KEY 1", "/many#A 1", "/many#B 1", "/tls#KEY 1", "g/db#PW 1"]
    );
    assert_eq!(
        place.json(&["secret", "ls", "--group", "g", "-o", "json"]).as_array().unwrap().len(),
        1
    );

    // The same value is no new version, another one is.
    let same = set(&place, "aws KEY", VALUE).success();
    assert!(same.stderr.contains("unchanged: `aws#KEY`, version 1"), "{}", same.stderr);
    let other = set(&place, "aws KEY", "another value").success();
    assert!(other.stderr.contains("set `aws#KEY`, version 2"), "{}", other.stderr);

    let table = place.line("secret ls").success().stdout;
    assert!(table.contains("aws") && !table.contains(VALUE), "{table}");
    assert_eq!(holding(&place.home(), VALUE), Vec::<std::path::PathBuf>::new());

    let mode = fs_err::metadata(place.home().join("key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let doctor = place.line("doctor").stdout;
    assert!(doctor.contains("for you alone; 5 entries are sealed"), "{doctor}");
}

/// Runs a command on a terminal of its own, types when it asks, and says how it ended and all that the terminal showed.
fn at_a_terminal(place: &Place, command: &str, typed: &[u8]) -> (i32, String) {
    let mut script = std::process::Command::new("script");
    script.args(["-q", "-e", "-c", command, "/dev/null"]).current_dir(place.folder());
    script.env("FLOWRUN_HOME", place.home());
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = script.spawn().expect("util-linux has `script`");
    let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut shown = Vec::new();
    let mut piece = [0; 512];
    loop {
        let count = screen.read(&mut piece).unwrap();
        let asked_before = String::from_utf8_lossy(&shown).contains("(not shown)");
        shown.extend_from_slice(&piece[..count]);
        if count == 0 {
            break;
        }
        if !asked_before && String::from_utf8_lossy(&shown).contains("(not shown)") {
            keys.write_all(typed).unwrap();
        }
    }
    let code = script.wait().unwrap().code().unwrap();
    (code, String::from_utf8(shown).unwrap())
}

#[test]
fn what_is_typed_is_not_shown_and_nothing_is_left_for_the_shell() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_flowrun");
    let ask = |typed: &str| {
        // What is typed too much would be the answer to `read`.
        let command = format!(
            "{program} secret set aws KEY; code=$?; stty -a; (read -t 0 && read rest; echo \"rest:$rest\"); exit $code"
        );
        at_a_terminal(&place, &format!("bash -c '{command}'"), typed.as_bytes())
    };
    for _ in 0..5 {
        let (code, shown) = ask(&format!("{VALUE}\n"));
        assert_eq!(code, 0, "{shown}");
        assert!(!shown.contains(VALUE), "{shown}");
        assert!(shown.contains(" echo ") && shown.contains(" icanon "), "as before: {shown}");
    }
    assert_eq!(versions(&place), ["/aws#KEY 1"], "the same value");
    let (code, shown) = ask("first-line\nsecond-line\nthird-line\n");
    assert_eq!(code, 2, "{shown}");
    assert!(shown.contains("more than one line was typed"), "{shown}");
    assert!(!shown.contains("-line") && shown.contains("rest:\r"), "{shown}");
    let (code, shown) = ask("half-a-value\u{3}");
    assert_eq!(code, 130, "{shown}");
    assert!(!shown.contains("half") && shown.contains(" echo "), "{shown}");
    assert_eq!(versions(&place), ["/aws#KEY 1"]);
}

#[test]
fn a_value_is_never_an_argument() {
    let place = Place::new();
    for line in [format!("secret set aws KEY {VALUE}"), format!("secret set aws KEY={VALUE}")] {
        let output = place.line(&line);
        assert_eq!(output.code, 2, "{}", output.stderr);
        assert!(output.stderr.contains("a value cannot be an argument"), "{}", output.stderr);
        assert!(output.stderr.contains("flowrun secret set aws KEY`"), "{}", output.stderr);
        assert!(!output.stderr.contains(VALUE), "{}", output.stderr);
    }
    let empty = place.line("secret set aws KEY");
    assert_eq!(empty.code, 2);
    assert!(empty.stderr.contains("the value of `aws#KEY` is empty"), "{}", empty.stderr);
    let short = set(&place, "aws KEY", "abc").success();
    assert!(short.stderr.contains("shorter than 4 bytes"), "{}", short.stderr);
}

#[test]
fn removing_asks_and_remembers_the_version() {
    let place = Place::new();
    set(&place, "aws A", VALUE).success();
    set(&place, "aws B", VALUE).success();
    let asked = place.line("secret rm aws");
    assert_eq!(asked.code, 2, "{}", asked.stderr);
    assert!(asked.stderr.contains("`aws#A` and `aws#B`"), "{}", asked.stderr);
    place.line("secret rm aws A --yes").success();
    assert_eq!(versions(&place), ["/aws#B 1"]);
    let gone = place.line("secret rm aws A --yes");
    assert_eq!(gone.code, 2);
    assert!(gone.stderr.contains("there is no secret `aws#A`"), "{}", gone.stderr);
    set(&place, "aws A", "new value").success();
    assert_eq!(versions(&place), ["/aws#A 2", "/aws#B 1"]);
}

const PIPELINE: &str = r#"version: "2"
name: hush
stages:
  first:
    run: touch "$MARK"
    env: {MARK: started}
  second:
    needs: [first]
    run: "true"
    secrets:
      KEY: aws
      OTHER: g/db#PW
      MAYBE: {secret: none, entry: X, optional: true}
  clean:
    run: "true"
    secrets: {TOKEN: hook}
on_exit: clean
"#;

#[test]
fn everything_missing_is_said_before_anything_starts() {
    let place = Place::with(PIPELINE);
    for command in ["plan", "apply"] {
        let output = place.line(command);
        assert_eq!(output.code, 5, "{command}: {}", output.stderr);
        for line in [
            "3 secrets cannot be had",
            "stage `clean`: secret `hook#TOKEN` is not set",
            "  flowrun secret set aws KEY",
            "  flowrun secret set --group g db PW",
            "  flowrun secret set hook TOKEN",
        ] {
            assert!(output.stderr.contains(line), "{command}: {line}: {}", output.stderr);
        }
        assert!(!output.stderr.contains("none#X"), "{}", output.stderr);
    }
    assert!(place.runs().is_empty(), "no run was made");
    for words in ["aws KEY", "--group g db PW", "hook TOKEN"] {
        set(&place, words, VALUE).success();
    }
    place.line("apply").success();

    // Another key opens nothing, and that is said before anything starts, too.
    let other = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    let output = place.run_with(&[("FLOWRUN_KEY", other)], &["apply"]);
    assert_eq!(output.code, 5, "{}", output.stderr);
    assert!(!output.stderr.contains("AGE-SECRET-KEY-1GFP"), "{}", output.stderr);
    fs_err::remove_file(place.home().join("key")).unwrap();
    let output = place.line("apply");
    assert_eq!(output.code, 5);
    assert!(output.stderr.contains("is not there"), "{}", output.stderr);
    let output = set(&place, "new ENTRY", VALUE);
    assert_eq!(output.code, 5, "no second key is made: {}", output.stderr);
    assert_eq!(place.runs().len(), 1);
}

const USING: &str = r#"version: "2"
name: hush
stages:
  use:
    run: |
      printf '%s' "$KEY" | wc -c > out
      wc -c < "$FILE" >> out
      echo "it is $KEY"
    outputs: {out: out}
    secrets:
      KEY: aws
      FILE: {secret: aws, entry: KEY, file: true}
"#;

#[test]
fn a_stage_has_the_value_and_nothing_else_keeps_it() {
    let place = Place::with(USING);
    set(&place, "aws KEY", VALUE).success();
    place.line("apply").success();
    let length = VALUE.len().to_string();
    let lengths = place.output("use", "out");
    assert_eq!(lengths.split_whitespace().collect::<Vec<_>>(), [&length, &length]);
    for line in [
        "status",
        "status -o json",
        "why latest use",
        "logs latest use",
        "runs -o json",
        "debug latest use -- env",
    ] {
        let output = place.line(line);
        assert!(!format!("{}{}", output.stdout, output.stderr).contains(VALUE), "{line}");
    }
    assert!(place.line("logs latest use").success().stdout.contains("it is ***"));
    assert_eq!(holding(&place.home(), VALUE), Vec::<std::path::PathBuf>::new());

    // A new value is no reason to do it again.
    set(&place, "aws KEY", "another-value-by-far").success();
    place.line("apply").success();
    assert_eq!(place.states(), ["use reused"]);

    let shown = place.run(&[
        "debug",
        "latest",
        "use",
        "--secrets",
        "--",
        "sh",
        "-c",
        "cat \"$FILE\"; echo \" $KEY\"",
    ]);
    assert_eq!(shown.success().stdout, "another-value-by-far another-value-by-far\n");
    assert_eq!(holding(&place.home(), "another-value-by-far"), Vec::<std::path::PathBuf>::new());
}

/// A stage that stops at the first value until the file `go` is there, and then fails; with another one it is done.
const CHANGING: &str = r#"version: "2"
name: hush
stages:
  use:
    run: |
      if test "$KEY" = value-number-1; then
        touch "$OUTSIDE/seen"
        until test -e "$OUTSIDE/go"; do sleep 0.05; done
        exit 3
      fi
      echo "now $KEY" | tee out
    outputs: {out: out}
    secrets: {KEY: aws}
    env: {OUTSIDE: "FOLDER"}
    retries: 1
"#;

/// A run whose first attempt has the first value and waits.
fn changing() -> (Place, std::path::PathBuf, crate::place::Running) {
    let place = Place::repo();
    let outside = place.outside("told");
    fs_err::create_dir(&outside).unwrap();
    place.write("pipeline.yaml", &CHANGING.replace("FOLDER", outside.to_str().unwrap()));
    place.commit("first");
    set(&place, "aws KEY", "value-number-1").success();
    let apply = place.spawn(&["apply"]);
    Place::await_path(&outside.join("seen"));
    (place, outside, apply)
}

#[test]
fn a_retry_gets_the_value_of_its_moment() {
    let (place, outside, apply) = changing();
    // The stage has it among its variables, and no process of flowrun has.
    let program = env!("CARGO_BIN_EXE_flowrun");
    let mut looked_at = 0;
    for process in fs_err::read_dir("/proc").unwrap().map(Result::unwrap) {
        if fs_err::read_link(process.path().join("exe")).is_ok_and(|exe| exe == Path::new(program))
        {
            for file in ["environ", "cmdline"] {
                let bytes = fs_err::read(process.path().join(file)).unwrap_or_default();
                assert!(!bytes.windows(13).any(|at| at == b"value-number-"), "{process:?}");
            }
            looked_at += 1;
        }
    }
    assert!(looked_at >= 2, "apply and its monitor");
    set(&place, "aws KEY", "value-number-2").success();
    fs_err::write(outside.join("go"), "").unwrap();
    let output = apply.finish().success();
    assert!(output.stderr.contains("now ***"), "{}", output.stderr);
    assert_eq!(place.output("use", "out"), "now value-number-2\n");
}

#[test]
fn a_secret_that_vanished_fails_the_attempt_and_resume_goes_on() {
    let (place, outside, apply) = changing();
    place.line("secret rm aws KEY --yes").success();
    fs_err::write(outside.join("go"), "").unwrap();
    let output = apply.finish();
    assert_eq!(output.code, 4, "{}", output.stderr);
    let why = "secret `aws#KEY` is not set; set it with `flowrun secret set aws KEY`";
    assert!(output.stderr.contains(why), "{}", output.stderr);
    // Said before anything starts.
    let output = place.line("resume");
    assert_eq!(output.code, 5, "{}", output.stderr);
    assert!(output.stderr.contains("secret `aws#KEY` is not set"), "{}", output.stderr);
    set(&place, "aws KEY", "value-number-3").success();
    place.line("resume").success();
    assert_eq!(place.output("use", "out"), "now value-number-3\n");
}

#[test]
fn a_slip_in_a_name_is_answered_with_the_right_one() {
    let place = Place::with(&PIPELINE.replace("aws", "asw"));
    for words in ["aws KEY", "--group g db PW", "hook TOKEN"] {
        set(&place, words, VALUE).success();
    }
    let output = place.line("apply");
    assert_eq!(output.code, 5);
    assert!(
        output.stderr.contains("secret `asw#KEY` is not set; did you mean `aws#KEY`?"),
        "{}",
        output.stderr
    );
    for (line, help) in [
        ("secret rm aws KYE --yes", "did you mean `flowrun secret rm aws KEY`?"),
        ("secret rm db PW --yes", "did you mean `flowrun secret rm --group g db PW`?"),
        ("secret rm g/db --yes", "did you mean `flowrun secret rm --group g db`?"),
        ("secret set g/db PW", "write `flowrun secret set --group g db PW`"),
        ("secret set aws#KEY", "write `flowrun secret set aws KEY`"),
    ] {
        let output = place.line(line);
        assert_eq!(output.code, 2, "{line}");
        assert!(output.stderr.contains(help), "{line}: {}", output.stderr);
    }
    let doctor = place.run_with(&[("FLOWRUN_KEY", "rubbish")], &["doctor"]).stdout;
    assert!(doctor.contains("`FLOWRUN_KEY` holds no key"), "{doctor}");
    assert!(doctor.contains("that begins with `AGE-SECRET-KEY-1`"), "{doctor}");
}
