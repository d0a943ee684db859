//! The files of a folder that an image is built from: all but what its `.dockerignore` leaves out.

use globset::{GlobBuilder, GlobMatcher};

use super::{Snapshot, SourceError, SourceFile};

const IGNORE: &str = ".dockerignore";

impl Snapshot {
    /// The files below `folder` (from the root; empty: the root) with their paths in it, sorted, without what a `.dockerignore`
    /// in it leaves out. That file itself and `dockerfile` are always there, as the builder reads them.
    pub fn build_context(
        &self,
        folder: &str,
        dockerfile: &str,
    ) -> Result<Vec<(&str, &SourceFile)>, SourceError> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let ignore = match self.read(&format!("{prefix}{IGNORE}"))? {
            Some(bytes) => Ignore::parse(&String::from_utf8_lossy(&bytes))?,
            None => Ignore::default(),
        };
        let below =
            self.files.iter().filter_map(|file| Some((file.path.strip_prefix(&prefix)?, file)));
        let kept = below
            .filter(|(path, _)| [IGNORE, dockerfile].contains(path) || !ignore.leaves_out(path));
        Ok(kept.collect())
    }
}

/// The lines of a `.dockerignore`, by Docker's rules: the last line that matches a path or a folder above it decides.
#[derive(Default)]
struct Ignore(Vec<Rule>);

struct Rule {
    /// `!` in front: what matches stays.
    keeps: bool,
    glob: GlobMatcher,
}

impl Ignore {
    fn parse(text: &str) -> Result<Self, SourceError> {
        let mut rules = Vec::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (keeps, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let parts = pattern.split('/').filter(|part| !matches!(*part, "" | "."));
            let pattern = parts.collect::<Vec<_>>().join("/");
            if pattern.is_empty() {
                continue;
            }
            let glob = GlobBuilder::new(&pattern)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| {
                    SourceError::new(format!("`{IGNORE}` has a line that is no pattern: {error}"))
                        .help("see the rules of Docker for this file")
                })?;
            rules.push(Rule { keeps, glob: glob.compile_matcher() });
        }
        Ok(Self(rules))
    }

    fn leaves_out(&self, path: &str) -> bool {
        let decides = |rule: &&Rule| {
            let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
            ends.map(|end| &path[..end]).any(|part| rule.glob.is_match(part))
        };
        self.0.iter().rev().find(decides).is_some_and(|rule| !rule.keeps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_matches_decides() {
        let text = "# all\n*\n!src\n/src/*.tmp\n!src/keep.tmp\nsrc/deep/**/x\n\\!odd\n";
        let ignore = Ignore::parse(text).unwrap();
        for (path, out) in [
            ("a", true),
            ("a/b", true),
            ("src/main.py", false),
            ("src/b.tmp", true),
            ("src/keep.tmp", false),
            ("src/deep/x", true),
            ("src/deep/a/b/x", true),
            ("src/deep/a/b/y", false),
            ("src/sub/b.tmp", false),
        ] {
            assert_eq!(ignore.leaves_out(path), out, "{path}");
        }
    }

    #[test]
    fn a_star_does_not_cross_folders_and_a_folder_takes_all_below() {
        let ignore = Ignore::parse("*.log\nbuild/\n**/cache\n").unwrap();
        for (path, out) in [
            ("a.log", true),
            ("sub/a.log", false),
            ("build/x/y", true),
            ("buildx", false),
            ("deep/er/cache/x", true),
            ("cache/x", true),
        ] {
            assert_eq!(ignore.leaves_out(path), out, "{path}");
        }
        assert!(Ignore::parse("a[").is_err());
        assert!(!Ignore::parse("\n  \n#x\n").unwrap().leaves_out("x"));
    }
}
