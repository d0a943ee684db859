//! The variables of an attempt or a replica: exactly these, whatever flowrun itself was started with (ARCHITECTURE §11).

use std::collections::BTreeMap;
use std::path::Path;

use super::WorkFolder;
use super::inside::{self, Seen};
use crate::environment::{Environment, certificates};

/// What they are made of.
pub struct Variables<'a> {
    /// What is passed through from the caller: `PATH`, `USER`, proxies, …
    pub passed: &'a BTreeMap<String, String>,
    /// The ready work folder.
    pub work: &'a WorkFolder,
    /// `TMPDIR`.
    pub temporary: &'a Path,
    /// Put before `PATH`.
    pub environment: Option<&'a Environment>,
    /// Graphics processors handed out.
    pub gpus: &'a [u32],
    /// `env` of the stage, expanded.
    pub declared: &'a BTreeMap<String, String>,
    /// flowrun's own, by whole name; nobody can replace them.
    pub own: Vec<(String, String)>,
}

impl Variables<'_> {
    /// What is passed through, then flowrun's usual ones over it, then what the stage declares, then flowrun's own.
    pub fn all(self) -> BTreeMap<String, String> {
        let mut env = self.passed.clone();
        env.remove("TMPDIR");
        env.retain(|name, _| !name.starts_with("FLOWRUN_"));
        let callers_path = env.remove("PATH").unwrap_or_else(|| "/usr/bin:/bin".to_owned());
        let mut set = |name: &str, value: String| {
            env.insert(name.to_owned(), value);
        };
        set("HOME", text(&self.work.home));
        set("TMPDIR", text(self.temporary));
        set("LANG", "C.UTF-8".to_owned());
        match self.environment {
            Some(environment) => {
                set("PATH", format!("{}:{callers_path}", environment.bin.display()));
                set("VIRTUAL_ENV", text(&environment.root));
            }
            None => set("PATH", callers_path),
        }
        if !self.gpus.is_empty() {
            set("CUDA_VISIBLE_DEVICES", list(self.gpus));
        }
        self.stages_own(&mut env);
        env
    }
}

/// `PATH` of an image that says none, as Docker has it.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contained {
    /// They are added to the image's.
    pub env: BTreeMap<String, String>,
    /// Files of this machine that they name, which must be seen there, read-only.
    pub seen: Vec<Seen>,
}

impl Variables<'_> {
    /// The same for a container, where [`Variables::work`] holds the paths inside and [`Variables::temporary`] is not looked at.
    ///
    /// `image` holds the image's variables, which hold unless they are said here. Files of certificates that this machine's variables
    /// name are seen inside; folders of them are not. The image's own user (`image_user`) has the home that the image gives it.
    /// Graphics processors are the engine's to hand out.
    pub fn contained(self, image: &BTreeMap<String, String>, image_user: bool) -> Contained {
        let mut env = self.passed.clone();
        for name in ["TMPDIR", "HOME", "PATH"] {
            env.remove(name);
        }
        env.retain(|name, _| !name.starts_with("FLOWRUN_"));
        let seen = certificates::inside(&mut env).into_iter().map(|(source, target)| Seen {
            source,
            target,
            read_only: true,
        });
        let seen = seen.collect();
        if image_user {
            for name in ["USER", "LOGNAME"] {
                env.remove(name);
            }
        } else {
            env.insert("HOME".to_owned(), text(&self.work.home));
            env.insert("TMPDIR".to_owned(), inside::TEMPORARY.to_owned());
            if !image.contains_key("LANG") {
                env.insert("LANG".to_owned(), "C.UTF-8".to_owned());
            }
        }
        if let Some(environment) = self.environment.filter(|one| one.mounted().is_some()) {
            let path = image.get("PATH").map_or(USUAL_PATH, String::as_str);
            env.insert("PATH".to_owned(), format!("{}:{path}", environment.bin.display()));
            env.insert("VIRTUAL_ENV".to_owned(), inside::ENVIRONMENT.to_owned());
        }
        self.stages_own(&mut env);
        Contained { env, seen }
    }

    /// What the stage declares, and over it flowrun's own.
    fn stages_own(self, env: &mut BTreeMap<String, String>) {
        env.extend(self.declared.iter().map(|(name, value)| (name.clone(), value.clone())));
        for (name, path) in &self.work.inputs {
            env.insert(format!("FLOWRUN_INPUT_{}", name.variable()), text(path));
        }
        for (name, path) in &self.work.outputs {
            env.insert(format!("FLOWRUN_OUTPUT_{}", name.variable()), text(path));
        }
        env.extend(self.own);
    }
}

/// `0,1`
pub fn list(numbers: &[u32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::digest::Digest;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn contained(image: &[(&str, &str)], image_user: bool, root: &str) -> Vec<String> {
        let passed = map(&[
            ("PATH", "/caller/bin"),
            ("HOME", "/home/me"),
            ("TMPDIR", "/scratch"),
            ("USER", "me"),
            ("HTTPS_PROXY", "http://proxy"),
            ("SSL_CERT_DIR", "/etc/ssl/certs"),
            ("FLOWRUN_HOME", "/h"),
        ]);
        let work = WorkFolder {
            base: inside::WORK.into(),
            directory: inside::WORK.into(),
            home: inside::HOME.into(),
            inputs: BTreeMap::from([("data".parse().unwrap(), "/flowrun/inputs/data/a".into())]),
            outputs: BTreeMap::new(),
            placed: BTreeMap::new(),
        };
        let environment = Environment {
            digest: Digest::of(b"x"),
            bin: "/flowrun/environment/bin".into(),
            root: PathBuf::from(root),
            inside: true,
            lock: String::new(),
        };
        let variables = Variables {
            passed: &passed,
            work: &work,
            temporary: Path::new("/host/tmp"),
            environment: Some(&environment),
            gpus: &[],
            declared: &map(&[("A", "b")]),
            own: vec![("FLOWRUN_STAGE".to_owned(), "train".to_owned())],
        };
        let contained = variables.contained(&map(image), image_user);
        assert_eq!(contained.seen, []);
        contained.env.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn nothing_of_the_callers_folders_is_in_a_container() {
        assert_eq!(
            contained(&[("PATH", "/opt/bin:/bin")], false, "/h/environments/1"),
            [
                "A=b",
                "FLOWRUN_INPUT_DATA=/flowrun/inputs/data/a",
                "FLOWRUN_STAGE=train",
                "HOME=/home/stage",
                "HTTPS_PROXY=http://proxy",
                "LANG=C.UTF-8",
                "PATH=/flowrun/environment/bin:/opt/bin:/bin",
                "TMPDIR=/tmp",
                "USER=me",
                "VIRTUAL_ENV=/flowrun/environment",
            ]
        );
    }

    #[test]
    fn an_images_own_user_keeps_what_the_image_says() {
        assert_eq!(
            contained(&[("LANG", "de_DE.UTF-8")], true, ""),
            [
                "A=b",
                "FLOWRUN_INPUT_DATA=/flowrun/inputs/data/a",
                "FLOWRUN_STAGE=train",
                "HTTPS_PROXY=http://proxy",
            ]
        );
    }
}
