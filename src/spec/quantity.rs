//! Durations, sizes and processors: numbers with a unit.

use std::time::Duration;

use super::problem::Problem;
use super::reader::{Item, Reader};
use super::yaml::short;

/// Longer durations are slips of the pen, and would overflow clocks.
const LONGEST: Duration = Duration::from_hours(10 * 366 * 24);

/// Why a text is not the quantity: a sentence and the mend.
type Refused = (String, &'static str);

impl Reader<'_> {
    /// A duration: `10s 5m 2h 1d`, `1h 30m`.
    pub(super) fn duration(&mut self, item: Item<'_>) -> Option<Duration> {
        self.quantity(item, "a duration", duration)
    }

    /// A size in bytes: `512Mi 4Gi 500M`.
    pub(super) fn size(&mut self, item: Item<'_>) -> Option<u64> {
        self.quantity(item, "a size", size)
    }

    /// Processors: `0.5` or `500m`.
    pub(super) fn cpu(&mut self, item: Item<'_>) -> Option<f64> {
        self.quantity(item, "a number of processors", cpu)
    }

    /// A factor: `2x`.
    pub(super) fn factor(&mut self, item: Item<'_>) -> Option<f64> {
        self.quantity(item, "a factor", factor)
    }

    fn quantity<T>(
        &mut self,
        item: Item<'_>,
        what: &str,
        parse: impl Fn(&str) -> Result<T, Refused>,
    ) -> Option<T> {
        let Some((text, _)) = item.scalar() else {
            self.wrong_type(item, what);
            return None;
        };
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err((why, help)) => {
                let message = format!("`{}` of `{}` {why}", short(text), item.name);
                self.report(Problem::new("bad-quantity", item.span(), message).help(help));
                None
            }
        }
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, Refused> {
    const HELP: &str = "write a number and a unit: `10s`, `5m`, `2h` or `1d`";
    if text.parse::<f64>().is_ok() {
        return Err(("has no unit".to_owned(), HELP));
    }
    let mut units = text
        .split(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .filter(|unit| !unit.is_empty());
    if let Some(unit) = units.find(|unit| !["ms", "s", "m", "h", "d"].contains(unit)) {
        return Err((format!("has the unknown unit `{}`", short(unit)), HELP));
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err(("is no time at all".to_owned(), HELP)),
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Err(humantime::DurationError::NumberOverflow) | Ok(_) => {
            Err(("is longer than ten years".to_owned(), HELP))
        }
        Err(_) => Err(("is not a duration".to_owned(), HELP)),
    }
}

/// A size as in a file, in bytes: `512Mi 4Gi 500M`. For settings, which write it the same way.
pub fn parse_size(text: &str) -> Option<u64> {
    size(text).ok()
}

/// A time as in a file: `10s`, `5m`, `2h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    duration(text).ok()
}

/// A number of processors as in a file: `2`, `0.5`, `500m`.
pub fn parse_cpu(text: &str) -> Option<f64> {
    cpu(text).ok()
}

pub(super) fn size(text: &str) -> Result<u64, Refused> {
    const HELP: &str = "write a number and a unit: `512Mi`, `4Gi` or `500M`";
    let (number, unit) = split(text);
    let scale: f64 = match unit {
        "K" | "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "Pi" => 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "" => return Err(("has no unit".to_owned(), HELP)),
        unit => return Err((format!("has the unknown unit `{}`", short(unit)), HELP)),
    };
    let number = number.ok_or_else(|| ("is not a size".to_owned(), HELP))?;
    let bytes = (number * scale).round();
    if bytes < 1.0 {
        return Err(("is no size at all".to_owned(), HELP));
    }
    if bytes > 1e18 {
        return Err(("is too large".to_owned(), HELP));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 1e18, and rounded"
    )]
    Ok(bytes as u64)
}

pub(super) fn cpu(text: &str) -> Result<f64, Refused> {
    const HELP: &str = "write a number of processors, like `2`, `0.5` or `500m`";
    let (number, unit) = split(text);
    let scale = match unit {
        "" => 1.0,
        "m" => 0.001,
        unit => return Err((format!("has the unknown unit `{}`", short(unit)), HELP)),
    };
    let cpu = number.ok_or_else(|| ("is not a number".to_owned(), HELP))? * scale;
    if (0.001..=10_000.0).contains(&cpu) {
        Ok(cpu)
    } else {
        Err(("is not between 1m and 10000".to_owned(), HELP))
    }
}

fn factor(text: &str) -> Result<f64, Refused> {
    const HELP: &str = "write how many times as much, like `2x` or `1.5x`";
    let (number, unit) = split(text);
    match (number, unit) {
        (Some(factor), "x") if factor > 1.0 && factor <= 100.0 => Ok(factor),
        (Some(_), "x") => Err(("is not above 1x and up to 100x".to_owned(), HELP)),
        _ => Err(("is not a factor".to_owned(), HELP)),
    }
}

/// The number a text begins with, and what follows it.
fn split(text: &str) -> (Option<f64>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (text[..end].parse().ok(), text[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("10s").ok(), Some(Duration::from_secs(10)));
        assert_eq!(duration("1h 30m").ok(), Some(Duration::from_mins(90)));
        assert_eq!(duration("1d").ok(), Some(Duration::from_hours(24)));
        assert_eq!(duration("1.5h").ok(), Some(Duration::from_mins(90)));
        assert_eq!(duration("250ms").ok(), Some(Duration::from_millis(250)));
        for text in ["10", "0s", "", "2M", "5 years", "s", "-1s", "99999999999d", "1e9d", "9999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4Gi").ok(), Some(4 << 30));
        assert_eq!(size("512Mi").ok(), Some(512 << 20));
        assert_eq!(size("500M").ok(), Some(500_000_000));
        assert_eq!(size("1.5Gi").ok(), Some(3 << 29));
        for text in ["4", "4GB", "Gi", "", "-1G", "0Gi", "1.2.3G", "99999999999P", "4gi"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn processors_and_factors() {
        assert_eq!(cpu("2").ok(), Some(2.0));
        assert_eq!(cpu("500m").ok(), Some(0.5));
        assert_eq!(cpu("0.5").ok(), Some(0.5));
        for text in ["0", "-1", "two", "2 cores", "1e9", ""] {
            assert!(cpu(text).is_err(), "{text}");
        }
        assert_eq!(factor("2x").ok(), Some(2.0));
        for text in ["2", "1x", "x", "0.5x", "1000x"] {
            assert!(factor(text).is_err(), "{text}");
        }
    }
}
