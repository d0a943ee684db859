//! Where the code comes from: work trees, folders, remotes; and that a run sees one commit whatever happens meanwhile.

use crate::place::{Place, git};

const PRINT: &str = "version: \"2\"\nname: print\nstages:\n  show:\n    run: cat words.txt\n  late:\n    run: cat words.txt\n    needs: [show]\n";

fn repo() -> Place {
    let place = Place::repo();
    place.write("pipeline.yaml", PRINT);
    place.write("words.txt", "first\n");
    place.commit("first");
    place
}

fn shown(place: &Place) -> String {
    place.run(&["logs", "latest", "show"]).success().stdout
}

#[test]
fn a_dirty_tree_is_recorded_as_it_is() {
    let place = repo();
    place.write("words.txt", "changed\n");
    place.write("new.txt", "untracked\n");
    place.write(".gitignore", "ignored.txt\n");
    place.write("ignored.txt", "ignored\n");
    place.write(
        "pipeline.yaml",
        &PRINT.replace(
            "cat words.txt\n  late",
            "cat words.txt new.txt; test ! -e ignored.txt\n  late",
        ),
    );
    place.run(&["apply"]).success();
    assert_eq!(shown(&place), "changed\nuntracked\n");
    let status = place.json(&["status", "latest", "-o", "json"]);
    assert_eq!(status["dirty"], true);
    assert_eq!(status["commit"], place.git(&["rev-parse", "HEAD"]));
}

#[test]
fn user_files_are_never_touched() {
    let place = repo();
    place.write("words.txt", "changed\n");
    let listing = || {
        let mut rows: Vec<_> = walkdir::WalkDir::new(place.folder())
            .into_iter()
            .map(|entry| {
                let entry = entry.unwrap();
                let data = entry.metadata().unwrap();
                (entry.path().to_owned(), data.len(), data.modified().unwrap())
            })
            .collect();
        rows.sort();
        rows
    };
    let before = listing();
    place.run(&["apply"]).success();
    assert_eq!(listing(), before);
}

#[test]
fn a_change_during_a_run_changes_nothing() {
    let place = repo();
    let gate = place.outside("gate");
    place.write(
        "pipeline.yaml",
        &PRINT.replace(
            "run: cat words.txt\n  late",
            &format!(
                "run: cat words.txt; until test -e {}; do sleep 0.05; done\n  late",
                gate.display()
            ),
        ),
    );
    place.commit("slow");
    let run = place.spawn(&["apply"]);
    place.await_running("show");
    place.write("words.txt", "second\n");
    place.commit("second");
    fs_err::write(gate, "").unwrap();
    assert_eq!(run.finish().code, 0);
    let late = place.run(&["logs", "latest", "late"]).success();
    assert_eq!(late.stdout, "first\n");
}

#[test]
fn a_remote_is_taken_at_a_branch_a_tag_or_a_commit() {
    let place = repo();
    let first = place.git(&["rev-parse", "HEAD"]);
    place.git(&["tag", "-a", "v1", "-m", "one"]);
    place.git(&["checkout", "-qb", "side"]);
    place.write("words.txt", "side\n");
    place.commit("side");
    place.git(&["checkout", "-q", "main"]);
    place.write("words.txt", "main\n");
    place.commit("main");

    let url = format!("file://{}", place.folder().display());
    let user = Place::new();
    let unasked = user.run(&["apply", &url]);
    assert_eq!(unasked.code, 2, "the first time somebody must say yes: {}", unasked.stderr);
    for (reference, words) in [
        ("v1", "first\n"),
        ("side", "side\n"),
        ("main", "main\n"),
        (first.as_str(), "first\n"),
        (&first[..10], "first\n"),
    ] {
        user.run(&["apply", &url, "--ref", reference, "--yes"]).success();
        assert_eq!(shown(&user), words, "{reference}");
    }
    user.run(&["apply", &url, "--yes"]).success();
    assert_eq!(shown(&user), "main\n");
    let missing = user.run(&["apply", &url, "--ref", "sied", "--yes"]);
    assert_eq!(missing.code, 5, "{}", missing.stderr);
    assert!(missing.stderr.contains("side"), "the nearest branch is offered: {}", missing.stderr);
    let nowhere = user.run(&["apply", "file:///nowhere/at/all.git", "--yes"]);
    assert_eq!(nowhere.code, 5, "{}", nowhere.stderr);
}

#[test]
fn source_brings_the_code_and_the_file_stays_the_definition() {
    let code = repo();
    let place = Place::new();
    place.write(
        "pipeline.yaml",
        &PRINT.replace(
            "name: print\n",
            &format!("name: print\nsource: {{git: \"{}\", ref: main}}\n", code.folder().display()),
        ),
    );
    place.run(&["apply"]).success();
    assert_eq!(shown(&place), "first\n");
}

#[test]
fn a_folder_that_is_no_repo_works_and_says_what_that_costs() {
    let place = Place::new();
    place.write("pipeline.yaml", PRINT);
    place.write("words.txt", "plain\n");
    let output = place.run(&["apply"]).success();
    assert_eq!(shown(&place), "plain\n");
    assert!(output.stderr.contains("git"), "{}", output.stderr);
    assert_eq!(place.json(&["status", "latest", "-o", "json"])["commit"], serde_json::Value::Null);
}

#[test]
fn several_pipelines_live_in_one_repo_with_submodules() {
    let inner = repo();
    let place = Place::repo();
    for name in ["a", "b"] {
        place.write(
            &format!("{name}/pipeline.yaml"),
            &format!(
                "version: \"2\"\nname: {name}\nstages:\n  show:\n    run: ls; cat lib/words.txt\n"
            ),
        );
        git(
            &place.folder(),
            &["submodule", "add", "-q", inner.folder().to_str().unwrap(), &format!("{name}/lib")],
        );
    }
    place.commit("first");
    place.run(&["apply", "a"]).success();
    assert_eq!(shown(&place), "lib\nfirst\n");
    place.run(&["apply", "b/pipeline.yaml"]).success();
    let url = format!("file://{}", place.folder().display());
    let user = Place::new();
    let output = user.run(&["apply", &url, "--yes"]);
    assert_eq!(output.code, 2, "there is no pipeline at the root: {}", output.stderr);
    user.run(&["apply", &url, "--path", "a", "--yes"]).success();
    assert_eq!(shown(&user), "lib\nfirst\n");
}

#[test]
fn a_name_belongs_to_one_origin() {
    let one = repo();
    let two = repo();
    one.run(&["apply"]).success();
    let output = one.shell(&format!("\"$FLOWRUN\" apply {}", two.folder().display()));
    assert_eq!(output.code, 2, "{}", output.stderr);
    assert!(output.stderr.contains("print"), "{}", output.stderr);
}

#[test]
fn a_large_untracked_file_is_an_error_with_the_mend() {
    let place = repo();
    fs_err::File::create(place.folder().join("big.bin")).unwrap().set_len(51 << 20).unwrap();
    let output = place.run(&["apply"]);
    assert_eq!(output.code, 5, "{}", output.stderr);
    assert!(
        output.stderr.contains("big.bin") && output.stderr.contains("ignore"),
        "{}",
        output.stderr
    );
}
