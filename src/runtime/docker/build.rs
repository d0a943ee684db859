//! Building an image with the engine's own builder, once per content.

use std::collections::{HashMap, VecDeque};

use bollard::errors::Error;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, BuilderVersion, ListImagesOptionsBuilder, RemoveImageOptions,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tar::{EntryType, Header};

use super::error::{status, words};
use super::image::{BuildOrder, FileKind, Image, Progress};
use super::pull::Tally;
use super::{Docker, DockerError, INSTALLATION, login};

/// The label of a built image, with the digest of its order.
const BUILD: &str = "flowrun.build";

/// Lines of a build that are kept for its error.
const LAST_LINES: usize = 40;

/// What the builder paints the program's stderr with.
const PAINT: [&str; 2] = ["\u{1b}[91m", "\u{1b}[0m"];

/// An image that was built here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// `sha256:…`
    pub id: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was made, Unix seconds.
    pub made_at: i64,
}

impl Docker {
    /// The image that an order of this digest made before, if it is here.
    pub async fn built_image(&self, digest: &str) -> Result<Option<Image>, DockerError> {
        match self.engine().await?.inspect_image(&self.build_tag(digest)).await {
            Ok(found) => Ok(Some(Image::of(&self.build_tag(digest), None, found))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(DockerError::of("look for a built image", &error)),
        }
    }

    /// Builds an image, unless an equal order was built before. Lines of the build go to `progress`. Dropped midway, the engine
    /// stops; the layers that were done are used by the next build.
    pub async fn build(
        &self,
        order: &BuildOrder,
        progress: Progress<'_>,
    ) -> Result<Image, DockerError> {
        if let Some(image) = self.built_image(&order.digest).await? {
            return Ok(image);
        }
        let mut told = Told::new(order, progress);
        let logins = login::all(self.settings()).await.map_err(|why| told.failed(&why))?;
        let labels = HashMap::from([
            (INSTALLATION, self.settings().installation.as_str()),
            (BUILD, order.digest.as_str()),
        ]);
        let args: HashMap<&str, &str> =
            order.args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let options = BuildImageOptionsBuilder::default()
            .dockerfile(&order.dockerfile)
            .t(&self.build_tag(&order.digest))
            .buildargs(&args)
            .labels(&labels)
            .rm(true)
            .forcerm(true)
            .version(BuilderVersion::BuilderV1)
            .build();
        progress(format!("building the image of `{}`", order.context).into());
        let context = bollard::body_full(Bytes::from(archive(order)?));
        let engine = self.for_registries().await?;
        let mut said = engine.build_image(options, Some(logins), Some(context));
        while let Some(step) = said.next().await {
            let step = match step {
                Ok(step) => step,
                Err(Error::DockerStreamError { error }) => return Err(told.failed(&error)),
                Err(error @ Error::DockerResponseServerError { .. }) => {
                    return Err(told.failed(&words(&error)));
                }
                Err(error) => return Err(DockerError::of("build an image", &error)),
            };
            if let Some(error) = step.error_detail {
                return Err(told.failed(&error.message.unwrap_or_default()));
            }
            told.hear(step.stream.as_deref().unwrap_or_default());
            told.base.hear(
                step.id.as_deref(),
                step.status.as_deref(),
                step.progress_detail.as_ref(),
            );
            if let Some(said) = told.base.due() {
                progress(said);
            }
        }
        told.flush();
        let built = self.built_image(&order.digest).await?;
        built.ok_or_else(|| told.failed("the build ended without an image"))
    }

    /// The images that were built for this installation.
    pub async fn built_images(&self) -> Result<Vec<BuiltImage>, DockerError> {
        let labels =
            vec![format!("{INSTALLATION}={}", self.settings().installation), BUILD.to_owned()];
        let filters = HashMap::from([("label", labels)]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let found = self.engine().await?.list_images(Some(options)).await;
        let found = found.map_err(|error| DockerError::of("list images", &error))?;
        let mut built: Vec<BuiltImage> = found
            .into_iter()
            .map(|image| {
                let is_name = |tag: &String| tag != "<none>:<none>";
                let tags = image.repo_tags.into_iter().filter(is_name).collect();
                BuiltImage { id: image.id, tags, made_at: image.created }
            })
            .collect();
        built.sort_by(|one, two| one.id.cmp(&two.id));
        Ok(built)
    }

    /// Removes images that were built for this installation and that nobody in `needed` (ids) needs. How many. One that a container
    /// uses stays.
    pub async fn remove_built_images(&self, needed: &[String]) -> Result<usize, DockerError> {
        let mut removed = 0;
        for image in self.built_images().await? {
            if !needed.contains(&image.id) && self.remove_built_image(&image).await? {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes a built image. False, and nothing removed: a container or somebody else's tag needs it.
    pub async fn remove_built_image(&self, image: &BuiltImage) -> Result<bool, DockerError> {
        let ours = |tag: &&String| tag.starts_with(&self.build_name());
        // By its tag, as long as it has one, so that a tag that somebody else gave it keeps it.
        let tags: Vec<&String> = image.tags.iter().filter(ours).collect();
        if tags.len() < image.tags.len() {
            return Ok(false);
        }
        let names = if tags.is_empty() { vec![&image.id] } else { tags };
        for name in names {
            let engine = self.engine().await?;
            match engine.remove_image(name, None::<RemoveImageOptions>, None).await {
                Ok(_) => {}
                Err(error) if status(&error) == Some(404) => {}
                Err(error) if status(&error) == Some(409) => return Ok(false),
                Err(error) => return Err(DockerError::of(format!("remove `{name}`"), &error)),
            }
        }
        Ok(true)
    }

    /// Installations that share an engine do not share images, so that none removes what another one needs.
    fn build_name(&self) -> String {
        format!("flowrun-build-{}:", self.short_installation())
    }

    fn build_tag(&self, digest: &str) -> String {
        format!("{}{digest}", self.build_name())
    }
}

/// The context as the engine takes it. Times are left out, so that equal contexts are equal bytes.
fn archive(order: &BuildOrder) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, kind, bytes) in &order.files {
        let mut header = Header::new_gnu();
        header.set_mode(if *kind == FileKind::Plain { 0o644 } else { 0o755 });
        header.set_mtime(0);
        if *kind == FileKind::Link {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            let target = String::from_utf8_lossy(bytes);
            archive.append_link(&mut header, path, target.as_ref())?;
        } else {
            header.set_entry_type(EntryType::Regular);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, bytes.as_slice())?;
        }
    }
    archive.into_inner()
}

/// What a build says, cut into lines; the last ones are kept.
struct Told<'a> {
    context: &'a str,
    progress: Progress<'a>,
    /// The layers of the base image, while it is pulled.
    base: Tally,
    begun: String,
    last: VecDeque<String>,
}

impl<'a> Told<'a> {
    fn new(order: &'a BuildOrder, progress: Progress<'a>) -> Self {
        let base = Tally::new(format!("pulling what `{}` begins with", order.context));
        let (begun, last) = (String::new(), VecDeque::new());
        Self { context: &order.context, progress, base, begun, last }
    }

    fn hear(&mut self, text: &str) {
        self.begun.push_str(text);
        while let Some(end) = self.begun.find('\n') {
            let line: String = self.begun.drain(..=end).collect();
            self.say(&line);
        }
    }

    fn flush(&mut self) {
        let line = std::mem::take(&mut self.begun);
        self.say(&line);
    }

    fn say(&mut self, line: &str) {
        let line = PAINT.iter().fold(line.to_owned(), |line, paint| line.replace(paint, ""));
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        (self.progress)(format!("  | {line}").into());
        self.last.push_back(line.to_owned());
        if self.last.len() > LAST_LINES {
            self.last.pop_front();
        }
    }

    fn failed(&mut self, why: &str) -> DockerError {
        let rest = std::mem::take(&mut self.begun);
        let lines = self.last.drain(..).chain([rest, why.to_owned()]);
        let lines: Vec<String> = lines.filter(|line| !line.trim().is_empty()).collect();
        DockerError::Build { context: self.context.to_owned(), log: lines.join("\n") }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Mutex;

    use super::super::image::Said;
    use super::*;

    fn order() -> BuildOrder {
        BuildOrder {
            context: "img".to_owned(),
            files: vec![
                ("Dockerfile".to_owned(), FileKind::Plain, b"FROM x".to_vec()),
                ("bin/run".to_owned(), FileKind::Executable, b"#!/bin/sh".to_vec()),
                ("link".to_owned(), FileKind::Link, b"bin/run".to_vec()),
                (format!("{}/deep", "long".repeat(60)), FileKind::Plain, b"x".to_vec()),
            ],
            dockerfile: "Dockerfile".to_owned(),
            args: std::collections::BTreeMap::new(),
            digest: "d".to_owned(),
        }
    }

    #[test]
    fn a_context_travels_with_modes_and_links() {
        let bytes = archive(&order()).unwrap();
        assert_eq!(bytes, archive(&order()).unwrap());
        let mut found = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((path, entry.header().mode().unwrap(), link, text));
        }
        let plain = |path: &str, mode, text: &str| (path.to_owned(), mode, None, text.to_owned());
        assert_eq!(found[0], plain("Dockerfile", 0o644, "FROM x"));
        assert_eq!(found[1], plain("bin/run", 0o755, "#!/bin/sh"));
        assert_eq!(found[2].2.as_deref(), Some("bin/run"));
        assert!(found[3].0.ends_with("/deep"));
    }

    #[test]
    fn what_a_build_says_comes_in_lines() {
        let said = Mutex::new(Vec::new());
        let progress = |one: Said| said.lock().unwrap().extend(one.lasting());
        let order = order();
        let mut told = Told::new(&order, &progress);
        told.hear("Step 1/2 : FROM x\n --->");
        told.hear(" abc\n\u{1b}[91mbad\n\u{1b}[0mend");
        let DockerError::Build { log, .. } = told.failed("code 1") else { panic!() };
        assert_eq!(log, "Step 1/2 : FROM x\n ---> abc\nbad\n\u{1b}[0mend\ncode 1");
        let said = said.into_inner().unwrap();
        assert_eq!(said, ["  | Step 1/2 : FROM x", "  |  ---> abc", "  | bad"]);
    }
}
