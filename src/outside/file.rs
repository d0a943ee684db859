//! A file or folder of this machine: copied, so that nobody writes into what the store holds.

use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use fs_err::File;
use walkdir::WalkDir;

use super::part::{self, Part};
use super::progress::Progress;
use super::trouble::Trouble;
use super::{Got, Version};
use crate::address::Address;
use crate::digest::Digest;

const BUFFER: usize = 1 << 20;

/// Copies it, unless it still is what it was `before`.
pub(super) async fn copy(
    address: &Address,
    before: Option<&Version>,
    part: &mut Part,
    progress: &mut Progress<'_>,
) -> Result<Got, Trouble> {
    let source = path_of(address)?;
    let version = version_of(&source)?;
    if before.is_some_and(|before| before.is(&version)) {
        return Ok(Got::Unchanged);
    }
    let target = part.whole();
    part::remove(&target)?;
    let is_folder = read(fs_err::metadata(&source))?.is_dir();
    let hashes = if is_folder {
        copy_folder(&source, &target, part, progress).await?;
        None
    } else {
        Some(copy_file(&source, &target, part, progress).await?)
    };
    if version_of(&source)? != version {
        part::remove(&target)?;
        return Err(Trouble::lasting(
            "changed while it was copied",
            "wait until nobody writes into it, then `flowrun resume`",
        ));
    }
    Ok(Got::Fetched { path: target, version, hashes })
}

/// Whether it still is this version.
pub(super) fn is_same(address: &Address, version: &Version) -> Result<bool, Trouble> {
    Ok(version_of(&path_of(address)?)?.is(version))
}

fn path_of(address: &Address) -> Result<PathBuf, Trouble> {
    address.path().ok_or_else(|| Trouble::odd("is no path of this machine"))
}

/// What changes whenever somebody writes: sizes, times and numbers of files; of a folder, of everything below it.
fn version_of(source: &Path) -> Result<Version, Trouble> {
    let found = read(fs_err::metadata(source))?;
    let etag = if found.is_dir() {
        let mut lines = String::new();
        for entry in WalkDir::new(source).sort_by_file_name() {
            let entry = entry.map_err(|error| unreadable(&io::Error::from(error)))?;
            let found = read(entry.metadata().map_err(io::Error::from))?;
            let below = entry.path().strip_prefix(source).unwrap_or(entry.path());
            lines.push_str(&format!("{} {}\n", below.display(), stamp(&found)));
        }
        Digest::of(lines.as_bytes()).short()
    } else if found.is_file() {
        stamp(&found)
    } else {
        return Err(Trouble::lasting("is no file or folder", "name a file or a folder"));
    };
    Ok(Version { etag: Some(etag), modified: None })
}

fn stamp(found: &std::fs::Metadata) -> String {
    let (mtime, ctime) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    format!(
        "{}-{}.{:09}-{}.{:09}-{}-{}-{:o}",
        found.size(),
        mtime.0,
        mtime.1,
        ctime.0,
        ctime.1,
        found.dev(),
        found.ino(),
        found.mode()
    )
}

async fn copy_file(
    source: &Path,
    target: &Path,
    part: &Part,
    progress: &mut Progress<'_>,
) -> Result<super::hashing::Hashes, Trouble> {
    let mut from = read(File::open(source))?;
    let found = read(from.metadata())?;
    let mut to = File::create_new(target)?;
    let mut hashing = part.hashing();
    let mut buffer = vec![0; BUFFER];
    let mut here = 0;
    loop {
        let count = read(from.read(&mut buffer))?;
        if count == 0 {
            break;
        }
        to.write_all(&buffer[..count])?;
        hashing.update(&buffer[..count]);
        here += count as u64;
        progress.moved(count as u64, here, Some(found.size()));
        // So that it can be given up.
        tokio::task::yield_now().await;
    }
    let mode = 0o600 | (found.mode() & 0o100);
    to.set_permissions(std::fs::Permissions::from_mode(mode))?;
    Ok(hashing.end())
}

async fn copy_folder(
    source: &Path,
    target: &Path,
    part: &Part,
    progress: &mut Progress<'_>,
) -> Result<(), Trouble> {
    for entry in WalkDir::new(source) {
        let entry = entry.map_err(|error| unreadable(&io::Error::from(error)))?;
        let place = match entry.path().strip_prefix(source) {
            Ok(below) if !below.as_os_str().is_empty() => target.join(below),
            _ => target.to_owned(),
        };
        let kind = entry.file_type();
        if kind.is_dir() || entry.depth() == 0 {
            fs_err::create_dir(&place)?;
        } else if kind.is_symlink() {
            symlink(read(fs_err::read_link(entry.path()))?, &place)?;
        } else if kind.is_file() {
            copy_file(entry.path(), &place, part, progress).await?;
        } else {
            let path = entry.path().display();
            return Err(Trouble::lasting(
                format!("holds `{path}`, which is no file, folder or link"),
                "remove it, or name a folder without it",
            ));
        }
    }
    Ok(())
}

/// Errors of the source are told apart from those of flowrun's own disk.
fn read<T>(result: io::Result<T>) -> Result<T, Trouble> {
    result.map_err(|error| unreadable(&error))
}

fn unreadable(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::NotFound => Trouble::lasting("is not there", "check the path"),
        io::ErrorKind::PermissionDenied => Trouble::lasting(
            format!("may not be read: {error}"),
            "give yourself the right to read it",
        ),
        _ => Trouble::lasting(format!("cannot be read: {error}"), "check the path and its disk"),
    }
}
