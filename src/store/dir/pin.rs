//! Pins: the artifacts a run or a release needs, a JSON line each. The roots of gc.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Write};
use std::path::Path;

use fs_err::File;

use super::folder::{Folder, locked, names_in, with_parent};
use crate::digest::Digest;
use crate::store::pin::lines;
use crate::store::{PinLine, PinOwner, StoreError};

impl Folder {
    /// Usually a pin only grows: then the new lines are appended, since replacing the file after every task would cost much more.
    pub(super) fn pin(&self, owner: PinOwner, artifacts: &[Digest]) -> Result<(), StoreError> {
        let wanted: BTreeSet<Digest> = artifacts.iter().copied().collect();
        let path = self.pin_path(owner);
        let mut pinned = locked(&self.pinned);
        let grown = match pinned.get(&owner) {
            Some(before) if before.is_subset(&wanted) => {
                let new = lines(wanted.difference(before))?;
                new.is_empty() || append(&path, &new)?
            }
            _ => false,
        };
        if !grown {
            let unfinished = self.write_unfinished(&lines(&wanted)?)?;
            let renamed = with_parent(&path, || fs_err::rename(&unfinished, &path));
            if renamed.is_err() {
                fs_err::remove_file(&unfinished).ok();
            }
            renamed?;
        }
        pinned.insert(owner, wanted);
        Ok(())
    }

    pub(super) fn unpin(&self, owner: PinOwner) -> Result<(), StoreError> {
        locked(&self.pinned).remove(&owner);
        match fs_err::remove_file(self.pin_path(owner)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Every pin with what it names.
    pub(super) fn pin_lines(&self) -> Result<Vec<PinLine>, StoreError> {
        let mut found = Vec::new();
        self.each_pin(|name, artifacts| {
            if let Some(owner) = PinOwner::of(name) {
                let mut artifacts: Vec<Digest> = artifacts.into_iter().collect();
                artifacts.sort_unstable();
                found.push(PinLine { owner, artifacts });
            }
        })?;
        Ok(found)
    }

    /// What all pins together hold.
    pub(super) fn all_pinned(&self) -> io::Result<HashSet<Digest>> {
        let mut all = HashSet::new();
        self.each_pin(|_, artifacts| all.extend(artifacts))?;
        Ok(all)
    }

    /// Reads every pin. One that cannot be read is an error: nothing may be removed then.
    fn each_pin(&self, mut each: impl FnMut(&str, HashSet<Digest>)) -> io::Result<()> {
        for kind in names_in(&self.pins())? {
            for id in names_in(&self.pins().join(&kind))? {
                let name = format!("{kind}/{id}");
                let path = self.pins().join(&name);
                match fs_err::read(&path) {
                    Ok(text) => each(&name, digests_in(&text, &path)?),
                    // The run or release went meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// `false`: the pin is not there any more.
fn append(path: &Path, text: &[u8]) -> io::Result<bool> {
    match File::options().append(true).open(path) {
        Ok(mut file) => file.write_all(text).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn digests_in(text: &[u8], path: &Path) -> io::Result<HashSet<Digest>> {
    let mut found = HashSet::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(digest) => {
                found.insert(digest);
            }
            // The last line may be half written; what it names is too young to be removed.
            Err(_) if !line.ends_with(b"\n") => {}
            Err(error) => {
                let path = path.display();
                let why = format!(
                    "`{path}` is damaged ({error}); remove it if its run or release is not needed"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
    }
    Ok(found)
}
