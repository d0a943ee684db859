//! The spellings in which a program may print a secret, and which are looked for in its log.

mod escapes;

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Nothing shorter is looked for: it would be found in every other line. Bytes.
pub(super) const SHORTEST: usize = 4;

/// Where tools break base64 into lines: PEM, and MIME and `base64`.
const WIDTHS: [usize; 2] = [64, 76];

/// Every spelling of a value, each at least [`SHORTEST`] bytes long.
///
/// Line ends after the value do not belong to it: programs print it with and without them.
pub(super) fn forms(value: &str) -> BTreeSet<Vec<u8>> {
    let value = value.trim_end_matches(['\r', '\n']);
    if value.len() < SHORTEST {
        return BTreeSet::new();
    }
    let mut forms = BTreeSet::from([value.as_bytes().to_vec()]);
    if value.contains('\n') {
        forms.extend(value.split('\n').map(|line| line.trim().as_bytes().to_vec()));
    }
    base64(value.as_bytes(), &mut forms);
    escapes::percent(value, &mut forms);
    escapes::json(value, &mut forms);
    escapes::quoted(value, &mut forms);
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// Base64 encodes three bytes as four characters, so a value looks different at each of three places in what is encoded.
/// Characters that also depend on what stands before it are left out.
fn base64(value: &[u8], forms: &mut BTreeSet<Vec<u8>>) {
    for before in 0..3 {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(value);
        let first = (before * 8).div_ceil(6);
        // Those of the last one depend on the value alone only when nothing stands after it.
        let last = bytes.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&bytes).into_bytes();
            let (Some(core), Some(end)) = (encoded.get(first..last), encoded.get(first..)) else {
                continue;
            };
            forms.insert(core.to_vec());
            if core.len() < end.len() {
                let mut padded = end.to_vec();
                padded.resize(padded.len() + (4 - encoded.len() % 4) % 4, b'=');
                forms.extend([end.to_vec(), padded]);
            }
            for width in WIDTHS {
                if before == 0 && core.len() > width {
                    forms.extend(core.chunks(width).map(<[u8]>::to_vec));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, form: &str) -> bool {
        forms(value).contains(form.as_bytes())
    }

    #[test]
    fn lines_of_a_value_are_forms_and_line_ends_are_not_part_of_it() {
        assert!(has("first line\n  second\r\nthe\n", "second"));
        assert!(has("first line\n  second\n", "first line\n  second"));
        assert!(!has("first line\nthe\n", "the"), "too short");
        assert!(has("hunter22\n", "hunter22"));
        assert!(forms("abc").iter().all(|form| form.len() >= SHORTEST));
    }

    #[test]
    fn base64_is_found_wherever_the_value_stands_in_what_is_encoded() {
        let value = "hunter2 is ~no~ secret?>";
        let value = &value[..value.len() - 1];
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "\n", "xy", "xyz"] {
                for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                    let text = engine.encode(format!("{before}{value}{after}"));
                    let longest = forms(value)
                        .into_iter()
                        .filter(|form| text.contains(std::str::from_utf8(form).unwrap()))
                        .map(|form| form.len())
                        .max();
                    let found = longest.unwrap_or_default();
                    assert!(found * 6 >= value.len() * 8 - 16, "{before}…{after}: {text}");
                }
            }
        }
        let whole = "a1b2c3d4".repeat(20);
        let encoded = STANDARD_NO_PAD.encode(&whole);
        assert!(has(&whole, &encoded[76..152]));
        assert!(has(&whole, &encoded[64..128]));
        assert!(has("hunter22", "aHVudGVyMjI="));
    }

    #[test]
    fn quotes_spell_it_otherwise() {
        assert!(has("<a&'b\">", "&lt;a&amp;&#x27;b&quot;&gt;"), "Python's html.escape");
        assert!(has("<a&'b\">", "&lt;a&amp;&#39;b&#34;&gt;"), "Go's html.EscapeString");
        assert!(has("<a&'b\">", "&lt;a&amp;'b\"&gt;"), "the text of an element");
        assert!(has("it's it", r"it'\''s it"), "bash");
        assert!(has("it's it", "it'\"'\"'s it"), "dash");
        assert!(has("a\tb\\é", r"a\tb\\\xc3\xa9"), "Python's bytes");
        assert!(has("it's\u{1}", r"it\'s\x01"));
    }

    #[test]
    fn urls_and_json_spell_it_otherwise() {
        assert!(has("p@ss w/rd", "p%40ss%20w%2Frd"));
        assert!(has("p@ss w/rd", "p%40ss%20w%2frd"));
        assert!(has("p@ss w/rd", "p%40ss%20w/rd"));
        assert!(has("p@ss w/rd", "p%40ss+w%2Frd"));
        assert!(has("a\"b\\c\nd☃", r#"a\"b\\c\nd☃"#));
        assert!(has("a\"b\\c\nd☃😀", r#"a\"b\\c\nd\u2603\ud83d\ude00"#));
        assert!(has("é/<&>", r"\u00e9\/<&>"));
        assert!(has("é/<&>", r"\u00E9/<&>"));
        assert!(has("é/<&>", r"é/\u003c\u0026\u003e"));
        assert!(has("a/b?c", r"a\/b?c"));
        let plain = forms("abcdefgh").len();
        assert!(plain < 12, "what does not differ is looked for once: {plain}");
    }
}
