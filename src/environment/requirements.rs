//! pip's requirements format, as far as flowrun must understand it: comments, continued lines, nested files, and what is
//! refused. Everything else is left for uv or pip to judge.

use super::EnvironmentError;

type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// All lines in order: those of the stage, then those of its file.
pub(super) fn read_all(
    requirements: &[String],
    file: Option<&str>,
    read: Read<'_>,
) -> Result<Vec<String>, EnvironmentError> {
    let mut reader = Reader { read, lines: Vec::new(), open: Vec::new() };
    for text in requirements {
        reader.text(text, "", false)?;
    }
    if let Some(file) = file {
        reader.file(file, "", false)?;
    }
    Ok(reader.lines)
}

struct Reader<'a> {
    read: Read<'a>,
    lines: Vec<String>,
    /// Files being read, outermost first: a circle ends here.
    open: Vec<String>,
}

impl Reader<'_> {
    fn file(&mut self, name: &str, folder: &str, constraint: bool) -> Result<(), EnvironmentError> {
        if name.contains("://") || name.starts_with("file:") {
            return Err(refused(
                format!("the requirements file `{}` is an address", crate::source::redact(name)),
                "put a copy of the file into the repo",
            ));
        }
        let path = below(folder, name).ok_or_else(|| {
            refused(
                format!("the requirements file `{name}` is outside the base"),
                "put the file below the folder of the pipeline file",
            )
        })?;
        if self.open.contains(&path) {
            return Ok(());
        }
        let text = (self.read)(&path).ok_or_else(|| {
            refused(
                format!("the requirements file `{path}` is not in the repo, or is not text"),
                "check the path, which counts from the folder of the pipeline file, and that git does not ignore the file",
            )
        })?;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        self.open.push(path);
        self.text(&text, &folder, constraint)?;
        self.open.pop();
        Ok(())
    }

    fn text(&mut self, text: &str, folder: &str, constraint: bool) -> Result<(), EnvironmentError> {
        let mut whole = String::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            let comment = line.trim_start().starts_with('#');
            if let Some(start) = line.strip_suffix('\\')
                && !comment
            {
                whole += start;
                continue;
            }
            // A comment line ends a continued line.
            if !comment {
                whole += line;
            }
            self.line(without_comment(&whole).trim(), folder, constraint)?;
            whole.clear();
        }
        self.line(without_comment(&whole).trim(), folder, constraint)
    }

    fn line(&mut self, line: &str, folder: &str, constraint: bool) -> Result<(), EnvironmentError> {
        if line.is_empty() {
            return Ok(());
        }
        if let Some(file) = option(line, "-r", "--requirement") {
            return self.file(file, folder, constraint);
        }
        if let Some(file) = option(line, "-c", "--constraint") {
            return self.file(file, folder, true);
        }
        if option(line, "-e", "--editable").is_some() {
            return Err(refused(
                format!("`{line}` installs from a folder that can change under the environment"),
                "name a released version, or put the code into the stage's `files` and its folder on `PYTHONPATH` with `env`",
            ));
        }
        if let Some(place) = option(line, "-f", "--find-links") {
            if !place.starts_with('/') && !place.contains("://") {
                return Err(refused(
                    format!("`{line}` is a relative path, and an environment belongs to no folder"),
                    "write an absolute path or an address",
                ));
            }
        } else if !line.starts_with('-') && is_local(line) {
            return Err(refused(
                format!(
                    "`{line}` is a local path; what lies there could change under the environment"
                ),
                "name a released version, a `git+https://` address with a commit, or use `--find-links` with an absolute path",
            ));
        }
        if constraint && !line.starts_with('-') {
            self.lines.push(format!("-c {line}"));
        } else {
            self.lines.push(line.to_owned());
        }
        Ok(())
    }
}

/// The value of an option in any of pip's spellings: `-rx`, `-r x`, `--requirement x`, `--requirement=x`.
pub(super) fn option<'a>(line: &'a str, short: &str, long: &str) -> Option<&'a str> {
    let value = if let Some(rest) = line.strip_prefix(long) {
        rest.strip_prefix('=').or_else(|| rest.strip_prefix(char::is_whitespace))?
    } else if line.starts_with("--") || short.is_empty() {
        return None;
    } else {
        line.strip_prefix(short)?
    };
    Some(value.trim().trim_matches(['"', '\'']))
}

/// pip's rule: `#` at the start, or after white space.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_whitespace() {
            return &line[..at];
        }
        before = c;
    }
    line
}

/// `name` in `folder`, without `.` and `..`; none when that leaves the base.
fn below(folder: &str, name: &str) -> Option<String> {
    if name.starts_with('/') || name.starts_with('~') {
        return None;
    }
    let mut steps: Vec<&str> = folder.split('/').filter(|step| !step.is_empty()).collect();
    for step in name.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop()?;
            }
            step => steps.push(step),
        }
    }
    Some(steps.join("/"))
}

fn is_local(line: &str) -> bool {
    if line.contains("file:") {
        return true;
    }
    // Options of one requirement and markers follow white space or `;`.
    let end = line.find([';', ' ', '\t']).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let place = match word.split_once('@') {
        Some((_, place)) if !word.contains("://") && !place.is_empty() => place,
        _ => rest.trim_start().strip_prefix('@').map_or(word, str::trim_start),
    };
    if place.contains("://") {
        return false;
    }
    let archive = [".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz"];
    place.starts_with(['.', '/', '~'])
        || place.contains('/')
        || archive.iter().any(|ending| place.to_ascii_lowercase().ends_with(ending))
}

fn refused(message: String, help: &str) -> EnvironmentError {
    EnvironmentError::Definition { message, help: help.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Result<Vec<String>, EnvironmentError> {
        let read = |path: &str| match path {
            "reqs/a.txt" => Some("six  # old\n-r ../b.txt\n--constraint=c/d.txt\n".to_owned()),
            "b.txt" => Some("-r reqs/a.txt\nattrs==23 \\\n    --hash=sha256:00\n".to_owned()),
            "reqs/c/d.txt" => Some("\u{feff}numpy<2 # why\n-r e.txt\n".to_owned()),
            "reqs/c/e.txt" => Some("# nothing\n\nscipy<2".to_owned()),
            _ => None,
        };
        read_all(&[text.to_owned()], None, &read)
    }

    #[test]
    fn nested_files_come_in_order_and_circles_end() {
        let read = lines("-r reqs/a.txt").unwrap();
        assert_eq!(read, ["six", "attrs==23     --hash=sha256:00", "-c numpy<2", "-c scipy<2"]);
    }

    #[test]
    fn comments_and_markers() {
        assert_eq!(lines("a==1 # x\n#b\nc#egg").unwrap(), ["a==1", "c#egg"]);
        assert_eq!(lines("a \\\n# b\nc").unwrap(), ["a", "c"]);
        assert_eq!(lines("a; python_version < '3'").unwrap(), ["a; python_version < '3'"]);
    }

    #[test]
    fn what_can_change_is_refused() {
        for line in [
            "-e .",
            "-e./x",
            "--editable=git+https://h/x",
            "./wheel.whl",
            "../x",
            "/x/y",
            "~/x",
            "x.whl",
            "file:///x",
            "x @ file:///y",
            "x@./y",
            "pkg/sub",
            "-r ../../x",
            "-r /etc/x",
            "-r missing.txt",
            "-r https://h/r.txt",
            "-f wheels",
            "git+file:///x",
        ] {
            let error = lines(line).unwrap_err();
            assert!(matches!(error, EnvironmentError::Definition { .. }), "{line}");
        }
        for line in [
            "x @ https://h/x.whl",
            "x@https://h/x.zip",
            "git+https://h/x@v1",
            "https://h/x.tar.gz",
            "x[extra]>=1,<2",
            "--index-url https://h/simple",
            "-i https://h/",
            "-f /wheels",
            "--find-links=https://h/w",
            "--pre",
        ] {
            assert_eq!(lines(line).unwrap(), [line]);
        }
    }
}
