//! Where values come from: a prompt, stdin, a file, a variable, or an env file. Nothing here shows one, also no error.

use std::io::{IsTerminal, Read};
use std::path::Path;

use crate::cli::args::SetArgs;
use crate::cli::error::CliError;
use crate::cli::settings::Caller;
use crate::secret::{SecretText, is_word};

/// Bytes of the longest value: with its name it still fits the 128 KiB that Linux has for a variable.
const LONGEST: usize = 64 << 10;

/// The values that were given, by entry. Waits for stdin or the person at the terminal where no other source is named.
pub(super) fn read(args: &SetArgs, caller: &Caller) -> Result<Vec<(String, SecretText)>, CliError> {
    if let Some(file) = &args.env_file {
        return of_env_file(&caller.folder.join(file));
    }
    let entry = args.entry.clone().unwrap_or_default();
    let what = format!("the value of `{}#{entry}`", args.name);
    let bytes = if let Some(file) = &args.from_file {
        let file = fs_err::File::open(caller.folder.join(file)).map_err(unread)?;
        limited(file, &what)?
    } else if let Some(variable) = &args.from_variable {
        let value = caller.variables.get(variable).ok_or_else(|| {
            CliError::usage(
                format!("the variable `{variable}` is not set, or is no UTF-8 text"),
                "export it, or give the value on stdin",
            )
        })?;
        value.clone().into_bytes()
    } else if std::io::stdin().is_terminal() {
        super::prompt::ask(&format!("{what} (not shown): "))?
    } else {
        without_line_end(limited(std::io::stdin().lock(), &what)?)
    };
    Ok(vec![(entry, checked(bytes, &what)?)])
}

/// The text of a value, when it can be one.
fn checked(bytes: Vec<u8>, what: &str) -> Result<SecretText, CliError> {
    if bytes.is_empty() {
        return Err(CliError::usage(
            format!("{what} is empty"),
            "give one; `flowrun secret rm` removes what is there",
        ));
    }
    if bytes.len() > LONGEST {
        return Err(too_long(what));
    }
    let binary = || {
        CliError::usage(
            format!("{what} is no UTF-8 text, or holds a NUL byte"),
            "give it in base64, and let the stage decode it",
        )
    };
    let text = String::from_utf8(bytes).map_err(|_| binary())?;
    if text.contains('\0') { Err(binary()) } else { Ok(SecretText::new(text)) }
}

/// Reads no more than shows that it is too much.
fn limited(from: impl Read, what: &str) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(LONGEST).unwrap_or(u64::MAX).saturating_add(3);
    from.take(most).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() > LONGEST + 2 { Err(too_long(what)) } else { Ok(bytes) }
}

fn too_long(what: &str) -> CliError {
    CliError::usage(
        format!("{what} is longer than {} KiB", LONGEST >> 10),
        "keep it where the stage can fetch it, and its password here",
    )
}

#[expect(clippy::needless_pass_by_value, reason = "what errors are mapped with takes them")]
fn unread(error: std::io::Error) -> CliError {
    CliError::usage(
        format!("the value cannot be read: {error}"),
        "give it on stdin, or with `--from-file`",
    )
}

/// Without the one line end that people and `echo` put behind a value.
fn without_line_end(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

/// A character that no text file holds, in place of `$` while the file is parsed.
const DOLLAR: &str = "\u{10FFFD}";

fn of_env_file(path: &Path) -> Result<Vec<(String, SecretText)>, CliError> {
    let shown = path.display();
    let text = fs_err::read_to_string(path).map_err(unread)?;
    // The parser would put in values of the caller's variables; here `$` is a letter like every other.
    let plain = text.replace('$', DOLLAR);
    let mut values: Vec<(String, SecretText)> = Vec::new();
    for pair in dotenvy::Iter::new(plain.as_bytes()) {
        // Its error shows the line.
        let (entry, value) = pair.map_err(|error| unparsed(path, &plain, &error))?;
        if !is_word(&entry) {
            return Err(CliError::usage(
                format!("`{shown}` holds an entry whose name is none"),
                NAMES,
            ));
        }
        let value = value.replace(DOLLAR, "$").into_bytes();
        let value = checked(value, &format!("the value of `{entry}` in `{shown}`"))?;
        if values.iter().any(|(known, _)| *known == entry) {
            return Err(CliError::usage(
                format!("`{shown}` holds the entry `{entry}` twice"),
                "remove one of them",
            ));
        }
        values.push((entry, value));
    }
    if values.is_empty() {
        return Err(CliError::usage(
            format!("`{shown}` holds no entry"),
            "write a line `ENTRY=value` for each",
        ));
    }
    Ok(values)
}

/// What names of groups, secrets and entries are made of.
pub(super) const NAMES: &str = "write letters, digits, `.`, `_` and `-`";

fn unparsed(path: &Path, text: &str, error: &dotenvy::Error) -> CliError {
    let line = match error {
        dotenvy::Error::LineParse(line, _) => text.find(line.as_str()),
        _ => None,
    };
    let place = line.map(|at| format!(", line {}", text[..at].matches('\n').count() + 1));
    CliError::usage(
        format!("`{}`{} is not `ENTRY=value`", path.display(), place.unwrap_or_default()),
        "put values with blanks, quotes, `#` or `\\` between single quotes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env_file(text: &str) -> Result<Vec<(String, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.env");
        fs_err::write(&file, text).unwrap();
        let read = of_env_file(&file).map_err(|error| {
            format!("{error}").replace(&folder.path().display().to_string(), "")
        })?;
        Ok(read.into_iter().map(|(name, value)| (name, value.reveal().to_owned())).collect())
    }

    #[test]
    fn an_env_file_is_taken_as_written() {
        let text = "# remark\nA=one\nexport B='two words $HOME'\nC=\"a\\nb\"\nD=pa$$word$PATH # end\n\nE=\"two\nlines\"\n";
        let read = env_file(text).unwrap();
        let read: Vec<(&str, &str)> = read.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(
            read,
            [
                ("A", "one"),
                ("B", "two words $HOME"),
                ("C", "a\nb"),
                ("D", "pa$$word$PATH"),
                ("E", "two\nlines"),
            ]
        );
    }

    #[test]
    fn what_is_wrong_with_an_env_file_is_said_without_its_values() {
        for (text, said) in [
            ("A=fine\nB='hush\n", "is not `ENTRY=value`"),
            ("A=fine\nhush hush\n", "line 2 is not `ENTRY=value`"),
            ("", "holds no entry"),
            ("A=\n", "the value of `A` in `/a.env` is empty"),
            ("A=hush\nA=hush\n", "holds the entry `A` twice"),
        ] {
            let error = env_file(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn one_line_end_is_cut() {
        for (given, kept) in
            [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), (" a ", " a "), ("\n", "")]
        {
            assert_eq!(without_line_end(given.into()), kept.as_bytes(), "{given:?}");
        }
    }

    #[test]
    fn values_that_cannot_be_variables_are_refused() {
        let refused = |bytes: &[u8]| checked(bytes.to_vec(), "it").unwrap_err().to_string();
        assert_eq!(refused(b""), "it is empty");
        assert_eq!(refused(b"\xff"), "it is no UTF-8 text, or holds a NUL byte");
        assert_eq!(refused(b"a\0b"), "it is no UTF-8 text, or holds a NUL byte");
        assert_eq!(refused(&vec![b'a'; LONGEST + 1]), "it is longer than 64 KiB");
        assert!(checked(vec![b'a'; LONGEST], "it").is_ok());
        assert!(limited(std::io::repeat(b'a'), "it").is_err());
    }
}
