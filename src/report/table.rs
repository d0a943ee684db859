//! Tables without lines (comfy-table's one home).

use comfy_table::{Attribute, Cell, Color, Table};

use super::paint::Tint;

/// A field of a table.
pub(super) struct Field {
    text: String,
    tint: Tint,
}

impl Field {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), tint: Tint::Plain }
    }

    pub(super) fn tinted(text: impl Into<String>, tint: Tint) -> Self {
        Self { text: text.into(), tint }
    }
}

/// Rows under a header, columns aligned, two spaces apart, `indent` spaces before each line. Columns in which no row says anything
/// are left out. Ends with a line break.
pub(super) fn table(header: &[&str], rows: &[Vec<Field>], indent: usize, colour: bool) -> String {
    let used: Vec<usize> = (0..header.len())
        .filter(|column| {
            rows.iter().any(|row| row.get(*column).is_some_and(|f| !f.text.is_empty()))
        })
        .collect();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).force_no_tty();
    if colour {
        table.enforce_styling();
    }
    let cell = |text: &str, tint: Tint| {
        let cell = Cell::new(text);
        match tint {
            Tint::Plain => cell,
            Tint::Good => cell.fg(Color::Green),
            Tint::Bad => cell.fg(Color::Red),
            Tint::Warn => cell.fg(Color::Yellow),
            Tint::Hint => cell.fg(Color::Cyan),
            Tint::Dim => cell.add_attribute(Attribute::Dim),
        }
    };
    if header.iter().any(|name| !name.is_empty()) {
        table.set_header(used.iter().map(|column| cell(header[*column], Tint::Dim)));
    }
    for row in rows {
        table.add_row(used.iter().map(|column| {
            row.get(*column).map_or_else(|| cell("", Tint::Plain), |f| cell(&f.text, f.tint))
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(&" ".repeat(indent));
        text.push_str(line.trim_end());
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}
