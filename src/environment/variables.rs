//! The variables a build tool gets: `PATH`, `HOME`, index, proxy and CA settings of the caller, nothing else; and what uv
//! calls the settings that it does not read under pip's names.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;

/// Variables by name.
pub(super) type Map = BTreeMap<String, String>;
type Variables = Map;

/// Names that would send the packages elsewhere than into the environment.
const ELSEWHERE: &[&str] = &[
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_PYTHON",
    "PIP_DRY_RUN",
    "PIP_REPORT",
    "PIP_LOG",
    "PIP_REQUIREMENT",
    "PIP_EDITABLE",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "UV_TARGET",
    "UV_PREFIX",
    "UV_PROJECT",
    "UV_PROJECT_ENVIRONMENT",
    "UV_WORKING_DIR",
    "UV_WORKING_DIRECTORY",
    "UV_BREAK_SYSTEM_PACKAGES",
    "UV_ENV_FILE",
];

const KEPT: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "NETRC",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSL_CLIENT_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NIX_SSL_CERT_FILE",
    "GIT_SSL_CAINFO",
    "GIT_SSH_COMMAND",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// What both tools get. `folder` holds caches when the caller has no home.
pub(super) fn for_tools(caller: &Variables, path: &str, folder: &Path) -> Variables {
    let mut variables: Variables = caller
        .iter()
        .filter(|(name, _)| {
            let upper = name.to_ascii_uppercase();
            let index = name.starts_with("PIP_") || name.starts_with("UV_");
            (index || KEPT.contains(&upper.as_str())) && !elsewhere(name)
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    variables.insert("PATH".to_owned(), path.to_owned());
    let defaults = [
        ("LANG", "C.UTF-8"),
        ("PIP_NO_INPUT", "1"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("UV_NO_PROGRESS", "1"),
        ("UV_PYTHON_DOWNLOADS", "never"),
    ];
    for (name, value) in defaults {
        variables.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    if !caller.contains_key("HOME") {
        for (name, below) in [("UV_CACHE_DIR", "cache-uv"), ("PIP_CACHE_DIR", "cache-pip")] {
            let place = folder.join(below).display().to_string();
            variables.entry(name.to_owned()).or_insert(place);
        }
    }
    variables
}

/// uv's own names for what was set for pip, by variable or configuration file. What is set for uv itself wins. Gives flags for
/// what has no variable.
pub(super) fn for_uv(variables: &mut Variables) -> Vec<String> {
    let mut pip = configured(variables);
    // A variable beats pip's files.
    for (name, value) in variables.iter() {
        if let Some(name) = name.strip_prefix("PIP_") {
            pip.insert(name.to_owned(), value.clone());
        }
    }
    let yes =
        |value: &str| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
    let words = |value: &str| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut flags = Vec::new();
    let mut set = |names: &[&str], value: String| {
        // The first name is the one to set; any of them says that the caller chose.
        if !names.iter().any(|name| variables.contains_key(*name)) {
            variables.insert(names[0].to_owned(), value);
        }
    };
    for (name, value) in &pip {
        match name.as_str() {
            "INDEX_URL" => set(&["UV_DEFAULT_INDEX", "UV_INDEX_URL"], value.clone()),
            "EXTRA_INDEX_URL" => {
                set(&["UV_EXTRA_INDEX_URL", "UV_INDEX"], words(value).join(" "));
            }
            "FIND_LINKS" => set(&["UV_FIND_LINKS"], words(value).join(",")),
            "TRUSTED_HOST" => set(&["UV_INSECURE_HOST"], words(value).join(" ")),
            "CERT" => set(&["SSL_CERT_FILE", "SSL_CERT_DIR"], value.clone()),
            "CLIENT_CERT" => set(&["SSL_CLIENT_CERT"], value.clone()),
            "CONSTRAINT" => set(&["UV_CONSTRAINT"], words(value).join(" ")),
            "TIMEOUT" | "DEFAULT_TIMEOUT" => set(&["UV_HTTP_TIMEOUT"], value.clone()),
            "PRE" if yes(value) => set(&["UV_PRERELEASE"], "allow".to_owned()),
            "REQUIRE_HASHES" if yes(value) => set(&["UV_REQUIRE_HASHES"], "1".to_owned()),
            "PROXY" => {
                for name in ["HTTPS_PROXY", "HTTP_PROXY"] {
                    set(&[name, &name.to_ascii_lowercase(), "ALL_PROXY"], value.clone());
                }
            }
            "NO_INDEX" if yes(value) => flags.push("--no-index".to_owned()),
            "ONLY_BINARY" | "NO_BINARY" => {
                let flag = format!("--{}", name.to_ascii_lowercase().replace('_', "-"));
                for package in value.split([',', ' ']).filter(|package| !package.is_empty()) {
                    flags.extend([flag.clone(), package.to_owned()]);
                }
            }
            _ => {}
        }
    }
    for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
        if let Some(bundle) = variables.get(name).cloned()
            && !variables.contains_key("SSL_CERT_FILE")
            && !variables.contains_key("SSL_CERT_DIR")
        {
            variables.insert("SSL_CERT_FILE".to_owned(), bundle);
        }
    }
    flags
}

/// Whether a variable would send packages elsewhere.
pub(super) fn elsewhere(name: &str) -> bool {
    ELSEWHERE.contains(&name)
}

/// pip's configuration files, least important first, under the names of pip's variables without `PIP_`.
pub(super) fn configured(variables: &Variables) -> Variables {
    let own = variables.get("PIP_CONFIG_FILE").map(String::as_str);
    if own == Some("/dev/null") {
        return Variables::new();
    }
    let mut files = vec!["/etc/xdg/pip/pip.conf".to_owned(), "/etc/pip.conf".to_owned()];
    if let Some(home) = variables.get("HOME") {
        files.push(format!("{home}/.pip/pip.conf"));
        let config = variables.get("XDG_CONFIG_HOME").cloned();
        files.push(format!("{}/pip/pip.conf", config.unwrap_or(format!("{home}/.config"))));
    }
    files.extend(own.map(str::to_owned));
    let mut all = Variables::new();
    for text in files.iter().filter_map(|file| fs::read_to_string(file).ok()) {
        all.extend(parse(&text));
    }
    all
}

/// The sections `global` and `install` of a pip.conf, the latter winning.
fn parse(text: &str) -> Variables {
    let (mut global, mut install) = (Variables::new(), Variables::new());
    let (mut section, mut key) = (String::new(), String::new());
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
            key.clear();
            continue;
        }
        let values = match section.as_str() {
            "global" => &mut global,
            "install" => &mut install,
            _ => continue,
        };
        // An indented line continues the value above.
        if line.starts_with([' ', '\t']) && !key.is_empty() {
            let value = values.entry(key.clone()).or_default();
            value.push(' ');
            *value += trimmed;
        } else if let Some((name, value)) = trimmed.split_once(['=', ':']) {
            key = name.trim().to_ascii_uppercase().replace('-', "_");
            values.insert(key.clone(), value.trim().to_owned());
        }
    }
    global.extend(install);
    global
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(pairs: &[(&str, &str)]) -> Variables {
        let mut all: Variables =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.entry("PIP_CONFIG_FILE".to_owned()).or_insert_with(|| "/dev/null".to_owned());
        all
    }

    #[test]
    fn tools_get_only_what_they_need() {
        let caller = caller(&[
            ("HOME", "/h"),
            ("https_proxy", "p"),
            ("PIP_TARGET", "/x"),
            ("AWS_SECRET", "s"),
            ("UV_INDEX", "i"),
        ]);
        let tools = for_tools(&caller, "/bin", Path::new("/e"));
        for (name, there) in [
            ("HOME", true),
            ("https_proxy", true),
            ("UV_INDEX", true),
            ("PIP_TARGET", false),
            ("AWS_SECRET", false),
            ("UV_CACHE_DIR", false),
        ] {
            assert_eq!(tools.contains_key(name), there, "{name}");
        }
        assert!(for_tools(&Variables::new(), "/bin", Path::new("/e")).contains_key("UV_CACHE_DIR"));
    }

    #[test]
    fn uv_hears_what_pip_was_told() {
        let mut variables = caller(&[
            ("PIP_INDEX_URL", "https://i/simple"),
            ("PIP_EXTRA_INDEX_URL", "https://a https://b"),
            ("PIP_FIND_LINKS", "/a /b"),
            ("PIP_CERT", "/ca"),
            ("PIP_NO_INDEX", "true"),
            ("PIP_ONLY_BINARY", ":all:"),
            ("PIP_DEFAULT_TIMEOUT", "9"),
            ("UV_HTTP_TIMEOUT", "7"),
        ]);
        let flags = for_uv(&mut variables);
        assert_eq!(flags, ["--no-index", "--only-binary", ":all:"]);
        assert_eq!(variables["UV_DEFAULT_INDEX"], "https://i/simple");
        assert_eq!(variables["UV_EXTRA_INDEX_URL"], "https://a https://b");
        assert_eq!(variables["UV_FIND_LINKS"], "/a,/b");
        assert_eq!(variables["SSL_CERT_FILE"], "/ca");
        assert_eq!(variables["UV_HTTP_TIMEOUT"], "7");
    }

    #[test]
    fn pip_files_count_less_than_variables() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pip.conf");
        fs::write(
            &file,
            "[global]\nindex-url = https://g\n[install]\n# x\nextra-index-url =\n  https://a\n  https://b\n",
        )
        .unwrap();
        let mut variables = caller(&[("PIP_CONFIG_FILE", file.to_str().unwrap())]);
        for_uv(&mut variables);
        assert_eq!(variables["UV_DEFAULT_INDEX"], "https://g");
        assert_eq!(variables["UV_EXTRA_INDEX_URL"], "https://a https://b");
        let mut variables =
            caller(&[("PIP_CONFIG_FILE", file.to_str().unwrap()), ("PIP_INDEX_URL", "https://v")]);
        for_uv(&mut variables);
        assert_eq!(variables["UV_DEFAULT_INDEX"], "https://v");
    }
}
