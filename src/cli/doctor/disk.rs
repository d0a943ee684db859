//! The filesystem of the home: what it is, what it can do, how much is free.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Finding, fail, ok, warn};
use crate::cli::home::Home;
use crate::cli::settings::Settings;
use crate::runtime::door;
use crate::words::bytes;

/// Less free space than this is worth a word.
const LITTLE: u64 = 1 << 30;

pub(super) fn check(home: &Home, settings: &Settings) -> Vec<Finding> {
    let Ok(scratch) = tempfile::Builder::new().prefix("doctor-").tempdir_in(home.temporary())
    else {
        return vec![fail(
            "disk",
            "the home cannot be written",
            "free some space, or mend its permissions",
        )];
    };
    vec![
        filesystem(home.root()),
        free(home.root()),
        reflink(scratch.path()),
        one_filesystem(home, settings),
        socket(scratch.path()),
    ]
}

#[cfg(target_os = "linux")]
fn filesystem(home: &Path) -> Finding {
    let Ok(found) = rustix::fs::statfs(home) else {
        return fail("filesystem", "cannot be asked", "mend the mount of the home");
    };
    // Magic numbers of statfs(2).
    let magic = u32::try_from(found.f_type & 0xffff_ffff).unwrap_or_default();
    let name = match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x794c_7630 => "overlay",
        0x2fc1_2fc1 => "zfs",
        0xca45_1a4e => "bcachefs",
        0xf2f5_2010 => "f2fs",
        0x0102_1994 => {
            return warn(
                "filesystem",
                "tmpfs",
                "put the home on a disk: all of it is gone after a restart",
            );
        }
        0x6969 | 0xff53_4d42 | 0xfe53_4d42 | 0x6573_5546 => {
            return warn(
                "filesystem",
                "a network or user-space filesystem",
                "put the home on a local disk: file locks must be reliable",
            );
        }
        other => return ok("filesystem", format!("type {other:#x}")),
    };
    ok("filesystem", name)
}

#[cfg(not(target_os = "linux"))]
fn filesystem(_: &Path) -> Finding {
    ok("filesystem", "not looked at on this system")
}

fn free(home: &Path) -> Finding {
    let Ok(found) = rustix::fs::statvfs(home) else {
        return fail("disk", "cannot be asked", "mend the mount of the home");
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} free", bytes(free));
    if free < LITTLE {
        warn("disk", text, "free some space, for example with `flowrun gc`")
    } else {
        ok("disk", text)
    }
}

fn reflink(scratch: &Path) -> Finding {
    let from = scratch.join("reflink-from");
    let tried = fs_err::write(&from, b"flowrun")
        .and_then(|()| reflink_copy::reflink(&from, scratch.join("reflink-to")));
    match tried {
        Ok(()) => ok("reflink", "works: inputs are copied at no cost"),
        Err(_) => ok("reflink", "not here: inputs are hard-linked, read-only"),
    }
}

fn one_filesystem(home: &Home, settings: &Settings) -> Finding {
    let device = |path: &Path| {
        path.ancestors().find_map(|path| fs_err::metadata(path).ok()).map(|found| found.dev())
    };
    if device(&home.runs()) == device(&settings.store_folder()) {
        ok("one disk", "work folders and store share a filesystem: outputs are moved, not copied")
    } else {
        warn(
            "one disk",
            "work folders and store are on two filesystems: everything is copied",
            "put `store` and the home on one filesystem",
        )
    }
}

fn socket(scratch: &Path) -> Finding {
    match door::try_bind(scratch) {
        Ok(()) => ok("sockets", "can be bound in the home"),
        Err(error) => {
            fail("sockets", error.to_string(), "put the home on a filesystem that holds sockets")
        }
    }
}
