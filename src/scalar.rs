//! A single typed value that remembers how it was written (`1.10` stays `1.10`). Knows no IO.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A parameter, a matrix value or a reported value: text, number or boolean.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A number in JSON's grammar, as it was written.
    Number(NumberText),
    /// Everything else.
    Text(String),
}

/// The spelling of a number; always in JSON's number grammar, so `0123` and `nan` are none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NumberText(String);

impl NumberText {
    /// Takes `text` when it is a number in JSON's grammar.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = !text.is_empty()
            && !text.starts_with(char::is_whitespace)
            && !text.ends_with(char::is_whitespace);
        (plain && serde_json::from_str::<serde_json::Number>(text).is_ok())
            .then(|| Self(text.to_owned()))
    }

    /// The number as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number; too large a one is infinite.
    pub fn as_f64(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }
}

impl Scalar {
    /// Reads a plain (unquoted) scalar: `true`, `false`, a JSON number, or else text.
    pub fn plain(text: &str) -> Self {
        match text {
            "true" => Self::Bool(true),
            "false" => Self::Bool(false),
            _ => NumberText::parse(text).map_or_else(|| Self::Text(text.to_owned()), Self::Number),
        }
    }

    /// The value as JSON, for expressions, `FLOWRUN_PARAMS` and `-o json`.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(value) => (*value).into(),
            Self::Number(number) => {
                serde_json::from_str(number.as_str()).unwrap_or_else(|_| number.as_str().into())
            }
            Self::Text(text) => text.as_str().into(),
        }
    }

    /// The other way: a JSON text, number or boolean; `None` for null, lists and objects.
    pub fn from_json(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::Bool(value) => Some(Self::Bool(*value)),
            serde_json::Value::Number(number) => {
                NumberText::parse(&number.to_string()).map(Self::Number)
            }
            serde_json::Value::String(text) => Some(Self::Text(text.clone())),
            _ => None,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::Number(number) => formatter.write_str(number.as_str()),
            Self::Text(text) => formatter.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_survives() {
        for text in ["1.10", "0123456", "1e3", "true", "yes", "-0"] {
            assert_eq!(Scalar::plain(text).to_string(), text);
        }
        assert!(matches!(Scalar::plain("0123"), Scalar::Text(_)));
        assert!(matches!(Scalar::plain("1e3"), Scalar::Number(_)));
        assert!(matches!(Scalar::plain(" 1"), Scalar::Text(_)));
    }
}
