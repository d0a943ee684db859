//! The one table of all settings; `docs/settings.md` is checked against it.

/// A setting: every way to give it, and what holds without.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Its name, also its key in the settings files.
    pub(crate) name: &'static str,
    /// Its flag.
    pub(crate) flag: &'static str,
    /// Its variable.
    pub(crate) variable: &'static str,
    /// What holds without.
    pub(crate) default: &'static str,
    /// What it means; `docs/settings.md` says it, and a test compares.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test of the document"))]
    pub(crate) meaning: &'static str,
    /// It may stand in `flowrun.toml` / `config.toml`.
    pub(crate) in_files: Files,
}

/// In which settings files a setting may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    /// In both.
    Both,
    /// Not in the home's own file, which is found through it.
    NotHome,
}

const fn setting(
    name: &'static str,
    flag: &'static str,
    variable: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting { name, flag, variable, default, meaning, in_files: Files::Both }
}

/// Variables that stages get besides their own, unless `pass_env` says otherwise.
pub(crate) const PASSED: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

/// All settings.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        in_files: Files::NotHome,
        ..setting(
            "home",
            "--home",
            "FLOWRUN_HOME",
            "`~/.local/state/flowrun`",
            "where everything of flowrun's own lives; nobody else can read it",
        )
    },
    setting(
        "store",
        "--store",
        "FLOWRUN_STORE",
        "`store` in the home",
        "where artifacts and records live: a folder, or `s3://bucket/prefix` ([docs/s3.md](s3.md))",
    ),
    setting(
        "store.access",
        "--store-access",
        "FLOWRUN_STORE_ACCESS",
        "`read-write`",
        "`read-only`: results are reused, nothing in the store is written, and what is new stays in the home",
    ),
    setting(
        "store.patience",
        "--store-patience",
        "FLOWRUN_STORE_PATIENCE",
        "`10m`",
        "how long a run waits for a store that went away before it ends with exit code 5, to be resumed",
    ),
    setting(
        "state",
        "--state",
        "FLOWRUN_STATE",
        "`sqlite`",
        "where runs and events are recorded: `sqlite` in the home, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE` that machines share ([docs/postgres.md](postgres.md)); the password is never shown",
    ),
    setting(
        "state.patience",
        "--state-patience",
        "FLOWRUN_STATE_PATIENCE",
        "`2m`",
        "how long a database that went away is waited for before a run ends with exit code 5, to be resumed",
    ),
    setting(
        "runtime",
        "--runtime",
        "FLOWRUN_RUNTIME",
        "`local`",
        "where stages run: `local` as processes of this machine, `docker` as containers ([docs/docker.md](docker.md)); `auto` is `docker` when an engine answers and every stage that may run has an image, else `local` (`kubernetes` is not available yet)",
    ),
    setting("jobs", "--jobs", "FLOWRUN_JOBS", "the machine's processors", "tasks at once"),
    setting("cpu", "--cpu", "FLOWRUN_CPU", "the machine's processors", "processors to share out"),
    setting(
        "memory",
        "--memory",
        "FLOWRUN_MEMORY",
        "the machine's, or its cgroup's",
        "memory to share out, like `8Gi`",
    ),
    setting(
        "keep.runs",
        "--keep-runs",
        "FLOWRUN_KEEP_RUNS",
        "20",
        "`gc` keeps at least this many runs of each pipeline",
    ),
    setting(
        "keep.days",
        "--keep-days",
        "FLOWRUN_KEEP_DAYS",
        "30",
        "`gc` keeps every run and record that is younger than this many days",
    ),
    setting(
        "keep.releases",
        "--keep-releases",
        "FLOWRUN_KEEP_RELEASES",
        "10",
        "`gc` keeps at least this many releases of each service, and always the live one and the one before it",
    ),
    setting(
        "log_cap",
        "--log-cap",
        "FLOWRUN_LOG_CAP",
        "256Mi",
        "log kept per stream of an attempt; what is over is counted and said in the log",
    ),
    setting(
        "pass_env",
        "--pass-env",
        "FLOWRUN_PASS_ENV",
        "proxy and CA variables",
        "names of the caller's variables that stages get, separated by commas (in a file: a list)",
    ),
    setting(
        "gateway",
        "--gateway",
        "FLOWRUN_GATEWAY",
        "127.0.0.1:8080",
        "where routes are listened for, for a server that is started; service ports are listened on at the same IP address; port 0: any free one",
    ),
    setting(
        "replica_ports",
        "--replica-ports",
        "FLOWRUN_REPLICA_PORTS",
        "21000-28999",
        "the ports that replicas get, for a server that is started",
    ),
    setting(
        "color",
        "--color",
        "FLOWRUN_COLOR",
        "`auto`",
        "`auto`, `always` or `never`; `auto` is on a terminal only, and never when `NO_COLOR` is set",
    ),
];

/// The setting of this name.
pub(crate) fn named(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_document_has_exactly_this_table() {
        let mut table = String::from(
            "| name | flag | variable | default | meaning |\n| --- | --- | --- | --- | --- |\n",
        );
        for one in SETTINGS {
            writeln!(
                table,
                "| `{}` | `{}` | `{}` | {} | {} |",
                one.name, one.flag, one.variable, one.default, one.meaning
            )
            .unwrap();
        }
        let document =
            fs_err::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md"))
                .unwrap();
        let lines: Vec<&str> = document.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(
            lines,
            table.lines().collect::<Vec<_>>(),
            "docs/settings.md should hold:\n{table}"
        );
        for name in PASSED {
            assert!(document.contains(name), "docs/settings.md does not name {name}");
        }
    }

    #[test]
    fn every_flag_exists() {
        let command = crate::cli::args::Arguments::command();
        let mut longs: Vec<String> = Vec::new();
        let all = std::iter::once(&command).chain(command.get_subcommands());
        for one in all {
            longs.extend(
                one.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?))),
            );
        }
        for one in SETTINGS {
            assert!(longs.iter().any(|long| long == one.flag), "{} does not exist", one.flag);
        }
    }

    #[test]
    fn variables_follow_from_names() {
        for one in SETTINGS {
            let expected = format!("FLOWRUN_{}", one.name.replace('.', "_").to_ascii_uppercase());
            assert_eq!(one.variable, expected);
        }
    }
}
