//! `flowrun secret`: keeps values for stages, sealed. No value is ever shown.

pub(crate) mod near;
mod prompt;
mod set;
mod value;

use serde_json::json;

use super::args::{LsArgs, RmArgs, SecretArgs, SecretCommand};
use super::clock;
use super::error::CliError;
use super::exit::Exit;
use super::place::Place;
use super::question;
use super::screen::Screen;
use super::settings::Settings;
use crate::report::{secrets_json, secrets_text};
use crate::secret::{SecretId, is_word};
use crate::state::SecretRow;
use crate::words::{count, list};

/// Does what the words say.
pub(crate) async fn secret(
    args: SecretArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    match args.command {
        SecretCommand::Set(args) => set::set(args, settings, screen).await,
        SecretCommand::Ls(args) => ls(args, settings, screen).await,
        SecretCommand::Rm(args) => rm(args, settings, screen).await,
    }
}

async fn ls(args: LsArgs, settings: &Settings, screen: Screen) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let mut rows = place.state.secrets().await?;
    if let Some(group) = &args.group {
        rows.retain(|row| row.id.group == *group);
    }
    if args.output.json() {
        screen.json(&secrets_json(&rows))?;
    } else {
        screen.data(&secrets_text(clock::now(), &rows, screen.colour_out))?;
    }
    Ok(Exit::Done)
}

async fn rm(args: RmArgs, settings: &Settings, screen: Screen) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let rows = place.state.secrets().await?;
    let is_meant = |id: &SecretId| {
        id.group == args.group
            && id.name == args.name
            && args.entry.as_ref().is_none_or(|entry| *entry == id.entry)
    };
    let meant: Vec<String> =
        rows.iter().filter(|row| is_meant(&row.id)).map(|row| format!("`{}`", row.id)).collect();
    if meant.is_empty() {
        return Err(unknown(&args, &rows));
    }
    let users = live_users(&place, is_meant).await?;
    agree(&args, &meant, &users, screen)?;
    let (group, name, entry) = (&args.group, &args.name, args.entry.as_deref());
    let gone = place.state.remove_secret(group, name, entry, clock::now()).await?;
    screen.say(&format!("removed {}", list(&meant)));
    if args.output.json() {
        screen.json(&json!({"removed": gone, "used_by": users}))?;
    }
    Ok(Exit::Done)
}

/// Says who needs it, and asks unless that was answered beforehand.
fn agree(
    args: &RmArgs,
    meant: &[String],
    users: &[String],
    screen: Screen,
) -> Result<(), CliError> {
    let warning = match users {
        [] => String::new(),
        [one] => {
            format!("{one} is live and uses this: without it its replicas cannot be started anew\n")
        }
        many => {
            format!(
                "{} are live and use this: without it their replicas cannot be started anew\n",
                list(many)
            )
        }
    };
    if args.yes {
        screen.say(warning.trim_end());
        return Ok(());
    }
    let what = list(meant);
    if !question::can_be_asked() {
        let number = count(meant.len(), "secret entry").replace("entrys", "entries");
        return Err(CliError::usage(
            format!(
                "{number} would be removed, and nobody is there to be asked\n{what}\n{}",
                warning.trim_end()
            ),
            "add `--yes`",
        ));
    }
    if question::yes(&format!("{warning}Remove {what}?"))? {
        Ok(())
    } else {
        Err(CliError::Interrupted("nothing was removed".into()))
    }
}

fn unknown(args: &RmArgs, rows: &[SecretRow]) -> CliError {
    let entry = args.entry.as_deref().unwrap_or_default();
    let id =
        SecretId { group: args.group.clone(), name: args.name.clone(), entry: entry.to_owned() };
    let wanted = id.to_string();
    let wanted = wanted.trim_end_matches('#');
    // Without an entry all of a secret is meant.
    let whole = |id: &SecretId| match entry {
        "" => SecretId { entry: String::new(), ..id.clone() },
        _ => id.clone(),
    };
    let known: Vec<SecretId> = rows.iter().map(|row| whole(&row.id)).collect();
    let spelled = near::taken_apart(&args.name, args.entry.as_deref());
    let meant = spelled.as_ref().and_then(|id| known.iter().find(|known| *known == id));
    let help = match meant.or_else(|| near::nearest(&id, &known)) {
        Some(near) => format!("did you mean `flowrun secret rm {}`?", near::words(near)),
        None => "see `flowrun secret ls`".to_owned(),
    };
    CliError::usage(format!("there is no secret `{wanted}`"), help)
}

/// The live releases that use secrets: `iris/serve@3`.
async fn live_users(
    place: &Place,
    is_meant: impl Fn(&SecretId) -> bool,
) -> Result<Vec<String>, CliError> {
    let mut users = Vec::new();
    for row in place.state.services(None).await? {
        let Some(live) = place.state.live_release(&row.service).await? else { continue };
        if live.behaviour.secrets.values().any(|secret| is_meant(&secret.takes.id)) {
            users.push(format!("`{}`", live.name()));
        }
    }
    Ok(users)
}

/// Names that no file could write. An empty one is a group that is none.
fn refuse_names(names: [Option<&String>; 3]) -> Result<(), CliError> {
    for name in names.into_iter().flatten() {
        if !name.is_empty() && !is_word(name) {
            let message = format!("`{}` is no name of a secret", crate::words::visible(name));
            let entry = names[1].map(String::as_str);
            let spelled = names[0].and_then(|name| near::taken_apart(name, entry));
            return Err(match spelled.filter(|id| !id.entry.is_empty()) {
                Some(id) => {
                    let words = near::words(&id);
                    CliError::usage(message, format!("write `flowrun secret set {words}`"))
                }
                None => CliError::usage(message, value::NAMES),
            });
        }
    }
    match names {
        [Some(name), ..] if name.is_empty() => {
            Err(CliError::usage("the name is empty", value::NAMES))
        }
        [_, Some(entry), _] if entry.is_empty() => {
            Err(CliError::usage("the entry is empty", value::NAMES))
        }
        _ => Ok(()),
    }
}
