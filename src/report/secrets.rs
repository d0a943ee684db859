//! `flowrun secret ls`: a line an entry. Values are not even known here.

use serde_json::{Value, json};

use super::table::{Field, table};
use crate::state::SecretRow;
use crate::words::age;

/// Entries as a table, in the order given.
pub fn secrets_text(now: u64, rows: &[SecretRow], colour: bool) -> String {
    if rows.is_empty() {
        return "no secrets: `flowrun secret set NAME ENTRY` keeps one\n".to_owned();
    }
    let rows: Vec<Vec<Field>> = rows
        .iter()
        .map(|row| {
            vec![
                Field::new(&row.id.group),
                Field::new(&row.id.name),
                Field::new(&row.id.entry),
                Field::new(row.version.to_string()),
                Field::new(age(now, row.changed_at)),
            ]
        })
        .collect();
    table(&["group", "secret", "entry", "version", "changed"], &rows, 0, colour)
}

/// Entries as data: a list.
pub fn secrets_json(rows: &[SecretRow]) -> Value {
    let one = |row: &SecretRow| {
        json!({
            "group": row.id.group,
            "name": row.id.name,
            "entry": row.id.entry,
            "version": row.version,
            "changed_at": row.changed_at,
        })
    };
    rows.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretId;

    #[test]
    fn a_line_an_entry() {
        let row = |group: &str, version| SecretRow {
            id: SecretId { group: group.into(), name: "aws".into(), entry: "KEY".into() },
            version,
            changed_at: 0,
        };
        assert_eq!(
            secrets_text(300_000, &[row("", 1), row("prod", 2)], false),
            "group  secret  entry  version  changed\n       aws     KEY    1        5 min ago\nprod   aws     KEY    2        5 min ago\n"
        );
        assert!(secrets_text(0, &[], false).starts_with("no secrets"));
        assert_eq!(secrets_json(&[row("prod", 2)])[0]["version"], 2);
    }
}
