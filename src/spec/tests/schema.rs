//! The schema, the tables and the reader know the same keys.

use super::super::keys::{FILE, Form, Table};
use super::*;

fn tables(form: &'static Form, found: &mut Vec<&'static Table>) {
    match form {
        Form::Table(table) if !found.iter().any(|known| known.name == table.name) => {
            found.push(table);
            for key in table.keys {
                tables(&key.form, found);
            }
        }
        Form::List(form) | Form::Map(_, form) => tables(form, found),
        Form::AnyOf(forms) => forms.iter().for_each(|form| tables(form, found)),
        _ => {}
    }
}

/// A file in which this key of this table has this value.
fn file_with(table: &str, key: &str, value: &str) -> String {
    let here = format!("{{{key}: {value}}}");
    let stage = |inside: &str| format!("stages: {{a: {{run: x, {inside}}}}}");
    let rest = match table {
        "pipeline" => format!("{key}: {value}\nstages: {{a: {{run: x}}}}"),
        "source" => format!("source: {here}\nstages: {{a: {{run: x}}}}"),
        "defaults" => format!("defaults: {here}\nstages: {{a: {{run: x}}}}"),
        "param" => format!("params: {{p: {here}}}\nstages: {{a: {{run: x}}}}"),
        "volume" => format!("volumes: {{v: {here}}}\nstages: {{a: {{run: x}}}}"),
        "schedule" => format!("schedule: {here}\nstages: {{a: {{run: x}}}}"),
        "target" => format!("targets: {{t: {here}}}\nstages: {{a: {{run: x}}}}"),
        "stage" => format!("stages: {{a: {here}}}"),
        "input" => stage(&format!("inputs: {{i: {here}}}")),
        "secret" => stage(&format!("secrets: {{S: {here}}}")),
        "on_oom" => stage(&format!("retries: {{on_oom: {here}}}")),
        "ready" | "alive" | "route" => stage(&format!("service: {{port: 1, {table}: {here}}}")),
        key => stage(&format!("{key}: {here}")),
    };
    format!("x-a: 1\n{rest}\n")
}

fn all() -> Vec<&'static Table> {
    let mut found = vec![&FILE];
    for key in FILE.keys {
        tables(&key.form, &mut found);
    }
    found
}

#[test]
fn the_reader_reads_every_key_of_the_tables() {
    let nonsense = "[[{z: 1}]]";
    for table in all() {
        for key in table.keys {
            let text = file_with(table.name, key.name, nonsense);
            let problems = load("p", text.as_bytes()).expect_err(key.name).list;
            // The key itself or something below it is underlined, and not as unknown.
            let at = text.find(nonsense).expect("is there") - key.name.len() - 2;
            let said = problems.iter().any(|problem| {
                problem.code != "unknown-key"
                    && problem.code != "missing-key"
                    && problem.span.is_some_and(|(start, _)| start >= at && start < at + 40)
            });
            // `live` and `url` inputs are read only where they stand alone, `optional`, `digest` and `token` with them.
            let with_another =
                ["optional", "digest", "token"].contains(&key.name) && table.name == "input";
            assert!(said || with_another, "`{}` of {} is not read:\n{text}", key.name, table.what);
        }
    }
}

#[test]
fn the_schema_has_every_key_with_a_description() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for table in all() {
        let object = if table.name == "pipeline" { &schema } else { &schema["$defs"][table.name] };
        assert_eq!(object["additionalProperties"], false, "{}", table.name);
        let properties = object["properties"].as_object().expect("a map");
        assert_eq!(properties.len(), table.keys.len());
        for key in table.keys {
            let description = properties[key.name]["description"].as_str().expect("a text");
            assert!(description.ends_with('.'), "{description}");
        }
    }
}

/// What is published; editors get it from `flowrun schema`.
#[test]
fn the_schema_is_as_published() {
    insta::assert_json_snapshot!("schema", schema());
}

#[test]
fn a_key_of_a_table_is_no_unknown_key_anywhere() {
    for table in all() {
        for key in table.keys {
            let text = file_with(table.name, key.name, "1");
            let problems = load("p", text.as_bytes()).err().map_or(Vec::new(), |p| p.list);
            let unknown = problems.iter().find(|problem| problem.code == "unknown-key");
            assert!(unknown.is_none(), "{}: {unknown:?}", key.name);
        }
    }
}
