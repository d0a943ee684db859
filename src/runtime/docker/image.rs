//! Images: found here, pulled or built; known by their id.

use std::collections::BTreeMap;

use bollard::models::ImageInspect;
use serde::{Deserialize, Serialize};

use super::error::status;
use super::reference::{Named, Reference};
use super::{Docker, DockerError};

/// How a name of an image is written.
const GRAMMAR: &str = "write `[registry/]name[:tag]`, or `name@sha256:…`";

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What it was asked for as: `python:3.12-slim`, or what was built.
    pub reference: String,
    /// `sha256:…`: what it is, whatever its tag becomes.
    pub id: String,
    /// `python@sha256:…` when it came from a registry.
    pub repo_digest: Option<String>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// Its user; empty: root.
    pub user: String,
    /// Whether it has a program of its own (entrypoint or command).
    pub has_program: bool,
    /// `linux/amd64`
    pub platform: String,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// When it is not here.
    #[default]
    Missing,
    /// Always, so that a tag that moved is followed.
    Always,
    /// Never: it must be here.
    Never,
}

/// What to build an image from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOrder {
    /// How the context is called in messages.
    pub context: String,
    /// Files of the context: path in it (`/`-separated), whether it is executable, its content.
    pub files: Vec<(String, FileKind, Vec<u8>)>,
    /// The Dockerfile, relative to the context.
    pub dockerfile: String,
    /// `ARG`s.
    pub args: BTreeMap<String, String>,
    /// The digest of all this in hex: the image is tagged with it, so that an equal build is found again.
    pub digest: String,
}

/// What a file of a build context is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    Plain,
    /// A file that can be executed.
    Executable,
    /// A link; its content is where it leads.
    Link,
}

/// What is told while an image is pulled or built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A line that stays.
    Line(String),
    /// How far it is. A terminal shows each in place of the one before; elsewhere those that `stays` are lines, one now and then.
    SoFar {
        /// On one line.
        text: String,
        /// Long enough after the one before.
        stays: bool,
    },
}

impl Said {
    /// The line, if it is one where nothing can be replaced.
    pub fn lasting(self) -> Option<String> {
        match self {
            Self::Line(text) | Self::SoFar { text, stays: true } => Some(text),
            Self::SoFar { stays: false, .. } => None,
        }
    }
}

impl From<String> for Said {
    fn from(line: String) -> Self {
        Self::Line(line)
    }
}

/// Told while an image is pulled or built.
pub type Progress<'a> = &'a (dyn Fn(Said) + Send + Sync);

impl Docker {
    /// The image if it is here; says nothing to any registry.
    pub async fn local_image(&self, reference: &str) -> Result<Option<Image>, DockerError> {
        self.find(reference, &parse(reference)?).await
    }

    /// The image, pulled as `pull` says.
    pub async fn image(
        &self,
        reference: &str,
        pull: Pull,
        progress: Progress<'_>,
    ) -> Result<Image, DockerError> {
        let parsed = parse(reference)?;
        let here = self.find(reference, &parsed).await?;
        let absent = |why: &str, help: String| DockerError::Image {
            image: reference.to_owned(),
            why: why.to_owned(),
            help,
        };
        let named = match (&parsed, here) {
            (Reference::Id(_), Some(image)) => return Ok(image),
            (Reference::Id(_), None) => {
                let help = "name it with a registry: nothing can be pulled by an id".to_owned();
                return Err(absent("is not here", help));
            }
            (Reference::Named(named), Some(image)) => {
                // What a digest names never moves.
                if pull != Pull::Always || named.is_pinned() {
                    return Ok(image);
                }
                named
            }
            (Reference::Named(named), None) => {
                if pull == Pull::Never {
                    let help = format!("run `docker pull {named}`, or leave out `pull: never`");
                    return Err(absent("is not here, and is never to be pulled", help));
                }
                named
            }
        };
        self.pull(reference, named, progress).await?;
        let pulled = self.find(reference, &parsed).await?;
        pulled.ok_or_else(|| absent("was pulled and is gone again", "try again".to_owned()))
    }

    async fn find(&self, text: &str, reference: &Reference) -> Result<Option<Image>, DockerError> {
        let (asked, named) = match reference {
            Reference::Id(id) => (id.clone(), None),
            Reference::Named(named) => (named.to_string(), Some(named)),
        };
        match self.engine().await?.inspect_image(&asked).await {
            Ok(found) => Ok(Some(Image::of(text, named, found))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(DockerError::of(format!("look for image `{text}`"), &error)),
        }
    }
}

fn parse(reference: &str) -> Result<Reference, DockerError> {
    Reference::parse(reference).map_err(|why| DockerError::Image {
        image: reference.to_owned(),
        why: why.to_owned(),
        help: GRAMMAR.to_owned(),
    })
}

impl Image {
    /// Of what the engine says.
    pub(super) fn of(reference: &str, named: Option<&Named>, found: ImageInspect) -> Self {
        let config = found.config.unwrap_or_default();
        let digests = found.repo_digests.unwrap_or_default();
        let repo_digest =
            digests.into_iter().find(|digest| named.is_none_or(|named| named.owns(digest)));
        let env = config.env.unwrap_or_default().into_iter().map(|entry| {
            let (name, value) = entry.split_once('=').unwrap_or((&entry, ""));
            (name.to_owned(), value.to_owned())
        });
        let is_given = |words: Option<Vec<String>>| words.is_some_and(|words| !words.is_empty());
        let parts = [found.os, found.architecture, found.variant];
        let parts: Vec<String> =
            parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        Self {
            reference: reference.to_owned(),
            id: found.id.unwrap_or_default(),
            repo_digest,
            env: env.collect(),
            user: config.user.unwrap_or_default(),
            has_program: is_given(config.entrypoint) || is_given(config.cmd),
            platform: parts.join("/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ImageConfig;

    use super::*;

    #[test]
    fn an_image_is_what_its_config_says() {
        let found = ImageInspect {
            id: Some("sha256:1".to_owned()),
            repo_digests: Some(vec!["other@sha256:2".to_owned(), "h:1/app@sha256:3".to_owned()]),
            os: Some("linux".to_owned()),
            architecture: Some("arm64".to_owned()),
            variant: Some("v8".to_owned()),
            config: Some(ImageConfig {
                env: Some(vec!["A=b=c".to_owned(), "EMPTY".to_owned()]),
                user: Some("app:app".to_owned()),
                entrypoint: Some(Vec::new()),
                cmd: Some(vec!["serve".to_owned()]),
                ..ImageConfig::default()
            }),
            ..ImageInspect::default()
        };
        let Ok(Reference::Named(named)) = Reference::parse("h:1/app:x") else { panic!() };
        let image = Image::of("h:1/app:x", Some(&named), found);
        assert_eq!(image.repo_digest.as_deref(), Some("h:1/app@sha256:3"));
        assert_eq!(image.env["A"], "b=c");
        assert_eq!(image.env["EMPTY"], "");
        assert_eq!((image.user.as_str(), image.has_program), ("app:app", true));
        assert_eq!(image.platform, "linux/arm64/v8");
        let bare = Image::of("x", None, ImageInspect::default());
        assert!(!bare.has_program);
    }
}
