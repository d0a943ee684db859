//! What a stage reports in files: metrics (flat numbers) and values (flat scalars).

use std::io::{self, Read};
use std::path::Path;

use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::OFlags;
use serde_json::Value;

use super::below::{Below, look};
use crate::event::{Metrics, Values};
use crate::scalar::Scalar;
use crate::store::inspect::UNREADABLE;

/// Bytes of a metrics file at most.
const MOST_METRICS: u64 = 1 << 20;
/// Bytes of a values file at most.
const MOST_VALUES: u64 = 32 << 10;
/// Python's `json` writes these three, which are no JSON; marked so that the message can name the metric.
const NO_JSON: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
/// What such a number is read as: no text of a file can hold an escape character unescaped.
const MARK: char = '\u{1b}';

/// Reads the metrics file `path` below `base`. The inner error says what is wrong and what to do.
pub(super) fn metrics(base: &Path, path: &str) -> io::Result<Result<Metrics, String>> {
    let text = match read(base, path, MOST_METRICS)? {
        Ok(text) => text,
        Err(why) => return Ok(Err(why)),
    };
    Ok(parse(&text, path).and_then(|found| {
        found.into_iter().map(|(name, value)| number(&name, &value).map(|n| (name, n))).collect()
    }))
}

/// Reads the values file `path` below `base`. The inner error says what is wrong and what to do.
pub(super) fn values(base: &Path, path: &str) -> io::Result<Result<Values, String>> {
    let text = match read(base, path, MOST_VALUES)? {
        Ok(text) => text,
        Err(why) => return Ok(Err(why)),
    };
    Ok(parse(&text, path).and_then(|found| {
        found.into_iter().map(|(name, value)| scalar(&name, &value).map(|s| (name, s))).collect()
    }))
}

fn read(base: &Path, path: &str, most: u64) -> io::Result<Result<String, String>> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => Ok(Err(format!("`{path}` {UNREADABLE}"))),
        _ => Err(error),
    };
    let looked = match look(base, path) {
        Err(error) => return unreadable(error),
        Ok(looked) => looked,
    };
    let place = match looked {
        Below::There(place, metadata) if metadata.is_file() => place,
        Below::There(..) => return Ok(Err(format!("`{path}` is not a file; write a JSON file"))),
        Below::Nothing => return Ok(Err(format!("`{path}` was not written"))),
        Below::Through(part) => {
            return Ok(Err(format!("`{path}` lies behind `{part}`, which is not a folder")));
        }
        Below::Outside => return Ok(Err(format!("`{path}` is not below the base"))),
    };
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(place) {
        Err(error) => return unreadable(error),
        Ok(file) => file,
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let most = most >> 10;
        return Ok(Err(format!(
            "`{path}` is larger than {most} KiB; report less, or make it an output"
        )));
    }
    Ok(String::from_utf8(bytes).map_err(|_| format!("`{path}` is not UTF-8")))
}

fn parse(text: &str, path: &str) -> Result<serde_json::Map<String, Value>, String> {
    match serde_json::from_str(&mark_no_json(text)) {
        Ok(Value::Object(found)) if found.contains_key("") => {
            Err(format!("`{path}` holds an entry without a name"))
        }
        Ok(Value::Object(found)) => Ok(found),
        Ok(_) => Err(format!("`{path}` is not a JSON object like {{\"accuracy\": 0.93}}")),
        Err(error) => Err(format!("`{path}` is not JSON: {error}")),
    }
}

/// Puts `NaN` and the infinities, where they stand for a value, into marked texts.
fn mark_no_json(text: &str) -> String {
    let mut marked = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_text = false;
    while let Some(next) = rest.chars().next() {
        let word = NO_JSON.into_iter().find(|word| !in_text && rest.starts_with(word));
        if let Some(word) = word {
            marked.extend(["\"\\u001b", word, "\""]);
            rest = &rest[word.len()..];
            continue;
        }
        let mut length = next.len_utf8();
        if in_text && next == '\\' {
            length += rest[1..].chars().next().map_or(0, char::len_utf8);
        } else if next == '"' {
            in_text = !in_text;
        }
        marked.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    marked
}

fn number(name: &str, value: &Value) -> Result<f64, String> {
    let what = match value {
        Value::Number(number) => match number.as_f64() {
            Some(number) if number.is_finite() => return Ok(number),
            _ => "a number that is too large; report a smaller one",
        },
        Value::String(text) if text.starts_with(MARK) => {
            return Err(no_number(name, text));
        }
        Value::String(_) => "a text; report texts in the file of `values`",
        Value::Bool(_) => "true or false; write 1 or 0, or report it in the file of `values`",
        Value::Null => "null; leave it out",
        Value::Array(_) => "a list; report each number under a name of its own",
        Value::Object(_) => "an object; report each number under a name of its own",
    };
    Err(format!("metric `{name}` is {what}"))
}

fn scalar(name: &str, value: &Value) -> Result<Scalar, String> {
    let what = match value {
        Value::String(text) if text.starts_with(MARK) => return Err(no_number(name, text)),
        Value::Null => "null; leave it out",
        Value::Array(_) => {
            "a list; report each entry under a name of its own, or make it an output"
        }
        Value::Object(_) => {
            "an object; report each entry under a name of its own, or make it an output"
        }
        _ => "not a text, a number, true or false",
    };
    Scalar::from_json(value).ok_or_else(|| format!("value `{name}` is {what}"))
}

fn no_number(name: &str, marked: &str) -> String {
    let word = marked.trim_start_matches(MARK);
    format!(
        "`{name}` is {word}, which is not a number; leave it out or find out why it was computed"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics_of(text: &str) -> Result<Metrics, String> {
        let base = tempfile::tempdir().unwrap();
        fs_err::write(base.path().join("m.json"), text).unwrap();
        metrics(base.path(), "m.json").unwrap()
    }

    #[test]
    fn numbers_are_read_exactly() {
        let found = metrics_of(
            r#"{"NaN \" Infinity": 1, "b": -0.1, "c": 1e-300, "d": 0.9333333333333333}"#,
        )
        .unwrap();
        assert_eq!(found["NaN \" Infinity"].to_bits(), 1f64.to_bits());
        assert_eq!(found["d"].to_bits(), 0.933_333_333_333_333_3_f64.to_bits());
        assert_eq!(found.len(), 4);
        assert!(metrics_of("{}").unwrap().is_empty());
    }

    #[test]
    fn each_wrong_metric_is_named_with_its_mend() {
        for (text, said) in [
            (r#"{"ok": 1, "loss": NaN}"#, "`loss` is NaN, which is not a number"),
            (r#"{"loss":-Infinity}"#, "`loss` is -Infinity"),
            (r#"{"loss":Infinity}"#, "`loss` is Infinity"),
            (r#"{"a": {"b": 1}}"#, "metric `a` is an object; report each number"),
            (r#"{"a": [1]}"#, "metric `a` is a list"),
            (r#"{"a": "high"}"#, "metric `a` is a text; report texts in the file of `values`"),
            (r#"{"a": true}"#, "metric `a` is true or false; write 1 or 0"),
            (r#"{"a": null}"#, "metric `a` is null; leave it out"),
            (r#"{"": 1}"#, "without a name"),
            ("[1]", "`m.json` is not a JSON object"),
            ("{\"a\": 1", "`m.json` is not JSON: EOF"),
            ("", "`m.json` is not JSON"),
            ("{\"a\": 1e999}", "`m.json` is not JSON: number out of range"),
        ] {
            let why = metrics_of(text).unwrap_err();
            assert!(why.contains(said), "{text}: {why}");
        }
    }

    #[test]
    fn what_is_no_readable_file_is_told() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path();
        let why = |path: &str| metrics(base, path).unwrap().unwrap_err();
        assert_eq!(why("none.json"), "`none.json` was not written");
        fs_err::create_dir(base.join("folder")).unwrap();
        assert!(why("folder").contains("is not a file"));
        fs_err::os::unix::fs::symlink("/etc/passwd", base.join("link")).unwrap();
        assert!(why("link").contains("is not a file"));
        rustix::fs::mkfifoat(rustix::fs::CWD, base.join("fifo"), rustix::fs::Mode::RWXU).unwrap();
        assert!(why("fifo").contains("is not a file"));
        fs_err::write(base.join("big"), vec![b' '; (1 << 20) + 1]).unwrap();
        assert!(why("big").contains("larger than 1024 KiB"));
        fs_err::write(base.join("latin"), b"{\"\xe9\": 1}").unwrap();
        assert!(why("latin").contains("is not UTF-8"));
    }

    #[test]
    fn values_are_flat_scalars() {
        let base = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            fs_err::write(base.path().join("v.json"), text).unwrap();
            values(base.path(), "v.json").unwrap()
        };
        let found = read(r#"{"a": "x", "b": 1.5, "c": true}"#).unwrap();
        assert_eq!(found["a"], Scalar::Text("x".to_owned()));
        assert_eq!(found["b"], Scalar::plain("1.5"));
        assert_eq!(found["c"], Scalar::Bool(true));
        assert!(read(r#"{"a": null}"#).unwrap_err().contains("value `a` is null"));
        assert!(read(r#"{"a": [1]}"#).unwrap_err().contains("value `a` is a list"));
        assert!(read(r#"{"a": NaN}"#).unwrap_err().contains("`a` is NaN"));
        let large = format!("{{\"a\": \"{}\"}}", "x".repeat(32 << 10));
        assert!(read(&large).unwrap_err().contains("larger than 32 KiB"));
    }
}
