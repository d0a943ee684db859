//! Pins: the artifacts a run needs, a JSON line each. The roots of gc.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Write};
use std::path::Path;

use fs_err::File;

use super::folder::{Folder, locked, names_in, with_parent};
use crate::digest::Digest;
use crate::names::RunId;
use crate::store::StoreError;

impl Folder {
    /// Usually a pin only grows: then the new lines are appended, since replacing the file after every task would cost much more.
    pub(super) fn pin(&self, run: RunId, artifacts: &[Digest]) -> Result<(), StoreError> {
        let wanted: BTreeSet<Digest> = artifacts.iter().copied().collect();
        let path = self.pin_path(run);
        let mut pinned = locked(&self.pinned);
        let grown = match pinned.get(&run) {
            Some(before) if before.is_subset(&wanted) => {
                let new = lines(wanted.difference(before))?;
                new.is_empty() || append(&path, &new)?
            }
            _ => false,
        };
        if !grown {
            let unfinished = self.write_unfinished(&lines(wanted.iter())?)?;
            let renamed = with_parent(&path, || fs_err::rename(&unfinished, &path));
            if renamed.is_err() {
                fs_err::remove_file(&unfinished).ok();
            }
            renamed?;
        }
        pinned.insert(run, wanted);
        Ok(())
    }

    pub(super) fn unpin(&self, run: RunId) -> Result<(), StoreError> {
        locked(&self.pinned).remove(&run);
        match fs_err::remove_file(self.pin_path(run)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// What all pins together hold. A pin that cannot be read is an error: nothing may be removed then.
    pub(super) fn all_pinned(&self) -> io::Result<HashSet<Digest>> {
        let mut all = HashSet::new();
        for kind in names_in(&self.pins())? {
            let folder = self.pins().join(kind);
            for name in names_in(&folder)? {
                let path = folder.join(name);
                match fs_err::read(&path) {
                    Ok(text) => read_lines(&text, &path, &mut all)?,
                    // The run went meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(all)
    }
}

fn lines<'a>(digests: impl Iterator<Item = &'a Digest>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for digest in digests {
        serde_json::to_writer(&mut text, digest)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// `false`: the pin is not there any more.
fn append(path: &Path, text: &[u8]) -> io::Result<bool> {
    match File::options().append(true).open(path) {
        Ok(mut file) => file.write_all(text).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_lines(text: &[u8], path: &Path, into: &mut HashSet<Digest>) -> io::Result<()> {
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(digest) => {
                into.insert(digest);
            }
            // The last line may be half written; what it names is too young to be removed.
            Err(_) if !line.ends_with(b"\n") => {}
            Err(error) => {
                let path = path.display();
                let why =
                    format!("`{path}` is damaged ({error}); remove it if its run is not needed");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
    }
    Ok(())
}
