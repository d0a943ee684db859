//! `flowrun.toml` beside the pipeline and `config.toml` in the home.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::table::{Files, SETTINGS, named};
use crate::cli::error::CliError;
use crate::names::suggest;

/// A settings file that was read and whose keys are all known.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingsFile {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Values as text by the setting's name, with their line.
    pub(crate) entries: BTreeMap<&'static str, (String, usize)>,
}

impl SettingsFile {
    /// Reads a settings file; none when there is none. `of_home`: it is the home's own.
    pub(crate) fn read(path: &Path, of_home: bool) -> Result<Option<Self>, CliError> {
        match fs_err::read_to_string(path) {
            Ok(text) => Self::parse(path, &text, of_home).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CliError::Invalid { message: error.to_string(), help: None }),
        }
    }

    fn parse(path: &Path, text: &str, of_home: bool) -> Result<Self, CliError> {
        let table = DeTable::parse(text).map_err(|error| CliError::Invalid {
            message: format!(
                "{}: {}",
                place(path, text, error.span().map_or(0, |span| span.start)),
                error.message()
            ),
            help: None,
        })?;
        let mut file = Self { path: path.to_owned(), entries: BTreeMap::new() };
        file.take(text, table.get_ref(), "", of_home)?;
        Ok(file)
    }

    fn take(
        &mut self,
        text: &str,
        table: &DeTable<'_>,
        above: &str,
        of_home: bool,
    ) -> Result<(), CliError> {
        for (key, value) in table {
            let name = if above.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{above}.{}", key.get_ref())
            };
            let at = key.span().start;
            if let DeValue::Table(inner) = value.get_ref() {
                if !is_group(&name) {
                    return Err(unknown(&self.path, text, at, &name));
                }
                self.take(text, inner, &name, of_home)?;
                continue;
            }
            // `store = "…"` and `[store] place = "…"` are the same, since TOML has no key that is both a text and a table.
            let known = named(match name.as_str() {
                "store.place" => "store",
                "state.place" => "state",
                name => name,
            });
            let setting = known.ok_or_else(|| unknown(&self.path, text, at, &name))?;
            let refuse = |message: String| CliError::Invalid {
                message: format!("{}: {message}", place(&self.path, text, at)),
                help: None,
            };
            if of_home && setting.in_files == Files::NotHome {
                return Err(refuse(format!("`{name}` cannot stand in the home's own file")));
            }
            let value = as_text(value).ok_or_else(|| {
                refuse(format!("`{name}` wants a text, a number or a list of texts"))
            })?;
            self.entries.insert(setting.name, (value, line(text, at)));
        }
        Ok(())
    }
}

fn is_group(name: &str) -> bool {
    SETTINGS
        .iter()
        .any(|setting| setting.name.split_once('.').is_some_and(|(group, _)| group == name))
}

fn as_text(value: &Spanned<DeValue<'_>>) -> Option<String> {
    Some(match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().replace('_', ""),
        DeValue::Float(number) => number.as_str().replace('_', ""),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()?
            .join(","),
        _ => return None,
    })
}

fn unknown(path: &Path, text: &str, at: usize, name: &str) -> CliError {
    let nearest = suggest(name, SETTINGS.iter().map(|setting| setting.name));
    CliError::Invalid {
        message: format!("{}: there is no setting `{name}`", place(path, text, at)),
        help: Some(nearest.map_or_else(
            || {
                let names: Vec<String> =
                    SETTINGS.iter().map(|setting| format!("`{}`", setting.name)).collect();
                format!("use one of {}", crate::words::list(&names))
            },
            |nearest| format!("did you mean `{nearest}`?"),
        )),
    }
}

fn line(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count() + 1
}

fn place(path: &Path, text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{}:{}:{column}", path.display(), line(text, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SettingsFile, CliError> {
        SettingsFile::parse(Path::new("flowrun.toml"), text, false)
    }

    #[test]
    fn values_keep_their_text_and_line() {
        let file = parse("jobs = 4\npass_env = [\"A\", \"B\"]\n[keep]\nruns = 1_000\n[store]\nplace = \"s\"\naccess = \"read-only\"\n[state]\nplace = \"sqlite\"\npatience = \"5m\"\n").unwrap();
        assert_eq!(file.entries["jobs"], ("4".into(), 1));
        assert_eq!(file.entries["pass_env"], ("A,B".into(), 2));
        assert_eq!(file.entries["keep.runs"], ("1000".into(), 4));
        assert_eq!(file.entries["store"], ("s".into(), 6));
        assert_eq!(file.entries["store.access"], ("read-only".into(), 7));
        assert_eq!(file.entries["state"], ("sqlite".into(), 9));
        assert_eq!(file.entries["state.patience"], ("5m".into(), 10));
    }

    #[test]
    fn unknown_keys_are_errors_with_their_place() {
        let error = parse("jobs = 4\njbos = 5\n").unwrap_err();
        assert_eq!(error.to_string(), "flowrun.toml:2:1: there is no setting `jbos`");
        assert_eq!(error.help().as_deref(), Some("did you mean `jobs`?"));
        let error = parse("[keep]\nweeks = 5\n").unwrap_err();
        assert_eq!(error.to_string(), "flowrun.toml:2:1: there is no setting `keep.weeks`");
        assert!(parse("[nothing]\na = 1\n").unwrap_err().to_string().contains("`nothing`"));
    }

    #[test]
    fn bad_toml_has_its_place() {
        let error = parse("jobs = 4\njobs = 5\n").unwrap_err().to_string();
        assert!(error.starts_with("flowrun.toml:2:"), "{error}");
        assert!(parse("jobs = 2026-01-01\n").is_err());
    }

    #[test]
    fn the_home_cannot_move_itself() {
        let path = Path::new("config.toml");
        assert!(SettingsFile::parse(path, "home = \"x\"\n", true).is_err());
        assert!(SettingsFile::parse(path, "home = \"x\"\n", false).is_ok());
    }
}
