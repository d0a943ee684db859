use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::prepare::prepare_with;
use super::*;
use crate::event::{Failure, SnapshotId};
use crate::source::Snapshot;
use crate::store::dir::DirStore;
use crate::store::{Store, Traffic};

/// A stage under test: what it asks for, and a store beside its attempt's folder.
struct Bench {
    folder: tempfile::TempDir,
    store: DirStore,
    snapshot: Snapshot,
    inputs: BTreeMap<InputName, InputPlace>,
    outputs: BTreeMap<OutputName, String>,
    traffic: Traffic,
    metrics: Option<&'static str>,
    values: Option<&'static str>,
    workdir: &'static str,
    /// Repo files: path from the root and text.
    files: Vec<(&'static str, &'static str)>,
}

impl Bench {
    fn new(base: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("attempt")).unwrap();
        let id = SnapshotId {
            tree: String::new(),
            commit: None,
            reference: None,
            dirty: false,
            base: base.to_owned(),
            origin: String::new(),
        };
        Self {
            store: DirStore::open(&folder.path().join("store"), folder.path()).unwrap(),
            snapshot: Snapshot {
                blobs: std::sync::Arc::default(),
                id,
                mirror: PathBuf::new(),
                files: Arc::default(),
                remarks: Vec::new(),
            },
            folder,
            inputs: BTreeMap::new(),
            outputs: BTreeMap::new(),
            metrics: None,
            values: None,
            workdir: ".",
            traffic: Traffic::default(),
            files: Vec::new(),
        }
    }

    fn attempt(&self) -> PathBuf {
        self.folder.path().join("attempt")
    }

    async fn stored(&self, bytes: &str) -> Digest {
        let path = self.folder.path().join("made");
        fs_err::write(&path, bytes).unwrap();
        let digest = self.store.take_in(&path, &self.traffic).await.unwrap().unwrap();
        fs_err::remove_file(path).unwrap();
        digest
    }

    async fn stored_folder(&self, name: &str, bytes: &str) -> Digest {
        let path = self.folder.path().join("made");
        fs_err::create_dir(&path).unwrap();
        fs_err::write(path.join(name), bytes).unwrap();
        let digest = self.store.take_in(&path, &self.traffic).await.unwrap().unwrap();
        fs_err::remove_dir_all(path).unwrap();
        digest
    }

    fn input(&mut self, name: &str, digest: Digest, path: Option<&str>) {
        let file_name = "dataset.csv".to_owned();
        let place = InputPlace { digest, path: path.map(str::to_owned), file_name };
        self.inputs.insert(name.parse().unwrap(), place);
    }

    fn output(&mut self, name: &str, path: &str) {
        self.outputs.insert(name.parse().unwrap(), path.to_owned());
    }

    fn order<'a>(&'a self, attempt: &'a Path) -> WorkOrder<'a> {
        WorkOrder {
            attempt,
            snapshot: &self.snapshot,
            files: &[],
            inputs: &self.inputs,
            outputs: &self.outputs,
            metrics: self.metrics,
            values: self.values,
            workdir: self.workdir,
            traffic: &self.traffic,
        }
    }

    async fn try_prepare(&self) -> Result<WorkFolder, Failure> {
        let attempt = self.attempt();
        let write = |folder: &Path| {
            for (path, text) in &self.files {
                let path = folder.join(path);
                fs_err::create_dir_all(path.parent().unwrap()).unwrap();
                match text.strip_prefix("-> ") {
                    Some(target) => symlink(target, path).unwrap(),
                    None => fs_err::write(path, text).unwrap(),
                }
            }
            Ok(())
        };
        prepare_with(&self.order(&attempt), &self.store, write).await.unwrap()
    }

    async fn prepare(&self) -> WorkFolder {
        self.try_prepare().await.unwrap()
    }

    async fn why_not(&self) -> String {
        match self.try_prepare().await {
            Err(Failure::WorkFolder { why }) => why,
            other => panic!("{other:?}"),
        }
    }

    async fn collect(&self) -> Result<Collected, Failure> {
        let is_secret = |text: &str| text.contains("hunter22");
        collect(&self.order(&self.attempt()), &self.store, &is_secret).await.unwrap()
    }

    async fn text_of(&self, digest: &Digest) -> String {
        let target = self.folder.path().join("back");
        self.store.place(digest, &target, true, &self.traffic).await.unwrap();
        let text = fs_err::read_to_string(&target).unwrap();
        fs_err::remove_file(target).unwrap();
        text
    }
}

fn mode(path: &Path) -> u32 {
    fs_err::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn name(text: &str) -> OutputName {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_work_folder_has_everything_in_its_place() {
    let mut bench = Bench::new("models/iris");
    bench.files = vec![("models/iris/train.py", "print()"), ("lib/x.py", "")];
    let (file, folder) = (bench.stored("1,2").await, bench.stored_folder("x", "y").await);
    bench.input("dataset", file, None);
    bench.input("parts", folder, None);
    bench.input("placed", file, Some("data/raw/in.csv"));
    bench.input("model", folder, Some("./model/"));
    bench.output("report", "out/deep/report.html");
    bench.output("plain", "plain.txt");
    bench.metrics = Some("numbers/metrics.json");
    bench.values = Some("values.json");
    bench.workdir = "out/deep";
    let made = bench.prepare().await;

    let base = bench.attempt().join("work/models/iris");
    assert_eq!(made.base, base);
    assert_eq!(made.directory, base.join("out/deep"));
    assert_eq!(made.home, bench.attempt().join("home"));
    assert_eq!(mode(&made.home), 0o700);
    let inputs = bench.attempt().join("inputs");
    let paths: Vec<&PathBuf> = made.inputs.values().collect();
    let expected = [
        &inputs.join("dataset/dataset.csv"),
        &base.join("model"),
        &inputs.join("parts"),
        &base.join("data/raw/in.csv"),
    ];
    assert_eq!(paths, expected);
    assert_eq!(fs_err::read_to_string(paths[0]).unwrap(), "1,2");
    assert_eq!(fs_err::read_to_string(paths[1].join("x")).unwrap(), "y");
    assert_eq!(mode(paths[3]), 0o444);
    assert_eq!(made.outputs[&name("report")], base.join("out/deep/report.html"));
    assert_eq!(made.outputs[&name("plain")], base.join("plain.txt"));
    assert!(base.join("numbers").is_dir() && !base.join("plain.txt").exists());
    assert!(bench.attempt().join("work/lib/x.py").exists());
}

#[tokio::test]
async fn a_crashed_try_leaves_nothing_in_the_next() {
    let mut bench = Bench::new("");
    let digest = bench.stored("1,2").await;
    bench.input("dataset", digest, None);
    bench.files = vec![("train.py", "new")];
    let kept = bench.folder.path().join("kept");
    fs_err::create_dir(&kept).unwrap();
    fs_err::write(kept.join("mine"), "mine").unwrap();
    let first = bench.prepare().await;
    fs_err::create_dir_all(first.base.join("shut/inner")).unwrap();
    symlink(&kept, first.base.join("shut/link")).unwrap();
    fs_err::write(first.home.join("left"), "").unwrap();
    fs_err::set_permissions(first.base.join("shut"), PermissionsExt::from_mode(0o500)).unwrap();
    assert_eq!(bench.prepare().await, first);
    assert!(!first.base.join("shut").exists() && !first.home.join("left").exists());
    assert!(kept.join("mine").exists());
    remove(&bench.attempt()).unwrap();
    remove(&bench.attempt()).unwrap();
    assert_eq!(fs_err::read_dir(bench.attempt()).unwrap().count(), 0);
}

#[tokio::test]
async fn mistakes_of_a_stage_are_told() {
    let mut bench = Bench::new("");
    bench.files = vec![("data/in.csv", "repo"), ("file", "x"), ("away", "-> /tmp")];
    let digest = bench.stored("1,2").await;
    bench.input("dataset", digest, Some("data/in.csv"));
    assert!(bench.why_not().await.contains("input `dataset` would lie over `data/in.csv`"));
    bench.input("dataset", digest, Some("away/in.csv"));
    let why = bench.why_not().await;
    assert!(why.contains("`away` is a file or a link") && why.contains("`dataset`"), "{why}");
    bench.input("dataset", digest, Some("a/b"));
    bench.input("other", digest, Some("a/b/"));
    assert!(bench.why_not().await.contains("inputs `dataset` and `other` would lie at one path"));
    bench.input("other", digest, Some("a"));
    assert!(bench.why_not().await.contains("would lie at one path, or one inside"));
    bench.input("other", digest, Some("a/b c"));
    bench.prepare().await;
    bench.inputs.clear();
    bench.output("out", "file/out");
    assert!(bench.why_not().await.contains("`file` is a file or a link"));
    bench.outputs.clear();
    bench.output("out", "away/out");
    assert!(bench.why_not().await.contains("output `out` cannot lie there"));
    bench.outputs.clear();
    bench.workdir = "nowhere";
    assert!(bench.why_not().await.contains("folder `nowhere` (`workdir`) does not exist"));
    bench.workdir = "file";
    assert!(bench.why_not().await.contains("`workdir` cannot lie there"));
}

#[tokio::test]
async fn what_a_stage_left_is_collected_and_can_be_collected_again() {
    let mut bench = Bench::new("base");
    bench.output("model", "model/");
    bench.output("report", "report.txt");
    bench.metrics = Some("metrics.json");
    bench.values = Some("values.json");
    let made = bench.prepare().await;
    fs_err::create_dir(made.base.join("model")).unwrap();
    fs_err::write(made.base.join("model/run.sh"), "echo").unwrap();
    fs_err::set_permissions(made.base.join("model/run.sh"), PermissionsExt::from_mode(0o755))
        .unwrap();
    fs_err::write(made.base.join("report.txt"), "fine").unwrap();
    fs_err::write(made.base.join("metrics.json"), r#"{"accuracy": 0.93}"#).unwrap();
    fs_err::write(made.base.join("values.json"), r#"{"kind": "tree"}"#).unwrap();
    let collected = bench.collect().await.unwrap();
    assert_eq!(collected.metrics["accuracy"].to_bits(), 0.93f64.to_bits());
    assert_eq!(collected.values["kind"].to_string(), "tree");
    assert_eq!(bench.text_of(&collected.outputs[&name("report")]).await, "fine");
    // flowrun died before it could say so; the next one collects again.
    assert_eq!(bench.collect().await.unwrap(), collected);
    remove(&bench.attempt()).unwrap();
    assert_eq!(bench.text_of(&collected.outputs[&name("report")]).await, "fine");
    let entries = bench.store.entries(&collected.outputs[&name("model")]).await.unwrap();
    assert_eq!(entries[0].path, "run.sh");
}

#[tokio::test]
async fn a_failed_attempt_keeps_its_work_folder_as_it_was() {
    let mut bench = Bench::new("");
    bench.output("good", "good.txt");
    bench.output("other", "other/");
    bench.metrics = Some("m.json");
    let made = bench.prepare().await;
    let good = made.base.join("good.txt");
    fs_err::write(&good, "good").unwrap();
    let missing = Failure::OutputMissing { output: name("other"), path: "other/".to_owned() };
    assert_eq!(bench.collect().await, Err(missing));

    let other = made.base.join("other");
    fs_err::create_dir(&other).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, other.join("pipe"), rustix::fs::Mode::RWXU).unwrap();
    let Err(Failure::OutputRefused { output, path, why }) = bench.collect().await else {
        panic!("not refused")
    };
    assert_eq!((output, path.as_str()), (name("other"), "other/pipe"));
    assert!(why.starts_with("is a FIFO"), "{why}");

    fs_err::remove_dir_all(&other).unwrap();
    symlink(bench.folder.path(), &other).unwrap();
    let Err(Failure::OutputRefused { path, why, .. }) = bench.collect().await else {
        panic!("not refused")
    };
    assert!(path == "other" && why.contains("is a symbolic link"), "{path} {why}");

    fs_err::remove_file(&other).unwrap();
    fs_err::create_dir(&other).unwrap();
    fs_err::write(made.base.join("m.json"), r#"{"loss": NaN}"#).unwrap();
    let Err(Failure::MetricsInvalid { why }) = bench.collect().await else { panic!("not invalid") };
    assert!(why.contains("`loss` is NaN"), "{why}");
    assert_eq!(mode(&good), 0o644);
    assert_eq!(bench.store.summary().await.unwrap().files, 0);
    fs_err::write(made.base.join("m.json"), "{}").unwrap();
    assert_eq!(bench.collect().await.unwrap().outputs.len(), 2);
}

#[tokio::test]
async fn an_output_behind_a_link_is_not_taken() {
    let mut bench = Bench::new("");
    bench.output("out", "sub/out");
    let made = bench.prepare().await;
    let elsewhere = bench.folder.path().join("elsewhere");
    fs_err::create_dir(&elsewhere).unwrap();
    fs_err::write(elsewhere.join("out"), "not the stage's").unwrap();
    fs_err::remove_dir(made.base.join("sub")).unwrap();
    symlink(&elsewhere, made.base.join("sub")).unwrap();
    let Err(Failure::OutputRefused { why, .. }) = bench.collect().await else {
        panic!("not refused")
    };
    assert!(why.contains("lies behind `sub`"), "{why}");
    assert_eq!(mode(&elsewhere.join("out")), 0o644);
}

#[tokio::test]
async fn a_stage_that_writes_into_its_input_is_found_out() {
    let mut bench = Bench::new("");
    let (quiet, loud) = (bench.stored("quiet").await, bench.stored_folder("x", "loud").await);
    bench.input("quiet", quiet, None);
    bench.input("loud", loud, Some("in"));
    let made = bench.prepare().await;
    assert_eq!(bench.collect().await.map(|collected| collected.outputs.len()), Ok(0));
    let file = made.base.join("in/x");
    fs_err::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    fs_err::write(&file, "LOUD").unwrap();
    if made.placed.values().all(Vec::is_empty) {
        // This filesystem has reflinks: nothing was shared.
        assert!(bench.collect().await.is_ok());
        return;
    }
    let changed = Failure::InputChanged { input: "loud".parse().unwrap() };
    assert_eq!(bench.collect().await, Err(changed.clone()));
    assert_eq!(bench.collect().await, Err(changed));
    assert_eq!(bench.store.summary().await.unwrap().quarantined, 1);
}

#[tokio::test]
async fn an_input_can_be_handed_on_as_an_output() {
    let mut bench = Bench::new("");
    let digest = bench.stored("bytes").await;
    bench.input("dataset", digest, Some("data/in"));
    bench.output("same", "data/in");
    bench.output("linked", "linked");
    let made = bench.prepare().await;
    fs_err::hard_link(made.base.join("data/in"), made.base.join("linked")).unwrap();
    let collected = bench.collect().await.unwrap();
    assert_eq!(collected.outputs[&name("same")], digest);
    assert_eq!(collected.outputs[&name("linked")], digest);
}
