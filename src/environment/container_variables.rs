//! The variables of the container that builds an environment in an image, and what must be seen in it for them to hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{certificates, variables};

/// Where the container sees what pip keeps, its home and its temporary files.
pub(super) const CACHE: &str = "/flowrun/cache";
/// Where the container sees folders and files that pip's settings name.
const LINKS: &str = "/flowrun/links";

/// The variables, and what is mounted: sources and targets. pip's files of settings count as variables, as their
/// folders are not there; paths of this machine among the values are mounted.
pub(super) fn told(caller: &variables::Map) -> (BTreeMap<String, String>, Vec<(PathBuf, PathBuf)>) {
    let mut env: BTreeMap<String, String> = variables::configured(caller)
        .into_iter()
        .map(|(name, value)| (format!("PIP_{name}"), value))
        .collect();
    let own = [
        "PIP_CONFIG_FILE",
        "PIP_CACHE_DIR",
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "GIT_SSH_COMMAND",
        "SSH_AUTH_SOCK",
    ];
    let said = variables::for_tools(caller, "", Path::new(CACHE));
    env.extend(said);
    env.retain(|name, _| {
        !own.contains(&name.as_str()) && !name.starts_with("UV_") && !variables::elsewhere(name)
    });
    let mut given = certificates::inside(&mut env);
    for name in ["PIP_FIND_LINKS", "PIP_CONSTRAINT"] {
        if let Some(value) = env.get_mut(name) {
            let words: Vec<String> =
                value.split_whitespace().map(|word| seen(word, &mut given)).collect();
            *value = words.join(" ");
        }
    }
    let netrc = caller.get("NETRC").map(PathBuf::from);
    let netrc = netrc.or_else(|| Some(Path::new(caller.get("HOME")?).join(".netrc")));
    env.remove("NETRC");
    if let Some(file) = netrc.filter(|file| file.is_file()) {
        given.push((file, PathBuf::from("/flowrun/netrc")));
        env.insert("NETRC".to_owned(), "/flowrun/netrc".to_owned());
    }
    for (name, value) in [("HOME", CACHE), ("TMPDIR", CACHE), ("PIP_CACHE_DIR", CACHE)] {
        let below = if name == "PIP_CACHE_DIR" { format!("{value}/pip") } else { value.to_owned() };
        env.insert(name.to_owned(), below);
    }
    (env, given)
}

/// A path of this machine as the container sees it; what is none stays.
fn seen(word: &str, given: &mut Vec<(PathBuf, PathBuf)>) -> String {
    let (scheme, path) = match word.strip_prefix("file://") {
        Some(path) => ("file://", path),
        None => ("", word),
    };
    let place = Path::new(path);
    if !place.is_absolute() || !place.exists() {
        return word.to_owned();
    }
    let target = format!("{LINKS}/{}", given.len());
    given.push((place.to_owned(), PathBuf::from(&target)));
    format!("{scheme}{target}")
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    #[test]
    fn settings_of_this_machine_hold_in_the_container() {
        let folder = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(folder.path()).unwrap();
        let path = |name: &str| place.join(name).display().to_string();
        fs::write(path("ca.crt"), "").unwrap();
        fs::write(path(".netrc"), "").unwrap();
        fs::create_dir(path("wheels")).unwrap();
        fs::write(
            path("pip.conf"),
            format!("[global]\nindex-url = https://i/simple\ncert = {}\n", path("ca.crt")),
        )
        .unwrap();
        let caller: BTreeMap<String, String> = [
            ("HOME", place.display().to_string()),
            ("PIP_CONFIG_FILE", path("pip.conf")),
            ("PIP_FIND_LINKS", format!("{} https://l/x", path("wheels"))),
            ("PIP_TARGET", "/elsewhere".to_owned()),
            ("UV_INDEX", "https://u".to_owned()),
            ("https_proxy", "http://p".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let (env, given) = told(&caller);
        for (name, value) in [
            ("PIP_INDEX_URL", Some("https://i/simple")),
            ("PIP_CERT", Some("/flowrun/ca.crt")),
            ("PIP_FIND_LINKS", Some("/flowrun/links/1 https://l/x")),
            ("NETRC", Some("/flowrun/netrc")),
            ("https_proxy", Some("http://p")),
            ("HOME", Some(CACHE)),
            ("PIP_TARGET", None),
            ("PIP_CONFIG_FILE", None),
            ("UV_INDEX", None),
            ("PATH", None),
        ] {
            assert_eq!(env.get(name).map(String::as_str), value, "{name}");
        }
        let shown: Vec<String> = given.iter().map(|(from, _)| from.display().to_string()).collect();
        assert_eq!(shown, [path("ca.crt"), path("wheels"), path(".netrc")]);
    }
}
