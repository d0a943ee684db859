use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::event::Selection;
use crate::plan::testing::{context, name, read};
use crate::plan::{Graph, KeyContext, ResolvedInputs};

fn values(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What a service with this command is started with.
fn command(run: &str) -> Result<Vec<String>, EvalError> {
    let pipeline = read(&format!(
        "version: '2'\nname: p\nstages:\n  train: {{run: make, outputs: {{model: model/}}}}\n  \
         serve:\n    run: {run}\n    inputs: {{model: train.model}}\n    service: {{port: 8000}}\n"
    ));
    let graph = Graph::new(&pipeline, &Selection::default());
    let mut resolved = ResolvedInputs::default();
    let train = resolved.stages.entry(name("train")).or_default();
    train.outputs.insert(name("model"), crate::digest::Digest::of(b"model"));
    let context: KeyContext = context();
    Ok(context.behaviour(&pipeline, &graph.tasks[1], &resolved)?.command)
}

fn filled(run: &str, model: &str) -> String {
    let values = values(&[("inputs.model", model), ("port", "4242"), ("run.id", "01J")]);
    fill_command(&command(run).unwrap(), &values).unwrap().pop().unwrap()
}

/// What a shell takes the words after `show` for, each ended by a zero byte.
fn taken_by_a_shell(text: &str) -> Vec<u8> {
    let show = format!("show() {{ for word do printf '%s\\0' \"$word\"; done; }}\n{text}");
    Command::new("sh").args(["-e", "-c", &show]).output().unwrap().stdout
}

#[test]
fn a_value_is_written_as_if_it_had_been_known() {
    let run = "serve --port ${{ port }} ${{ inputs.model }}/weights --run=${{ run.id }}";
    assert_eq!(filled(run, "/m"), "serve --port 4242 /m/weights --run=01J");
    assert_eq!(filled(run, "/my model"), "serve --port 4242 '/my model'/weights --run=01J");
    let inside = "serve ${{ inputs.model ~ '/my weights' }}";
    assert_eq!(filled(inside, "/it's"), r"serve '/it'\''s/my weights'");
    assert_eq!(filled("'serve \"${{ inputs.model }}/w\"'", "/m"), "serve \"/m/w\"");
    assert_eq!(filled("[serve, '-m=${{ inputs.model }}']", "/a b"), "-m=/a b");
    assert_eq!(filled("serve 3 ${{ 'a b' }}", "/m"), "serve 3 'a b'");
}

#[test]
fn marks_read_as_expressions() {
    let shown = |run: &str| without_marks(&command(run).unwrap().pop().unwrap());
    assert_eq!(
        shown("serve --port ${{ port }} ${{ inputs.model ~ '/x y' }}"),
        "serve --port ${{ port }} ${{ inputs.model }}/x y"
    );
    assert_eq!(without_marks("plain"), "plain");
}

#[test]
fn an_expression_that_changes_a_mark_is_refused_before_anything_starts() {
    for (source, run) in [
        ("inputs.model | upper", "serve ${{ inputs.model | upper }}"),
        ("inputs.model | length", "serve ${{ inputs.model | length }}"),
        (
            "inputs.model | replace('/', '_')",
            "[serve, \"${{ inputs.model | replace('/', '_') }}\"]",
        ),
        ("port | last", "serve ${{ port | last }}"),
    ] {
        let error = command(run).unwrap_err();
        assert_eq!(error.source_text, source);
        assert!(error.why.contains("known only at the start; write `inputs.<name>`"), "{error}");
    }
    assert!(command("serve ${{ 'x' if inputs.model else 'y' }}").is_ok());
}

#[test]
fn a_mark_without_a_value_or_a_torn_one_is_an_error() {
    let error = fill("a \u{1a}inputs.other\u{1a}", &values(&[("port", "1")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("`${{{{ inputs.other }}}}`: has no value when the service starts; {MEND}")
    );
    for torn in ["a \u{1a}port", "\u{1a}\u{1a}\u{1a}port\u{1a}", "\u{1a}port\u{1a}\u{1a}\u{1a}"] {
        let error = fill(torn, &values(&[("port", "1")])).unwrap_err();
        assert!(error.why.starts_with("a part is missing"), "{torn:?}: {error}");
    }
    assert_eq!(fill("plain", &BTreeMap::new()).as_deref(), Ok("plain"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_shell_takes_any_path_for_one_word(path in "[^\0\u{1a}]{1,12}", end in "[a-z' \"$]{0,4}") {
        let path = format!("/{path}");
        let literal = end.replace('\'', "\\'");
        let run = format!("{:?}", format!("show ${{{{ inputs.model }}}} ${{{{ inputs.model ~ '{literal}' }}}} -x"));
        let text = filled(&run, &path);
        prop_assert_eq!(
            taken_by_a_shell(&text),
            format!("{path}\0{path}{end}\0-x\0").into_bytes(),
            "{}", text
        );
    }
}
