//! What stages ask for → opened secrets, or everything that stands in the way. Joins the rows of the state with the key of the vault;
//! knows no stages and no runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::secret::{HandedSecret, SecretId, SecretText, SecretUse};
use crate::state::{State, StateError};
use crate::vault::{Vault, VaultError};

/// A secret that cannot be handed over: somebody's mishap, not the machinery's.
#[derive(Debug, thiserror::Error)]
pub enum Hindrance {
    /// Nobody set it, or somebody removed it.
    #[error("secret `{0}` is not set")]
    Missing(SecretId),
    /// It is there and cannot be opened.
    #[error("secret `{id}` cannot be opened: {why}")]
    Closed {
        /// Which.
        id: SecretId,
        /// Why.
        why: VaultError,
    },
}

impl Hindrance {
    /// Which secret.
    pub fn id(&self) -> &SecretId {
        match self {
            Self::Missing(id) | Self::Closed { id, .. } => id,
        }
    }

    /// What to do, one imperative sentence.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Missing(id) => Some(format!("set it with `{}`", set_line(id))),
            Self::Closed { why, .. } => why.help(),
        }
    }

    /// The sentence with what to do, for where there is one line.
    pub fn with_help(&self) -> String {
        self.help().map_or_else(|| self.to_string(), |help| format!("{self}; {help}"))
    }
}

/// The command that sets a secret.
pub fn set_line(id: &SecretId) -> String {
    let SecretId { group, name, entry } = id;
    let group = if group.is_empty() { String::new() } else { format!("--group {group} ") };
    format!("flowrun secret set {group}{name} {entry}")
}

/// Opens what the variables take. Optional secrets that are not set are left out; of the others the first that cannot be had is the
/// inner error. `vault`: none where nothing can be opened.
pub async fn open(
    state: &State,
    vault: Option<&Vault>,
    uses: impl IntoIterator<Item = (&String, &SecretUse)>,
) -> Result<Result<Vec<HandedSecret>, Hindrance>, StateError> {
    let mut handed = Vec::new();
    for (variable, wanted) in uses {
        match one(state, vault, &wanted.id).await? {
            Ok(value) => {
                handed.push(HandedSecret { variable: variable.clone(), value, file: wanted.file });
            }
            Err(Hindrance::Missing(_)) if wanted.optional => {}
            Err(hindrance) => return Ok(Err(hindrance)),
        }
    }
    Ok(Ok(handed))
}

/// Opens the one secret that is sent somewhere, if there is one.
pub async fn token(
    state: &State,
    vault: Option<&Vault>,
    id: Option<&SecretId>,
) -> Result<Result<Option<SecretText>, Hindrance>, StateError> {
    match id {
        Some(id) => Ok(one(state, vault, id).await?.map(Some)),
        None => Ok(Ok(None)),
    }
}

/// Tries to open each of these once and says everything that stands in the way, by secret. Nothing of a value is kept.
pub async fn check<'u>(
    state: &State,
    vault: Option<&Vault>,
    uses: impl IntoIterator<Item = &'u SecretUse>,
) -> Result<Vec<Hindrance>, StateError> {
    let mut wanted: BTreeMap<&SecretId, bool> = BTreeMap::new();
    for one in uses {
        // Optional only where it is so for everybody.
        *wanted.entry(&one.id).or_insert(true) &= one.optional;
    }
    let mut hindrances = Vec::new();
    for (id, optional) in wanted {
        match one(state, vault, id).await? {
            Ok(_) => {}
            Err(Hindrance::Missing(_)) if optional => {}
            Err(hindrance) => hindrances.push(hindrance),
        }
    }
    Ok(hindrances)
}

/// The versions of all secrets that are there.
pub async fn versions(state: &State) -> Result<BTreeMap<SecretId, u64>, StateError> {
    let rows = state.secrets().await?;
    Ok(rows.into_iter().map(|row| (row.id, row.version)).collect())
}

/// Those of a release whose version is another now, with both; none: not there.
pub async fn moved<'r>(
    state: &State,
    released: impl IntoIterator<Item = &'r crate::release::ReleasedSecret>,
) -> Result<Vec<(SecretId, Option<u64>, Option<u64>)>, StateError> {
    let now = versions(state).await?;
    let mut seen = BTreeSet::new();
    let released = released.into_iter().filter(|one| seen.insert(&one.takes.id));
    let both = released.map(|one| (&one.takes.id, one.version, now.get(&one.takes.id).copied()));
    Ok(both
        .filter(|(_, then, now)| then != now)
        .map(|(id, then, now)| (id.clone(), then, now))
        .collect())
}

async fn one(
    state: &State,
    vault: Option<&Vault>,
    id: &SecretId,
) -> Result<Result<SecretText, Hindrance>, StateError> {
    let Some((_, sealed)) = state.sealed_secret(id).await? else {
        return Ok(Err(Hindrance::Missing(id.clone())));
    };
    let absent = || VaultError::Absent { file: "key".into() };
    let opened = vault.ok_or_else(absent).and_then(|vault| vault.unseal(&sealed));
    Ok(opened.map_err(|why| Hindrance::Closed { id: id.clone(), why }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::ReleasedSecret;

    struct Scene {
        _home: tempfile::TempDir,
        state: State,
        vault: Vault,
    }

    impl Scene {
        async fn with(values: &[(&str, &str)]) -> Self {
            let home = tempfile::tempdir().unwrap();
            let state = State::open(home.path()).await.unwrap();
            let vault = Vault::open(None, &home.path().join("key")).unwrap();
            vault.make_key().unwrap();
            let scene = Self { _home: home, state, vault };
            for (name, value) in values {
                let sealed = scene.vault.seal(&SecretText::new((*value).to_owned())).unwrap();
                scene.state.set_secrets(&[(id(name), sealed)], 1).await.unwrap();
            }
            scene
        }
    }

    fn id(name: &str) -> SecretId {
        SecretId { group: "g".into(), name: name.into(), entry: "E".into() }
    }

    fn wanted(name: &str, optional: bool) -> SecretUse {
        SecretUse { id: id(name), file: false, optional }
    }

    #[tokio::test]
    async fn what_is_there_is_opened_and_what_is_optional_may_be_missing() {
        let scene = Scene::with(&[("a", "value-a")]).await;
        let uses = BTreeMap::from([
            ("A".to_owned(), SecretUse { file: true, ..wanted("a", false) }),
            ("B".to_owned(), wanted("b", true)),
        ]);
        let handed = open(&scene.state, Some(&scene.vault), &uses).await.unwrap().unwrap();
        let value = SecretText::new("value-a".into());
        assert_eq!(handed, [HandedSecret { variable: "A".into(), value, file: true }]);

        scene.state.remove_secret("g", "a", None, 2).await.unwrap();
        let hindrance = open(&scene.state, Some(&scene.vault), &uses).await.unwrap().unwrap_err();
        assert_eq!(
            hindrance.with_help(),
            "secret `g/a#E` is not set; set it with `flowrun secret set --group g a E`"
        );
    }

    #[tokio::test]
    async fn everything_in_the_way_is_said_once() {
        let scene = Scene::with(&[("a", "value-a")]).await;
        scene.state.set_secrets(&[(id("broken"), "x".into())], 1).await.unwrap();
        let uses = [
            wanted("z", true),
            wanted("a", false),
            wanted("c", true),
            wanted("c", false),
            wanted("broken", true),
            wanted("b", false),
        ];
        let found = check(&scene.state, Some(&scene.vault), &uses).await.unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "secret `g/b#E` is not set",
                "secret `g/broken#E` cannot be opened: what is kept of it is damaged",
                "secret `g/c#E` is not set",
            ]
        );
        let without = check(&scene.state, None, &uses[1..2]).await.unwrap();
        assert!(matches!(&without[..], [Hindrance::Closed { why: VaultError::Absent { .. }, .. }]));
    }

    #[tokio::test]
    async fn versions_that_moved_are_found() {
        let scene = Scene::with(&[("a", "one"), ("b", "one"), ("a", "two")]).await;
        let released = |name: &str, version| ReleasedSecret { takes: wanted(name, false), version };
        let all = [released("a", Some(1)), released("b", Some(1)), released("c", Some(4))];
        assert_eq!(
            moved(&scene.state, &all).await.unwrap(),
            [(id("a"), Some(1), Some(2)), (id("c"), Some(4), None)]
        );
        assert_eq!(
            versions(&scene.state).await.unwrap(),
            BTreeMap::from([(id("a"), 2), (id("b"), 1)])
        );
    }
}
