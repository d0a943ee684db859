//! The images of the stages that may run: found, pulled or built before a run starts, and pinned for it.
//!
//! `apply` calls [`resolve`] and keeps what it says with the run ([`keep`]); `plan` calls [`look_up`], which changes nothing;
//! `resume` calls [`pinned`], so that a tag that moved meanwhile changes nothing.

mod context;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use fs_err::OpenOptions;
use fs_err::os::unix::fs::OpenOptionsExt;
use serde::{Deserialize, Serialize};

use super::error::CliError;
use super::passing::Passing;
use super::screen::Screen;
use crate::names::StageName;
use crate::runtime::docker::image::{BuildOrder, Image, Pull};
use crate::runtime::docker::{Docker, DockerError};
use crate::source::Snapshot;
use crate::spec::Pipeline;
use crate::spec::pipeline::{self, BuildSpec, ImageSpec, Stage};
use crate::words::{list, visible};

/// By stage.
pub(crate) type Images = BTreeMap<StageName, Image>;

/// The file in a run's folder that says which images the run is pinned to.
pub(crate) const FILE: &str = "images.json";

/// Version 1; new fields keep the version and have a default.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    images: Images,
}

/// What one or several stages run in.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'p> {
    Reference { reference: &'p str, pull: Pull },
    Build(&'p BuildSpec),
}

/// The image of every stage in `stages`: each is looked for, pulled or built once. What takes long is said on the screen.
pub(crate) async fn resolve(
    pipeline: &Pipeline,
    stages: &BTreeSet<StageName>,
    snapshot: &Snapshot,
    docker: &Docker,
    screen: Screen,
) -> Result<Images, CliError> {
    let passing = Passing::on(screen);
    let progress = |said| passing.tell(said);
    let mut images = Images::new();
    for (wanted, users) in wanted(pipeline, stages)? {
        let image = match wanted {
            Wanted::Reference { reference, pull } => {
                docker.image(reference, pull, &progress).await?
            }
            Wanted::Build(spec) => docker.build(&order(snapshot, spec, &users)?, &progress).await?,
        };
        give(&mut images, &users, &image)?;
    }
    Ok(images)
}

/// The same without pulling or building: what is not here is said, and gets an id that no image has, so that its stages run.
pub(crate) async fn look_up(
    pipeline: &Pipeline,
    stages: &BTreeSet<StageName>,
    snapshot: &Snapshot,
    docker: &Docker,
    screen: Screen,
) -> Result<Images, CliError> {
    let mut images = Images::new();
    for (wanted, users) in wanted(pipeline, stages)? {
        let image = match wanted {
            Wanted::Reference { reference, pull: Pull::Never } => {
                docker.image(reference, Pull::Never, &|_| ()).await?
            }
            Wanted::Reference { reference, pull } => {
                let (shown, here) = (visible(reference), docker.local_image(reference).await?);
                if here.is_none() {
                    screen.say(&format!("note: image `{shown}` is not here: `apply` pulls it"));
                } else if pull == Pull::Always {
                    screen.say(&format!(
                        "note: image `{shown}` is taken as it is here: `apply` looks for a newer one"
                    ));
                }
                here.unwrap_or_else(|| absent(reference, reference))
            }
            Wanted::Build(spec) => {
                let order = order(snapshot, spec, &users)?;
                let here = docker.built_image(&order.digest).await?;
                if here.is_none() {
                    let shown = visible(&order.context);
                    screen.say(&format!(
                        "note: the image of `{shown}` is not here: `apply` builds it"
                    ));
                }
                here.unwrap_or_else(|| absent(&order.context, &order.digest))
            }
        };
        give(&mut images, &users, &image)?;
    }
    Ok(images)
}

/// Stands for an image that is not here.
fn absent(reference: &str, what: &str) -> Image {
    Image {
        reference: reference.to_owned(),
        id: format!("absent:{what}"),
        repo_digest: None,
        env: BTreeMap::new(),
        user: String::new(),
        has_program: true,
        platform: String::new(),
    }
}

/// Every image once, with the stages that use it, in file order. An error names all stages that have none.
fn wanted<'p>(
    pipeline: &'p Pipeline,
    stages: &BTreeSet<StageName>,
) -> Result<Vec<(Wanted<'p>, Vec<&'p Stage>)>, CliError> {
    let mut found: Vec<(Wanted<'p>, Vec<&'p Stage>)> = Vec::new();
    let mut without = Vec::new();
    for stage in pipeline.stages.values().filter(|stage| stages.contains(&stage.name)) {
        let wanted = match &stage.image {
            None => {
                without.push(format!("`{}`", stage.name));
                continue;
            }
            Some(ImageSpec::Reference(reference)) => {
                Wanted::Reference { reference, pull: pull(stage.pull) }
            }
            Some(ImageSpec::Build(spec)) => Wanted::Build(spec),
        };
        match found.iter_mut().find(|(known, _)| known.is_same(&wanted)) {
            Some((known, users)) => {
                known.agree(&wanted);
                users.push(stage);
            }
            None => found.push((wanted, vec![stage])),
        }
    }
    if without.is_empty() {
        return Ok(found);
    }
    let (stages, have) = if without.len() == 1 { ("stage", "has") } else { ("stages", "have") };
    Err(CliError::Invalid {
        message: format!("{stages} {} {have} no image to run in", list(&without)),
        help: Some(
            "add `image` or `build` to the stage or to `defaults`, or use `--runtime local`".into(),
        ),
    })
}

impl Wanted<'_> {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Reference { reference: one, .. }, Self::Reference { reference: two, .. }) => {
                one == two
            }
            (Self::Build(one), Self::Build(two)) => one == two,
            _ => false,
        }
    }

    /// Stages that pull the same image differently get what the most eager of them asks for.
    fn agree(&mut self, other: &Self) {
        if let (Self::Reference { pull, .. }, Self::Reference { pull: theirs, .. }) = (self, other)
        {
            *pull = match (*pull, *theirs) {
                (Pull::Always, _) | (_, Pull::Always) => Pull::Always,
                (Pull::Never, Pull::Never) => Pull::Never,
                _ => Pull::Missing,
            };
        }
    }
}

fn pull(asked: pipeline::Pull) -> Pull {
    match asked {
        pipeline::Pull::Missing => Pull::Missing,
        pipeline::Pull::Always => Pull::Always,
        pipeline::Pull::Never => Pull::Never,
    }
}

fn order(snapshot: &Snapshot, spec: &BuildSpec, users: &[&Stage]) -> Result<BuildOrder, CliError> {
    let stage = users.first().map(|stage| stage.name.to_string()).unwrap_or_default();
    context::order(snapshot, spec, &stage)
}

/// Gives the image to its stages. A stage without `run` needs a program in it.
fn give(images: &mut Images, users: &[&Stage], image: &Image) -> Result<(), CliError> {
    for stage in users {
        if stage.run.is_none() && !image.has_program {
            return Err(CliError::Invalid {
                message: format!(
                    "stage `{}` has no `run`, and image `{}` has no program of its own",
                    stage.name,
                    visible(&image.reference)
                ),
                help: Some("add `run` to the stage, or use an image with an entrypoint".into()),
            });
        }
        images.insert(stage.name.clone(), image.clone());
    }
    Ok(())
}

/// Keeps in the fresh folder of a run which images it is pinned to, durably.
pub(crate) fn keep(folder: &Path, images: &Images) -> Result<(), CliError> {
    let kept = Kept { version: 1, images: images.clone() };
    let bytes = serde_json::to_vec(&kept).map_err(std::io::Error::from)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(FILE))?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok(())
}

/// Which images the run with this folder is pinned to; none: its stages are processes, or it did not come so far.
pub(crate) fn kept(folder: &Path) -> Option<Images> {
    let bytes = fs_err::read(folder.join(FILE)).ok()?;
    serde_json::from_slice::<Kept>(&bytes).ok().map(|kept| kept.images)
}

/// The same as JSON, for whoever asks what a run was made with; null without images.
pub(crate) fn shown(folder: &Path) -> serde_json::Value {
    let images = kept(folder).map(|images| {
        let one = |(stage, image): (StageName, Image)| {
            let Image { reference, id, repo_digest, platform, .. } = image;
            let value = serde_json::json!({
                "reference": reference, "id": id, "repo_digest": repo_digest, "platform": platform,
            });
            (stage.to_string(), value)
        };
        images.into_iter().map(one).collect::<serde_json::Map<_, _>>()
    });
    images.into()
}

/// The images that the run with this folder is pinned to, all of them here: one that was removed meanwhile is pulled again by
/// its digest. None: the run is not pinned to any.
pub(crate) async fn pinned(
    folder: &Path,
    docker: &Docker,
    screen: Screen,
) -> Result<Option<Images>, CliError> {
    let Some(images) = kept(folder) else { return Ok(None) };
    let passing = Passing::on(screen);
    let progress = |said| passing.tell(said);
    let mut here: BTreeSet<&str> = BTreeSet::new();
    for image in images.values().filter(|image| !image.id.is_empty()) {
        if !here.insert(&image.id) || docker.local_image(&image.id).await?.is_some() {
            continue;
        }
        let back = match &image.repo_digest {
            Some(digest) => Some(docker.image(digest, Pull::Missing, &progress).await?),
            None => None,
        };
        if back.is_none_or(|back| back.id != image.id) {
            return Err(DockerError::Image {
                image: image.reference.clone(),
                why: "of this run is not here any more".to_owned(),
                help: "start a new run with `flowrun apply`".to_owned(),
            }
            .into());
        }
    }
    Ok(Some(images))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(text: &str) -> Pipeline {
        crate::spec::load("pipeline.yaml", text.as_bytes()).unwrap()
    }

    fn all(pipeline: &Pipeline) -> BTreeSet<StageName> {
        pipeline.stages.keys().cloned().collect()
    }

    #[test]
    fn stages_without_an_image_are_named_together() {
        let text = "version: '2'\nname: a\nstages:\n  one: {run: x}\n  two: {run: y}\n";
        let pipeline = pipeline(text);
        let error = wanted(&pipeline, &all(&pipeline)).unwrap_err();
        assert_eq!(error.to_string(), "stages `one` and `two` have no image to run in");
        assert_eq!(error.exit(), crate::cli::exit::Exit::Invalid);
        let some = BTreeSet::from(["two".parse().unwrap()]);
        let error = wanted(&pipeline, &some).unwrap_err();
        assert_eq!(error.to_string(), "stage `two` has no image to run in");
        assert!(wanted(&pipeline, &BTreeSet::new()).unwrap().is_empty());
    }

    #[test]
    fn the_most_eager_pull_counts() {
        let agreed = |one, two| {
            let mut wanted = Wanted::Reference { reference: "a", pull: one };
            wanted.agree(&Wanted::Reference { reference: "a", pull: two });
            wanted
        };
        for (one, two, both) in [
            (Pull::Never, Pull::Missing, Pull::Missing),
            (Pull::Missing, Pull::Always, Pull::Always),
            (Pull::Always, Pull::Never, Pull::Always),
            (Pull::Never, Pull::Never, Pull::Never),
        ] {
            assert_eq!(agreed(one, two), Wanted::Reference { reference: "a", pull: both });
        }
    }

    #[test]
    fn a_run_remembers_its_images() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(kept(folder.path()), None);
        let images = Images::from([("one".parse().unwrap(), absent("a:1", "a:1"))]);
        keep(folder.path(), &images).unwrap();
        assert_eq!(kept(folder.path()), Some(images.clone()));
        assert!(keep(folder.path(), &images).is_err(), "a pin is never replaced");
    }
}
