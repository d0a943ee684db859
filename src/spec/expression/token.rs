//! The words of an expression with their places: what it names, and where its comparisons stand.
//!
//! minijinja says neither where a name stands nor lets a comparison of a text with a number fail; both are had
//! from a flat list of tokens, without a second parser.

use std::ops::Range;

/// A dotted name: `evaluate.metrics.accuracy`, `params['seed']`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::spec) struct Path {
    /// Its parts; the first is a root.
    pub(in crate::spec) parts: Vec<String>,
    /// Where it stands in the expression.
    pub(in crate::spec) place: Range<usize>,
}

impl Path {
    /// As it is written with dots.
    pub(in crate::spec) fn dotted(&self) -> String {
        self.parts.join(".")
    }
}

/// A name that minijinja itself must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spec) enum Builtin {
    Filter,
    Test,
    Function,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Text,
    Number,
    Mark,
}

#[derive(Debug, Clone)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    start: usize,
    /// How many brackets are open around it; a bracket itself stands outside.
    depth: usize,
}

impl Token<'_> {
    fn end(&self) -> usize {
        self.start + self.text.len()
    }

    fn is(&self, text: &str) -> bool {
        self.kind != Kind::Text && self.text == text
    }
}

/// An expression cut into tokens.
#[derive(Debug)]
pub(in crate::spec) struct Tokens<'a> {
    source: &'a str,
    list: Vec<Token<'a>>,
}

const KEYWORDS: [&str; 13] = [
    "and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None",
];
const COMPARISONS: [&str; 6] = ["==", "!=", "<=", ">=", "<", ">"];

impl<'a> Tokens<'a> {
    /// Cuts a text; what is no token of the language becomes a mark of one character (minijinja reports it).
    pub(in crate::spec) fn new(source: &'a str) -> Self {
        let mut list: Vec<Token<'a>> = Vec::new();
        let mut depth = 0_usize;
        let mut at = 0;
        while let Some(first) = source[at..].chars().next() {
            let rest = &source[at..];
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let span = |more: &dyn Fn(char) -> bool| rest.find(|c| !more(c)).unwrap_or(rest.len());
            let (kind, length) = match first {
                c if c.is_whitespace() => {
                    at += c.len_utf8();
                    continue;
                }
                '\'' | '"' => (Kind::Text, text_length(rest, first)),
                c if c.is_ascii_digit() => (Kind::Number, number_length(rest)),
                c if c.is_alphabetic() || c == '_' => (Kind::Word, span(&word)),
                _ => {
                    let pair = rest.get(..2).unwrap_or_default();
                    let two = matches!(pair, "==" | "!=" | "<=" | ">=" | "//" | "**");
                    (Kind::Mark, if two { 2 } else { first.len_utf8() })
                }
            };
            let text = &rest[..length];
            if kind == Kind::Mark && matches!(text, ")" | "]" | "}") {
                depth = depth.saturating_sub(1);
            }
            list.push(Token { kind, text, start: at, depth });
            if kind == Kind::Mark && matches!(text, "(" | "[" | "{") {
                depth += 1;
            }
            at += length;
        }
        Self { source, list }
    }

    fn at(&self, index: usize) -> Option<&Token<'a>> {
        self.list.get(index)
    }

    fn before(&self, index: usize, back: usize) -> Option<&Token<'a>> {
        index.checked_sub(back).and_then(|index| self.list.get(index))
    }

    /// What a word is called as, when it is a filter, a test or a function.
    fn builtin(&self, index: usize) -> Option<Builtin> {
        let previous = self.before(index, 1);
        let one_before = self.before(index, 2);
        if previous.is_some_and(|token| token.is("|")) {
            Some(Builtin::Filter)
        } else if previous.is_some_and(|token| token.is("is"))
            || (previous.is_some_and(|token| token.is("not"))
                && one_before.is_some_and(|token| token.is("is")))
        {
            Some(Builtin::Test)
        } else if self.at(index + 1).is_some_and(|token| token.is("(")) {
            Some(Builtin::Function)
        } else {
            None
        }
    }

    /// Whether the word begins a name: no attribute, keyword argument or keyword.
    fn begins_name(&self, index: usize) -> bool {
        let Some(token) = self.at(index) else { return false };
        token.kind == Kind::Word
            && !self.before(index, 1).is_some_and(|previous| previous.is("."))
            && !self.at(index + 1).is_some_and(|next| next.is("="))
            && (!KEYWORDS.contains(&token.text) || self.builtin(index) == Some(Builtin::Test))
    }

    /// The filters, tests and functions it uses, with their places.
    pub(in crate::spec) fn builtins(&self) -> Vec<(Builtin, &'a str, Range<usize>)> {
        let used = |index: usize| {
            let token = self.at(index)?;
            let kind = self.builtin(index).filter(|_| self.begins_name(index))?;
            // `is not none`: the `not` is no test.
            let keyword = kind == Builtin::Test && token.is("not");
            (!keyword).then(|| (kind, token.text, token.start..token.end()))
        };
        (0..self.list.len()).filter_map(used).collect()
    }

    /// Every name in order. A subscript that is no text ends a name; so does a method.
    pub(in crate::spec) fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        for index in 0..self.list.len() {
            if !self.begins_name(index) || self.builtin(index).is_some() {
                continue;
            }
            let first = &self.list[index];
            let mut parts = vec![first.text.to_owned()];
            let mut end = first.end();
            let mut next = index + 1;
            loop {
                let dotted = self.at(next).is_some_and(|token| token.is("."));
                let indexed = self.at(next).is_some_and(|token| token.is("["));
                let Some(part) = self.at(next + 1) else { break };
                if dotted && part.kind == Kind::Word {
                    if self.at(next + 2).is_some_and(|token| token.is("(")) {
                        break;
                    }
                    parts.push(part.text.to_owned());
                    end = part.end();
                    next += 2;
                } else if let (true, Kind::Text, Some(close)) =
                    (indexed, part.kind, self.at(next + 2).filter(|close| close.is("]")))
                {
                    parts.push(part.text.trim_matches(['\'', '"']).to_owned());
                    end = close.end();
                    next += 3;
                } else {
                    break;
                }
            }
            paths.push(Path { parts, place: first.start..end });
        }
        paths
    }

    /// The expression with every comparison `a < b` written as `function(a, "<", b)`, so that the function can refuse
    /// what must not be compared. `None` for a chain that mixes `in` with comparisons, or lacks an operand.
    pub(in crate::spec) fn compare_with(&self, function: &str) -> Option<String> {
        // Operands reach from a comparison to the next word or mark that binds weaker, at the same bracket depth.
        let mut inserts: Vec<(usize, usize, String)> = Vec::new();
        let mut done = vec![false; self.list.len()];
        for index in 0..self.list.len() {
            if done[index] || !self.compares(index) {
                continue;
            }
            let left = self.operand_start(index);
            if left == index || left > 0 && self.list[left - 1].is("in") {
                return None;
            }
            let mut operator = index;
            let end = loop {
                done[operator] = true;
                let token = &self.list[operator];
                inserts.push((token.start, token.text.len(), format!(", \"{}\", ", token.text)));
                let end = self.operand_end(operator);
                if end == operator + 1 {
                    return None;
                }
                match self.at(end).filter(|next| next.depth == token.depth) {
                    Some(_) if self.compares(end) => operator = end,
                    Some(next) if next.is("in") => return None,
                    Some(next)
                        if next.is("not") && self.at(end + 1).is_some_and(|t| t.is("in")) =>
                    {
                        return None;
                    }
                    _ => break end,
                }
            };
            let start = self.at(left).map_or(0, |token| token.start);
            inserts.push((start, 0, format!("{function}(")));
            inserts.push((self.list[end - 1].end(), 0, ")".to_owned()));
        }
        // No two inserts share a place except equal ones, so their order there does not matter.
        inserts.sort_by_key(|(place, ..)| *place);
        let mut written = String::with_capacity(self.source.len() + 16 * inserts.len());
        let mut from = 0;
        for (place, replaced, text) in inserts {
            written.push_str(&self.source[from..place]);
            written.push_str(&text);
            from = place + replaced;
        }
        written.push_str(&self.source[from..]);
        Some(written)
    }

    fn compares(&self, index: usize) -> bool {
        self.at(index).is_some_and(|t| t.kind == Kind::Mark && COMPARISONS.contains(&t.text))
    }

    /// Whether the token binds weaker than a comparison, so that it ends an operand.
    fn separates(&self, index: usize) -> bool {
        let Some(token) = self.at(index) else { return true };
        match token.kind {
            Kind::Word => match token.text {
                "and" | "or" | "if" | "else" | "in" => {
                    self.builtin(index) != Some(Builtin::Test)
                        && !self.before(index, 1).is_some_and(|previous| previous.is("."))
                }
                "not" => !self.before(index, 1).is_some_and(|previous| previous.is("is")),
                _ => false,
            },
            Kind::Mark => matches!(token.text, "," | ":" | "=") || self.compares(index),
            Kind::Text | Kind::Number => false,
        }
    }

    fn operand_start(&self, operator: usize) -> usize {
        let depth = self.list[operator].depth;
        let mut start = operator;
        while let Some(previous) = self.before(start, 1) {
            if previous.depth < depth || (previous.depth == depth && self.separates(start - 1)) {
                break;
            }
            start -= 1;
        }
        start
    }

    fn operand_end(&self, operator: usize) -> usize {
        let depth = self.list[operator].depth;
        let mut end = operator + 1;
        while let Some(next) = self.at(end) {
            if next.depth < depth || (next.depth == depth && self.separates(end)) {
                break;
            }
            end += 1;
        }
        end
    }
}

fn text_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

fn number_length(rest: &str) -> usize {
    let mut previous = '0';
    for (index, c) in rest.char_indices() {
        let sign = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E');
        if !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || sign) {
            return index;
        }
        previous = c;
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        Tokens::new(source).paths().iter().map(Path::dotted).collect()
    }

    fn compared(source: &str) -> String {
        Tokens::new(source).compare_with("c").unwrap_or_default()
    }

    #[test]
    fn names_are_found_with_their_places() {
        assert_eq!(paths("evaluate.metrics.accuracy >= 0.9"), ["evaluate.metrics.accuracy"]);
        assert_eq!(paths("params['a'] ~ x.y.upper()"), ["params.a", "x.y"]);
        assert_eq!(paths("not live or a.b | default(c, boolean=true)"), ["live", "a.b", "c"]);
        assert_eq!(paths("x is not none and y is divisibleby 3"), ["x", "y"]);
        assert_eq!(paths("range(3) | length if t else 'params.x'"), ["t"]);
        let path = &Tokens::new("1 + params . x").paths()[0];
        assert_eq!((path.dotted(), path.place.clone()), ("params.x".to_owned(), 4..14));
    }

    #[test]
    fn builtins_are_found() {
        let found: Vec<_> = Tokens::new("a | upper is not none and f(x)").builtins();
        let names: Vec<_> = found.iter().map(|(kind, name, _)| (*kind, *name)).collect();
        assert_eq!(
            names,
            [(Builtin::Filter, "upper"), (Builtin::Test, "none"), (Builtin::Function, "f")]
        );
    }

    #[test]
    fn comparisons_become_calls() {
        assert_eq!(compared("a < b"), "c(a , \"<\",  b)");
        assert_eq!(compared("x and a.b<1+2 or y"), "x and c(a.b, \"<\", 1+2) or y");
        assert_eq!(compared("a<b<=c"), "c(a, \"<\", b, \"<=\", c)");
        assert_eq!(compared("not (a+1)*2==b"), "not c((a+1)*2, \"==\", b)");
        assert_eq!(compared("(a==b)!=d"), "c((c(a, \"==\", b)), \"!=\", d)");
        assert_eq!(compared("f(a==1, [b>2])"), "f(c(a, \"==\", 1), [c(b, \">\", 2)])");
        assert_eq!(compared("'a' in b and 'x<y'"), "'a' in b and 'x<y'");
        assert_eq!(compared("a is not none==d"), "c(a is not none, \"==\", d)");
        assert_eq!(compared("1 if a>b else 2"), "1 if c(a, \">\", b) else 2");
        assert_eq!(compared("a.b[0]>1"), "c(a.b[0], \">\", 1)");
        assert!(Tokens::new("a in b == d").compare_with("c").is_none());
        assert!(Tokens::new("a == b in d").compare_with("c").is_none());
    }
}
