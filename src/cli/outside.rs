//! Inputs from outside before a run: what is known of them without fetching them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::error::CliError;
use super::place::Place;
use super::prepare::Prepared;
use crate::address::Wanted;
use crate::digest::Digest;
use crate::handover;
use crate::names::{InputName, StageName};
use crate::outside::{Outlook, Outside};
use crate::plan::OutsideFact;
use crate::spec::pipeline::Input;

/// Sources asked at once.
const AT_ONCE: usize = 8;

/// Asks each source once.
pub(super) async fn look(
    place: &Place,
    prepared: &Prepared,
) -> Result<BTreeMap<Digest, OutsideFact>, CliError> {
    let mut all: BTreeMap<Digest, (StageName, InputName, Wanted)> = BTreeMap::new();
    for stage in prepared.asked.stages_of_run() {
        for (name, input) in &stage.inputs {
            if let Input::Outside { wanted, .. } = input {
                let asked = || (stage.name.clone(), name.clone(), wanted.clone());
                all.entry(wanted.id()).or_insert_with(asked);
            }
        }
    }
    let outside = Outside::new(place.outside(), Arc::clone(&place.store));
    let outside = &outside;
    let takes_tokens = all.values().any(|(_, _, wanted)| wanted.token.is_some());
    let vault = if takes_tokens { Some(place.vault()?) } else { None };
    let vault = vault.as_deref();
    let looks = stream::iter(all).map(|(id, (stage, input, wanted))| async move {
        // That a secret is missing is said of all of them together.
        let Ok(token) = handover::token(&place.state, vault, wanted.token.as_ref()).await? else {
            return Ok((id, OutsideFact::NotFetched));
        };
        match outside.look(&wanted, token.as_ref()).await {
            Ok(outlook) => Ok((id, fact(outlook))),
            Err(error) => Err(CliError::Outside { stage, input, error }),
        }
    });
    looks.buffer_unordered(AT_ONCE).try_collect().await
}

fn fact(outlook: Outlook) -> OutsideFact {
    match outlook {
        Outlook::Known(artifact) => OutsideFact::Fetched(artifact),
        Outlook::Changed => OutsideFact::Changed,
        Outlook::NotFetched | Outlook::Untold => OutsideFact::NotFetched,
    }
}
