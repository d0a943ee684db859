//! How URLs, JSON, HTML, shells and Python spell the characters of a text that mean something to them.

use std::collections::BTreeSet;

/// What percent-encoders leave as it is beside letters and digits: RFC 3986, Python's `quote`, JavaScript's
/// `encodeURIComponent`.
const LEFT_ALONE: [&str; 3] = ["-._~", "-._~/", "-._~!*'()"];

/// As parts of URLs.
pub(super) fn percent(value: &str, forms: &mut BTreeSet<Vec<u8>>) {
    let encode = |left_alone: &str, space: &str, upper: bool| {
        let mut encoded = String::with_capacity(value.len());
        for byte in value.bytes() {
            match byte {
                b' ' => encoded += space,
                _ if byte.is_ascii_alphanumeric() || left_alone.as_bytes().contains(&byte) => {
                    encoded.push(char::from(byte));
                }
                _ if upper => encoded += &format!("%{byte:02X}"),
                _ => encoded += &format!("%{byte:02x}"),
            }
        }
        encoded.into_bytes()
    };
    for left_alone in LEFT_ALONE {
        forms.extend([encode(left_alone, "%20", true), encode(left_alone, "%20", false)]);
    }
    // As forms of web pages are sent.
    forms.insert(encode(LEFT_ALONE[0], "+", true));
}

/// With characters beyond ASCII as they are, and escaped as Python (small letters) and others do; with `/` as PHP writes it, and with
/// what could be HTML as Go does.
pub(super) fn json(value: &str, forms: &mut BTreeSet<Vec<u8>>) {
    let whole = serde_json::Value::from(value).to_string();
    let inner = &whole[1..whole.len() - 1];
    let escaped = |is_escaped: fn(char) -> bool, upper: bool| {
        let mut text = String::with_capacity(inner.len());
        for character in inner.chars() {
            if is_escaped(character) {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let unit =
                        if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
                    text.push_str(&unit);
                }
            } else {
                text.push(character);
            }
        }
        text
    };
    let beyond = |character: char| !character.is_ascii();
    let ascii = escaped(beyond, false);
    let of_go = escaped(|character| "<>&".contains(character), false);
    let slashed = [inner, &ascii].map(|text| text.replace('/', "\\/"));
    let all = [inner.to_owned(), escaped(beyond, true), ascii.clone(), of_go];
    forms.extend(all.into_iter().chain(slashed).map(String::into_bytes));
}

/// In HTML and XML, within the quotes that shells put around words (`set -x`), and as bytes in Python.
pub(super) fn quoted(value: &str, forms: &mut BTreeSet<Vec<u8>>) {
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    forms.insert(html.replace('"', "&quot;").into_bytes());
    for (double, single) in [("&quot;", "&#x27;"), ("&#34;", "&#39;"), ("&quot;", "&#39;")] {
        forms.insert(html.replace('"', double).replace('\'', single).into_bytes());
    }
    forms.insert(html.into_bytes());
    for quote in ["'\\''", "'\"'\"'"] {
        forms.insert(value.replace('\'', quote).into_bytes());
    }
    let escaped = |byte: u8| match byte {
        b'\t' => "\\t".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    let bytes: String = value.bytes().map(escaped).collect();
    forms.insert(bytes.replace('\'', "\\'").into_bytes());
    forms.insert(bytes.into_bytes());
}
