//! Parameters: their declaration in the file, and values given on the command line.

use std::collections::BTreeMap;

use super::keys::PARAM;
use super::pipeline::{Param, ParamKind, Pipeline};
use super::problem::{Problem, nearest};
use super::reader::{Item, Reader};
use super::yaml::short;
use crate::names::ParamName;
use crate::scalar::{NumberText, Scalar};

impl Reader<'_> {
    /// A declared parameter: its default, or a map that says more.
    pub(super) fn param(&mut self, item: Item<'_>) -> Option<Param> {
        if !item.is_map() {
            let default = self.single(item)?;
            return Some(Param { kind: kind_of(&default), default, help: None });
        }
        let fields = self.fields(item, &PARAM)?;
        let default = fields.get("default").and_then(|item| self.single(item));
        let min = fields.get("min").and_then(|item| self.number(item));
        let max = fields.get("max").and_then(|item| self.number(item));
        let help = fields.get("help").and_then(|item| self.raw_text(item)).map(ToOwned::to_owned);
        let written = self.choice(&fields, "type");
        if fields.get("type").is_some() && written.is_none() {
            return None;
        }
        let default = default?;
        let kind = match written {
            None => match kind_of(&default) {
                ParamKind::Number { whole, .. } => ParamKind::Number { whole, min, max },
                other => other,
            },
            Some("string") => ParamKind::Text,
            Some("boolean") => ParamKind::Boolean,
            Some(number) => ParamKind::Number { whole: number == "integer", min, max },
        };
        if !matches!(kind, ParamKind::Number { .. }) {
            for key in ["min", "max"] {
                if let Some(span) = fields.key_span(key) {
                    let message = format!("`{key}` bounds numbers, and `{}` is none", item.name);
                    self.report(
                        Problem::new("wrong-type", span, message)
                            .help("remove it, or write `type: number`"),
                    );
                }
            }
        }
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            let message = format!("`min` of `{}` is above `max`", item.name);
            let span = fields.key_span("min").unwrap_or(fields.span);
            self.report(Problem::new("bad-bounds", span, message).help("exchange the two"));
            return None;
        }
        let default = match kind {
            // `type: string` with `default: 3` means the text.
            ParamKind::Text => Scalar::Text(default.to_string()),
            _ => default,
        };
        let param = Param { kind, default, help };
        if let Err(why) = param.fits(&param.default) {
            let span = fields.get("default").map_or(fields.span, |item| item.span());
            let message = format!("the default of `{}` {why}", item.name);
            self.report(
                Problem::new("bad-default", span, message)
                    .help("make the default and `type` agree"),
            );
            return None;
        }
        Some(param)
    }
}

/// The kind of a parameter that only says its default.
fn kind_of(default: &Scalar) -> ParamKind {
    match default {
        Scalar::Bool(_) => ParamKind::Boolean,
        Scalar::Text(_) => ParamKind::Text,
        Scalar::Number(number) => {
            ParamKind::Number { whole: is_whole(number), min: None, max: None }
        }
    }
}

fn is_whole(number: &NumberText) -> bool {
    !number.as_str().contains(['.', 'e', 'E'])
}

impl Param {
    /// Reads a value given as text (`--param seed=8`); the error is a fragment that says what is wanted.
    pub fn parse(&self, text: &str) -> Result<Scalar, String> {
        let value = match self.kind {
            ParamKind::Text => Scalar::Text(text.to_owned()),
            _ => Scalar::plain(text),
        };
        self.fits(&value).map(|()| value)
    }

    /// Whether a value is of its kind; else what it must be.
    pub(super) fn fits(&self, value: &Scalar) -> Result<(), String> {
        match (self.kind, value) {
            (ParamKind::Text, Scalar::Text(_)) | (ParamKind::Boolean, Scalar::Bool(_)) => Ok(()),
            (ParamKind::Text, _) => Err("must be text".to_owned()),
            (ParamKind::Boolean, _) => {
                Err(format!("must be `true` or `false`, not `{}`", short(&value.to_string())))
            }
            (ParamKind::Number { whole, min, max }, Scalar::Number(number)) => {
                let value = number.as_f64();
                if whole && !is_whole(number) {
                    Err(format!("must be a whole number, not `{}`", number.as_str()))
                } else if !value.is_finite() {
                    Err("must be a finite number".to_owned())
                } else if min.is_some_and(|min| value < min) || max.is_some_and(|max| value > max) {
                    Err(format!("must be {}, not `{}`", bounds(min, max), number.as_str()))
                } else {
                    Ok(())
                }
            }
            (ParamKind::Number { whole, .. }, other) => {
                let what = if whole { "a whole number" } else { "a number" };
                Err(format!("must be {what}, not `{}`", short(&other.to_string())))
            }
        }
    }
}

fn bounds(min: Option<f64>, max: Option<f64>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("between {min} and {max}"),
        (Some(min), None) => format!("at least {min}"),
        (_, max) => format!("at most {}", max.unwrap_or(f64::INFINITY)),
    }
}

impl Pipeline {
    /// The values of every parameter: defaults overlaid by `given`.
    ///
    /// Errors are fragments, one for each unknown name or value that does not fit.
    pub fn params_with(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<ParamName, Scalar>, Vec<String>> {
        let mut values: BTreeMap<ParamName, Scalar> =
            self.params.iter().map(|(name, param)| (name.clone(), param.default.clone())).collect();
        let mut wrong = Vec::new();
        for (name, text) in given {
            let Some((known, param)) = self.params.get_key_value(name.as_str()) else {
                let near = nearest(name, self.params.keys().map(ParamName::as_str));
                let near = match near {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None if self.params.is_empty() => "; the pipeline has none".to_owned(),
                    None => {
                        let names: Vec<_> = self.params.keys().map(ParamName::as_str).collect();
                        format!("; it has {}", names.join(", "))
                    }
                };
                wrong.push(format!("there is no parameter `{}`{near}", short(name)));
                continue;
            };
            match param.parse(text) {
                Ok(value) => {
                    values.insert(known.clone(), value);
                }
                Err(why) => wrong.push(format!("parameter `{known}` {why}")),
            }
        }
        if wrong.is_empty() { Ok(values) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline() -> Pipeline {
        let text = "version: '2'\nname: a\nparams:\n  seed: 7\n  rate: {type: number, default: 0.1, min: 0, max: 1}\n  \
                    flag: true\n  word: a\nstages:\n  x:\n    run: 'true'\n    params: [seed, rate, flag, word]\n";
        super::super::load("p", text.as_bytes()).expect("valid")
    }

    fn with(name: &str, text: &str) -> Result<String, String> {
        let given = BTreeMap::from([(name.to_owned(), text.to_owned())]);
        let values = pipeline().params_with(&given).map_err(|wrong| wrong.join("\n"))?;
        Ok(values[name].to_string())
    }

    #[test]
    fn given_values_must_fit() {
        assert_eq!(with("seed", "8").as_deref(), Ok("8"));
        assert_eq!(with("rate", "0.50").as_deref(), Ok("0.50"));
        assert_eq!(with("flag", "false").as_deref(), Ok("false"));
        assert_eq!(with("word", "8").as_deref(), Ok("8"));
        let wrong = |name: &str, text: &str| with(name, text).expect_err(text);
        assert_eq!(wrong("seed", "8.5"), "parameter `seed` must be a whole number, not `8.5`");
        assert_eq!(wrong("rate", "2"), "parameter `rate` must be between 0 and 1, not `2`");
        assert_eq!(wrong("flag", "yes"), "parameter `flag` must be `true` or `false`, not `yes`");
        assert_eq!(wrong("sed", "1"), "there is no parameter `sed`; did you mean `seed`?");
        assert_eq!(wrong("zzz", "1"), "there is no parameter `zzz`; it has seed, rate, flag, word");
    }
}
