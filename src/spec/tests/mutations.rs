//! Whatever the bytes are, the reader comes back, and what it says can be shown.

use proptest::prelude::*;

use super::*;

fn returns(bytes: &[u8]) {
    if let Err(problems) = load("p.yaml", bytes) {
        assert!(!problems.list.is_empty());
        assert!(!problems.render(true).is_empty());
        assert_eq!(problems.to_json().as_array().map(Vec::len), Some(problems.list.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        returns(&bytes);
    }

    #[test]
    fn random_yaml(text in "([a-z]{1,3}|: |- |\n|\n  |[\\[\\]{}&*!|>'\"%@`,?#]|\\$\\{\\{ | \\}\\}|é|\t){0,60}") {
        returns(text.as_bytes());
    }

    #[test]
    fn mutated_format(
        edits in proptest::collection::vec((0..FORMAT.len(), 0..20_usize, "[ -~\n]{0,6}"), 1..6)
    ) {
        let mut text = FORMAT.to_owned();
        for (at, length, with) in edits {
            let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let to = (at..=(at + length).min(text.len())).rev().find(|to| text.is_char_boundary(*to)).unwrap_or(at);
            text.replace_range(at..to, &with);
        }
        returns(text.as_bytes());
    }

    #[test]
    fn random_expressions(inside in "([a-z]{1,4}|[0-9]|[-+*/%~|.,:()\\[\\]{}'\"<>=! ]|and|or|not|is|in|if|else|params\\.a|live|\\.b|\\['c'\\]){0,25}") {
        if expression::check(&inside).is_ok() {
            let expression = Expression { source: inside.clone(), references: expression::References::default() };
            for live in [serde_json::json!(null), serde_json::json!({}), serde_json::json!({"b": {"c": 1}})] {
                let mut scope = Scope::default();
                scope.roots.insert("live".to_owned(), live);
                drop(expression.eval(&scope));
                drop(expression.named(&scope));
            }
        }
        let text = format!("version: '2'\nname: a\nparams: {{a: 1}}\nstages:\n  a:\n    run: |\n      x ${{{{ {inside} }}}}\n");
        if let Ok(pipeline) = load("p", text.as_bytes()) {
            let mut scope = Scope::default();
            scope.set_scalar("params", "a", &Scalar::plain("1"));
            if let Some(Command::Shell(template)) = &pipeline.stages["a"].run {
                drop(template.expand_for_shell(&scope));
            }
        }
    }
}
