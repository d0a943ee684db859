//! Secrets of a job, for what runs beside it and in logs of which the newest is kept.

use std::collections::BTreeMap;

use flowrun::event::{JobEnd, Stream};
use flowrun::runtime::log_lines::{LogEntry, read_entries};
use flowrun::runtime::{Beside, Job, LogKeep};
use flowrun::secret::{HandedSecret, SecretText};

use crate::fixture::{Home, end, go, stderr, stream, until};
use crate::on_both;

on_both!(
    a_command_beside_a_job_has_its_secrets_and_tells_none,
    of_a_log_with_parts_every_part_is_masked,
);

const VALUE: &str = "hunter2-and-more";
const LINES: &str = "first of the file\nsecond of the file\n";

fn secrets() -> Vec<HandedSecret> {
    let one = |variable: &str, value: &str, file| HandedSecret {
        variable: variable.to_owned(),
        value: SecretText::new(value.to_owned()),
        file,
    };
    vec![one("KEY", VALUE, false), one("CERT", LINES, true)]
}

fn beside(job: &Job, script: &str) -> Beside {
    Beside {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        directory: job.directory.clone(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())]),
    }
}

async fn a_command_beside_a_job_has_its_secrets_and_tells_none(home: &Home) {
    let mut job = home.sh("echo up; until test -e go; do sleep 0.01; done");
    job.secrets = secrets();
    let runtime = home.supervised();
    runtime.start(&job).await.unwrap();
    until("its first line", || !stream(&job, Stream::Stdout).is_empty()).await;
    // The second one was told nothing of the job's secrets: it found the job running.
    for runtime in [runtime, home.supervised()] {
        let script = format!(r#"test "$KEY" = {VALUE} && test "$(wc -l < "$CERT")" -eq 2"#);
        let asked = runtime.ask(&job.name, &beside(&job, &script)).await.unwrap();
        assert_eq!(asked, Ok(()));
        let script = r#"echo "no: $KEY"; cat "$CERT" >&2; printf %s "$KEY" | base64; exit 3"#;
        let said = runtime.ask(&job.name, &beside(&job, script)).await.unwrap().unwrap_err();
        let told = said.split_once(" exited with code 3: ").unwrap().1;
        let mut words: Vec<&str> = told.split(' ').collect();
        words.sort_unstable();
        assert_eq!(words, ["***", "***", "***", "no:"], "{said}");
    }
    go(&job);
    let runtime = home.supervised();
    assert_eq!(end(&*runtime, &job).await.end, JobEnd::Exited(0));
    assert!(runtime.ask(&job.name, &beside(&job, "true")).await.unwrap().is_err(), "it has ended");
}

async fn of_a_log_with_parts_every_part_is_masked(home: &Home) {
    let mut job =
        home.sh(r#"for at in $(seq 1 5000); do echo "$at is $KEY,"; done; cat "$CERT" >&2"#);
    (job.log_cap, job.log_keep) = (20_000, LogKeep::Latest);
    job.secrets = secrets();
    let runtime = home.runtime();
    runtime.start(&job).await.unwrap();
    assert_eq!(end(&*runtime, &job).await.end, JobEnd::Exited(0));
    let lines: Vec<String> = read_entries(&job.folder)
        .unwrap()
        .iter()
        .filter(|entry| entry.stream() == Stream::Stdout)
        .map(LogEntry::text)
        .collect();
    assert!(lines.len() > 100, "{}", lines.len());
    assert_eq!(lines.last().unwrap(), "5000 is ***,");
    let whole = &lines[2..];
    assert!(whole.iter().all(|line| line.ends_with(" is ***,")), "{whole:?}");
    assert!(!stderr(&job).contains("of the file"), "{}", stderr(&job));
    for file in fs_err::read_dir(&job.folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = fs_err::read(&path).unwrap();
            assert!(!bytes.windows(7).any(|at| at == b"hunter2"), "{}", path.display());
        }
    }
}
