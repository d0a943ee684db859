//! Finds `${{ … }}` in a text. Nothing else in the text has a meaning: `${#a[@]}`, `awk '{…}'` and `$${{ … }}` stay as they are.

use std::ops::Range;

/// A part of a scanned text, as byte ranges of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::spec) enum Part {
    /// Stands as it is.
    Literal(Range<usize>),
    /// An expression: from `${{` to past `}}`, and what is between them.
    Expression {
        /// With the delimiters.
        whole: Range<usize>,
        /// Without them.
        inside: Range<usize>,
    },
    /// A `${{` that nothing closes: from it to the end of the text.
    Unclosed(Range<usize>),
}

/// The parts of a text in order; together they cover it. An unclosed part is the last one.
pub(in crate::spec) fn scan(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = 0;
    let mut search = 0;
    while let Some(found) = text.get(search..).and_then(|rest| rest.find("${{")) {
        let open = search + found;
        if text[..open].ends_with('$') {
            search = open + 3;
            continue;
        }
        if open > literal {
            parts.push(Part::Literal(literal..open));
        }
        let Some(close) = closing(text, open + 3) else {
            parts.push(Part::Unclosed(open..text.len()));
            return parts;
        };
        parts.push(Part::Expression { whole: open..close + 2, inside: open + 3..close });
        literal = close + 2;
        search = literal;
    }
    if literal < text.len() {
        parts.push(Part::Literal(literal..text.len()));
    }
    parts
}

/// Where the `}}` stands that closes an expression: not inside a string, nor where a brace inside is open.
fn closing(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open_braces = 0_usize;
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' => open_braces += 1,
            b'}' if open_braces > 0 => open_braces -= 1,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insides(text: &str) -> Vec<&str> {
        scan(text)
            .into_iter()
            .filter_map(|part| match part {
                Part::Expression { inside, .. } => Some(text[inside].trim()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn shell_text_stays_as_it_is() {
        for text in
            ["${#a[@]}", "awk '{print $1}'", "$${{ x }}", "{{ x }}", "${x}", "echo }} {{", ""]
        {
            assert!(insides(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn an_expression_ends_at_its_own_braces() {
        assert_eq!(insides("a ${{ x }}b${{y}}"), ["x", "y"]);
        assert_eq!(insides("${{ '}}' ~ \"a\\\"}}\" }}"), ["'}}' ~ \"a\\\"}}\""]);
        assert_eq!(insides("${{ {'a': {'b': 1}}['a'] }}"), ["{'a': {'b': 1}}['a']"]);
        assert_eq!(scan("a ${{ x }").last(), Some(&Part::Unclosed(2..9)));
    }

    proptest::proptest! {
        #[test]
        fn parts_cover_the_text(text in "[a${}'\"\\\\é ]{0,40}") {
            let mut end = 0;
            for part in scan(&text) {
                let (Part::Literal(range)
                | Part::Expression { whole: range, .. }
                | Part::Unclosed(range)) = part;
                proptest::prop_assert_eq!(range.start, end);
                proptest::prop_assert!(text.get(range.clone()).is_some());
                end = range.end;
            }
            proptest::prop_assert_eq!(end, text.len());
        }
    }
}
