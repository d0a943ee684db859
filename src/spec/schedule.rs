//! `schedule` and `targets`: checked now, available later.

use std::str::FromStr;

use super::keys::{SCHEDULE, TARGET};
use super::problem::Problem;
use super::reader::{Item, Reader};
use super::yaml::short;
use crate::names::ParamName;
use crate::scalar::Scalar;

impl Reader<'_> {
    /// `schedule`
    pub(super) fn schedule(&mut self, item: Item<'_>) {
        let Some(fields) = self.fields(item, &SCHEDULE) else { return };
        if let Some(item) = fields.get("cron")
            && let Some(text) = self.text(item)
            && let Err(why) = cron(text)
        {
            let message = format!("`{}` is no cron pattern: {why}", short(text));
            self.report(
                Problem::new("bad-cron", item.span(), message)
                    .help("write minute, hour, day, month and weekday, like `\"0 3 * * *\"`"),
            );
        }
        if let Some(item) = fields.get("timezone")
            && let Some(text) = self.text(item)
            && !timezone(text)
        {
            let message = format!("there is no time zone `{}`", short(text));
            self.report(
                Problem::new("unknown-timezone", item.span(), message)
                    .help("write a name of the tz database, like `Europe/Paris` or `UTC`"),
            );
        }
        self.choice(&fields, "overlap");
        self.choice(&fields, "catch_up");
    }

    /// `targets`: values of params, and a group of secrets, by target.
    pub(super) fn targets(
        &mut self,
        item: Item<'_>,
        params: &mut dyn FnMut(&mut Self, Item<'_>, Scalar),
    ) {
        for item in self.entries(item).unwrap_or_default() {
            self.own_name::<ParamName>(item, "the target");
            let Some(fields) = self.fields(item, &TARGET) else { continue };
            let given = fields.get("params").and_then(|item| self.entries(item));
            for item in given.unwrap_or_default() {
                if let Some(value) = self.single(item) {
                    params(self, item, value);
                }
            }
            fields.get("secrets").map(|item| self.text(item));
        }
    }
}

/// Five fields; names like `@daily` are no cron pattern of this format.
fn cron(text: &str) -> Result<(), String> {
    let fields = text.split_whitespace().count();
    if text.starts_with('@') {
        return Err("names are not known here".to_owned());
    }
    if fields != 5 {
        return Err(format!("it has {fields} fields instead of 5"));
    }
    match croner::Cron::from_str(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let said = error.to_string();
            let mut letters = said.chars();
            let first = letters.next().unwrap_or('?').to_lowercase();
            Err(format!("{first}{}", letters.as_str().trim_end_matches('.')))
        }
    }
}

/// Whether the name is known. A machine without any tz database knows none and refuses none.
fn timezone(name: &str) -> bool {
    let database = jiff::tz::db();
    database.is_definitively_empty() || database.get(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_has_five_fields() {
        assert_eq!(cron("0 3 * * *"), Ok(()));
        assert_eq!(cron("*/5 * * * MON-FRI"), Ok(()));
        for text in ["@daily", "* * * *", "0 0 3 * * *", "61 * * * *", "a b c d e", ""] {
            assert!(cron(text).is_err(), "{text}");
        }
    }
}
