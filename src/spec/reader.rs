//! Walks the nodes of a file and collects what is wrong with them. Nothing here stops at the first problem:
//! a value that cannot be read is reported and then counts as absent.

use std::rc::Rc;

use super::keys::Table;
use super::problem::{Problem, Span, nearest};
use super::words;
use super::yaml::{Entry, Node, Value, short};

/// More problems than this are not collected: nobody reads them, and hostile files make millions.
const MOST_PROBLEMS: usize = 200;

/// A value of the file with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spanned<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// A node together with the name it goes by in messages: its key, or for an item of a list the list's key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'n> {
    pub(super) name: &'n str,
    /// Where the name stands.
    pub(super) name_span: Span,
    pub(super) node: &'n Node,
}

impl<'n> Item<'n> {
    fn of(entry: &'n Entry) -> Self {
        Self { name: &entry.key, name_span: entry.span, node: &entry.node }
    }

    /// Where a problem of its value is shown: the value when it is a scalar, else its name.
    pub(super) fn span(&self) -> Span {
        match self.node.value {
            Value::Scalar { .. } if self.node.span.1 > 0 => self.node.span,
            _ => self.name_span,
        }
    }

    /// The text of a scalar and whether it is unquoted.
    pub(super) fn scalar(&self) -> Option<(&'n str, bool)> {
        match &self.node.value {
            Value::Scalar { text, plain } => Some((text, *plain)),
            _ => None,
        }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }
}

/// A map whose keys are known.
#[derive(Debug)]
pub(super) struct Fields<'n> {
    table: &'static Table,
    entries: &'n [Entry],
    /// Where the map goes by a name.
    pub(super) span: Span,
}

impl<'n> Fields<'n> {
    /// The value of a key that is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<Item<'n>> {
        debug_assert!(self.table.has(key), "{key} is not in the table of {}", self.table.what);
        self.entries.iter().find(|entry| &*entry.key == key && !entry.node.is_null()).map(Item::of)
    }

    /// Where a key stands.
    pub(super) fn key_span(&self, key: &str) -> Option<Span> {
        self.get(key).map(|item| item.name_span)
    }

    /// The words that this key can be.
    pub(super) fn choices(&self, key: &str) -> &'static [&'static str] {
        self.table.choices(key)
    }

    /// The bounds of this key.
    pub(super) fn bounds(&self, key: &str) -> (u64, u64) {
        self.table.bounds(key)
    }
}

/// What a reader found, by place.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) problems: Vec<Problem>,
    pub(super) unavailable: Vec<Problem>,
    pub(super) needs_containers: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// Collects problems while it reads.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// The file.
    pub(super) text: &'a str,
    problems: Vec<Problem>,
    unavailable: Vec<Problem>,
    needs_containers: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Expressions found so far.
    pub(super) expressions: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, problems: Vec<Problem>) -> Self {
        Self {
            text,
            problems,
            unavailable: Vec::new(),
            needs_containers: Vec::new(),
            warnings: Vec::new(),
            expressions: 0,
        }
    }

    /// Takes a problem in.
    pub(super) fn report(&mut self, problem: Problem) {
        if !self.is_full() {
            self.problems.push(problem);
        }
    }

    /// Whether more problems would not be kept: finding the words for them can be saved.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= MOST_PROBLEMS
    }

    /// Takes a warning in.
    pub(super) fn warn(&mut self, warning: Problem) {
        if self.warnings.len() < MOST_PROBLEMS {
            self.warnings.push(warning);
        }
    }

    /// Says that this key or form cannot be run yet.
    pub(super) fn not_available(&mut self, span: Span, what: &str) {
        if self.unavailable.len() < MOST_PROBLEMS {
            let message = format!("{what} is not available yet");
            let problem = Problem::new("not-available", span, message);
            let problem = problem.help("leave it out to run this pipeline");
            self.unavailable.push(problem.label("not available yet"));
        }
    }

    /// Says that this can only be run where stages are containers.
    pub(super) fn only_in_containers(&mut self, span: Span, message: String, help: &str) {
        if self.needs_containers.len() < MOST_PROBLEMS {
            let problem = Problem::new("needs-containers", span, message);
            self.needs_containers.push(problem.help(help));
        }
    }

    /// Every problem, by place and without duplicates, each underline within its first line.
    pub(super) fn finish(mut self) -> Found {
        for list in [
            &mut self.problems,
            &mut self.unavailable,
            &mut self.needs_containers,
            &mut self.warnings,
        ] {
            for problem in list.iter_mut() {
                problem.span = problem.span.map(|span| first_line(self.text, span));
            }
            list.sort_by(|a, b| (a.span, &a.message).cmp(&(b.span, &b.message)));
            list.dedup();
        }
        Found {
            problems: self.problems,
            unavailable: self.unavailable,
            needs_containers: self.needs_containers,
            warnings: self.warnings,
        }
    }

    /// A map with the keys of a table: reports unknown, empty and missing ones.
    pub(super) fn fields<'n>(
        &mut self,
        item: Item<'n>,
        table: &'static Table,
    ) -> Option<Fields<'n>> {
        let Value::Map(entries) = &item.node.value else {
            let keys: Vec<_> = table.keys.iter().map(|key| format!("`{}`", key.name)).collect();
            let some = &keys[..keys.len().min(4)];
            self.wrong_type(item, &format!("a map with keys like {}", some.join(", ")));
            return None;
        };
        for entry in entries {
            if self.is_full() {
                break;
            }
            let free = table.extensible && entry.key.starts_with("x-");
            if !table.has(&entry.key) && !free {
                self.unknown_key(entry, table);
            } else if entry.node.is_null() && !free {
                self.no_value(entry);
            }
        }
        for key in table.keys.iter().filter(|key| key.required) {
            if !entries.iter().any(|entry| &*entry.key == key.name) {
                let message = format!("{} needs the key `{}`", table.what, key.name);
                self.report(
                    Problem::new("missing-key", item.name_span, message)
                        .help(format!("add `{}: …`", key.name)),
                );
            }
        }
        Some(Fields { table, entries, span: item.name_span })
    }

    fn unknown_key(&mut self, entry: &Entry, table: &'static Table) {
        let message = format!("`{}` is not a key of {}", short(&entry.key), table.what);
        let problem = Problem::new("unknown-key", entry.span, message).label("unknown key");
        let keys = || table.keys.iter().map(|key| key.name);
        self.report(match words::meant(table.name, &entry.key) {
            Some(help) => problem.help(help),
            None => problem
                .suggest(nearest(&entry.key, keys()))
                .help_else(format!("use one of {}", keys().collect::<Vec<_>>().join(", "))),
        });
    }

    fn no_value(&mut self, entry: &Entry) {
        let message = format!("`{}` has no value", short(&entry.key));
        self.report(
            Problem::new("no-value", entry.span, message)
                .help("give it a value, or remove the key"),
        );
    }

    /// The entries of a map whose keys are of the user's choice; empty ones are reported and left out.
    pub(super) fn entries<'n>(&mut self, item: Item<'n>) -> Option<Vec<Item<'n>>> {
        let Value::Map(entries) = &item.node.value else {
            self.wrong_type(item, "a map");
            return None;
        };
        for entry in entries.iter().filter(|entry| entry.node.is_null()) {
            self.no_value(entry);
        }
        Some(entries.iter().filter(|entry| !entry.node.is_null()).map(Item::of).collect())
    }

    /// The items of a list.
    pub(super) fn list<'n>(&mut self, item: Item<'n>) -> Option<Vec<Item<'n>>> {
        let Value::List(items) = &item.node.value else {
            self.wrong_type(item, "a list");
            return None;
        };
        let named = |node: &'n Rc<Node>| {
            let scalar = matches!(node.value, Value::Scalar { .. }) && node.span.1 > 0;
            let name_span = if scalar { node.span } else { item.name_span };
            Item { name: item.name, name_span, node }
        };
        Some(items.iter().map(named).collect())
    }

    /// Reports that a value has another shape than it must have.
    pub(super) fn wrong_type(&mut self, item: Item<'_>, wanted: &str) {
        let is = match &item.node.value {
            Value::Broken => return,
            _ if item.node.is_null() => "nothing".to_owned(),
            Value::Scalar { text, plain } if *plain => format!("`{}`", short(text)),
            Value::Scalar { .. } => "text".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        };
        let name = short(item.name);
        let mut problem =
            Problem::new("wrong-type", item.span(), format!("`{name}` must be {wanted}, not {is}"));
        problem = match (wanted, item.scalar()) {
            ("a list", Some((text, _))) if !text.is_empty() && text.len() < 40 => {
                problem.help(format!("write `{name}: [{}]`", text.trim()))
            }
            ("a map", _) => problem.help(format!("write `{name}: {{name: …}}`")),
            _ => problem.help(format!("write {wanted}")),
        };
        self.report(problem);
    }
}

/// The span cut at the end of its first line, on character boundaries.
fn first_line(text: &str, (start, length): Span) -> Span {
    let start = start.min(text.len());
    let end = start.saturating_add(length).min(text.len());
    match text.get(start..end) {
        Some(part) => (start, part.find(['\n', '\r']).unwrap_or(part.len())),
        None => (start, 0),
    }
}
