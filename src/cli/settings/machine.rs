//! What the machine has: processors, memory, graphics processors.

use std::path::{Path, PathBuf};

/// Processors this process may use (cgroup quotas counted).
pub(crate) fn processors() -> u32 {
    std::thread::available_parallelism()
        .map_or(1, |number| u32::try_from(number.get()).unwrap_or(u32::MAX))
}

/// Bytes of memory this process may use: the machine's, or less where a cgroup says so.
pub(crate) fn memory() -> u64 {
    let machine = machine_memory().unwrap_or(u64::MAX);
    let limit = cgroup_files()
        .iter()
        .filter_map(|file| fs_err::read_to_string(file).ok()?.trim().parse::<u64>().ok())
        .min()
        .unwrap_or(u64::MAX);
    machine.min(limit)
}

/// Numbers of the graphics processors to hand out; `visible` is the caller's `CUDA_VISIBLE_DEVICES`.
pub(crate) fn graphics(visible: Option<&str>) -> Vec<u32> {
    if let Some(visible) = visible {
        return visible.split(',').map_while(|number| number.trim().parse().ok()).collect();
    }
    let Ok(devices) = fs_err::read_dir("/dev") else { return Vec::new() };
    let mut numbers: Vec<u32> = devices
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("nvidia")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

fn machine_memory() -> Option<u64> {
    if cfg!(target_os = "macos") {
        let told = std::process::Command::new("sysctl").args(["-n", "hw.memsize"]).output().ok()?;
        return String::from_utf8(told.stdout).ok()?.trim().parse().ok();
    }
    total(&fs_err::read_to_string("/proc/meminfo").ok()?)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn cgroup_files() -> Vec<PathBuf> {
    let own = fs_err::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit_files(&own, Path::new("/sys/fs/cgroup"))
}

/// The limit files of a process's cgroups and of all above them. In a container the inner path may not exist; the
/// root's file is then the container's own limit.
fn limit_files(own: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (base, name) = if controllers.is_empty() {
            (root.to_owned(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let inner = Path::new(path.trim_start_matches('/'));
        files.extend(inner.ancestors().map(|part| base.join(part).join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_both_versions_of_cgroups() {
        let files = limit_files("4:memory:/a/b\n3:cpu:/a\n", Path::new("/c"));
        let wanted = ["/c/memory/a/b/", "/c/memory/a/", "/c/memory/"]
            .map(|folder| PathBuf::from(format!("{folder}memory.limit_in_bytes")));
        assert_eq!(files, wanted);
        let files = limit_files("0::/user.slice\n", Path::new("/c"));
        assert_eq!(files[0], Path::new("/c/user.slice/memory.max"));
        assert_eq!(files.len(), 2);
    }

    #[test]
    fn meminfo_is_in_kibibytes() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), None.or(Some(2048 * 1024)));
        assert_eq!(total("nothing"), None);
    }

    #[test]
    fn graphics_follow_the_caller() {
        assert_eq!(graphics(Some("1,3")), [1, 3]);
        assert_eq!(graphics(Some("")), Vec::<u32>::new());
    }
}
