//! The key of the secrets.

use super::{Finding, fail, ok};
use crate::cli::error::CliError;
use crate::cli::home::Home;
use crate::cli::place::Place;
use crate::cli::settings::Settings;

pub(super) async fn check(home: &Home, settings: &Settings) -> Finding {
    match look(settings).await {
        Ok((secrets, given, true)) => {
            let place = if given {
                "in `FLOWRUN_KEY`".to_owned()
            } else {
                home.key().display().to_string()
            };
            ok("key", format!("{place}, for you alone; {}", number(secrets)))
        }
        Ok((0, ..)) => ok("key", "none yet: it is made with the first secret"),
        Ok((secrets, ..)) => fail(
            "key",
            format!("`{}` is not there, and {}", home.key().display(), number(secrets)),
            "bring it back from a backup, or give it as `FLOWRUN_KEY`",
        ),
        Err(error) => fail(
            "key",
            error.to_string(),
            error.help().unwrap_or_else(|| "bring it back from a backup".to_owned()),
        ),
    }
}

fn number(secrets: usize) -> String {
    match secrets {
        1 => "1 entry is sealed".to_owned(),
        many => format!("{many} entries are sealed"),
    }
}

/// How many entries are sealed, whether the key is given, and whether there is one.
async fn look(settings: &Settings) -> Result<(usize, bool, bool), CliError> {
    let place = Place::open(settings).await?;
    let given = settings.caller.variable("FLOWRUN_KEY").is_some();
    let has_key = place.vault()?.has_key()?;
    Ok((place.state.secrets().await?.len(), given, has_key))
}
