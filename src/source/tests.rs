use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use fs_err as fs;

use super::*;

mod remote;
mod written;

/// A home and a repo beside it; both vanish with it.
struct Place {
    folder: tempfile::TempDir,
    settings: SourceSettings,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the tests run the same git as the caller")]
        let path = std::env::var("PATH").unwrap();
        let env = vec![
            ("PATH".to_owned(), path),
            ("HOME".to_owned(), folder.path().to_str().unwrap().to_owned()),
        ];
        let settings = SourceSettings { mirrors: home.join("mirror"), home, env };
        Self { folder, settings }
    }

    fn repo(&self, name: &str) -> Repo<'_> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        let repo = Repo { place: self, path: fs::canonicalize(path).unwrap() };
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    fn take(&self, folder: &Path) -> Result<Snapshot, SourceError> {
        take(&self.settings, &Origin::Folder(folder.to_owned()), None)
    }

    fn fetch(&self, url: &str, reference: Option<&str>) -> Result<Snapshot, SourceError> {
        let reference = reference.map(str::to_owned);
        take(&self.settings, &Origin::Git { url: url.to_owned(), reference }, None)
    }
}

struct Repo<'a> {
    place: &'a Place,
    path: PathBuf,
}

impl Repo<'_> {
    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"])
            .args(arguments)
            .current_dir(&self.path)
            .env_clear()
            .envs(self.place.settings.env.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "m"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn url(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

fn paths(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.files.iter().map(|file| file.path.as_str()).collect()
}

fn text(snapshot: &Snapshot, path: &str) -> String {
    String::from_utf8(snapshot.read(path).unwrap().unwrap()).unwrap()
}

/// Every path below with what a write would change: size, times, inode.
fn listing(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut lines: Vec<String> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let m = entry.path().symlink_metadata().unwrap();
            let (modified, changed) = ((m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()));
            format!("{} {} {modified:?} {changed:?} {}", entry.path().display(), m.len(), m.ino())
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_clean_work_tree_is_its_commit() {
    let place = Place::new();
    let repo = place.repo("repo");
    repo.write("p/pipeline.yaml", "x");
    repo.write("train.py", "print(1)");
    let commit = repo.commit();
    let snapshot = place.take(&repo.path.join("p")).unwrap();
    assert_eq!(snapshot.id.commit.as_deref(), Some(commit.as_str()));
    assert_eq!(snapshot.id.tree, repo.git(&["rev-parse", "HEAD^{tree}"]));
    assert_eq!(snapshot.id.reference.as_deref(), Some("main"));
    assert_eq!(snapshot.id.base, "p");
    assert_eq!(snapshot.id.origin, repo.url());
    assert!(!snapshot.id.dirty && snapshot.remarks.is_empty());
    assert_eq!(paths(&snapshot), ["p/pipeline.yaml", "train.py"]);
    assert_eq!(snapshot.read("nothing").unwrap(), None);
}

#[test]
fn a_dirty_work_tree_is_recorded_as_it_is_and_never_written() {
    let place = Place::new();
    let repo = place.repo("repo");
    for path in ["same", "changed", "gone", "tool", "becomes/folder", "was/folder", "staged"] {
        repo.write(path, "old");
    }
    repo.write(".gitignore", "ignored\ncached\n");
    repo.write("cached", "old");
    repo.git(&["add", "--force", "cached"]);
    symlink("same", repo.path.join("link")).unwrap();
    repo.commit();
    repo.write("changed", "new");
    fs::remove_file(repo.path.join("gone")).unwrap();
    fs::set_permissions(repo.path.join("tool"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::remove_dir_all(repo.path.join("becomes")).unwrap();
    repo.write("becomes", "file");
    fs::remove_file(repo.path.join("was/folder")).unwrap();
    repo.write("was/folder/deep", "new");
    repo.write("staged", "in the index");
    repo.git(&["add", "staged"]);
    repo.write("staged", "on disk");
    repo.git(&["rm", "--quiet", "--cached", "cached"]);
    repo.write("untracked/a b", "new");
    repo.write("ignored", "x");
    fs::remove_file(repo.path.join("link")).unwrap();
    symlink("changed", repo.path.join("link")).unwrap();

    let before = listing(&repo.path);
    let snapshot = place.take(&repo.path).unwrap();
    assert_eq!(before, listing(&repo.path), "the user's repo was written to");

    assert!(snapshot.id.dirty);
    assert_eq!(snapshot.remarks.len(), 1);
    assert_eq!(
        paths(&snapshot),
        [
            ".gitignore",
            "becomes",
            "changed",
            "link",
            "same",
            "staged",
            "tool",
            "untracked/a b",
            "was/folder/deep"
        ]
    );
    assert_eq!(text(&snapshot, "changed"), "new");
    assert_eq!(text(&snapshot, "becomes"), "file");
    assert_eq!(text(&snapshot, "staged"), "on disk");
    assert_eq!(text(&snapshot, "link"), "changed");
    assert_eq!(snapshot.file("tool").unwrap().mode, Mode::Executable);

    // git's own view of the same state has the same tree.
    repo.git(&["add", "--all"]);
    assert_eq!(repo.git(&["write-tree"]), snapshot.id.tree);
    assert_eq!(place.take(&repo.path).unwrap().id.tree, snapshot.id.tree);
}

#[test]
fn a_touched_file_is_not_a_change() {
    let place = Place::new();
    let repo = place.repo("repo");
    repo.write("a", "same");
    repo.commit();
    repo.write("a", "same");
    let snapshot = place.take(&repo.path).unwrap();
    assert!(!snapshot.id.dirty);
}

#[test]
fn what_was_pinned_stays_when_the_repo_changes_or_vanishes() {
    let place = Place::new();
    let repo = place.repo("repo");
    repo.write("a", "one");
    repo.commit();
    let first = place.take(&repo.path).unwrap();
    first.pin("run/1").unwrap();
    first.pin("release/1").unwrap();
    // The run goes, its release stays.
    first.unpin("run/1").unwrap();
    repo.write("a", "two");
    repo.write("b", "two");
    repo.commit();
    let second = place.take(&repo.path).unwrap();
    fs::remove_dir_all(&repo.path).unwrap();
    let mut gc = Command::new("git");
    gc.arg("--git-dir").arg(&first.mirror).args(["gc", "--quiet", "--prune=now"]);
    assert!(gc.status().unwrap().success());
    let again = open(&place.settings, &first.id).unwrap();
    assert_eq!(text(&again, "a"), "one");
    let error = open(&place.settings, &second.id).unwrap_err();
    assert!(error.help.is_some(), "{error}");
    unpin(&place.settings, &first.id, "release/1").unwrap();
    first.unpin("release/1").unwrap();
    assert!(first.pin("a..b").is_err());
}

#[test]
fn a_repo_without_a_commit_works() {
    let place = Place::new();
    let repo = place.repo("repo");
    assert_eq!(paths(&place.take(&repo.path).unwrap()), [""; 0]);
    repo.write("a", "x");
    let snapshot = place.take(&repo.path).unwrap();
    assert_eq!((snapshot.id.commit.as_deref(), snapshot.id.dirty), (None, true));
    assert_eq!(snapshot.id.reference.as_deref(), Some("main"));
    assert_eq!(paths(&snapshot), ["a"]);
}

#[test]
fn a_folder_without_git_works_and_says_what_it_costs() {
    let place = Place::new();
    let folder = place.folder.path().join("plain");
    fs::create_dir_all(folder.join("sub")).unwrap();
    fs::write(folder.join("sub/a"), "x").unwrap();
    fs::write(folder.join("data"), "x").unwrap();
    fs::write(folder.join(".gitignore"), "data\n").unwrap();
    let before = listing(&folder);
    let snapshot = place.take(&folder).unwrap();
    assert_eq!(before, listing(&folder));
    assert_eq!(paths(&snapshot), [".gitignore", "sub/a"]);
    assert_eq!(snapshot.id.commit, None);
    assert!(snapshot.remarks.iter().any(|remark| remark.contains("no git repo")));
    fs::write(folder.join("sub/a"), "y").unwrap();
    assert_eq!(text(&place.take(&folder).unwrap(), "sub/a"), "y");
    let large = fs::File::create(folder.join("large")).unwrap();
    large.set_len(1100 << 20).unwrap();
    assert!(place.take(&folder).unwrap_err().message.contains("1100 MiB"));
    assert!(place.take(&folder.join("missing")).is_err());
}

#[test]
fn an_ignored_folder_in_a_repo_stands_for_itself() {
    let place = Place::new();
    let repo = place.repo("repo");
    repo.write(".gitignore", "scratch/\n");
    repo.commit();
    repo.write("scratch/p/pipeline.yaml", "x");
    let snapshot = place.take(&repo.path.join("scratch/p")).unwrap();
    assert_eq!(paths(&snapshot), ["pipeline.yaml"]);
}

#[test]
fn the_home_and_large_untracked_files_are_no_code() {
    let mut place = Place::new();
    let inside = place.folder.path().join("repo/my home");
    fs::create_dir_all(&inside).unwrap();
    place.settings.home.clone_from(&inside);
    place.settings.mirrors = inside.join("mirror");
    let repo = place.repo("repo");
    repo.write("a", "x");
    assert_eq!(paths(&place.take(&repo.path).unwrap()), ["a"]);
    assert_eq!(paths(&place.take(&repo.path).unwrap()), ["a"]);
    let large = fs::File::create(repo.path.join("big.bin")).unwrap();
    large.set_len(51 << 20).unwrap();
    let error = place.take(&repo.path).unwrap_err();
    assert!(error.message.contains("`big.bin` is 51 MiB"), "{error}");
    assert!(error.help.unwrap().starts_with("ignore it or name it"));
    repo.write(".gitignore", "big.bin\n");
    assert_eq!(paths(&place.take(&repo.path).unwrap()), [".gitignore", "a"]);
}

#[test]
fn a_link_that_leaves_is_refused() {
    let place = Place::new();
    let repo = place.repo("repo");
    fs::create_dir(repo.path.join("sub")).unwrap();
    symlink("../../outside", repo.path.join("sub/link")).unwrap();
    let error = place.take(&repo.path).unwrap_err();
    assert!(error.message.contains("`sub/link`"), "{error}");
}

#[test]
fn submodules_are_files() {
    let place = Place::new();
    let library = place.repo("library");
    library.write("lib.py", "one");
    library.commit();
    let repo = place.repo("repo");
    repo.git(&["submodule", "--quiet", "add", "../library", "deps/library"]);
    repo.commit();
    let snapshot = place.take(&repo.path).unwrap();
    assert!(!snapshot.id.dirty);
    assert_eq!(paths(&snapshot), [".gitmodules", "deps/library/lib.py"]);
    let fetched = place.fetch(repo.url(), None).unwrap();
    assert_eq!(fetched.id.tree, snapshot.id.tree);

    repo.write("deps/library/lib.py", "two");
    let snapshot = place.take(&repo.path).unwrap();
    assert!(snapshot.id.dirty);
    assert_eq!(text(&snapshot, "deps/library/lib.py"), "two");
    repo.git(&["submodule", "--quiet", "deinit", "--force", "deps/library"]);
    let error = place.take(&repo.path).unwrap_err();
    assert!(error.message.contains("`deps/library` is not checked out"), "{error}");
    assert!(error.help.unwrap().contains("git submodule update --init"));
}

#[test]
fn an_untracked_repo_is_files_but_a_second_work_tree_is_not() {
    let place = Place::new();
    let repo = place.repo("repo");
    repo.write("a", "x");
    repo.commit();
    place.repo("repo/vendor/other").write("b", "x");
    repo.git(&["worktree", "add", "--quiet", "second"]);
    assert_eq!(paths(&place.take(&repo.path).unwrap()), ["a", "vendor/other/b"]);
    assert_eq!(paths(&place.take(&repo.path.join("second")).unwrap()), ["a"]);
}

#[test]
fn base_and_missing_git() {
    let mut place = Place::new();
    let repo = place.repo("repo");
    repo.write("p/pipeline.yaml", "x");
    repo.commit();
    let origin = Origin::Git { url: repo.url().to_owned(), reference: None };
    assert_eq!(take(&place.settings, &origin, Some("./p/")).unwrap().id.base, "p");
    assert!(take(&place.settings, &origin, Some("q")).is_err());
    assert!(take(&place.settings, &origin, Some("../x")).is_err());
    let url = repo.url().to_owned();
    place.settings.env = vec![("PATH".to_owned(), "/nowhere".to_owned())];
    let error = place.fetch(&url, Some("main")).unwrap_err();
    assert!(error.message.contains("`git` is not installed"), "{error}");
}
