//! `${{ … }}`: finding the delimiters, checking and evaluating what is inside (minijinja's one home).

mod evaluate;
mod live;
pub(super) mod scan;
pub(super) mod token;

use std::collections::{BTreeMap, BTreeSet};

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
    /// `services.x.url`: services whose addresses it uses. In a `verify` stage also the service it verifies, whose
    /// address is the candidate's.
    pub services: Vec<StageName>,
    /// Services whose live releases it uses. In a gate `live` is the live release of the gate's own service, which
    /// then stands here; elsewhere `live.x` is that of `x`.
    pub live: BTreeSet<StageName>,
    /// `run.id` or `run.commit`
    pub run_identity: bool,
}

/// The values that expressions can name, as one JSON object per root
/// (`params matrix run inputs outputs port target services live` and stage names).
///
/// In a gate `live` is the live release of the gate's service: its metrics and values by stage, or null. Elsewhere it holds
/// such a release or null by service. Whatever it does not hold is none.
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

    /// What it names with the values in this scope, by dotted path: for people. None where a value is none or missing;
    /// what is no single value (`live` while a release is live) is left out.
    pub fn named(&self, scope: &Scope) -> BTreeMap<String, Option<Scalar>> {
        evaluate::named(&self.source, scope)
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
        self.live.extend(other.live.iter().cloned());
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
    fn what_a_live_release_lacks_is_none() {
        let with = |live: serde_json::Value, source: &str| {
            let mut scope = scope();
            scope.roots.insert("live".to_owned(), live);
            expression(source).eval(&scope).map_err(|error| error.why)
        };
        let better = "not live or evaluate.metrics.accuracy >= live.evaluate.metrics.accuracy";
        let release = |accuracy: f64| json!({"evaluate": {"metrics": {"accuracy": accuracy}}});
        assert_eq!(with(json!(null), better), Ok(json!(true)));
        assert_eq!(with(release(0.9), better), Ok(json!(true)));
        assert_eq!(with(release(0.99), better), Ok(json!(false)));
        for live in [json!(null), json!({}), json!({"evaluate": {"metrics": {}}}), json!({"x": {}})]
        {
            let of = |source: &str| with(live.clone(), source);
            assert_eq!(of("live.evaluate.metrics.accuracy"), Ok(json!(null)));
            assert_eq!(of("live.evaluate.metrics.accuracy is none"), Ok(json!(true)));
            assert_eq!(of("live['evaluate'].metrics.accuracy == none"), Ok(json!(true)));
            assert_eq!(of("live.evaluate.metrics.accuracy | default(0.5) < 1"), Ok(json!(true)));
            assert_eq!(
                of("not live"),
                Ok(json!(live.is_null())),
                "a release without results is live"
            );
            let why = of("evaluate.metrics.accuracy > live.evaluate.metrics.accuracy");
            let why = why.expect_err("a number and none");
            assert!(
                why.ends_with(
                    "cannot be compared with none; `live.evaluate.metrics.accuracy` is none"
                ),
                "{why}"
            );
        }
        // Elsewhere the service stands before the stage.
        assert_eq!(with(json!({"serve": null}), "not live.serve"), Ok(json!(true)));
        assert_eq!(with(json!({"serve": {}}), "not live.serve"), Ok(json!(false)));
        assert_eq!(
            with(json!({"serve": release(0.5)}), "live.serve.evaluate.metrics.accuracy + 1"),
            Ok(json!(1.5))
        );
        // Nobody said what is live: that is not the same as nothing.
        let mut unknown = scope();
        unknown.roots.remove("live");
        assert!(expression("live.evaluate.metrics.accuracy").eval(&unknown).is_err());
    }

    #[test]
    fn what_is_named_has_its_values() {
        let named = expression(
            "not live or evaluate.metrics.accuracy >= live.x.metrics.a + evaluate.metrics.b",
        )
        .named(&scope());
        let shown: Vec<String> = named
            .iter()
            .map(|(name, value)| {
                format!("{name}={}", value.as_ref().map_or("-".to_owned(), ToString::to_string))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "evaluate.metrics.accuracy=0.95",
                "evaluate.metrics.b=-",
                "live=-",
                "live.x.metrics.a=-"
            ]
        );
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
