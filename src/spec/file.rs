//! Opening a pipeline file whose path may name anything.

use std::io::Read;
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt;

use super::problem::{Problem, Problems};

/// Larger files are refused (bytes): 10,000 stages take less than 2 MiB.
pub(super) const LARGEST: u64 = 4 * 1024 * 1024;

/// The content of a pipeline file.
///
/// Refuses folders, pipes, devices and files that are too large, without waiting for a writer or reading them whole.
pub fn read_file(path: &Path) -> Result<Vec<u8>, Problems> {
    let name = path.display().to_string();
    let refuse = |problem| Problems::unreadable(&name, problem);
    let unreadable = |error: &std::io::Error| {
        let problem = if error.kind() == std::io::ErrorKind::NotFound {
            Problem::of_file("file-missing", "there is no such file")
                .help("name a pipeline file, or write one with `flowrun init`")
        } else {
            Problem::of_file("file-unreadable", format!("cannot be read: {}", plain(error)))
                .help("make the file readable")
        };
        refuse(problem)
    };
    let found = fs_err::metadata(path).map_err(|error| unreadable(&error))?;
    if found.is_dir() {
        return Err(refuse(
            Problem::of_file("not-a-file", "is a folder, not a file")
                .help("name the pipeline file inside it"),
        ));
    }
    // A pipe may take the file's place after the look at it; opening must not wait then either.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = if found.is_file() {
        let mut options = fs_err::OpenOptions::new();
        Some(
            options
                .read(true)
                .custom_flags(nonblocking)
                .open(path)
                .map_err(|error| unreadable(&error))?,
        )
    } else {
        None
    };
    let Some(file) = file.filter(|file| file.metadata().is_ok_and(|now| now.is_file())) else {
        return Err(refuse(
            Problem::of_file("not-a-file", "is a pipe, a socket or a device, not a file")
                .help("write the pipeline into a file"),
        ));
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > LARGEST { Err(refuse(too_large())) } else { Ok(bytes) }
}

/// What is said of a file past [`LARGEST`].
pub(super) fn too_large() -> Problem {
    Problem::of_file("file-too-large", "is larger than 4 MiB")
        .help("split the pipeline, or name the right file")
}

/// The system's reason without the path that `fs_err` puts before it: messages begin with the file already.
fn plain(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.source());
    inner.map_or_else(|| error.kind().to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(path: &Path) -> &'static str {
        read_file(path).map_or_else(|problems| problems.list[0].code, |_| "read")
    }

    #[test]
    fn only_files_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(code(folder.path()), "not-a-file");
        assert_eq!(code(&folder.path().join("missing.yaml")), "file-missing");
        assert_eq!(code(Path::new("/dev/zero")), "not-a-file");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .expect("a pipe");
        assert_eq!(code(&pipe), "not-a-file");
        let large = folder.path().join("large.yaml");
        fs_err::File::create(&large).expect("made").set_len(100 << 20).expect("sparse");
        assert_eq!(code(&large), "file-too-large");
        let small = folder.path().join("small.yaml");
        fs_err::write(&small, "name: a").expect("written");
        assert_eq!(read_file(&small).expect("read"), b"name: a");
    }
}
