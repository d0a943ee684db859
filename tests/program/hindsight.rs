//! What is said afterwards: `why`, empty logs, the results in the store, problems of a file.

use crate::place::Place;

const TWO: &str = r#"version: "2"
name: two
params: {seed: 7}
stages:
  make:
    run: cat a.txt > out
    files: ["*.txt"]
    outputs: {data: out}
  count:
    run: |
      wc -l < $FLOWRUN_INPUT_DATA > out
      echo '{"score": ${{ matrix.n }}}' > m.json
    files: []
    inputs: {data: make.data}
    outputs: {lines: out}
    metrics: m.json
    matrix: {n: [1, 2]}
    pick: {max: score}
"#;

#[test]
fn why_names_the_files_that_changed() {
    let place = Place::repo();
    place.write("pipeline.yaml", TWO);
    place.write("a.txt", "1\n");
    place.write("b.txt", "1\n");
    place.line("apply").success();
    let first = place.runs()[0]["run"].as_str().unwrap().to_owned();
    place.write("a.txt", "2\n");
    place.write("c.txt", "1\n");
    fs_err::remove_file(place.folder().join("b.txt")).unwrap();
    place.write("other.md", "no stage sees it");
    place.line("apply").success();
    let said = place.line("why latest make").success().stdout;
    let named = format!("files changed since run {first}: a.txt, b.txt (gone) and c.txt (new)\n");
    assert!(said.contains("ran: its files changed\n") && said.ends_with(&named), "{said}");
    let data = place.json(&["why", "latest", "make", "-o", "json"]);
    assert_eq!(data["files"]["changed"][0], serde_json::json!({"path": "a.txt", "how": "changed"}));
    let data = place.json(&["why", "latest~1", "make", "-o", "json"]);
    assert_eq!(data["files"], serde_json::Value::Null);
}

#[test]
fn the_store_lists_every_result() {
    let place = Place::repo();
    place.write("pipeline.yaml", TWO);
    place.write("a.txt", "1\n");
    place.line("apply").success();
    let all = place.json(&["store", "ls", "--all", "-o", "json"]);
    assert_eq!(all["records"].as_array().unwrap().len(), 3);
    // All three are the same byte for byte, and stored once.
    assert_eq!(all["artifacts"], 1);
    let said = place.line("store ls --all").success().stdout;
    assert!(said.contains("\n3 results, 1 artifact of 1 file"), "{said}");
    assert_eq!(place.line("store ls latest --all").code, 2);
}

#[test]
fn quiet_is_quiet_and_an_empty_log_is_not_waited_for() {
    let place = Place::repo();
    place.write("pipeline.yaml", "version: \"2\"\nname: quiet\nstages:\n  a:\n    run: \"true\"\n");
    let output = place.line("apply -q").success();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    let output = place.line("logs -f a").success();
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains("has written nothing; `flowrun why"), "{}", output.stderr);
}

#[test]
fn many_problems_are_counted_where_the_eye_ends() {
    let place = Place::new();
    place.write("bad.yaml", "version: \"2\"\nname: Two\nstages:\n  a: {rum: x}\n");
    let said = place.line("validate bad.yaml").stderr;
    assert!(said.ends_with("error: 3 problems in `bad.yaml`\n"), "{said}");
}
