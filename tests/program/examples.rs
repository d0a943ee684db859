//! The pipelines that ship with flowrun, with their real packages, and `init`.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::place::Place;
use crate::ports::free_port;
use crate::shop::{get, post};

/// Each of them keeps the machine busy with large packages: one at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A place with an example.
pub(crate) struct Example {
    place: Place,
    /// By the ports that the files name, those that their services have here: other checkouts run the same examples.
    ports: BTreeMap<u16, u16>,
    // Dropped after the place, which takes its services down.
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Example {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Example {
    /// Where the service answers to which the file gives this port.
    pub(crate) fn port(&self, named: u16) -> u16 {
        self.ports[&named]
    }
}

/// The file with free ports, also where another stage names one behind a host's name.
fn with_free_ports(text: &str, ports: &mut BTreeMap<u16, u16>) -> String {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("port: ")?.parse().ok());
    let mut text = text.to_owned();
    for port in named.collect::<Vec<u16>>() {
        let free = *ports.entry(port).or_insert_with(free_port);
        text = text.replace(&format!(" port: {port}\n"), &format!(" port: {free}\n"));
        text = text.replace(&format!(":{port}/"), &format!(":{free}/"));
    }
    text
}

/// A repo with one of the example pipelines in it.
pub(crate) fn example(name: &str) -> Example {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::repo();
    let mut ports = BTreeMap::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name);
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let file = path.file_name().unwrap().to_str().unwrap();
            let mut text = fs_err::read_to_string(&path).unwrap();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                text = with_free_ports(&text, &mut ports);
            }
            place.write(&format!("pipelines/{name}/{file}"), &text);
        }
    }
    place.commit("first");
    Example { place, ports, _turn: turn }
}

#[test]
fn iris_trains_and_judges_a_model() {
    let place = example("iris");
    place.run(&["apply", "pipelines/iris"]).success();
    let states = place.states();
    assert_eq!(states[..4], ["prepare done", "train done", "evaluate done", "serve done"]);
    let flower = r#"{"flowers": [[5.1, 3.5, 1.4, 0.2]]}"#;
    let (code, answer) = post(place.port(8000), "/predict", flower).unwrap();
    assert_eq!((code, answer.as_str()), (200, "{\"species\": [\"setosa\"]}\n"));
    assert_eq!(post(place.port(8000), "/predict", "nonsense").unwrap().0, 400);
    let accuracy = place.tasks()[2]["metrics"]["accuracy"].as_f64().unwrap();
    assert!((0.8..=1.0).contains(&accuracy), "{accuracy}");

    place.run(&["apply", "pipelines/iris", "--param", "trees=20"]).success();
    assert_eq!(place.states()[..2], ["prepare reused", "train done"]);
    let (_, trees) = get(place.port(8000), "/readyz").unwrap();
    assert_eq!(trees, "{\"trees\": 20}\n", "the new model answers");
    let worse = place.run(&["apply", "pipelines/iris", "--param", "trees=1"]);
    assert_eq!(worse.code, 6, "{}", worse.stderr);
    assert_eq!(get(place.port(8000), "/readyz").unwrap().1, trees, "it still does");
    let difference = place.run(&["runs", "diff", "latest~1", "latest"]);
    let difference = if difference.code == 0 {
        difference
    } else {
        let runs = place.runs();
        place
            .run(&[
                "runs",
                "diff",
                runs[1]["run"].as_str().unwrap(),
                runs[0]["run"].as_str().unwrap(),
            ])
            .success()
    };
    assert!(
        difference.stdout.contains("trees") && difference.stdout.contains("accuracy"),
        "{}",
        difference.stdout
    );
}

#[test]
fn digits_takes_the_best_of_six_and_packs_it() {
    let place = example("digits");
    place.run(&["apply", "pipelines/digits"]).success();
    let tasks = place.tasks();
    assert_eq!(tasks.len(), 11);
    assert!(tasks.iter().all(|task| task["state"] == "done"), "{:?}", place.states());
    let black = serde_json::json!({"images": [vec![0; 64]]}).to_string();
    let (status, answer) = post(place.port(8001), "/predict", &black).unwrap();
    assert!(status == 200 && answer.starts_with("{\"digits\": ["), "{answer}");
    let bundle = place.outside("bundle");
    let digest = tasks[8]["outputs"]["bundle"].as_str().unwrap();
    place.run(&["store", "get", digest, bundle.to_str().unwrap()]).success();
    let card: serde_json::Value =
        serde_json::from_str(&fs_err::read_to_string(bundle.join("card.json")).unwrap()).unwrap();
    assert!(card["accuracy"].as_f64().unwrap() > 0.95, "{card}");
    assert_eq!(card["classes"], 10);
    let picture = fs_err::read(bundle.join("confusion.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"), "the confusion matrix is a picture");

    // The live model is judged on the same images from now on.
    place.run(&["apply", "pipelines/digits", "--param", "seed=12"]);
    let tasks = place.tasks();
    let evaluate = tasks.iter().find(|task| task["task"] == "evaluate").unwrap();
    assert!(evaluate["metrics"]["live_accuracy"].as_f64().unwrap() > 0.9, "{evaluate}");
}

#[test]
fn mlflow_keeps_what_was_logged_across_releases() {
    let place = example("mlflow");
    place.run(&["apply", "pipelines/mlflow"]).success();
    assert_eq!(place.states(), ["tracking done", "train done"]);
    let run = place.output("train", "logged");
    let found = |place: &Example| {
        let path = format!("/api/2.0/mlflow/runs/get?run_id={run}");
        let (status, answer) = get(place.port(5000), &path).unwrap();
        assert_eq!(status, 200, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let accuracy = answer["run"]["data"]["metrics"][0]["value"].as_f64().unwrap();
        let told = place.tasks()[1]["metrics"]["accuracy"].as_f64().unwrap();
        assert!((accuracy - told).abs() < 1e-9, "{answer}");
    };
    found(&place);
    // Another release of the server, with the same volume.
    let file = place.folder().join("pipelines/mlflow/pipeline.yaml");
    let text = fs_err::read_to_string(&file).unwrap();
    let changed = text.replace(
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION: \"false\"",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION: \"false\", AGAIN: \"1\"",
    );
    assert_ne!(text, changed);
    fs_err::write(&file, changed).unwrap();
    place.run(&["apply", "pipelines/mlflow", "--only", "tracking"]).success();
    let service = place.json(&["status", "tracking", "-o", "json"]);
    assert!(service.to_string().contains("\"number\":2"), "{service}");
    let (status, _) =
        get(place.port(5000), &format!("/api/2.0/mlflow/runs/get?run_id={run}")).unwrap();
    assert_eq!(status, 200, "the volume kept the run");
}

#[test]
fn init_makes_a_pipeline_that_works() {
    let place = Place::new();
    place.run(&["init", "fresh"]).success();
    let again = place.run(&["init", "fresh"]);
    assert_eq!(again.code, 2, "nothing is overwritten: {}", again.stderr);
    place.run(&["validate", "fresh"]).success();
    place.run(&["apply", "fresh"]).success();
    assert!(place.tasks().iter().all(|task| task["state"] == "done"));
    place.run(&["doctor"]).success();
}
