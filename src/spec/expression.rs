//! `${{ … }}`: finding the delimiters, checking and evaluating what is inside (minijinja's one home).

mod evaluate;
pub(super) mod scan;
pub(super) mod token;

use std::collections::BTreeMap;

use crate::names::{ParamName, StageName};
use crate::scalar::Scalar;

/// A compiled expression: what stands between `${{` and `}}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// The text between the delimiters, trimmed.
    pub source: String,
    /// What it names.
    pub references: References,
}

/// A text with expressions in it: literal pieces and expressions by turns.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(pub Vec<Piece>);

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Stands as it is.
    Literal(String),
    /// Is replaced by its value.
    Expression(Expression),
}

/// What an expression names; validation has checked that each exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// `params.x`
    pub params: Vec<ParamName>,
    /// `x.metrics.n`, `x.values.n`: stages whose results it uses.
    pub results: Vec<StageName>,
    /// `services.x.url`
    pub services: Vec<StageName>,
    /// `live` or `live.x`
    pub live: bool,
    /// `run.id` or `run.commit`
    pub run_identity: bool,
}

/// The values that expressions can name, as one JSON object per root
/// (`params matrix run inputs outputs port target services live` and stage names).
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The roots.
    pub roots: serde_json::Map<String, serde_json::Value>,
    /// How scalars were written, by dotted path (`matrix.trees` → `1.10`), so that text keeps their spelling.
    pub spelled: BTreeMap<String, String>,
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`${{{{ {source_text} }}}}`: {why}")]
pub struct EvalError {
    /// The expression.
    pub source_text: String,
    /// What went wrong.
    pub why: String,
}

impl Expression {
    /// The value in this scope. Fuel is limited; an undefined name is an error.
    pub fn eval(&self, scope: &Scope) -> Result<serde_json::Value, EvalError> {
        evaluate::evaluate(&self.source, scope).map_err(|why| self.fails(why))
    }

    /// The value, which must be true or false.
    pub fn holds(&self, scope: &Scope) -> Result<bool, EvalError> {
        match self.eval(scope)? {
            serde_json::Value::Bool(value) => Ok(value),
            other => {
                Err(self
                    .fails(format!("is {}, but must be true or false", evaluate::describe(&other))))
            }
        }
    }

    /// The value as text: as it was written when the expression is one name.
    fn text(&self, scope: &Scope) -> Result<String, EvalError> {
        if let Some(spelled) = scope.spelled.get(self.source.trim()) {
            return Ok(spelled.clone());
        }
        let value = self.eval(scope)?;
        evaluate::text(&value).ok_or_else(|| {
            self.fails(format!("is {}, which has no text", evaluate::describe(&value)))
        })
    }

    fn fails(&self, why: String) -> EvalError {
        EvalError { source_text: self.source.clone(), why }
    }
}

/// Why a text is not an expression, if so: its grammar, or a filter, test or function that nobody knows.
pub(super) fn check(source: &str) -> Result<(), String> {
    evaluate::check(source)
}

impl Template {
    /// The text with every expression replaced by the text of its value.
    pub fn expand(&self, scope: &Scope) -> Result<String, EvalError> {
        self.expand_with(scope, |value| value)
    }

    /// As [`Template::expand`], but values are quoted for `sh` when they hold anything outside `[A-Za-z0-9_./:=@%+,-]`.
    pub fn expand_for_shell(&self, scope: &Scope) -> Result<String, EvalError> {
        self.expand_with(scope, quoted)
    }

    fn expand_with(
        &self,
        scope: &Scope,
        written: impl Fn(String) -> String,
    ) -> Result<String, EvalError> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Expression(expression) => {
                    text.push_str(&written(expression.text(scope)?));
                }
            }
        }
        Ok(text)
    }

    /// What all its expressions name together.
    pub fn references(&self) -> References {
        let mut all = References::default();
        for piece in &self.0 {
            if let Piece::Expression(expression) = piece {
                all.add(&expression.references);
            }
        }
        all
    }
}

impl References {
    /// Takes in what another expression names; nothing stands twice.
    pub(super) fn add(&mut self, other: &References) {
        fn union<T: PartialEq + Clone>(all: &mut Vec<T>, more: &[T]) {
            for one in more {
                if !all.contains(one) {
                    all.push(one.clone());
                }
            }
        }
        union(&mut self.params, &other.params);
        union(&mut self.results, &other.results);
        union(&mut self.services, &other.services);
        self.live |= other.live;
        self.run_identity |= other.run_identity;
    }
}

/// A value as one word of `sh`.
fn quoted(value: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,-".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

impl Scope {
    /// Puts a scalar at `root.name`, with its spelling.
    pub fn set_scalar(&mut self, root: &str, name: &str, value: &Scalar) {
        let object = self.roots.entry(root).or_insert_with(|| serde_json::json!({}));
        if let Some(object) = object.as_object_mut() {
            object.insert(name.to_owned(), value.to_json());
            self.spelled.insert(format!("{root}.{name}"), value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn expression(source: &str) -> Expression {
        Expression { source: source.to_owned(), references: References::default() }
    }

    fn scope() -> Scope {
        let mut scope = Scope::default();
        let stages = json!({
            "evaluate": {"metrics": {"accuracy": 0.95, "count": 3}, "values": {"best": "a b"}},
            "live": null,
        });
        scope.roots = stages.as_object().expect("a map").clone();
        scope.set_scalar("params", "rate", &Scalar::plain("1.10"));
        scope.set_scalar("params", "word", &Scalar::plain("it's"));
        scope.set_scalar("params", "flag", &Scalar::plain("true"));
        scope
    }

    fn eval(source: &str) -> Result<serde_json::Value, String> {
        expression(source).eval(&scope()).map_err(|error| error.why)
    }

    fn template(source: &str) -> Template {
        Template(vec![Piece::Literal("x=".to_owned()), Piece::Expression(expression(source))])
    }

    #[test]
    fn values_keep_their_types() {
        assert_eq!(eval("evaluate.metrics.accuracy"), Ok(json!(0.95)));
        assert_eq!(eval("evaluate.metrics.count + 1"), Ok(json!(4)));
        assert_eq!(eval("evaluate.metrics.accuracy >= 0.9 and params.flag"), Ok(json!(true)));
        assert_eq!(eval("not live or evaluate.metrics.accuracy >= live.x.y"), Ok(json!(true)));
        assert_eq!(eval("live == none"), Ok(json!(true)));
        assert_eq!(eval("1 < evaluate.metrics.count <= 3"), Ok(json!(true)));
        assert_eq!(eval("params['word']"), Ok(json!("it's")));
        assert_eq!(eval("evaluate.metrics.nothing is defined"), Ok(json!(false)));
    }

    #[test]
    fn unlike_things_are_not_compared() {
        for source in [
            "params.word == 3",
            "evaluate.values.best < 1",
            "params.flag == 1",
            "live > 1",
            "'1' != evaluate.metrics.count",
        ] {
            let why = eval(source).expect_err(source);
            assert!(why.contains("cannot be compared"), "{source}: {why}");
        }
        assert_eq!(eval("params.flag or params.word == 3"), Ok(json!(true)), "not evaluated");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            eval("evaluate.metrics.acuracy >= 0.5"),
            Err("stage `evaluate` reported no metric `acuracy`; did you mean `accuracy`?"
                .to_owned())
        );
        assert_eq!(
            eval("evaluate.values.other"),
            Err("stage `evaluate` reported no value `other`".to_owned())
        );
        assert_eq!(eval("matrix.trees"), Err("`matrix.trees` is not defined here".to_owned()));
        assert!(eval("1 / 0").is_err());
        assert!(eval("range(100000000)|list|length").is_err());
        assert!(expression("params.rate").holds(&scope()).is_err());
        assert_eq!(
            expression("params.word").holds(&scope()).expect_err("text").to_string(),
            "`${{ params.word }}`: is the text \"it's\", but must be true or false"
        );
    }

    #[test]
    fn texts_are_as_written_and_quoted_for_the_shell() {
        let text = |source: &str| template(source).expand(&scope());
        let shell = |source: &str| template(source).expand_for_shell(&scope());
        assert_eq!(text("params.rate").as_deref(), Ok("x=1.10"));
        assert_eq!(text("params.flag").as_deref(), Ok("x=true"));
        assert_eq!(text("evaluate.metrics.count").as_deref(), Ok("x=3"));
        assert_eq!(text("evaluate.metrics.accuracy").as_deref(), Ok("x=0.95"));
        assert_eq!(shell("params.rate").as_deref(), Ok("x=1.10"));
        assert_eq!(shell("params.word").as_deref(), Ok(r"x='it'\''s'"));
        assert_eq!(shell("''").as_deref(), Ok("x=''"));
        assert_eq!(shell("'$(reboot)'").as_deref(), Ok("x='$(reboot)'"));
        assert!(text("live").is_err());
    }

    #[test]
    fn an_expression_is_checked_before_it_is_used() {
        assert_eq!(check("params.a >= 0.5 and x | length is even"), Ok(()));
        for source in ["", "a +", "a | uper", "a is evn", "f(x)", "a in b == c", "a; b", "{% x %}"]
        {
            assert!(check(source).is_err(), "{source}");
        }
    }
}
