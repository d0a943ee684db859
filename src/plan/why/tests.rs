use super::*;
use crate::event::KEY_FORMAT;
use crate::plan::testing::name;
use crate::scalar::Scalar;

fn parts() -> KeyParts {
    KeyParts {
        format: KEY_FORMAT,
        command: ["sh", "-e", "-c", "python train.py"].map(str::to_owned).to_vec(),
        env: [("THREADS".to_owned(), "2".to_owned())].into(),
        environment: Digest::of(b"environment"),
        platform: "linux/amd64".to_owned(),
        files: Digest::of(b"files"),
        inputs: [(
            name("dataset"),
            InputPart { digest: Digest::of(b"one"), path: "iris.csv".to_owned() },
        )]
        .into(),
        params: [(name("seed"), Scalar::plain("7"))].into(),
        matrix: [(name("trees"), Scalar::plain("50"))].into(),
        outputs: [(name("model"), "model".to_owned())].into(),
        metrics: Some("metrics.json".to_owned()),
        values: None,
        workdir: ".".to_owned(),
        network: "default".to_owned(),
        secrets: BTreeMap::new(),
        args: None,
    }
}

/// What `words` says after this change.
fn said(change: impl FnOnce(&mut KeyParts)) -> String {
    let mut is = parts();
    change(&mut is);
    words(&Reason::Changed(changes(&parts(), &is)))
}

#[test]
fn equal_parts_have_no_changes() {
    assert_eq!(changes(&parts(), &parts()), []);
}

#[test]
fn every_field_is_named() {
    let command = |text: &str| ["sh", "-e", "-c", text].map(str::to_owned).to_vec();
    let one = Digest::of(b"one").hex();
    let two = Digest::of(b"two").hex();
    let digests = format!("(b3:{}… → b3:{}…)", &one[..8], &two[..8]);
    for (is, expected) in [
        (said(|is| is.format = 0), "flowrun's own format changed".to_owned()),
        (
            said(|is| is.command = command("python fit.py")),
            "command: python train.py → python fit.py".to_owned(),
        ),
        (
            said(|is| is.command = vec!["python".to_owned(), "it's.py".to_owned()]),
            r"command: python train.py → python 'it'\''s.py'".to_owned(),
        ),
        (said(|is| is.command = command("one\ntwo")), "its command changed".to_owned()),
        (
            said(|is| drop(is.env.insert("THREADS".to_owned(), String::new()))),
            "env.THREADS: 2 → ''".to_owned(),
        ),
        (said(|is| is.environment = Digest::of(b"x")), "its environment changed".to_owned()),
        (
            said(|is| is.platform = "linux/arm64".to_owned()),
            "platform: linux/amd64 → linux/arm64".to_owned(),
        ),
        (said(|is| is.files = Digest::of(b"x")), "its files changed".to_owned()),
        (
            said(|is| is.inputs.values_mut().for_each(|part| part.digest = Digest::of(b"two"))),
            format!("inputs.dataset changed {digests}"),
        ),
        (
            said(|is| is.inputs.values_mut().for_each(|part| part.path = "./iris.csv".to_owned())),
            "inputs.dataset.path: iris.csv → ./iris.csv".to_owned(),
        ),
        (said(|is| is.inputs.clear()), "inputs.dataset is gone".to_owned()),
        (
            said(|is| drop(is.params.insert(name("seed"), Scalar::plain("8")))),
            "params.seed: 7 → 8".to_owned(),
        ),
        (
            said(|is| drop(is.params.insert(name("rate"), Scalar::plain("0.1")))),
            "params.rate: 0.1 is new".to_owned(),
        ),
        (said(|is| is.matrix.clear()), "matrix.trees is gone".to_owned()),
        (
            said(|is| drop(is.outputs.insert(name("model"), "out".to_owned()))),
            "outputs.model: model → out".to_owned(),
        ),
        (said(|is| is.metrics = None), "metrics is gone".to_owned()),
        (said(|is| is.values = Some("v.json".to_owned())), "values: v.json is new".to_owned()),
        (said(|is| is.workdir = "sub".to_owned()), "workdir: . → sub".to_owned()),
        (said(|is| is.network = "none".to_owned()), "network: default → none".to_owned()),
        (
            said(|is| drop(is.secrets.insert("KEY".to_owned(), "aws".to_owned()))),
            "secrets.KEY: aws is new".to_owned(),
        ),
        (said(|is| is.args = Some(vec!["a b".to_owned()])), "args: 'a b' is new".to_owned()),
        (
            said(|is| is.platform = format!("sha256:{}", "0a".repeat(32))),
            "platform: linux/amd64 → image 0a0a0a0a0a0a".to_owned(),
        ),
    ] {
        assert_eq!(is, expected);
    }
}

#[test]
fn images_go_by_short_ids() {
    let of = |platform: String| KeyParts { platform, ..parts() };
    let one = of(format!("sha256:{}", "0a".repeat(32)));
    let two = of(format!("sha256:{}", "1b".repeat(32)));
    let absent = of("absent:python:3.13".to_owned());
    let said = |was: &KeyParts, is: &KeyParts| words(&Reason::Changed(changes(was, is)));
    assert_eq!(said(&one, &two), "image: 0a0a0a0a0a0a → 1b1b1b1b1b1b");
    assert_eq!(said(&one, &absent), "image: 0a0a0a0a0a0a → python:3.13 (not here)");
    assert_eq!(said(&one, &one.clone()), "");
}

#[test]
fn changes_stand_in_the_order_of_the_type_and_many_are_counted() {
    let mut is = parts();
    is.workdir = "sub".to_owned();
    is.env.clear();
    is.params.clear();
    is.matrix.clear();
    is.files = Digest::of(b"x");
    let list = changes(&parts(), &is);
    let fields: Vec<&str> = list.iter().map(|change| change.field.as_str()).collect();
    assert_eq!(fields, ["env.THREADS", "files", "params.seed", "matrix.trees", "workdir"]);
    assert_eq!(
        words(&Reason::Changed(list)),
        "env.THREADS is gone, its files changed, params.seed is gone, 2 more changes"
    );
}

#[test]
fn reasons_read_well() {
    for (reason, expected) in [
        (Reason::FirstTime, "first run of this task"),
        (Reason::NoRecord, "the store has no record of it any more"),
        (Reason::NotCached(NotCached::NoOutputs), "not cached: has no outputs, metrics or values"),
        (Reason::Forced, "forced"),
        (
            Reason::Expired { age: std::time::Duration::from_millis(90_061_500) },
            "its record is 1d 1h old, more than `cache` allows",
        ),
        (Reason::Retry { of: 2 }, "retry of attempt 2"),
    ] {
        assert_eq!(words(&reason), expected);
    }
}
