//! Collecting what a job left, after its last process is gone.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::below::{Below, join, look};
use super::prepare::{WORK, target_in_inputs};
use super::{Collected, WorkOrder, WorkspaceError};
use crate::event::{Failure, Metrics, Outputs, Values};
use crate::names::{InputName, OutputName};
use crate::store::inspect::{UNREADABLE, inspect};
use crate::store::{EntryKind, Placed, Refused, Store};

/// Says whether a text shows a secret of the stage.
pub type IsSecret<'a> = &'a (dyn Fn(&str) -> bool + Sync);

/// Checks inputs, reads metrics and values, and takes the outputs into the store, where they soon become durable.
///
/// Everything is checked before anything is taken in, so a failed attempt keeps its work folder as the job left it. Nothing is removed
/// (see [`super::remove`]), so after a crash at any instant a second call gives the same result.
pub async fn collect(
    order: &WorkOrder<'_>,
    store: &dyn Store,
    is_secret: IsSecret<'_>,
) -> Result<Result<Collected, Failure>, WorkspaceError> {
    if let Some(input) = changed_input(order, store).await? {
        return Ok(Err(Failure::InputChanged { input }));
    }
    let base = join(&order.attempt.join(WORK), &order.snapshot.id.base);
    let mut places: Vec<(&OutputName, &str, PathBuf)> = Vec::new();
    for (output, path) in order.outputs {
        match find_output(&base, output, path)? {
            Ok(place) => places.push((output, path, place)),
            Err(failure) => return Ok(Err(failure)),
        }
    }
    let (metrics, values) = match reported(&base, order, is_secret)? {
        Ok(reported) => reported,
        Err(failure) => return Ok(Err(failure)),
    };
    let mut outputs = Outputs::new();
    for (output, path, place) in places {
        match store.take_in(&place, order.traffic).await? {
            Ok(digest) => outputs.insert(output.clone(), digest),
            Err(refused) => return Ok(Err(failure_of(output, path, refused))),
        };
    }
    store.sync().await?;
    Ok(Ok(Collected { outputs, metrics, values }))
}

/// The first input that the stage wrote into; its blob is put out of reach. To be asked also when the job failed: the next stage would
/// read what this one wrote.
pub async fn changed_input(
    order: &WorkOrder<'_>,
    store: &dyn Store,
) -> Result<Option<InputName>, WorkspaceError> {
    let base = join(&order.attempt.join(WORK), &order.snapshot.id.base);
    let mut first = None;
    for (name, input) in order.inputs {
        let target = match &input.path {
            Some(path) => join(&base, path),
            None => target_in_inputs(order, store, name, input, false).await?,
        };
        let placed: Vec<Placed> = store
            .entries(&input.digest)
            .await?
            .into_iter()
            .filter_map(|entry| match entry.kind {
                // Executable and empty files are never links.
                EntryKind::File { digest, size, exec: false } if size > 0 => {
                    Some(Placed { digest, size, path: join(&target, &entry.path) })
                }
                _ => None,
            })
            .collect();
        if !store.changed(&placed).await?.is_empty() {
            first.get_or_insert_with(|| name.clone());
        }
    }
    Ok(first)
}

fn find_output(
    base: &Path,
    output: &OutputName,
    path: &str,
) -> Result<Result<PathBuf, Failure>, WorkspaceError> {
    let refused =
        |why: String| Failure::OutputRefused { output: output.clone(), path: path.to_owned(), why };
    let looked = match look(base, path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Ok(Err(refused(UNREADABLE.to_owned())));
        }
        looked => looked?,
    };
    let place = match looked {
        Below::There(place, _) => place,
        Below::Nothing => return Ok(Err(failure_of(output, path, Refused::Missing))),
        Below::Through(part) => {
            return Ok(Err(refused(format!("lies behind `{part}`, which is not a folder"))));
        }
        Below::Outside => return Ok(Err(refused("is not below the base".to_owned()))),
    };
    Ok(match inspect(&place)? {
        Ok(_) => Ok(place),
        Err(refused) => Err(failure_of(output, path, refused)),
    })
}

fn failure_of(output: &OutputName, path: &str, refused: Refused) -> Failure {
    let output = output.clone();
    match refused {
        Refused::Missing => Failure::OutputMissing { output, path: path.to_owned() },
        Refused::Kind { path: inner, why } => {
            let whole = path.trim_end_matches('/');
            let path = if inner == "." { whole.to_owned() } else { format!("{whole}/{inner}") };
            Failure::OutputRefused { output, path, why }
        }
    }
}

fn reported(
    base: &Path,
    order: &WorkOrder<'_>,
    is_secret: IsSecret<'_>,
) -> Result<Result<(Metrics, Values), Failure>, WorkspaceError> {
    let metrics = match order.metrics {
        Some(path) => without_secrets(super::reported::metrics(base, path)?, is_secret),
        None => Ok(Metrics::new()),
    };
    let values = match order.values {
        Some(path) => without_secrets(super::reported::values(base, path)?, is_secret),
        None => Ok(Values::new()),
    };
    Ok(match (metrics, values) {
        (Ok(metrics), Ok(values)) => Ok((metrics, values)),
        (Err(why), _) => Err(Failure::MetricsInvalid { why }),
        (_, Err(why)) => Err(Failure::ValuesInvalid { why }),
    })
}

/// What is reported is written down, compared and shown, so a secret in it is refused, and named by where it stands.
fn without_secrets<T: ToString>(
    found: Result<BTreeMap<String, T>, String>,
    is_secret: IsSecret<'_>,
) -> Result<BTreeMap<String, T>, String> {
    let said = match &found {
        Ok(entries) if entries.keys().any(|name| is_secret(name)) => "a name in it".to_owned(),
        Ok(entries) => {
            let mut values = entries.iter();
            match values.find(|(_, value)| is_secret(&value.to_string())) {
                Some((name, _)) => format!("`{name}`"),
                None => return found,
            }
        }
        Err(why) if is_secret(why) => "what is wrong with it".to_owned(),
        Err(_) => return found,
    };
    Err(format!("{said} shows a secret of the stage; report something else"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::Scalar;

    #[test]
    fn a_reported_secret_is_named_by_its_place() {
        let is_secret = |text: &str| text.contains("hunter22");
        let why = |name: &str, value: &str| {
            let values = Values::from([(name.to_owned(), Scalar::Text(value.to_owned()))]);
            without_secrets(Ok(values), &is_secret).unwrap_err()
        };
        assert_eq!(
            why("url", "db:hunter22@h"),
            "`url` shows a secret of the stage; report something else"
        );
        assert!(why("hunter22", "x").starts_with("a name in it shows"));
        let said =
            without_secrets::<f64>(Err("metric `hunter22` is a text".to_owned()), &is_secret);
        assert!(!said.unwrap_err().contains("hunter22"));
        let good = Metrics::from([("accuracy".to_owned(), 0.9)]);
        assert_eq!(without_secrets(Ok(good.clone()), &is_secret), Ok(good));
    }
}
