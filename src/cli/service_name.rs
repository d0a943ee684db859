//! Services and releases as people name them: `iris/serve`, `serve` where only one pipeline has it; `serve@3`, or the beginning of an id.

use std::collections::BTreeSet;

use super::error::CliError;
use crate::names::{ServiceId, suggest};
use crate::state::{ReleaseRow, ServiceHome, ServiceRow, State, StateError};
use crate::words::{short_list, visible};

/// How many candidates a message names.
const NAMED: usize = 5;

/// A service that is there: live, or about to be for the first time.
pub(crate) async fn find_service(state: &State, text: &str) -> Result<ServiceRow, CliError> {
    let mut rows = state.services(None).await?;
    let ids: Vec<ServiceId> = rows.iter().map(|row| row.service.clone()).collect();
    match named(text, &ids)? {
        Some(at) => Ok(rows.swap_remove(at)),
        None => Err(match known(state).await {
            Ok(all) => match named(text, &all) {
                Ok(Some(at)) => taken_down(&all[at]),
                _ => no_service(text, &ids),
            },
            Err(error) => error,
        }),
    }
}

/// A service that this home keeps up, for what only its own server can do.
pub(crate) async fn find_service_here(state: &State, text: &str) -> Result<ServiceRow, CliError> {
    let mut found = here(vec![find_service(state, text).await?], true)?;
    Ok(found.remove(0))
}

/// Those that this home keeps up. Another one among them is an error when it was asked for.
pub(crate) fn here(
    mut rows: Vec<ServiceRow>,
    was_asked_for: bool,
) -> Result<Vec<ServiceRow>, CliError> {
    let other = rows.iter().find(|row| row.home != ServiceHome::This);
    if let Some(row) = other.filter(|_| was_asked_for) {
        let (service, home) = (row.service.clone(), row.home.to_string());
        return Err(StateError::ServedElsewhere { service, home }.into());
    }
    rows.retain(|row| row.home == ServiceHome::This);
    Ok(rows)
}

/// Every service of a pipeline, one service, or without a text all there are; what `down` works on. Never an empty list for a text.
pub(crate) async fn find_services(
    state: &State,
    text: Option<&str>,
) -> Result<Vec<ServiceRow>, CliError> {
    let Some(text) = text else { return Ok(state.services(None).await?) };
    let rows = state.services(None).await?;
    let pipeline = text.strip_suffix('/').unwrap_or(text);
    let of_pipeline = |row: &ServiceRow| row.service.pipeline.as_str() == pipeline;
    let is_service = |row: &ServiceRow| row.service.stage.as_str() == text && !of_pipeline(row);
    if !rows.iter().any(of_pipeline) {
        return Ok(vec![find_service(state, text).await?]);
    }
    if rows.iter().any(is_service) {
        return Err(CliError::usage(
            format!("`{text}` is a pipeline and a service"),
            format!("write `{text}/` for the pipeline, or `PIPELINE/{text}` for the service"),
        ));
    }
    Ok(rows.into_iter().filter(of_pipeline).collect())
}

/// A service that is there or has releases in the history.
pub(crate) async fn find_service_id(state: &State, text: &str) -> Result<ServiceId, CliError> {
    let all = known(state).await?;
    let at = named(text, &all)?.ok_or_else(|| no_service(text, &all))?;
    Ok(all[at].clone())
}

/// The release that `serve@3`, `iris/serve@3`, an id or the beginning of one names.
pub(crate) async fn find_release(state: &State, text: &str) -> Result<ReleaseRow, CliError> {
    if let Some((service, number)) = text.rsplit_once('@') {
        let service = find_service_id(state, service).await?;
        return find_release_of(state, &service, number).await;
    }
    let start = text.to_ascii_uppercase();
    let rows = state.releases(None).await?;
    let mut found = rows.into_iter().filter(|row| row.release.id.to_string().starts_with(&start));
    match (found.next(), found.next()) {
        (Some(one), None) if !text.is_empty() => Ok(one),
        (Some(one), Some(other)) if !text.is_empty() => {
            let ids = [one, other].into_iter().chain(found);
            let ids: Vec<String> = ids.map(|row| format!("`{}`", row.release.id)).collect();
            Err(CliError::usage(
                format!("several releases begin with `{text}`"),
                format!("give more of the id: {}", short_list(&ids, NAMED)),
            ))
        }
        _ => Err(match find_service_id(state, text).await {
            Ok(service) => CliError::usage(
                format!("`{text}` is a service, and no release is named"),
                format!("write `{text}@N`; they are in `flowrun releases {service}`"),
            ),
            Err(_) => CliError::usage(
                format!("there is no release `{}`", visible(text)),
                "write `SERVICE@N` or the beginning of an id; they are in `flowrun releases`",
            ),
        }),
    }
}

/// The release of a service that `3`, `@3` or `serve@3` names.
pub(crate) async fn find_release_of(
    state: &State,
    service: &ServiceId,
    text: &str,
) -> Result<ReleaseRow, CliError> {
    let digits = match text.rsplit_once('@') {
        None | Some(("", _)) => text.trim_start_matches('@'),
        Some((name, digits)) if name == service.stage.as_str() || name == service.to_string() => {
            digits
        }
        Some((name, _)) => {
            return Err(CliError::usage(
                format!("`{}` is a release of `{}`", visible(text), visible(name)),
                format!("name a release of `{service}`"),
            ));
        }
    };
    let number: u64 = digits.parse().map_err(|_| {
        CliError::usage(
            format!("`{}` is no number of a release", visible(digits)),
            format!("write one of `flowrun releases {service}`"),
        )
    })?;
    let mut rows = state.releases(Some(service)).await?;
    if let Some(at) = rows.iter().position(|row| row.release.number == number) {
        return Ok(rows.swap_remove(at));
    }
    let numbers: Vec<String> = rows.iter().map(|row| format!("`{}`", row.release.number)).collect();
    let help = if numbers.is_empty() {
        "it has none yet; `flowrun apply` makes the first".to_owned()
    } else {
        format!("use one of {}", short_list(&numbers, NAMED))
    };
    Err(CliError::usage(format!("`{service}` has no release {number}"), help))
}

/// Every service that is there or has releases, by name.
async fn known(state: &State) -> Result<Vec<ServiceId>, CliError> {
    let mut all: BTreeSet<ServiceId> =
        state.services(None).await?.into_iter().map(|row| row.service).collect();
    all.extend(state.releases(None).await?.into_iter().map(|row| row.release.service));
    Ok(all.into_iter().collect())
}

/// The place of the service that `text` names; an error when it names several.
fn named(text: &str, services: &[ServiceId]) -> Result<Option<usize>, CliError> {
    if let Some(at) = services.iter().position(|service| service.to_string() == text) {
        return Ok(Some(at));
    }
    let short: Vec<usize> =
        (0..services.len()).filter(|&at| services[at].stage.as_str() == text).collect();
    match short.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        many => {
            let names: Vec<String> = many.iter().map(|&at| format!("`{}`", services[at])).collect();
            Err(CliError::usage(
                format!("several pipelines have a service `{text}`"),
                format!("name one: {}", short_list(&names, NAMED)),
            ))
        }
    }
}

fn no_service(text: &str, services: &[ServiceId]) -> CliError {
    let whole: Vec<String> = services.iter().map(ToString::to_string).collect();
    let names = services.iter().map(|service| service.stage.as_str());
    let near = suggest(text, whole.iter().map(String::as_str).chain(names));
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if whole.is_empty() => {
            "there is none yet; `flowrun apply` makes those of a pipeline".to_owned()
        }
        None => {
            let names: Vec<String> = whole.iter().map(|name| format!("`{name}`")).collect();
            format!("use one of {}", short_list(&names, NAMED))
        }
    };
    CliError::usage(format!("there is no service `{}`", visible(text)), help)
}

fn taken_down(service: &ServiceId) -> CliError {
    CliError::usage(
        format!("the service `{service}` is not there any more"),
        format!("see what it was with `flowrun releases {service}`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;
    use crate::names::ReleaseId;
    use crate::release::testing::{behaviour, notes, service};

    /// `iris/serve` with two releases, `digits/serve` with one, `iris/web` with one and no more there.
    async fn state(home: &std::path::Path) -> State {
        let state = State::open(home).await.unwrap();
        for (number, name) in
            [(1, "iris/serve"), (2, "digits/serve"), (3, "iris/web"), (4, "iris/serve")]
        {
            let id = ReleaseId::new(1_700_000_000_000 * number, u128::from(number));
            let service = service(name);
            let live = state.live_release(&service).await.unwrap().map(|release| release.id);
            let made = state.create_release(id, &service, behaviour(), notes(), number);
            state.promote(&made.await.unwrap(), live, number).await.unwrap();
        }
        state.remove_service(&service("iris/web"), 9).await.unwrap();
        state
    }

    fn refused<T>(found: Result<T, CliError>) -> (String, String) {
        let error = found.err().unwrap();
        assert_eq!(error.exit(), Exit::Usage);
        (error.to_string(), error.help().unwrap())
    }

    #[tokio::test]
    async fn services_have_a_short_name_when_it_is_unique() {
        let home = tempfile::tempdir().unwrap();
        let state = state(home.path()).await;
        let found = find_service(&state, "digits/serve").await.unwrap();
        assert_eq!(found.service, service("digits/serve"));
        let (message, help) = refused(find_service(&state, "serve").await);
        assert_eq!(message, "several pipelines have a service `serve`");
        assert_eq!(help, "name one: `digits/serve` and `iris/serve`");
        state.remove_service(&service("digits/serve"), 10).await.unwrap();
        assert_eq!(find_service(&state, "serve").await.unwrap().service, service("iris/serve"));

        let (message, help) = refused(find_service(&state, "iris/sevre").await);
        assert_eq!(message, "there is no service `iris/sevre`");
        assert_eq!(help, "did you mean `iris/serve`?");
        let (message, help) = refused(find_service(&state, "web").await);
        assert_eq!(message, "the service `iris/web` is not there any more");
        assert_eq!(help, "see what it was with `flowrun releases iris/web`");
        assert_eq!(find_service_id(&state, "web").await.unwrap(), service("iris/web"));
        let empty = tempfile::tempdir().unwrap();
        let empty = State::open(empty.path()).await.unwrap();
        assert!(refused(find_service(&empty, "serve").await).1.starts_with("there is none yet"));
    }

    #[tokio::test]
    async fn a_text_names_a_pipeline_or_a_service() {
        let home = tempfile::tempdir().unwrap();
        let state = state(home.path()).await;
        let names = async |text: Option<&str>| -> Vec<String> {
            let rows = find_services(&state, text).await.unwrap();
            rows.iter().map(|row| row.service.to_string()).collect()
        };
        assert_eq!(names(None).await, ["digits/serve", "iris/serve"]);
        assert_eq!(names(Some("iris")).await, ["iris/serve"]);
        assert_eq!(names(Some("iris/serve")).await, ["iris/serve"]);
        assert!(find_services(&state, Some("serve")).await.is_err());
        let id = ReleaseId::new(1, 1);
        let other = service("serve/x");
        let made = state.create_release(id, &other, behaviour(), notes(), 20);
        state.set_candidate(&made.await.unwrap(), None, 20).await.unwrap();
        let (message, _) = refused(find_services(&state, Some("serve")).await);
        assert_eq!(message, "`serve` is a pipeline and a service");
        assert_eq!(names(Some("serve/")).await, ["serve/x"]);
    }

    #[tokio::test]
    async fn releases_are_found_by_number_or_id() {
        let home = tempfile::tempdir().unwrap();
        let state = state(home.path()).await;
        let name = async |text: &str| find_release(&state, text).await.unwrap().release.name();
        assert_eq!(name("iris/serve@2").await, "iris/serve@2");
        assert_eq!(name("web@1").await, "iris/web@1", "also of what is not there any more");
        let id = find_release(&state, "iris/serve@1").await.unwrap().release.id.to_string();
        assert_eq!(name(&id).await, "iris/serve@1");
        assert_eq!(name(&id[..8].to_ascii_lowercase()).await, "iris/serve@1");
        assert!(refused(find_release(&state, "0").await).0.starts_with("several releases begin"));
        assert!(refused(find_release(&state, "").await).0.starts_with("there is no release"));
        let (message, help) = refused(find_release(&state, "iris/serve@7").await);
        assert_eq!(message, "`iris/serve` has no release 7");
        assert_eq!(help, "use one of `2` and `1`");
        let (_, help) = refused(find_release(&state, "web").await);
        assert_eq!(help, "write `web@N`; they are in `flowrun releases iris/web`");
        refused(find_release(&state, "serve@1").await);

        let serve = service("iris/serve");
        for text in ["2", "@2", "serve@2", "iris/serve@2"] {
            assert_eq!(find_release_of(&state, &serve, text).await.unwrap().release.number, 2);
        }
        for text in ["two", "web@1", "-1", "iris/serve@"] {
            refused(find_release_of(&state, &serve, text).await);
        }
    }
}
