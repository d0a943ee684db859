//! Counts, lists, times and sizes for people, and outside text made harmless.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `1 stage`, `3 stages`.
pub fn count(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        // `copy`, `retry`; no noun of ours ends in a vowel and y.
        (_, Some(stem)) => format!("{number} {stem}ies"),
        _ => format!("{number} {noun}s"),
    }
}

/// `a, b and c`.
pub fn list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", most.join(", "), last.as_ref())
        }
    }
}

/// `a, b and 7 more`: at most `most` items are named.
pub fn short_list<T: AsRef<str>>(items: &[T], most: usize) -> String {
    if items.len() <= most + 1 {
        return list(items);
    }
    let mut named: Vec<String> =
        items[..most].iter().map(|item| item.as_ref().to_owned()).collect();
    named.push(format!("{} more", items.len() - most));
    list(&named)
}

/// A command that can be pasted into a shell.
pub fn shell_words<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<Cow<'_, str>> = words.iter().map(|word| shell_word(word.as_ref())).collect();
    words.join(" ")
}

/// Whole milliseconds of a duration.
pub fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds as `0.4s`, `12.3s`, `1m 12s`, `2h 5m`, `3d 4h`.
pub fn duration(millis: u64) -> String {
    let tenths = millis.saturating_add(50) / 100;
    if tenths < 600 {
        return format!("{}.{}s", tenths / 10, tenths % 10);
    }
    let seconds = millis / 1000 + u64::from(millis % 1000 >= 500);
    let (big, small) = match seconds {
        0..3600 => ((seconds / 60, "m"), (seconds % 60, "s")),
        3600..86_400 => ((seconds / 3600, "h"), (seconds % 3600 / 60, "m")),
        _ => ((seconds / 86_400, "d"), (seconds % 86_400 / 3600, "h")),
    };
    if small.0 == 0 {
        format!("{}{}", big.0, big.1)
    } else {
        format!("{}{} {}{}", big.0, big.1, small.0, small.1)
    }
}

/// Bytes as `512 B`, `1.2 GiB`.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit: u128 = 1024;
    let mut names = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter();
    let mut name = names.next().copied().unwrap_or_default();
    // 1023.95 KiB is shown as 1.0 MiB.
    for larger in names {
        if u128::from(bytes) * 20 < unit * (1024 * 20 - 1) {
            break;
        }
        unit *= 1024;
        name = larger;
    }
    let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
    if tenths.is_multiple_of(10) {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// How long ago `then` was at `now` (both Unix milliseconds): `just now`, `40 s ago`, `5 min ago`, `2 h ago`, `3 d ago`.
pub fn age(now: u64, then: u64) -> String {
    let seconds = now.saturating_sub(then) / 1000;
    match seconds {
        0..5 => "just now".to_owned(),
        5..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// A metric with at most six significant digits: `0.95`, `1234.5`, `1.2e-9`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e15).contains(&size) {
        let text = format!("{value:.5e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'));
    }
    let mut digits = 5_usize;
    let mut limit = 10.0;
    while size >= limit && digits > 0 {
        digits -= 1;
        limit *= 10.0;
    }
    if size < 1.0 {
        digits = 6;
    }
    let text = format!("{value:.digits$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Outside text with everything that could steer a terminal or hide made visible: escape sequences and control characters as their
/// pictures (`␛[31m`), direction marks as `‹202e›`; tabs become spaces. What is left is one line.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\t' => shown.push_str("    "),
            '\u{7f}' => shown.push('␡'),
            c if (c as u32) < 0x20 => {
                shown.push(char::from_u32(0x2400 + c as u32).unwrap_or('�'));
            }
            c if steers(c) => {
                // Writing into a String cannot fail.
                write!(shown, "‹{:x}›", c as u32).unwrap_or_default();
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A line of a log as it is shown: what a progress bar overwrote with carriage returns is left out, the rest is [`visible`].
pub fn log_line(text: &str) -> Cow<'_, str> {
    let text = text.trim_end_matches(['\r', '\n']);
    visible(text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or(text))
}

/// A word that can be pasted into a shell: `'train[trees=100]'`.
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_and_lists() {
        assert_eq!(count(1, "stage"), "1 stage");
        assert_eq!(count(0, "stage"), "0 stages");
        assert_eq!(count(2, "copy"), "2 copies");
        assert_eq!(list::<&str>(&[]), "");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(short_list(&["a", "b", "c"], 2), "a, b and c");
        assert_eq!(short_list(&["a", "b", "c", "d"], 2), "a, b and 2 more");
    }

    #[test]
    fn times_and_sizes() {
        let told: Vec<_> =
            [0, 449, 12_340, 59_960, 72_400, 120_000, 3_900_000, 90_000_000].map(duration).into();
        assert_eq!(told, ["0.0s", "0.4s", "12.3s", "1m", "1m 12s", "2m", "1h 5m", "1d 1h"]);
        let told: Vec<_> =
            [0, 1023, 1024, 1_048_575, 1 << 20, 1_288_490_189, u64::MAX].map(bytes).into();
        assert_eq!(told, ["0 B", "1023 B", "1 KiB", "1 MiB", "1 MiB", "1.2 GiB", "16 EiB"]);
        let told: Vec<_> = [0, 7, 60, 7200, 200_000].map(|s| age(s * 1000, 0)).into();
        assert_eq!(told, ["just now", "7 s ago", "1 min ago", "2 h ago", "2 d ago"]);
        assert_eq!(age(0, 10), "just now");
    }

    #[test]
    fn numbers_keep_six_digits() {
        let told: Vec<_> =
            [0.95, 0.950_000_1, 1234.5, 123_456_789.0, 0.1 + 0.2, -2.0, 1.2e-9, 3e20, 0.0]
                .map(number)
                .into();
        assert_eq!(
            told,
            ["0.95", "0.95", "1234.5", "123456789", "0.3", "-2", "1.2e-9", "3e20", "0"]
        );
    }

    #[test]
    fn outside_text_steers_nothing() {
        assert_eq!(visible("plain ü"), "plain ü");
        assert_eq!(visible("\x1b[31mred\x07\u{9b}2J\u{202e}"), "␛[31mred␇‹9b›2J‹202e›");
        assert_eq!(visible("a\tb\nc\x7f"), "a    b␊c␡");
        assert_eq!(log_line("10%\r20%\r\n"), "20%");
        assert_eq!(log_line("\r"), "");
        assert_eq!(shell_word("train"), "train");
        assert_eq!(shell_word("train[trees=100]"), "'train[trees=100]'");
        assert_eq!(shell_words(&["echo", "", "it's"]), r"echo '' 'it'\''s'");
    }
}
