//! A target → its checked pipeline and where its code is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CliError;
use super::screen::Screen;
use super::target::{FILE_NAMES, Target, without_userinfo};
use crate::digest::Digest;
use crate::names::suggest;
use crate::source::{self, Origin, Snapshot, SourceSettings};
use crate::spec::{self, Pipeline, Problems};
use crate::words::count;

/// The bytes of a pipeline file and how it is called.
#[derive(Debug, Clone)]
pub(crate) struct PipelineFile {
    /// As it was read.
    pub(crate) bytes: Vec<u8>,
    /// How it is called in messages.
    pub(crate) shown: String,
    /// Its name in its folder; no stage sees it.
    pub(crate) name: String,
}

impl PipelineFile {
    /// Of its bytes.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Checks it.
    pub(crate) fn check(&self) -> Result<Pipeline, CliError> {
        spec::load(&self.shown, &self.bytes)
            .map_err(|problems| CliError::Problems(Box::new(problems)))
    }

    /// Problems at places of this file, ready to be shown.
    pub(crate) fn problems(&self, list: &[spec::Problem]) -> Problems {
        Problems {
            file: self.shown.clone(),
            text: String::from_utf8_lossy(&self.bytes).into_owned(),
            list: list.to_vec(),
        }
    }
}

/// A checked pipeline and where its code is.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// The file.
    pub(crate) file: PipelineFile,
    /// What it says.
    pub(crate) pipeline: Arc<Pipeline>,
    code: Code,
}

#[derive(Debug, Clone)]
enum Code {
    /// Still to be taken.
    At { origin: Origin, base: Option<String> },
    /// Was taken to read the file from it.
    Taken(Box<Snapshot>),
}

/// Reads the pipeline file of a target and checks it. A git target, or a reference, is fetched for it.
pub(crate) fn load(settings: &SourceSettings, target: &Target) -> Result<Loaded, CliError> {
    match target {
        Target::File { path, shown, reference } => {
            load_file(settings, path, shown, reference.as_deref())
        }
        Target::Git { url, reference, path } => {
            let origin = Origin::Git { url: url.clone(), reference: reference.clone() };
            load_at(settings, &origin, path.as_deref(), &without_userinfo(url))
        }
    }
}

/// Reads and checks a pipeline file of this machine only.
pub(crate) fn read(path: &Path, shown: &str) -> Result<(PipelineFile, Pipeline), CliError> {
    let bytes = crate::spec::read_file(path).map_err(|mut problems| {
        shown.clone_into(&mut problems.file);
        CliError::Problems(Box::new(problems))
    })?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let file = PipelineFile { bytes, shown: shown.to_owned(), name };
    let pipeline = file.check()?;
    Ok((file, pipeline))
}

fn load_file(
    settings: &SourceSettings,
    path: &Path,
    shown: &str,
    reference: Option<&str>,
) -> Result<Loaded, CliError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let (file, pipeline) = read(path, shown)?;
    let code = match (&pipeline.source, reference) {
        (Some(source), _) => {
            let reference = reference.map(str::to_owned).or_else(|| source.reference.clone());
            let url = beside(folder, &source.git);
            Code::At { origin: Origin::Git { url, reference }, base: None }
        }
        (None, None) => Code::At { origin: Origin::Folder(folder.to_owned()), base: None },
        (None, Some(reference)) => {
            let Some((root, inner)) = repo_of(path) else {
                return Err(CliError::usage(
                    format!("`{shown}` is in no git repo, so there is no `{reference}`"),
                    "leave out `--ref`",
                ));
            };
            let origin = Origin::Git {
                url: root.display().to_string(),
                reference: Some(reference.to_owned()),
            };
            return load_at(settings, &origin, Some(&inner), shown);
        }
    };
    Ok(Loaded { file, pipeline: Arc::new(pipeline), code })
}

/// Reads the file at a reference of a repo. `inner` is the file or its folder.
fn load_at(
    settings: &SourceSettings,
    origin: &Origin,
    inner: Option<&str>,
    shown: &str,
) -> Result<Loaded, CliError> {
    let inner = inner.unwrap_or_default().trim_matches('/').trim_start_matches("./");
    let inner = if inner == "." { "" } else { inner };
    let is_file = Path::new(inner)
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("yaml") || end.eq_ignore_ascii_case("yml"));
    let (base, names) = if is_file {
        let (base, name) = inner.rsplit_once('/').unwrap_or(("", inner));
        (base, vec![name])
    } else {
        (inner, FILE_NAMES.to_vec())
    };
    let snapshot = source::take(settings, origin, (!base.is_empty()).then_some(base))?;
    for name in names {
        let path = if base.is_empty() { name.to_owned() } else { format!("{base}/{name}") };
        let Some(bytes) = snapshot.read(&path)? else { continue };
        let file = PipelineFile { bytes, shown: path, name: name.to_owned() };
        let pipeline = file.check()?;
        let code = match &pipeline.source {
            None => Code::Taken(Box::new(snapshot)),
            Some(source) => Code::At {
                origin: Origin::Git {
                    url: source.git.clone(),
                    reference: source.reference.clone(),
                },
                base: None,
            },
        };
        return Ok(Loaded { file, pipeline: Arc::new(pipeline), code });
    }
    let what = if is_file { format!("file `{inner}`") } else { "pipeline file".to_owned() };
    Err(CliError::usage(
        format!("there is no {what} in `{shown}` at that commit"),
        "name it with `--path`",
    ))
}

/// A local `source.git` is relative to the file's folder.
fn beside(folder: &Path, git: &str) -> String {
    let is_path =
        !git.contains("://") && git.split_once(':').is_none_or(|(host, _)| host.contains('/'));
    if is_path { folder.join(git).display().to_string() } else { git.to_owned() }
}

/// The repo that holds a file, and the file's path inside it.
fn repo_of(file: &Path) -> Option<(PathBuf, String)> {
    let file = fs_err::canonicalize(file).ok()?;
    let root = file.ancestors().skip(1).find(|folder| folder.join(".git").exists())?;
    let inner = file.strip_prefix(root).ok()?.to_str()?.to_owned();
    Some((root.to_owned(), inner))
}

impl Loaded {
    /// Takes the snapshot, unless it was taken to read the file.
    pub(crate) fn snapshot(&self, settings: &SourceSettings) -> Result<Snapshot, CliError> {
        match &self.code {
            Code::Taken(snapshot) => Ok((**snapshot).clone()),
            Code::At { origin, base } => Ok(source::take(settings, origin, base.as_deref())?),
        }
    }

    /// Says what deserves a word, and refuses what cannot run yet.
    pub(crate) fn refuse_unavailable(&self, screen: Screen) -> Result<(), CliError> {
        if !self.pipeline.warnings.is_empty() {
            let problems = self.file.problems(&self.pipeline.warnings);
            screen.say(problems.render_warnings(screen.colour_err).trim_end());
        }
        if self.pipeline.unavailable.is_empty() {
            return Ok(());
        }
        Err(CliError::Problems(Box::new(self.file.problems(&self.pipeline.unavailable))))
    }

    /// Reads `--param name=value`.
    pub(crate) fn params(&self, given: &[String]) -> Result<Params, CliError> {
        params(&self.pipeline, given)
    }
}

/// Every parameter's value.
pub(crate) type Params = std::collections::BTreeMap<crate::names::ParamName, crate::scalar::Scalar>;

fn params(pipeline: &Pipeline, given: &[String]) -> Result<Params, CliError> {
    let given = split_params(given)?;
    for name in given.keys() {
        if pipeline.params.get(name.as_str()).is_some() {
            continue;
        }
        let names: Vec<&str> =
            pipeline.params.keys().map(crate::names::ParamName::as_str).collect();
        let help = match suggest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "declare it under `params`, or leave it out".to_owned(),
            None => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                format!("use one of {}", crate::words::list(&names))
            }
        };
        return Err(CliError::usage(format!("there is no param `{name}`"), help));
    }
    pipeline.params_with(&given).map_err(|errors| CliError::Usage {
        message: match errors.as_slice() {
            [one] => one.clone(),
            many => format!("{}: {}", count(many.len(), "param"), many.join("; ")),
        },
        help: Some("see `params` of the pipeline file".into()),
    })
}

fn split_params(given: &[String]) -> Result<std::collections::BTreeMap<String, String>, CliError> {
    let mut split = std::collections::BTreeMap::new();
    for text in given {
        let Some((name, value)) = text.split_once('=') else {
            return Err(CliError::usage(
                format!("`--param {text}` has no `=`"),
                format!("write `--param {text}=VALUE`"),
            ));
        };
        if split.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(CliError::usage(
                format!("the param `{name}` is given twice"),
                "give it once",
            ));
        }
    }
    Ok(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_are_split_at_the_first_equals_sign() {
        let split = split_params(&["a=b=c".into(), "d=".into()]).unwrap();
        assert_eq!(split["a"], "b=c");
        assert_eq!(split["d"], "");
        assert!(split_params(&["a".into()]).is_err());
        assert!(split_params(&["a=1".into(), "a=2".into()]).is_err());
    }

    #[test]
    fn a_local_source_lies_beside_the_file() {
        let folder = Path::new("/p");
        assert_eq!(beside(folder, "../code"), "/p/../code");
        for url in ["https://h/a.git", "git@h:a", "h:a"] {
            assert_eq!(beside(folder, url), url);
        }
    }

    #[test]
    fn a_file_knows_its_repo() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs_err::canonicalize(folder.path()).unwrap();
        fs_err::create_dir_all(root.join("a/b")).unwrap();
        fs_err::write(root.join("a/b/pipeline.yaml"), "").unwrap();
        assert_eq!(repo_of(&root.join("a/b/pipeline.yaml")), None);
        fs_err::create_dir(root.join(".git")).unwrap();
        let found = repo_of(&root.join("a/b/pipeline.yaml"));
        assert_eq!(found, Some((root, "a/b/pipeline.yaml".into())));
    }
}
