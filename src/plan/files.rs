//! Which files of a snapshot a stage sees, and their digest.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use globset::{GlobBuilder, GlobMatcher};

use crate::digest::Digest;
use crate::source::{Mode, SourceFile};

/// What scans found, by list of globs: a thousand stages with the same globs cost one scan.
///
/// Shared by clones. An entry holds for the very files, base and file name it was made from; for others it is made anew.
#[derive(Debug, Clone, Default)]
pub(super) struct FileScans(Arc<Mutex<HashMap<Globs, Arc<Scan>>>>);

type Globs = Option<Vec<String>>;

/// The files that one list of globs selects.
#[derive(Debug)]
pub(super) struct Scan {
    files: Arc<Vec<SourceFile>>,
    base: String,
    file_name: String,
    /// Positions in `files`, ascending.
    pub(super) seen: Vec<usize>,
    /// Over path below the base, mode and blob id of each.
    pub(super) digest: Digest,
}

impl FileScans {
    /// What `globs` select of `files` (sorted by path) below `base`.
    pub(super) fn scan(
        &self,
        files: &Arc<Vec<SourceFile>>,
        base: &str,
        file_name: &str,
        globs: Option<&[String]>,
    ) -> Arc<Scan> {
        let list = globs.map(<[String]>::to_vec);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scan) = known.get(&list)
            && Arc::ptr_eq(&scan.files, files)
            && scan.base == base
            && scan.file_name == file_name
        {
            return Arc::clone(scan);
        }
        let seen = select(files, base, file_name, globs);
        let scan = Arc::new(Scan {
            digest: digest(files, base, &seen),
            files: Arc::clone(files),
            base: base.to_owned(),
            file_name: file_name.to_owned(),
            seen,
        });
        known.insert(list, Arc::clone(&scan));
        scan
    }
}

/// The files of a snapshot (sorted by path) that a stage with these globs sees, for who has a release and no pipeline.
///
/// The rules are those of [`super::KeyContext::stage_files`].
pub fn seen_files<'f>(
    files: &'f [SourceFile],
    base: &str,
    file_name: &str,
    globs: Option<&[String]>,
) -> Vec<&'f SourceFile> {
    select(files, base, file_name, globs).into_iter().map(|position| &files[position]).collect()
}

/// Those of `globs` that select no file at all below `base`.
pub(super) fn idle<'g>(files: &[SourceFile], base: &str, globs: &'g [String]) -> Vec<&'g str> {
    let selects = |glob: &&String| {
        let one = [glob.trim_start_matches('!').to_owned()];
        !select(files, base, "", Some(&one)).is_empty()
    };
    globs.iter().filter(|glob| !selects(glob)).map(String::as_str).collect()
}

/// Beside the pipeline file and like it about flowrun, not about the work.
const SETTINGS_FILE: &str = "flowrun.toml";

fn select(
    files: &[SourceFile],
    base: &str,
    file_name: &str,
    globs: Option<&[String]>,
) -> Vec<usize> {
    let prefix = prefix_of(base);
    let below = range_below(files, 0..files.len(), &prefix);
    let relative = |position: usize| &files[position].path[prefix.len()..];
    let Some(globs) = globs else {
        return below
            .filter(|position| ![file_name, SETTINGS_FILE].contains(&relative(*position)))
            .collect();
    };

    let patterns: Vec<Pattern> = globs.iter().map(|glob| Pattern::parse(glob)).collect();
    let (taken_away, given): (Vec<&Pattern>, Vec<&Pattern>) =
        patterns.iter().partition(|pattern| pattern.exclude);
    let mut seen: Vec<usize> = if given.is_empty() && !taken_away.is_empty() {
        below.collect()
    } else {
        // Only the folder of a glob is searched: ten thousand stages that name one file each stay cheap.
        given
            .iter()
            .flat_map(|pattern| {
                let folder = format!("{prefix}{}", pattern.folder);
                range_below(files, below.clone(), &folder)
                    .filter(|position| pattern.matches(relative(*position)))
            })
            .collect()
    };
    let settings_named = given.iter().any(|pattern| pattern.is_path(SETTINGS_FILE));
    seen.retain(|position| {
        let path = relative(*position);
        let hidden = path == file_name || (path == SETTINGS_FILE && !settings_named);
        !hidden && !taken_away.iter().any(|pattern| pattern.matches(path))
    });
    seen.sort_unstable();
    seen.dedup();
    seen
}

fn prefix_of(base: &str) -> String {
    if base.is_empty() { String::new() } else { format!("{base}/") }
}

/// The part of a sorted range whose paths begin with `prefix`.
fn range_below(files: &[SourceFile], within: Range<usize>, prefix: &str) -> Range<usize> {
    let files = &files[within.clone()];
    let start = files.partition_point(|file| file.path.as_str() < prefix);
    let length = files[start..].partition_point(|file| file.path.starts_with(prefix));
    within.start + start..within.start + start + length
}

/// One entry of `files:`.
struct Pattern {
    /// `!` in front: takes away what the others gave.
    exclude: bool,
    /// Every match begins with this: an empty text, a folder with its `/`, or a path without wildcards.
    folder: String,
    shape: Shape,
}

enum Shape {
    /// A file, or a folder and everything below it; empty for the base.
    Path(String),
    Glob(GlobMatcher),
}

impl Pattern {
    fn parse(text: &str) -> Self {
        let (exclude, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let text = text.trim_start_matches("./").trim_end_matches('/');
        // The usual way to name a folder; a plain path is found without a look at every file.
        let wildcard_in = |text: &str| text.find(['*', '?', '[', ']', '{', '}', '\\']);
        let whole = if text == "**" { Some(".") } else { text.strip_suffix("/**") };
        let text = whole.filter(|folder| wildcard_in(folder).is_none()).unwrap_or(text);
        let wildcard = wildcard_in(text);
        let glob = wildcard.and_then(|first| {
            let glob = GlobBuilder::new(text).literal_separator(true).build().ok()?;
            let folder = text[..first].rfind('/').map_or("", |slash| &text[..=slash]);
            Some((folder.to_owned(), Shape::Glob(glob.compile_matcher())))
        });
        // A text that is no valid glob can still be the name of a file.
        let path = if text == "." { "" } else { text };
        let (folder, shape) =
            glob.unwrap_or_else(|| (path.to_owned(), Shape::Path(path.to_owned())));
        Self { exclude, folder, shape }
    }

    fn matches(&self, relative: &str) -> bool {
        match &self.shape {
            Shape::Glob(glob) => glob.is_match(relative),
            Shape::Path(path) if path.is_empty() => true,
            Shape::Path(path) => relative
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    fn is_path(&self, file: &str) -> bool {
        matches!(&self.shape, Shape::Path(path) if path == file)
    }
}

fn digest(files: &[SourceFile], base: &str, seen: &[usize]) -> Digest {
    let skip = prefix_of(base).len();
    let mut hasher = blake3::Hasher::new();
    for file in seen.iter().map(|position| &files[*position]) {
        let mode: &[u8] = match file.mode {
            Mode::File => b"100644 ",
            Mode::Executable => b"100755 ",
            Mode::Link => b"120000 ",
        };
        hasher.update(mode).update(file.blob.as_bytes());
        hasher.update(b" ").update(&file.path.as_bytes()[skip..]).update(b"\0");
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::files;

    fn seen(base: &str, globs: Option<&[&str]>) -> Vec<String> {
        let files = files(&[
            "README.md",
            "ml/flowrun.toml",
            "ml/lib/a.py",
            "ml/lib/deep/b.py",
            "ml/lib2/c.py",
            "ml/pipeline.yaml",
            "ml/train.py",
            "mlx/train.py",
        ]);
        let globs: Option<Vec<String>> =
            globs.map(|globs| globs.iter().map(|glob| (*glob).to_owned()).collect());
        let scan = FileScans::default().scan(&files, base, "pipeline.yaml", globs.as_deref());
        scan.seen.iter().map(|position| files[*position].path.clone()).collect()
    }

    #[test]
    fn all_below_the_base_without_the_files_about_flowrun() {
        let all = ["ml/lib/a.py", "ml/lib/deep/b.py", "ml/lib2/c.py", "ml/train.py"];
        assert_eq!(seen("ml", None), all);
        assert_eq!(seen("ml", Some(&["**"])), all);
        assert_eq!(seen("ml", Some(&["."])), all);
        assert_eq!(seen("", None).len(), 8, "another folder's pipeline.yaml is a file like any");
    }

    #[test]
    fn globs_are_relative_to_the_base_and_keep_separators() {
        assert_eq!(seen("ml", Some(&["*.py"])), ["ml/train.py"]);
        assert_eq!(seen("ml", Some(&["lib/*.py"])), ["ml/lib/a.py"]);
        assert_eq!(seen("ml", Some(&["**/*.py"])).len(), 4);
        assert_eq!(seen("ml", Some(&["lib/**"])), ["ml/lib/a.py", "ml/lib/deep/b.py"]);
        assert_eq!(seen("ml", Some(&["README.md"])), Vec::<String>::new());
        assert_eq!(seen("ml", Some(&["../README.md"])), Vec::<String>::new());
        assert_eq!(seen("ml", Some(&["{train,other}.py"])), ["ml/train.py"]);
    }

    #[test]
    fn a_folder_means_everything_below_it_and_no_neighbour() {
        for folder in ["lib", "lib/", "./lib"] {
            assert_eq!(seen("ml", Some(&[folder])), ["ml/lib/a.py", "ml/lib/deep/b.py"]);
        }
    }

    #[test]
    fn an_exclamation_mark_takes_away() {
        assert_eq!(seen("ml", Some(&["lib", "!lib/deep"])), ["ml/lib/a.py"]);
        assert_eq!(seen("ml", Some(&["!lib*/**"])), ["ml/train.py"]);
        assert_eq!(seen("ml", Some(&[])), Vec::<String>::new());
    }

    #[test]
    fn settings_are_seen_only_when_named_and_the_pipeline_never() {
        assert_eq!(seen("ml", Some(&["flowrun.toml"])), ["ml/flowrun.toml"]);
        assert_eq!(seen("ml", Some(&["*.toml", "pipeline.yaml"])), Vec::<String>::new());
    }

    #[test]
    fn an_invalid_glob_is_a_name() {
        let files = files(&["a[b"]);
        let scan =
            FileScans::default().scan(&files, "", "pipeline.yaml", Some(&["a[b".to_owned()]));
        assert_eq!(scan.seen, [0]);
    }

    #[test]
    fn the_digest_follows_path_mode_and_content_below_the_base() {
        let digest = |path: &str, base: &str, mode: Mode, blob: &str| {
            let files =
                Arc::new(vec![SourceFile { path: path.to_owned(), mode, blob: blob.to_owned() }]);
            FileScans::default().scan(&files, base, "p", None).digest
        };
        let usual = digest("a/x", "a", Mode::File, "00");
        assert_eq!(usual, digest("b/x", "b", Mode::File, "00"), "the base does not matter");
        assert_ne!(usual, digest("a/y", "a", Mode::File, "00"));
        assert_ne!(usual, digest("a/x", "a", Mode::Executable, "00"));
        assert_ne!(usual, digest("a/x", "a", Mode::File, "01"));
    }

    #[test]
    fn a_clone_with_other_files_is_scanned_anew() {
        let scans = FileScans::default();
        let (one, two) = (files(&["a"]), files(&["a", "b"]));
        assert_eq!(scans.scan(&one, "", "p", None).seen.len(), 1);
        assert_eq!(scans.clone().scan(&two, "", "p", None).seen.len(), 2);
        let again = scans.scan(&two, "", "p", None);
        assert!(Arc::ptr_eq(&again, &scans.scan(&two, "", "p", None)));
    }
}
