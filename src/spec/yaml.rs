//! Text → [`Node`]s: YAML with the place of every key and value, and every scalar as it was written
//! (serde-saphyr's one home; its parser is used, not its deserializer, which drops spelling and stops at the first problem).
//!
//! Bounded for hostile files: size, nesting, number of nodes, and what aliases expand to. Aliases share their
//! node, so an alias bomb costs nothing here; [`LARGEST_EXPANSION`] keeps it harmless for who walks the tree.

mod traps;

pub(super) use traps::short;

use std::collections::HashMap;
use std::rc::Rc;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span as ParserSpan};

use super::problem::{Problem, Span};

const DEEPEST: u16 = 64;
const MOST_NODES: usize = 500_000;
const LARGEST_EXPANSION: u32 = 1_000_000;
const MOST_PROBLEMS: usize = 50;

/// A value with its place.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it stands; of an aliased node, where its anchor stands.
    pub(super) span: Span,
    /// What it is.
    pub(super) value: Value,
    /// Nodes in it with aliases expanded.
    weight: u32,
    depth: u16,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Value {
    /// Text as it was written, escapes resolved.
    Scalar {
        /// The text.
        text: Box<str>,
        /// Unquoted, so that it may be a number, a boolean or null.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Rc<Node>>),
    /// A mapping, merge keys resolved, without duplicate keys.
    Map(Vec<Entry>),
    /// A problem was already reported here.
    Broken,
}

/// One key of a map with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key's text.
    pub(super) key: Rc<str>,
    /// Where the key stands.
    pub(super) span: Span,
    /// The value.
    pub(super) node: Rc<Node>,
}

impl Node {
    /// Whether it is an unquoted null or nothing at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// Reads one document. The node is there unless the file is empty or its YAML ends early.
pub(super) fn parse(text: &str) -> (Option<Rc<Node>>, Vec<Problem>) {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    options.emit_anchor_events = true;
    options.flow_nesting_limit = usize::from(DEEPEST);
    options.block_nesting_limit = usize::from(DEEPEST);
    let mut tree = Tree::new(text);
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                if let Err(stop) = tree.take(event, span) {
                    tree.problems.push(stop);
                    return (None, tree.problems);
                }
            }
            Err(error) => {
                let offset = error.marker().byte_offset().unwrap_or_default();
                // What an unresolved alias broke further on is the same mistake.
                if tree.problems.is_empty() {
                    tree.problems.push(traps::explain(text, offset, error.kind()));
                }
                return (None, tree.problems);
            }
        }
    }
    if tree.root.is_none() && tree.problems.is_empty() {
        let problem = Problem::of_file("empty-file", "is empty")
            .help("describe a pipeline, or write one with `flowrun init`");
        tree.problems.push(problem);
    }
    (tree.root, tree.problems)
}

fn too_large(span: Span) -> Problem {
    Problem::new("aliases-too-large", span, "the aliases expand to more than a million values")
        .help("write fewer aliases of aliases")
}

/// A collection that is still open.
enum Open {
    List { items: Vec<Rc<Node>> },
    Map { entries: Vec<Entry>, key: Key },
}

/// What a map expects next.
enum Key {
    /// A key.
    Awaited,
    /// The value of this key.
    Read(Rc<str>, Span),
    /// The value of a key that was refused.
    Refused,
}

struct Frame {
    open: Open,
    start: usize,
    anchor: usize,
    /// It is something else than it looks like; what was said of it is enough.
    broken: bool,
}

struct Tree<'a> {
    text: &'a str,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Rc<Node>>,
    anchor_names: Vec<String>,
    root: Option<Rc<Node>>,
    documents: usize,
    nodes: usize,
    /// Keys that `<<` looked at.
    merged: usize,
    problems: Vec<Problem>,
}

impl<'a> Tree<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            stack: Vec::new(),
            anchors: HashMap::new(),
            anchor_names: Vec::new(),
            root: None,
            documents: 0,
            nodes: 0,
            merged: 0,
            problems: Vec::new(),
        }
    }

    /// Takes one event in; an error ends the reading.
    fn take(&mut self, event: Event<'_>, span: ParserSpan) -> Result<(), Problem> {
        let place = span.byte_range().unwrap_or_default();
        let place = (place.start, place.len());
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Problem::new(
                        "several-documents",
                        place,
                        "a second document begins here",
                    )
                    .help("keep one pipeline in one file, and remove the `---` line"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let mut plain = style == ScalarStyle::Plain;
                if let Some(tag) = tag {
                    if tag.is_yaml_core_schema_tag("str") || tag.original() == "!" {
                        plain = false;
                    } else {
                        self.refuse_tag(place, &tag.original());
                    }
                }
                let value = Value::Scalar { text: text.into(), plain };
                return self.finish(Node { span: place, value, weight: 1, depth: 1 }, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                if let Some(tag) = tag {
                    self.refuse_tag(place, &tag.original());
                }
                let open = Open::List { items: Vec::new() };
                self.stack.push(Frame { open, start: place.0, anchor, broken: false });
            }
            Event::MappingStart(_, anchor, tag) => {
                if let Some(tag) = tag {
                    self.refuse_tag(place, &tag.original());
                }
                let open = Open::Map { entries: Vec::new(), key: Key::Awaited };
                self.stack.push(Frame { open, start: place.0, anchor, broken: false });
            }
            Event::SequenceEnd | Event::MappingEnd => return self.close(place.0 + place.1),
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).map(Rc::clone) else {
                    return Err(Problem::new(
                        "alias-in-itself",
                        place,
                        "an alias stands inside its own anchor",
                    )
                    .help("write the value out, or move the alias"));
                };
                self.put(node, place);
            }
            Event::UnresolvedAlias(name) => {
                if self.problems.len() < MOST_PROBLEMS {
                    let problem = traps::unknown_alias(place, &name, &self.anchor_names);
                    self.report(problem);
                }
                let node = Node { span: place, value: Value::Broken, weight: 1, depth: 1 };
                return self.finish(node, 0);
            }
            Event::Anchor(_, name) => self.anchor_names.push(name.into_owned()),
            _ => {}
        }
        Ok(())
    }

    fn report(&mut self, problem: Problem) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn refuse_tag(&mut self, place: Span, tag: &str) {
        let problem =
            Problem::new("yaml-tag", place, format!("the YAML tag `{tag}` has no meaning here"))
                .help("remove the tag");
        self.report(problem);
    }

    /// Closes the innermost collection.
    fn close(&mut self, end: usize) -> Result<(), Problem> {
        let Some(Frame { open, start, anchor, broken }) = self.stack.pop() else { return Ok(()) };
        let span = (start, end.saturating_sub(start));
        let value = match open {
            Open::List { items } => Value::List(items),
            Open::Map { .. } if broken => Value::Broken,
            Open::Map { entries, .. } => Value::Map(self.merged(entries)?),
        };
        let children: &mut dyn Iterator<Item = &Rc<Node>> = match &value {
            Value::List(items) => &mut items.iter(),
            Value::Map(entries) => &mut entries.iter().map(|entry| &entry.node),
            Value::Scalar { .. } | Value::Broken => &mut std::iter::empty(),
        };
        let (weight, depth) = children.fold((1_u32, 0_u16), |(weight, depth), child| {
            (weight.saturating_add(child.weight), depth.max(child.depth))
        });
        if weight > LARGEST_EXPANSION {
            return Err(too_large(span));
        }
        if depth >= DEEPEST {
            return Err(traps::too_deep(span));
        }
        self.finish(Node { span, value, weight, depth: depth + 1 }, anchor)
    }

    /// A node is whole: remembers its anchor and puts it where it belongs.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(Problem::new(
                "file-too-large",
                node.span,
                "the file holds more than 500,000 values",
            )
            .help("split the pipeline, or name the right file"));
        }
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        let place = node.span;
        self.put(node, place);
        Ok(())
    }

    /// Puts a node (`place`: where it or its alias stands) into the collection that is open.
    fn put(&mut self, node: Rc<Node>, place: Span) {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return;
        };
        let (entries, key) = match &mut frame.open {
            Open::List { items } => {
                items.push(node);
                return;
            }
            Open::Map { entries, key } => (entries, key),
        };
        match std::mem::replace(key, Key::Awaited) {
            Key::Read(name, span) => entries.push(Entry { key: name, span, node }),
            Key::Refused => {}
            Key::Awaited => match &node.value {
                Value::Scalar { text, .. } => *key = Key::Read(Rc::from(&**text), place),
                Value::Broken => *key = Key::Refused,
                Value::List(_) | Value::Map(_) => {
                    *key = Key::Refused;
                    let problem = traps::key_is_no_text(self.text, place);
                    frame.broken |= problem.code == "unquoted-expression";
                    self.report(problem);
                }
            },
        }
    }

    /// The entries without duplicates and with `<<` resolved: own keys win, then earlier merges.
    fn merged(&mut self, entries: Vec<Entry>) -> Result<Vec<Entry>, Problem> {
        let mut seen: HashMap<Rc<str>, Span> = HashMap::with_capacity(entries.len());
        let mut kept = Vec::with_capacity(entries.len());
        let mut merges = Vec::new();
        for entry in entries {
            if &*entry.key == "<<" {
                merges.push(entry);
            } else if let Some(first) = seen.get(&entry.key) {
                if self.problems.len() >= MOST_PROBLEMS {
                    continue;
                }
                let line = 1 + self.text[..first.0].bytes().filter(|byte| *byte == b'\n').count();
                let problem = Problem::new(
                    "duplicate-key",
                    entry.span,
                    format!("`{}` stands twice in one map", traps::short(&entry.key)),
                )
                .label(format!("first on line {line}"))
                .help("keep one of the two");
                self.report(problem);
            } else {
                seen.insert(Rc::clone(&entry.key), entry.span);
                kept.push(entry);
            }
        }
        for merge in merges {
            let sources = match &merge.node.value {
                Value::List(items) => items.clone(),
                _ => vec![Rc::clone(&merge.node)],
            };
            for source in sources {
                let Value::Map(more) = &source.value else {
                    let problem =
                        Problem::new("merge-of-no-map", merge.span, "`<<` merges maps only")
                            .help("write `<<: *anchor` of a map, or a list of such");
                    self.report(problem);
                    continue;
                };
                self.merged += more.len();
                if self.merged > MOST_NODES {
                    return Err(too_large(merge.span));
                }
                for entry in more {
                    if !seen.contains_key(&entry.key) {
                        seen.insert(Rc::clone(&entry.key), entry.span);
                        kept.push(entry.clone());
                    }
                }
            }
        }
        Ok(kept)
    }
}
