use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::merged::Item;
use super::*;
use crate::event::Stream;
use crate::rollout::folders::replica;
use crate::runtime::LogKeep;
use crate::runtime::log::LogWriter;

/// Unix milliseconds at which everything begins.
const BEGIN: u64 = 1_700_000_000_000;

/// The services folder of a home.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn start(&self, number: u64, of: u32, start: u32, at: u64) -> (PathBuf, LogWriter) {
        let folder =
            replica(self.0.path(), &service(), release(number), of).join(start.to_string());
        fs_err::create_dir_all(&folder).unwrap();
        let order = fs_err::File::create(folder.join("order.json")).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(BEGIN + at);
        order.file().set_modified(time).unwrap();
        let log = LogWriter::keeping(&folder, 1 << 20, LogKeep::Latest);
        (folder, log)
    }

    fn look(&self, log: &mut MergedLog, releases: &[u64]) {
        let all = starts(self.0.path(), &service()).unwrap();
        let numbers = releases.iter().map(|number| (release(*number), *number)).collect();
        log.take(&all, &releases.iter().map(|number| release(*number)).collect(), &numbers);
    }
}

fn service() -> ServiceId {
    ServiceId { pipeline: "iris".parse().unwrap(), stage: "serve".parse().unwrap() }
}

fn release(number: u64) -> ReleaseId {
    ReleaseId::new(number, 0)
}

fn end(folder: &Path, end: &str) {
    let usage = r#"{"peak_memory":0,"cpu_ms":0,"wall_ms":0}"#;
    let report = format!(r#"{{"end":{end},"usage":{usage},"remarks":[]}}"#);
    fs_err::write(folder.join("end.json"), report).unwrap();
}

fn form() -> Form {
    Form {
        name: "serve".to_owned(),
        stream: None,
        shape: Shape::Visible,
        prefix: true,
        colour: false,
    }
}

fn lines(log: &mut MergedLog, all: bool) -> Vec<String> {
    let items = std::iter::from_fn(|| log.next(all).unwrap());
    items.map(|item| String::from_utf8(form().line(&item)).unwrap()).collect()
}

#[test]
fn replicas_are_interleaved_by_time_and_new_starts_say_why() {
    let home = Home::new();
    let (first, mut one) = home.start(4, 1, 1, 0);
    let (_, mut two) = home.start(4, 2, 1, 1);
    one.append(BEGIN + 10, Stream::Stdout, b"hello\n");
    two.append(BEGIN + 20, Stream::Stderr, b"hello \x1b[1mtoo\n");
    one.append(BEGIN + 30, Stream::Stdout, b"bye\n");
    end(&first, r#"{"exited":1}"#);
    let (_, mut again) = home.start(4, 1, 2, 40);
    again.append(BEGIN + 50, Stream::Stdout, b"again\nno end");
    home.start(3, 1, 1, 0);
    let mut log = MergedLog::new(None);
    home.look(&mut log, &[4]);
    assert_eq!(
        lines(&mut log, true),
        [
            "— replica 1 of release 4 started —",
            "— replica 2 of release 4 started —",
            "serve[1] | hello",
            "serve[2] | hello ␛[1mtoo",
            "serve[1] | bye",
            "— replica 1 of release 4 started anew (exit code 1) —",
            "serve[1] | again",
            "serve[1] | no end",
        ]
    );
    let mut log = MergedLog::new(Some(2));
    home.look(&mut log, &[4]);
    assert_eq!(lines(&mut log, true).len(), 2);
}

#[test]
fn who_follows_sees_restarts_and_new_releases() {
    let home = Home::new();
    let (first, mut one) = home.start(4, 1, 1, 0);
    let mut log = MergedLog::new(None);
    home.look(&mut log, &[4]);
    assert_eq!(lines(&mut log, false), ["— replica 1 of release 4 started —"]);
    one.append(BEGIN + 10, Stream::Stdout, b"one\nunfin");
    assert_eq!(lines(&mut log, false), ["serve[1] | one"]);
    one.append(BEGIN + 20, Stream::Stdout, b"ished");
    assert!(lines(&mut log, false).is_empty());
    end(&first, r#""cancelled""#);
    let (_, mut again) = home.start(4, 1, 2, 30);
    let (_, mut next) = home.start(5, 1, 1, 31);
    again.append(BEGIN + 40, Stream::Stdout, b"two\n");
    next.append(BEGIN + 41, Stream::Stdout, b"three\n");
    home.look(&mut log, &[4, 5]);
    home.look(&mut log, &[4, 5]);
    assert_eq!(
        lines(&mut log, false),
        [
            "serve[1] | unfinished",
            "— replica 1 of release 4 started anew (it was stopped) —",
            "— replica 1 of release 5 started —",
            "serve[1] | two",
            "serve[1] | three",
        ]
    );
    assert_eq!(log.sources.len(), 2, "what has ended is not held open");
}

#[test]
fn data_says_whose_line_it_is() {
    let home = Home::new();
    let (_, mut one) = home.start(4, 2, 3, 0);
    one.append(BEGIN + 10, Stream::Stderr, b"x\n");
    let mut log = MergedLog::new(None);
    home.look(&mut log, &[4]);
    let form = Form { shape: Shape::Json, ..form() };
    let items: Vec<Item> = std::iter::from_fn(|| log.next(true).unwrap()).collect();
    let value =
        |item: &Item| -> serde_json::Value { serde_json::from_slice(&form.line(item)).unwrap() };
    assert_eq!(value(&items[0])["started"], "replica 2 of release 4 started anew");
    let line = value(&items[1]);
    assert_eq!(
        (&line["release"], &line["replica"], &line["start"]),
        (&4.into(), &2.into(), &3.into())
    );
    assert_eq!((&line["stream"], &line["text"]), (&"stderr".into(), &"x".into()));
}
