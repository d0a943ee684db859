//! Where credentials for a bucket are looked for, in words: what the AWS crates look at, in their order. Shows names and files, never a
//! credential.

use aws_types::os_shim_internal::Env;

use super::BucketPlace;
use crate::words::list;

/// `the profile `team``, or each place of the usual chain with what the variables say of it.
pub(super) fn places(place: &BucketPlace) -> String {
    let variable = |name: &str| Env::real().get(name).ok().filter(|value| !value.is_empty());
    described(place.profile.as_deref(), variable)
}

fn described(profile: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> String {
    if let Some(profile) = profile {
        return format!("the profile `{profile}`");
    }
    let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let identity = match (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
        (Some(file), Some(role)) => format!("the web identity (`{file}` for the role `{role}`)"),
        (Some(file), None) => format!("the web identity (`{file}`, without `AWS_ROLE_ARN`)"),
        (None, _) => "the web identity (`AWS_WEB_IDENTITY_TOKEN_FILE`)".to_owned(),
    };
    list(&[
        "the variables (`AWS_ACCESS_KEY_ID`)".to_owned(),
        format!("the profile `{profile}`"),
        identity,
        "the machine's role".to_owned(),
    ])
}

/// What a service said, out of how its error is shown for programmers.
pub(super) fn plain(text: &str) -> String {
    let field = |name: &str| {
        let (_, rest) = text.split_once(&format!("{name}: \""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    match (field("code"), field("message")) {
        (Some(code), Some(message)) => format!("{message} ({code})"),
        (Some(code), None) => code.to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_at_is_said() {
        assert_eq!(described(Some("team"), |_| None), "the profile `team`");
        let usual = described(None, |_| None);
        assert!(usual.contains("the profile `default`"), "{usual}");
        let set = |name: &str| (name != "AWS_ROLE_ARN").then(|| format!("<{name}>"));
        let told = described(None, set);
        assert!(told.contains("the profile `<AWS_PROFILE>`"), "{told}");
        assert!(
            told.contains("(`<AWS_WEB_IDENTITY_TOKEN_FILE>`, without `AWS_ROLE_ARN`)"),
            "{told}"
        );
    }

    #[test]
    fn what_a_service_said_is_read() {
        let shown = r#"Error { code: "AccessDenied", message: "Not you" }"#;
        assert_eq!(plain(shown), "Not you (AccessDenied)");
        assert_eq!(plain("no such file"), "no such file");
    }
}
