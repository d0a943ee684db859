//! The lists of requirements that the tools read.

use std::ffi::OsString;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// The files that the tools read. They may hold passwords, so they are the owner's alone and go when this is dropped; the next builder
/// removes what a crash left.
pub(super) struct Lists {
    pub(super) requirements: PathBuf,
    pub(super) constraints: Option<PathBuf>,
}

impl Lists {
    pub(super) fn write(requirements: &[String], root: &Path) -> std::io::Result<Self> {
        let (mut wanted, mut bounds) = (String::new(), String::new());
        for line in requirements {
            let (list, line) = match line.strip_prefix("-c ") {
                Some(line) => (&mut bounds, line),
                None => (&mut wanted, line.as_str()),
            };
            list.push_str(line);
            list.push('\n');
        }
        let requirements = root.with_extension("requirements.txt");
        own_file(&requirements, &wanted)?;
        let constraints = root.with_extension("constraints.txt");
        own_file(&constraints, &bounds)?;
        let constraints = if bounds.is_empty() {
            fs::remove_file(constraints)?;
            None
        } else {
            Some(constraints)
        };
        Ok(Self { requirements, constraints })
    }

    /// What pip and uv are told of them.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec!["-r".into(), self.requirements.clone().into()];
        if let Some(constraints) = &self.constraints {
            arguments.extend(["-c".into(), constraints.clone().into()]);
        }
        arguments
    }
}

impl Drop for Lists {
    fn drop(&mut self) {
        for list in [Some(&self.requirements), self.constraints.as_ref()].into_iter().flatten() {
            fs::remove_file(list).unwrap_or_default();
        }
    }
}

fn own_file(path: &Path, text: &str) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())
}
