//! `${{ … }}`: finding the delimiters, checking and evaluating what is inside (minijinja's one home).

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
        let _ = scope;
        todo!()
    }

    /// The value, which must be true or false.
    pub fn holds(&self, scope: &Scope) -> Result<bool, EvalError> {
        let _ = scope;
        todo!()
    }
}

impl Template {
    /// The text with every expression replaced by the text of its value.
    pub fn expand(&self, scope: &Scope) -> Result<String, EvalError> {
        let _ = scope;
        todo!()
    }

    /// As [`Template::expand`], but values are quoted for `sh` when they hold anything outside `[A-Za-z0-9_./:=@%+,-]`.
    pub fn expand_for_shell(&self, scope: &Scope) -> Result<String, EvalError> {
        let _ = scope;
        todo!()
    }

    /// What all its expressions name together.
    pub fn references(&self) -> References {
        todo!()
    }
}

impl Scope {
    /// Puts a scalar at `root.name`, with its spelling.
    pub fn set_scalar(&mut self, root: &str, name: &str, value: &Scalar) {
        let _ = (root, name, value);
        todo!()
    }
}
