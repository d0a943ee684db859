//! `flowrun secret set`.

use std::collections::BTreeSet;

use serde_json::json;

use super::value;
use super::{live_users, refuse_names};
use crate::cli::args::SetArgs;
use crate::cli::clock;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::place::Place;
use crate::cli::screen::Screen;
use crate::cli::settings::Settings;
use crate::secret::{SecretId, SecretText};
use crate::vault::{Vault, VaultError};
use crate::words::list;

/// Below so many bytes nothing is masked in logs.
const MASKABLE: usize = 4;

/// Seals the values and keeps them, all or none. What is there with the same value keeps its version.
pub(crate) async fn set(
    args: SetArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    refuse_values(&args)?;
    refuse_names([Some(&args.name), args.entry.as_ref(), Some(&args.group)])?;
    if args.entry.is_none() && args.env_file.is_none() {
        return Err(CliError::usage(
            format!("which entry of `{}` is not said", args.name),
            format!("write it after the name: `flowrun secret set {} ENTRY`", args.name),
        ));
    }
    let place = Place::open(settings).await?;
    let vault = place.vault()?;
    let caller = &settings.caller;
    let given = tokio::task::block_in_place(|| value::read(&args, caller))?;
    let given: Vec<(SecretId, SecretText)> =
        given.into_iter().map(|(entry, value)| (id(&args, entry), value)).collect();
    for (id, value) in &given {
        if value.reveal().trim_end_matches(['\r', '\n']).len() < MASKABLE {
            screen.warn(&format!(
                "the value of `{id}` is shorter than {MASKABLE} bytes: logs will show it"
            ));
        }
    }
    is_the_key(&place, &vault, &given).await?;

    let mut fresh = Vec::new();
    let mut told = Vec::new();
    for (id, value) in &given {
        match place.state.sealed_secret(id).await? {
            Some((row, sealed)) if vault.unseal(&sealed).is_ok_and(|known| known == *value) => {
                told.push((id, row.version, false));
            }
            _ => fresh.push((id.clone(), vault.seal(value)?)),
        }
    }
    let versions = place.state.set_secrets(&fresh, clock::now()).await?;
    for ((id, _), version) in fresh.iter().zip(versions) {
        told.push((id, version, true));
    }
    told.sort();
    for (id, version, is_new) in &told {
        let what = if *is_new { "set" } else { "unchanged:" };
        screen.say(&format!("{what} `{id}`, version {version}"));
    }
    let changed: BTreeSet<&SecretId> = fresh.iter().map(|(id, _)| id).collect();
    let users = live_users(&place, |id| changed.contains(id)).await?;
    if !users.is_empty() {
        let verb = if users.len() == 1 { "has" } else { "have" };
        screen.say(&format!(
            "{} {verb} an earlier value until the next `flowrun apply`",
            list(&users)
        ));
    }
    if args.output.json() {
        let all = told.iter().map(|(id, version, is_new)| {
            json!({"group": id.group, "name": id.name, "entry": id.entry, "version": version, "changed": is_new})
        });
        screen.json(&all.collect())?;
    }
    Ok(Exit::Done)
}

fn id(args: &SetArgs, entry: String) -> SecretId {
    SecretId { group: args.group.clone(), name: args.name.clone(), entry }
}

/// A value among the arguments is in the history of the shell and in the list of processes by now.
fn refuse_values(args: &SetArgs) -> Result<(), CliError> {
    let entry = args.entry.as_deref().unwrap_or_default();
    if args.values.is_empty() && !entry.contains('=') {
        return Ok(());
    }
    let entry = entry.split('=').next().unwrap_or_default();
    Err(CliError::usage(
        "a value cannot be an argument: the history of the shell and everybody on this machine would have it",
        format!(
            "write `flowrun secret set {} {entry}` and type the value when it is asked for, or give it on stdin; \
             this one is no secret any more",
            args.name
        ),
    ))
}

/// Makes the key of a home that has no secrets yet; else the key must open what is there, or the home would need two.
async fn is_the_key(
    place: &Place,
    vault: &Vault,
    given: &[(SecretId, SecretText)],
) -> Result<(), CliError> {
    let rows = place.state.secrets().await?;
    if rows.is_empty() {
        return Ok(vault.make_key()?);
    }
    if !vault.has_key()? {
        let file = place.home.key();
        return Err(VaultError::Absent { file }.into());
    }
    let mut other = None;
    for row in rows.iter().filter(|row| given.iter().all(|(id, _)| *id != row.id)) {
        let Some((_, sealed)) = place.state.sealed_secret(&row.id).await? else { continue };
        match vault.unseal(&sealed) {
            Ok(_) => return Ok(()),
            Err(VaultError::OtherKey) => other = Some(&row.id),
            Err(_) => {}
        }
    }
    match other {
        None => Ok(()),
        Some(id) => Err(CliError::missing(
            format!("this is not the key of this home: `{id}` was sealed with another one"),
            "give the other key as `FLOWRUN_KEY` or as the file `key` of the home; when it is lost, remove what it \
             sealed with `flowrun secret rm` first",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_explained_where_they_are_refused() {
        let error = refuse_names([Some(&"a b".to_owned()), None, None]).unwrap_err();
        assert_eq!(error.help().unwrap(), value::NAMES);
    }
}
