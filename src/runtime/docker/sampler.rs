//! What a running container uses, read from its control group while there is one: the engine says nothing afterwards.

use std::path::PathBuf;
use std::time::Duration;

/// Counters of one container. Without a group that can be read it stays at zero.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    /// Where kills for lack of memory are counted.
    kills: Option<PathBuf>,
    /// Largest memory in use, bytes.
    pub(super) peak_memory: u64,
    /// Processor time, milliseconds.
    pub(super) cpu_ms: u64,
    /// The kernel killed something of it for lack of memory.
    pub(super) out_of_memory: bool,
    looks: u32,
}

const MOUNTED: &str = "/sys/fs/cgroup";

impl Sampler {
    /// Looks at the groups of this process (its number on this machine) from here on, if they are those of this container.
    pub(super) fn look_at(&mut self, pid: i64, container_id: &str) {
        let groups = fs_err::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        for line in groups.lines().filter(|line| line.contains(container_id)) {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let path = path.trim_start_matches('/');
            if controllers.is_empty() {
                let folder = PathBuf::from(MOUNTED).join(path);
                self.memory.get_or_insert(folder.join("memory.peak"));
                self.cpu.get_or_insert(folder.join("cpu.stat"));
                self.kills.get_or_insert(folder.join("memory.events"));
            }
            for controller in controllers.split(',') {
                let folder = PathBuf::from(MOUNTED).join(controller).join(path);
                match controller {
                    "memory" => {
                        self.memory = Some(folder.join("memory.max_usage_in_bytes"));
                        self.kills = Some(folder.join("memory.oom_control"));
                    }
                    "cpuacct" => self.cpu = Some(folder.join("cpuacct.usage")),
                    _ => {}
                }
            }
        }
        self.sample();
    }

    /// How long until the next look: short jobs would else be over before the first one.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(20 * u64::from(self.looks.clamp(1, 25)))
    }

    /// Reads the counters; what cannot be read keeps its last value.
    pub(super) fn sample(&mut self) {
        self.looks = self.looks.saturating_add(1);
        let read = |path: &Option<PathBuf>| fs_err::read_to_string(path.as_ref()?).ok();
        if let Some(peak) = read(&self.memory).and_then(|text| text.trim().parse().ok()) {
            self.peak_memory = self.peak_memory.max(peak);
        }
        if let Some(spent) = read(&self.cpu).and_then(|text| cpu_ms(&text)) {
            self.cpu_ms = self.cpu_ms.max(spent);
        }
        self.out_of_memory |= read(&self.kills).is_some_and(|text| kills(&text) > 0);
    }
}

/// Version 1 counts nanoseconds in a file of its own, version 2 microseconds in a line.
fn cpu_ms(text: &str) -> Option<u64> {
    match text.trim().parse::<u64>() {
        Ok(nanoseconds) => Some(nanoseconds / 1_000_000),
        Err(_) => counter(text, "usage_usec").map(|microseconds| microseconds / 1000),
    }
}

/// Both versions have a line of this name.
fn kills(text: &str) -> u64 {
    counter(text, "oom_kill").unwrap_or_default()
}

fn counter(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        assert_eq!(cpu_ms("2500000\n"), Some(2));
        assert_eq!(cpu_ms("usage_usec 2500\nuser_usec 1\n"), Some(2));
        assert_eq!(cpu_ms("nonsense"), None);
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(kills("low 0\noom 1\noom_kill 1\n"), 1);
        assert_eq!(kills("oom_kill_disable 0\n"), 0);
    }
}
