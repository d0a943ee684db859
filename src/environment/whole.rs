//! How a folder says that an environment in it is whole: `ready`, with its lock.

use std::path::Path;

use fs_err as fs;

/// First line of `ready`; the lock follows.
const READY: &str = "flowrun environment 1\n";

/// The lock of what is whole.
pub(super) fn lock(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("ready")).ok()?;
    Some(text.strip_prefix(READY)?.to_owned())
}

/// Removes what an earlier builder left. The marker goes first, so that a crash here leaves nothing that looks whole.
pub(super) fn clear(root: &Path) -> std::io::Result<()> {
    for result in [fs::remove_file(root.join("ready")), fs::remove_dir_all(root)] {
        match result {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Makes the files durable, then says that they are whole.
pub(super) fn finish(root: &Path, lock: &str) -> std::io::Result<()> {
    let marker = root.join("ready.new");
    fs::write(&marker, format!("{READY}{lock}"))?;
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(fs::File::open(root)?).map_err(std::io::Error::from)?;
    #[cfg(not(target_os = "linux"))]
    rustix::fs::sync();
    fs::rename(marker, root.join("ready"))?;
    Ok(())
}
