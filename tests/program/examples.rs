//! The pipelines that ship with flowrun, with their real packages, and `init`.

use std::path::Path;

use crate::place::Place;

/// A repo with one of the example pipelines in it.
fn example(name: &str) -> Place {
    let place = Place::repo();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name);
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let file = path.file_name().unwrap().to_str().unwrap();
            place.write(
                &format!("pipelines/{name}/{file}"),
                &fs_err::read_to_string(&path).unwrap(),
            );
        }
    }
    place.commit("first");
    place
}

#[test]
fn iris_trains_and_judges_a_model() {
    let place = example("iris");
    place.run(&["apply", "pipelines/iris"]).success();
    assert_eq!(place.states(), ["prepare done", "train done", "evaluate done"]);
    let accuracy = place.tasks()[2]["metrics"]["accuracy"].as_f64().unwrap();
    assert!((0.8..=1.0).contains(&accuracy), "{accuracy}");

    place.run(&["apply", "pipelines/iris", "--param", "trees=20"]).success();
    assert_eq!(place.states()[..2], ["prepare reused", "train done"]);
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
    assert_eq!(tasks.len(), 9);
    assert!(tasks.iter().all(|task| task["state"] == "done"), "{:?}", place.states());
    let bundle = place.outside("bundle");
    let digest = tasks[8]["outputs"]["bundle"].as_str().unwrap();
    place.run(&["store", "get", digest, bundle.to_str().unwrap()]).success();
    let card: serde_json::Value =
        serde_json::from_str(&fs_err::read_to_string(bundle.join("card.json")).unwrap()).unwrap();
    assert!(card["accuracy"].as_f64().unwrap() > 0.95, "{card}");
    assert_eq!(card["classes"], 10);
    let picture = fs_err::read(bundle.join("confusion.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"), "the confusion matrix is a picture");
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
