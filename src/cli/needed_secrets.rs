//! Every secret of every stage that may run is there and can be opened, before the first stage starts.

use std::collections::{BTreeMap, BTreeSet};

use super::error::CliError;
use super::place::Place;
use super::prepare::Prepared;
use super::secret::near::nearest;
use crate::address::Wanted;
use crate::handover::{self, Hindrance, set_line};
use crate::secret::{SecretId, SecretUse};
use crate::spec::pipeline::Input;
use crate::words::list;

/// Checks all secrets at once, and notes the versions that decide whether a service is released anew.
pub(crate) async fn check(place: &Place, prepared: Prepared) -> Result<Prepared, CliError> {
    let (prepared, missing) = look(place, prepared).await?;
    missing.map_or(Ok(prepared), Err)
}

/// The same; what is missing comes beside.
pub(crate) async fn look(
    place: &Place,
    mut prepared: Prepared,
) -> Result<(Prepared, Option<CliError>), CliError> {
    let mut missing = None;
    let mut users: BTreeMap<SecretId, BTreeSet<String>> = BTreeMap::new();
    let mut wanted: Vec<SecretUse> = Vec::new();
    for stage in prepared.asked.stages_to_run() {
        for one in stage.secrets.values() {
            users.entry(one.id.clone()).or_default().insert(format!("`{}`", stage.name));
            wanted.push(one.clone());
        }
        for input in stage.inputs.values() {
            if let Input::Outside { wanted: Wanted { token: Some(id), .. }, .. } = input {
                users.entry(id.clone()).or_default().insert(format!("`{}`", stage.name));
                wanted.push(SecretUse { id: id.clone(), file: false, optional: false });
            }
        }
    }
    if !wanted.is_empty() {
        let vault = place.vault()?;
        let hindrances = handover::check(&place.state, Some(&vault), &wanted).await?;
        if !hindrances.is_empty() {
            let known: Vec<SecretId> =
                place.state.secrets().await?.into_iter().map(|row| row.id).collect();
            missing = Some(refusal(&hindrances, &users, &known));
        }
    }
    prepared.secret_versions = handover::versions(&place.state).await?;
    Ok((prepared, missing))
}

fn refusal(
    hindrances: &[Hindrance],
    users: &BTreeMap<SecretId, BTreeSet<String>>,
    known: &[SecretId],
) -> CliError {
    let said = hindrances.iter().map(|hindrance| {
        let stages: Vec<&str> = users[hindrance.id()].iter().map(String::as_str).collect();
        let noun = if stages.len() == 1 { "stage" } else { "stages" };
        let near = match hindrance {
            Hindrance::Missing(id) => nearest(id, known),
            Hindrance::Closed { .. } => None,
        };
        let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        format!("{noun} {}: {hindrance}{near}", list(&stages))
    });
    let said: Vec<String> = said.collect();
    let message = match &said[..] {
        [one] => one.clone(),
        many => format!("{} secrets cannot be had\n  {}", many.len(), many.join("\n  ")),
    };
    // One sentence for all that are closed in the same way; a line for each that is missing.
    let mut help: Vec<String> = Vec::new();
    for hindrance in hindrances.iter().filter(|one| !matches!(one, Hindrance::Missing(_))) {
        help.extend(hindrance.help().filter(|sentence| !help.contains(sentence)));
    }
    let missing = hindrances.iter().filter(|one| matches!(one, Hindrance::Missing(_)));
    let lines: Vec<String> = missing.map(|one| format!("  {}", set_line(one.id()))).collect();
    if !lines.is_empty() {
        help.push(format!("set what is missing:\n{}", lines.join("\n")));
    }
    CliError::missing(message, help.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::VaultError;

    fn id(group: &str, name: &str) -> SecretId {
        SecretId { group: group.into(), name: name.into(), entry: "KEY".into() }
    }

    fn users(all: &[(&SecretId, &[&str])]) -> BTreeMap<SecretId, BTreeSet<String>> {
        let stages = |stages: &[&str]| stages.iter().map(|stage| format!("`{stage}`")).collect();
        all.iter().map(|(id, of)| ((*id).clone(), stages(of))).collect()
    }

    #[test]
    fn everything_in_the_way_is_said_at_once_with_its_mend() {
        let (aws, db, old) = (id("", "aws"), id("prod", "db"), id("", "old"));
        let users = users(&[(&aws, &["train"]), (&db, &["a", "b"]), (&old, &["a"])]);
        let hindrances = [
            Hindrance::Missing(aws.clone()),
            Hindrance::Closed { id: old, why: VaultError::Damaged },
            Hindrance::Missing(db),
        ];
        let error = refusal(&hindrances, &users, &[]);
        assert_eq!(
            error.to_string(),
            "3 secrets cannot be had\n  stage `train`: secret `aws#KEY` is not set\n  \
             stage `a`: secret `old#KEY` cannot be opened: what is kept of it is damaged\n  \
             stages `a` and `b`: secret `prod/db#KEY` is not set"
        );
        assert_eq!(
            error.help().unwrap(),
            "set it again with `flowrun secret set`\nset what is missing:\n  flowrun secret set aws KEY\n  \
             flowrun secret set --group prod db KEY"
        );
        assert_eq!(error.exit(), crate::cli::exit::Exit::Unreachable);
        let one = refusal(&[Hindrance::Missing(aws)], &users, &[id("", "asw")]);
        assert_eq!(
            one.to_string(),
            "stage `train`: secret `aws#KEY` is not set; did you mean `asw#KEY`?"
        );
    }
}
