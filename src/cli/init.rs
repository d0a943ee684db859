//! `flowrun init`: a small working pipeline.

use std::io::Write;
use std::path::Path;

use fs_err::OpenOptions;

use super::args::InitArgs;
use super::error::CliError;
use super::exit::Exit;
use super::screen::Screen;
use super::settings::Caller;
use crate::names::PipelineName;
use crate::words::shell_word;

/// The files of the template; only the standard library of Python is needed.
const FILES: &[(&str, &str)] = &[
    ("pipeline.yaml", include_str!("../../templates/starter/pipeline.yaml")),
    ("prepare.py", include_str!("../../templates/starter/prepare.py")),
    ("train.py", include_str!("../../templates/starter/train.py")),
    ("evaluate.py", include_str!("../../templates/starter/evaluate.py")),
];

/// Writes the template. Nothing is overwritten: if one of its files exists, none is written.
pub(crate) fn init(args: &InitArgs, caller: &Caller, screen: Screen) -> Result<Exit, CliError> {
    let folder = caller.folder.join(&args.folder);
    if let Some((name, _)) =
        FILES.iter().find(|(name, _)| folder.join(name).symlink_metadata().is_ok())
    {
        return Err(CliError::usage(
            format!("`{}` exists", args.folder.join(name).display()),
            "name another folder; nothing is overwritten",
        ));
    }
    fs_err::create_dir_all(&folder)?;
    let name = pipeline_name(&folder);
    for (file, text) in FILES {
        let mut to = OpenOptions::new().write(true).create_new(true).open(folder.join(file))?;
        to.write_all(text.replace("name: starter", &format!("name: {name}")).as_bytes())?;
        screen.say(&format!("wrote {}", args.folder.join(file).display()));
    }
    let target = args.folder.display().to_string();
    let argument = if target == "." { String::new() } else { format!(" {}", shell_word(&target)) };
    screen.say(&format!("next: `flowrun plan{argument}`, then `flowrun apply{argument}`"));
    Ok(Exit::Done)
}

/// A pipeline name made of the folder's: lower case, everything else a hyphen.
fn pipeline_name(folder: &Path) -> PipelineName {
    let name = fs_err::canonicalize(folder)
        .ok()
        .and_then(|path| Some(path.file_name()?.to_str()?.to_ascii_lowercase()))
        .unwrap_or_default();
    let mut slug = String::new();
    for character in name.chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug: String =
        slug.trim_start_matches(|c: char| !c.is_ascii_lowercase()).chars().take(40).collect();
    slug.trim_end_matches('-').parse().unwrap_or_else(|_| default_name())
}

fn default_name() -> PipelineName {
    "starter".parse().unwrap_or_else(|_| unreachable!("the template's own name is one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_folders() {
        let parent = tempfile::tempdir().unwrap();
        for (folder, name) in
            [("My Demo_2", "my-demo-2"), ("007-x-", "x"), ("___", "starter"), ("a.b", "a-b")]
        {
            let path = parent.path().join(folder);
            fs_err::create_dir(&path).unwrap();
            assert_eq!(pipeline_name(&path).as_str(), name);
        }
    }

    #[test]
    fn the_template_names_only_its_own_files() {
        let pipeline = FILES[0].1;
        assert!(pipeline.contains("name: starter"));
        for (name, _) in &FILES[1..] {
            assert!(pipeline.contains(name), "{name} is not used");
        }
    }
}
