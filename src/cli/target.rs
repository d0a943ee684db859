//! What a command works on: a file, a folder or a git URL.

use std::path::{Path, PathBuf};

use super::args::TargetFlags;
use super::error::CliError;

/// The names under which a folder's pipeline file is looked for, first one first.
pub(crate) const FILE_NAMES: &[&str] = &["pipeline.yaml", "flowrun.yaml", "bodywork.yaml"];

/// A target whose kind is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A pipeline file on this machine, and how the caller named it.
    File {
        /// Absolute.
        path: PathBuf,
        /// As the caller named it.
        shown: String,
        /// Take the code, and the file unless it has a `source`, at this reference instead.
        reference: Option<String>,
    },
    /// A repo somewhere else.
    Git {
        /// The URL as given.
        url: String,
        /// Branch, tag or commit; none for the default branch.
        reference: Option<String>,
        /// The pipeline file, or its folder, inside the repo.
        path: Option<String>,
    },
}

/// Whether a text is a git URL rather than a path: `scheme://…` or `user@host:path`.
fn is_url(text: &str) -> bool {
    if let Some((scheme, _)) = text.split_once("://") {
        return matches!(scheme, "https" | "http" | "ssh" | "file" | "git");
    }
    text.split_once(':').is_some_and(|(host, _)| !host.contains('/') && host.contains('@'))
}

/// The folder whose `flowrun.toml` counts for a target: none for a URL, whose settings are not the caller's.
pub(crate) fn folder_of(text: &str, here: &Path) -> Option<PathBuf> {
    let path = here.join(text);
    if path.is_dir() {
        Some(path)
    } else if is_url(text) && !path.exists() {
        None
    } else {
        path.parent().map(Path::to_owned)
    }
}

/// Finds out what a target is. An existing path wins over a URL.
pub(crate) fn resolve(flags: &TargetFlags, here: &Path) -> Result<Target, CliError> {
    let text = &flags.target;
    let path = here.join(text);
    if is_url(text) && !path.exists() {
        if !["https://", "ssh://", "file://"].iter().any(|scheme| text.starts_with(scheme))
            && text.contains("://")
        {
            return Err(CliError::usage(
                format!("`{}` is not protected on its way", without_userinfo(text)),
                "use https, ssh or file",
            ));
        }
        if let Some(inner) = &flags.path {
            check_inner(inner)?;
        }
        return Ok(Target::Git {
            url: text.clone(),
            reference: flags.reference.clone(),
            path: flags.path.clone(),
        });
    }
    if flags.path.is_some() {
        return Err(CliError::usage(
            format!("`--path` belongs to a git URL, and `{text}` is none"),
            "name the file or folder itself",
        ));
    }
    let reference = flags.reference.clone();
    if path.is_dir() {
        let Some(name) = FILE_NAMES.iter().find(|name| path.join(name).exists()) else {
            let bare = path.join("HEAD").is_file() && path.join("objects").is_dir();
            let help = if bare {
                format!("it is a git repo without a work tree: write `file://{}`", path.display())
            } else {
                "name a file, or write a first one with `flowrun init`".to_owned()
            };
            let names: Vec<String> = FILE_NAMES.iter().map(|name| format!("`{name}`")).collect();
            let names = names.join(", ");
            let message = format!("there is no pipeline file ({names}) in `{text}`");
            return Err(CliError::usage(message, help));
        };
        let shown = if text == "." {
            (*name).to_owned()
        } else {
            Path::new(text).join(name).display().to_string()
        };
        return Ok(Target::File { path: path.join(name), shown, reference });
    }
    if !path.exists() {
        return Err(missing(text, &path));
    }
    Ok(Target::File { path, shown: text.clone(), reference })
}

fn missing(text: &str, path: &Path) -> CliError {
    let mut names = Vec::new();
    if let Some(entries) = path.parent().and_then(|folder| fs_err::read_dir(folder).ok()) {
        let candidates =
            entries.filter_map(Result::ok).filter(|entry| could_be_meant(&entry.path()));
        names.extend(candidates.filter_map(|entry| entry.file_name().into_string().ok()));
    }
    let wanted = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let help = match crate::names::suggest(wanted, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name a pipeline file, a folder that holds one, or a git URL".to_owned(),
    };
    CliError::usage(format!("there is no file or folder `{text}`"), help)
}

/// Whether a path names a pipeline, by its looks: a YAML file, or a folder that holds one.
fn could_be_meant(path: &Path) -> bool {
    FILE_NAMES.iter().any(|name| path.join(name).exists())
        || path.extension().is_some_and(|end| end == "yaml" || end == "yml")
}

fn check_inner(path: &str) -> Result<(), CliError> {
    let normal = Path::new(path)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
    if normal {
        Ok(())
    } else {
        Err(CliError::usage(
            format!("`--path {path}` leaves the repo"),
            "name a path below the repo's root",
        ))
    }
}

/// A URL without user and password, for people.
pub(crate) fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..end].rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{}", &rest[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(target: &str) -> TargetFlags {
        TargetFlags { target: target.into(), reference: None, path: None }
    }

    #[test]
    fn a_folder_means_the_first_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bodywork.yaml", "flowrun.yaml", "pipeline.yaml"] {
            fs_err::write(folder.path().join(name), "").unwrap();
            let Target::File { path, shown, .. } = resolve(&flags("."), folder.path()).unwrap()
            else {
                panic!("not a file")
            };
            assert!(path.ends_with(name));
            assert_eq!(shown, name);
        }
    }

    #[test]
    fn urls_are_told_from_paths() {
        let here = tempfile::tempdir().unwrap();
        for url in ["https://h/a.git", "git@h:a/b.git", "ssh://git@h/a", "file:///a/b"] {
            assert!(matches!(resolve(&flags(url), here.path()), Ok(Target::Git { .. })), "{url}");
        }
        for path in ["a.yaml", "a/b:c.yaml", "c:d.yaml"] {
            assert!(
                matches!(resolve(&flags(path), here.path()), Err(CliError::Usage { .. })),
                "{path}"
            );
        }
        fs_err::write(here.path().join("git@h:a"), "").unwrap();
        assert!(matches!(resolve(&flags("git@h:a"), here.path()), Ok(Target::File { .. })));
        assert!(resolve(&flags("http://h/a.git"), here.path()).is_err());
    }

    #[test]
    fn a_missing_file_gets_the_nearest_one() {
        let here = tempfile::tempdir().unwrap();
        fs_err::write(here.path().join("iris.yaml"), "").unwrap();
        let error = resolve(&flags("irs.yaml"), here.path()).unwrap_err();
        assert_eq!(error.help().as_deref(), Some("did you mean `iris.yaml`?"));
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_userinfo("https://me:pw@h/a@b"), "https://h/a@b");
        assert_eq!(without_userinfo("git@h:a"), "git@h:a");
    }

    #[test]
    fn a_path_inside_a_repo_stays_inside() {
        let inner = |path: &str| TargetFlags { path: Some(path.into()), ..flags("https://h/a") };
        assert!(resolve(&inner("pipelines/iris"), Path::new("/")).is_ok());
        assert!(resolve(&inner("../x"), Path::new("/")).is_err());
        assert!(resolve(&inner("/etc"), Path::new("/")).is_err());
    }
}
