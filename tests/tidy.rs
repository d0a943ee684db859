//! Keeps the shape of the house: layers, one home for each heavy crate, file sizes, doc headers.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources must fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules of `src/` by row, as in docs/architecture.md: each may use the rows above its own, and of its own row
/// only what is written.
const LAYERS: &[(&str, u8, &[&str])] = &[
    ("names", 0, &["scalar", "digest"]),
    ("scalar", 0, &[]),
    ("digest", 0, &[]),
    ("secret", 0, &[]),
    ("address", 0, &["digest", "words", "secret"]),
    ("words", 0, &[]),
    ("weather", 0, &[]),
    ("testing", 0, &[]),
    ("event", 0, &["names", "scalar", "digest"]),
    ("release", 0, &["names", "scalar", "digest", "event", "secret"]),
    ("spec", 1, &[]),
    ("source", 2, &[]),
    ("store", 2, &[]),
    ("vault", 2, &[]),
    ("state", 2, &[]),
    ("runtime", 2, &[]),
    ("gateway", 2, &[]),
    ("environment", 3, &[]),
    ("outside", 3, &[]),
    ("workspace", 3, &["environment"]),
    ("handover", 3, &[]),
    ("plan", 4, &[]),
    ("rollout", 5, &[]),
    ("engine", 6, &[]),
    ("report", 7, &[]),
    ("server", 8, &[]),
    ("cli", 9, &[]),
];

/// What a module must not name although it stands in a higher row.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("source", &["spec"]),
    ("store", &["spec"]),
    ("state", &["spec"]),
    ("runtime", &["spec"]),
    ("gateway", &["spec"]),
    ("environment", &["spec", "state"]),
    ("workspace", &["spec", "state", "runtime"]),
    ("handover", &["spec"]),
    ("outside", &["spec", "source", "state", "runtime", "gateway", "vault"]),
    ("rollout", &["spec"]),
    ("report", &["store", "runtime", "environment", "workspace", "source", "gateway"]),
    ("server", &["spec", "plan", "engine", "report"]),
];

/// Heavy crates and the one place each may be named in.
const HOMES: &[(&str, &[&str])] = &[
    ("serde_saphyr", &["src/spec/"]),
    ("miette", &["src/spec/", "src/cli/"]),
    ("minijinja", &["src/spec/"]),
    ("croner", &["src/spec/"]),
    ("git2", &["src/source/"]),
    ("sqlx", &["src/state/"]),
    ("bollard", &["src/runtime/docker/"]),
    ("tar", &["src/runtime/docker/"]),
    ("age", &["src/vault/"]),
    ("dotenvy", &["src/cli/"]),
    ("aho_corasick", &["src/runtime/log/"]),
    ("petgraph", &["src/plan/"]),
    // `spec` refuses a pattern that is none, at its place in the file; the others match with it.
    ("globset", &["src/spec/", "src/plan/", "src/source/"]),
    ("hyper", &["src/gateway/", "src/rollout/probe", "src/store/s3/bucket"]),
    ("hyper_util", &["src/gateway/", "src/rollout/probe", "src/store/s3/bucket"]),
    ("aws_config", &["src/store/s3/bucket"]),
    ("aws_sdk_s3", &["src/store/s3/bucket"]),
    ("aws_smithy_http_client", &["src/store/s3/bucket"]),
    ("aws_types", &["src/store/s3/bucket"]),
    ("tracing_subscriber", &["src/server/"]),
    ("indicatif", &["src/report/"]),
    ("comfy_table", &["src/report/"]),
    ("clap", &["src/cli/"]),
    ("clap_complete", &["src/cli/"]),
    ("reflink_copy", &["src/store/", "src/cli/doctor"]),
    ("toml", &["src/cli/"]),
    ("reqwest", &["src/outside/"]),
    ("rustls", &["src/outside/", "src/store/s3/bucket"]),
    ("ring", &["src/outside/"]),
    ("url", &["src/address"]),
    ("percent_encoding", &["src/address"]),
];

const LONGEST: usize = 500;
const MEDIAN: usize = 120;

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<(String, String)> = walkdir::WalkDir::new(root.join("src"))
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"))
        .map(|entry| {
            let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            (name, fs_err::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() > 50, "the sources were not found");
    files
}

/// The files that only tests are built from: `#[cfg(test)] mod name;` stands where they are declared.
fn test_files(sources: &[(String, String)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (file, text) in sources {
        let stem = file.trim_end_matches(".rs");
        let folder = stem.strip_suffix("/mod").unwrap_or(stem);
        for (at, _) in text.match_indices("#[cfg(test)]\n") {
            let line = text[at..].lines().nth(1).unwrap_or_default();
            let Some(name) = line.split("mod ").nth(1).and_then(|rest| rest.strip_suffix(';'))
            else {
                continue;
            };
            let folder = if folder == "src/lib" { "src" } else { folder };
            found.insert(format!("{folder}/{name}.rs"));
        }
    }
    assert!(found.len() > 5, "test files were not found");
    found
}

/// The code without its unit tests and comments.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let body = &text[..end];
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn module_of(file: &str) -> Option<&str> {
    let inner = file.strip_prefix("src/")?;
    let module = inner.split('/').next()?.trim_end_matches(".rs");
    (!matches!(module, "lib" | "main")).then_some(module)
}

/// Modules that a file names as `crate::module`, also inside `use crate::{a::…, b::…}`.
fn used_modules(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut word = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if depth == 1 && letter == ',' {
                    found.insert(word.trim().split("::").next().unwrap().to_owned());
                    word.clear();
                } else if depth == 1 {
                    word.push(letter);
                }
            }
            found.insert(word.trim().split("::").next().unwrap().to_owned());
        } else {
            let name: String =
                rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            found.insert(name);
        }
    }
    found.remove("");
    found
}

#[test]
fn layers_hold() {
    let rows: BTreeMap<&str, (u8, &[&str])> =
        LAYERS.iter().map(|(module, row, beside)| (*module, (*row, *beside))).collect();
    let forbidden: BTreeMap<&str, &[&str]> = FORBIDDEN.iter().copied().collect();
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some(module) = module_of(&file) else { continue };
        let Some((row, beside)) = rows.get(module) else {
            wrong.push(format!("{file}: `{module}` has no row in tests/tidy.rs"));
            continue;
        };
        for used in used_modules(&code(&text)) {
            if used == module {
                continue;
            }
            let Some((used_row, _)) = rows.get(used.as_str()) else { continue };
            let allowed = used_row < row || (used_row == row && beside.contains(&used.as_str()));
            let barred = forbidden.get(module).is_some_and(|list| list.contains(&used.as_str()));
            if !allowed || barred {
                wrong.push(format!("{file} uses `{used}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "modules reach past their layer:\n{}", wrong.join("\n"));
}

#[test]
fn heavy_crates_have_one_home() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let text = code(&text);
        for (name, homes) in HOMES {
            let named = text.match_indices(&format!("{name}::")).any(|(at, _)| {
                !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
            });
            if named && !homes.iter().any(|home| file.starts_with(home)) {
                wrong
                    .push(format!("{file} names `{name}`, which lives in {}", homes.join(" and ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_small() {
    let sources = sources();
    let tests = test_files(&sources);
    let mut sizes: Vec<(usize, String)> = sources
        .into_iter()
        .filter(|(file, _)| !tests.contains(file))
        .map(|(file, text)| (own_lines(&text), file))
        .collect();
    sizes.sort();
    let long: Vec<_> = sizes.iter().filter(|(lines, _)| *lines > LONGEST).collect();
    assert!(long.is_empty(), "split these: {long:?}");
    let median = sizes[sizes.len() / 2].0;
    assert!(median <= MEDIAN, "the median file has {median} lines");
}

/// Without tests and comments: doc comments are asked for, and a limit on them would be paid by leaving them out.
fn own_lines(text: &str) -> usize {
    code(text).lines().count()
}

#[test]
fn every_file_says_what_it_owns() {
    // A file named `tests.rs` belongs to the file that declares it.
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(file, text)| !text.starts_with("//!") && !file.ends_with("/tests.rs"))
        .map(|(file, _)| file)
        .collect();
    assert!(silent.is_empty(), "no `//!` at the top of {silent:?}");
}

#[test]
fn serde_attributes_that_lose_places_are_not_used() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| {
            ["serde(flatten", "serde(untagged", "serde(tag"]
                .iter()
                .any(|word| code(text).contains(word))
        })
        .map(|(file, _)| file)
        .collect();
    assert!(wrong.is_empty(), "serde flatten, untagged or tag in {wrong:?}");
}

#[test]
fn the_environment_is_read_in_one_place() {
    let sources = sources();
    let tests = test_files(&sources);
    let wrong: Vec<String> = sources
        .into_iter()
        .filter(|(file, text)| {
            !file.starts_with("src/cli/settings/")
                && !tests.contains(file)
                && code(text).contains("env::var")
        })
        .map(|(file, _)| file)
        .collect();
    assert!(wrong.is_empty(), "the environment is read outside src/cli/settings: {wrong:?}");
}

#[test]
fn the_map_names_every_module_and_stays_short() {
    let map = fs_err::read_to_string(
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md"),
    )
    .unwrap();
    assert!(map.lines().count() <= 300, "docs/architecture.md is a map, not a book");
    for (module, ..) in LAYERS {
        assert!(
            map.contains(&format!("`{module}`")),
            "docs/architecture.md does not name `{module}`"
        );
    }
}
