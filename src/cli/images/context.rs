//! `build` of a stage → an order for the engine, with files of the snapshot only.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::error::CliError;
use crate::digest::Digest;
use crate::runtime::docker::image::{BuildOrder, FileKind};
use crate::source::{Mode, Snapshot};
use crate::spec::pipeline::BuildSpec;

/// The version of what the digest of an order is made from.
const FORMAT: u32 = 1;

/// Reads the context below the base, without what its `.dockerignore` leaves out. `stage` is named in errors.
pub(super) fn order(
    snapshot: &Snapshot,
    spec: &BuildSpec,
    stage: &str,
) -> Result<BuildOrder, CliError> {
    let folder = folder(&snapshot.id.base, &spec.context);
    let found = snapshot.build_context(&folder, &spec.dockerfile)?;
    let missing = |what: String, help: String| CliError::Invalid {
        message: format!("stage `{stage}`: {what}"),
        help: Some(help),
    };
    if found.is_empty() {
        return Err(missing(
            format!("the build context `{}` holds no file", spec.context),
            "name a folder below the pipeline file's that git does not ignore".to_owned(),
        ));
    }
    if !found.iter().any(|(path, _)| *path == spec.dockerfile) {
        return Err(missing(
            format!("there is no `{}` in the build context `{}`", spec.dockerfile, spec.context),
            "name it with `build.dockerfile`, relative to the context".to_owned(),
        ));
    }
    let seen: Vec<_> =
        found.iter().map(|(path, file)| json!([path, mode(file.mode), file.blob])).collect();
    let args: BTreeMap<String, String> =
        spec.args.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let parts = json!([FORMAT, seen, spec.dockerfile, args]);
    let mut files = Vec::with_capacity(found.len());
    for (path, file) in found {
        let bytes = snapshot.read(&file.path)?.unwrap_or_default();
        let kind = match file.mode {
            Mode::File => FileKind::Plain,
            Mode::Executable => FileKind::Executable,
            Mode::Link => FileKind::Link,
        };
        files.push((path.to_owned(), kind, bytes));
    }
    Ok(BuildOrder {
        context: spec.context.clone(),
        files,
        dockerfile: spec.dockerfile.clone(),
        args,
        digest: Digest::of(parts.to_string().as_bytes()).hex(),
    })
}

/// A folder below the base, from the root of the snapshot; empty: the root.
fn folder(base: &str, context: &str) -> String {
    let parts = base.split('/').chain(context.split('/'));
    let parts: Vec<&str> = parts.filter(|part| !matches!(*part, "" | ".")).collect();
    parts.join("/")
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::File => "file",
        Mode::Executable => "executable",
        Mode::Link => "link",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Origin, SourceSettings, take};

    #[test]
    fn a_context_lies_below_the_base() {
        assert_eq!(folder("", "."), "");
        assert_eq!(folder("a/b", "."), "a/b");
        assert_eq!(folder("a", "./docker/"), "a/docker");
    }

    #[test]
    fn an_order_follows_what_the_context_lets_through() {
        let root = tempfile::tempdir().unwrap();
        let code = root.path().join("code");
        let write = |name: &str, text: &str| {
            let path = code.join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        };
        write("img/Dockerfile", "FROM scratch");
        write("img/.dockerignore", "*.tmp\n");
        write("img/a.txt", "a");
        write("img/b.tmp", "b");
        write("other.txt", "x");
        let settings = SourceSettings {
            mirrors: root.path().join("mirror"),
            home: root.path().join("home"),
            env: Vec::new(),
        };
        let spec = |dockerfile: &str| BuildSpec {
            context: "img".into(),
            dockerfile: dockerfile.into(),
            args: [("A".to_owned(), "1".to_owned())].into_iter().collect(),
        };
        let order_now = |spec: &BuildSpec| {
            let snapshot = take(&settings, &Origin::Folder(code.clone()), None).unwrap();
            order(&snapshot, spec, "train")
        };
        let first = order_now(&spec("Dockerfile")).unwrap();
        let names: Vec<&str> = first.files.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(names, [".dockerignore", "Dockerfile", "a.txt"]);
        write("img/b.tmp", "changed");
        write("other.txt", "changed");
        assert_eq!(order_now(&spec("Dockerfile")).unwrap().digest, first.digest);
        write("img/a.txt", "changed");
        let second = order_now(&spec("Dockerfile")).unwrap();
        assert_ne!(second.digest, first.digest);
        let mut other = spec("Dockerfile");
        other.args.insert("A".into(), "2".into());
        assert_ne!(order_now(&other).unwrap().digest, second.digest);
        let error = order_now(&spec("nowhere")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "stage `train`: there is no `nowhere` in the build context `img`"
        );
    }
}
