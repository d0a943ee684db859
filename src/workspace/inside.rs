//! The folder of an attempt as the program in its container sees it: the same paths in every run and on every machine.

use std::path::{Path, PathBuf};

use super::WorkFolder;

/// Where the work folder is seen.
pub const WORK: &str = "/flowrun/work";
/// Where inputs are seen that are placed nowhere else; they cannot be written there.
pub const INPUTS: &str = "/flowrun/inputs";
/// Where the environment is seen; it cannot be written there.
pub const ENVIRONMENT: &str = crate::environment::INSIDE;
/// `HOME`
pub const HOME: &str = "/home/stage";
/// `TMPDIR`
pub const TEMPORARY: &str = "/tmp";

/// A place of this machine and where the program sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// On this machine.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// It cannot be written.
    pub read_only: bool,
}

/// The work folder of the attempt in `attempt` with the paths that hold inside, and what has to be seen there for them to hold.
///
/// `temporary` is seen as `/tmp`. Inputs cannot be written, wherever they are placed.
pub fn inside(attempt: &Path, work: &WorkFolder, temporary: &Path) -> (WorkFolder, Vec<Seen>) {
    let moved = |path: &Path| moved(attempt, path);
    let seen = |source: &Path, target: &str, read_only| Seen {
        source: source.to_owned(),
        target: target.into(),
        read_only,
    };
    let mut all = vec![
        seen(&attempt.join("work"), WORK, false),
        seen(&work.home, HOME, false),
        seen(temporary, TEMPORARY, false),
    ];
    let inputs = attempt.join("inputs");
    if work.inputs.values().any(|path| path.starts_with(&inputs)) {
        all.push(seen(&inputs, INPUTS, true));
    }
    let placed = work.inputs.values().filter(|path| !path.starts_with(&inputs));
    all.extend(placed.map(|path| Seen {
        source: path.clone(),
        target: moved(path),
        read_only: true,
    }));
    let inside = WorkFolder {
        base: moved(&work.base),
        directory: moved(&work.directory),
        home: HOME.into(),
        inputs: work.inputs.iter().map(|(name, path)| (name.clone(), moved(path))).collect(),
        outputs: work.outputs.iter().map(|(name, path)| (name.clone(), moved(path))).collect(),
        placed: work.placed.clone(),
    };
    (inside, all)
}

fn moved(attempt: &Path, path: &Path) -> PathBuf {
    for (from, to) in [("work", WORK), ("inputs", INPUTS)] {
        if let Ok(below) = path.strip_prefix(attempt.join(from)) {
            let mut target = PathBuf::from(to);
            // Joining nothing would leave a slash at the end.
            target.extend(below);
            return target;
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn paths_are_the_same_whatever_the_attempt() {
        let attempt = Path::new("/home/me/runs/1/2-1");
        let work = WorkFolder {
            base: attempt.join("work/ml"),
            directory: attempt.join("work/ml/stages"),
            home: attempt.join("home"),
            inputs: BTreeMap::from([
                ("data".parse().unwrap(), attempt.join("inputs/data/iris.csv")),
                ("model".parse().unwrap(), attempt.join("work/ml/model")),
            ]),
            outputs: BTreeMap::from([("table".parse().unwrap(), attempt.join("work/ml/t.csv"))]),
            placed: BTreeMap::new(),
        };
        let (inside, seen) = inside(attempt, &work, Path::new("/run/t"));
        assert_eq!(inside.directory, Path::new("/flowrun/work/ml/stages"));
        assert_eq!(inside.outputs.values().next().unwrap(), Path::new("/flowrun/work/ml/t.csv"));
        let shown: Vec<String> = seen
            .iter()
            .map(|one| {
                let right = if one.read_only { "ro" } else { "rw" };
                format!("{} -> {} {right}", one.source.display(), one.target.display())
            })
            .collect();
        assert_eq!(
            shown,
            [
                "/home/me/runs/1/2-1/work -> /flowrun/work rw",
                "/home/me/runs/1/2-1/home -> /home/stage rw",
                "/run/t -> /tmp rw",
                "/home/me/runs/1/2-1/inputs -> /flowrun/inputs ro",
                "/home/me/runs/1/2-1/work/ml/model -> /flowrun/work/ml/model ro",
            ]
        );
    }
}
