//! What people are told when a bucket cannot be used: what happened, and what to do.

use super::super::super::StoreError;
use super::Inner;
use super::failure::{Answer, Failure};
use super::login;

/// What was asked of the server, as a person and as a policy names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Action {
    /// `read`, after `to`.
    pub verb: &'static str,
    /// What a policy must allow.
    pub right: &'static str,
}

pub(super) const READ: Action = Action { verb: "read", right: "s3:GetObject" };
pub(super) const WRITE: Action = Action { verb: "write", right: "s3:PutObject" };
pub(super) const LIST: Action = Action { verb: "list", right: "s3:ListBucket" };
pub(super) const REMOVE: Action = Action { verb: "remove", right: "s3:DeleteObject" };
pub(super) const UPLOADS: Action =
    Action { verb: "list the unfinished uploads of", right: "s3:ListBucketMultipartUploads" };
pub(super) const ABORT: Action =
    Action { verb: "remove unfinished uploads of", right: "s3:AbortMultipartUpload" };

/// What a server does that is waited for, and what to do about it.
pub(super) fn what_and_mend(inner: &Inner, failure: &Failure) -> (String, String) {
    match told(inner, READ, "objects", failure) {
        StoreError::Unreachable { why, help, .. } => (format!("it {why}"), help),
        other => (other.to_string(), String::new()),
    }
}

/// The error for what could not be done with `name`.
pub(super) fn told(inner: &Inner, action: Action, name: &str, failure: &Failure) -> StoreError {
    if let Failure::File(kind, text) = failure {
        return StoreError::Io(std::io::Error::new(*kind, text.clone()));
    }
    let server = server(inner);
    let (why, help) = match failure {
        Failure::Answer(answer) => of_answer(inner, action, name, answer),
        Failure::Refused(text) => (
            format!("cannot be reached: nothing answers at {server}: {text}"),
            "start the server, or correct the endpoint".to_owned(),
        ),
        Failure::UnknownHost(text) => (
            format!("cannot be reached: {server} has no address: {text}"),
            "correct the endpoint, the region or the bucket, or look at the network".to_owned(),
        ),
        Failure::NoConnection => (
            format!("cannot be reached: {server} takes no connection"),
            "look at the network, a firewall or a proxy (`HTTPS_PROXY`, `NO_PROXY`)".to_owned(),
        ),
        Failure::Tls(text) => of_tls(inner, &server, text),
        Failure::Silent(time) => (
            format!("is too slow: {server} sent nothing for {} s while `{name}` was to be {}", time.as_secs(), done(action)),
            "try again when the server or the network is less busy".to_owned(),
        ),
        Failure::Cut(text) => (
            format!("breaks connections: {server} ended one while `{name}` was to be {}: {text}", done(action)),
            "look at the server's log and at proxies on the way".to_owned(),
        ),
        Failure::Length { expected, got } => (
            format!("sends wrong lengths: `{name}` came with {got} bytes instead of {expected}"),
            "look at proxies on the way, or at the server's log".to_owned(),
        ),
        Failure::Changed(text) => (
            format!("has another `{name}` than it should: {text}"),
            "let nothing but this tool write below this prefix; `store check` finds what is damaged".to_owned(),
        ),
        Failure::Overwritten => (
            format!("has a `{name}` that was overwritten again and again while it was read"),
            "see who writes it, and try again when nobody does".to_owned(),
        ),
        Failure::Credentials(text) if inner.place.profile.is_some() => {
            let profile = inner.place.profile.as_deref().unwrap_or_default();
            (
                format!(
                    "cannot be used without credentials: the profile `{profile}` has none: {}",
                    login::plain(text)
                ),
                format!("look at `aws configure list --profile {profile}`, or correct `profile` in the address of the store"),
            )
        }
        Failure::Credentials(text) => (
            format!(
                "cannot be used without credentials: {}; looked in {}",
                login::plain(text),
                login::places(&inner.place)
            ),
            "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or name a profile (`?profile=…` or `AWS_PROFILE`); `aws sts get-caller-identity` should work here".to_owned(),
        ),
        Failure::Setup(text) => (
            format!("cannot be asked: {text}"),
            "correct the address of the store and the AWS configuration".to_owned(),
        ),
        Failure::File(..) => unreachable!("answered above"),
    };
    StoreError::Unreachable { place: inner.place.to_string(), why, help, passes: failure.passes() }
}

fn of_tls(inner: &Inner, server: &str, text: &str) -> (String, String) {
    let problem = inner.reach.get().and_then(|reach| reach.authorities.problem.as_ref());
    if let Some(problem) = problem {
        let help = "name a file with your authority's certificates, or unset the variable";
        return (format!("cannot be reached: {problem}"), help.to_owned());
    }
    if text.contains("NotValidForName") || text.contains("not valid for") {
        return (
            format!("cannot be reached: {server} shows a certificate of another host: {text}"),
            "write the host in the endpoint as it stands in the certificate".to_owned(),
        );
    }
    (
        format!("cannot be reached: {server} is not trusted: {text}"),
        "name the file of your authority's certificates in `AWS_CA_BUNDLE` or `SSL_CERT_FILE`, or write `http://` where the server speaks no TLS".to_owned(),
    )
}

fn of_answer(inner: &Inner, action: Action, name: &str, answer: &Answer) -> (String, String) {
    let bucket = &inner.place.bucket;
    let said = said(answer);
    if let Some(region) = &answer.region
        && matches!(answer.status, 301 | 307 | 400)
        && inner.reach.get().is_some_and(|reach| reach.region != *region)
    {
        return (
            format!("lies in the region `{region}`"),
            format!("add `region={region}` to its address, or set `AWS_REGION={region}`"),
        );
    }
    match (answer.code.as_str(), answer.status) {
        ("NoSuchBucket", _) => (
            format!("does not exist: there is no bucket `{bucket}` at {}", server(inner)),
            "make the bucket, or correct its name or the endpoint".to_owned(),
        ),
        ("InvalidAccessKeyId" | "NotSignedUp" | "SignatureDoesNotMatch" | "InvalidToken", _) => (
            format!("does not know these credentials: {said}"),
            "correct `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or the profile".to_owned(),
        ),
        ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired", _) => (
            format!("does not take these credentials any more: {said}"),
            "sign in again (`aws sso login`), or set new `AWS_*` variables".to_owned(),
        ),
        ("RequestTimeTooSkewed" | "RequestExpired", _) => (
            format!("disagrees about the time: {said}"),
            "set this machine's clock (`timedatectl set-ntp true`)".to_owned(),
        ),
        (
            "AuthorizationHeaderMalformed"
            | "PermanentRedirect"
            | "IllegalLocationConstraintException",
            _,
        )
        | (_, 301 | 307) => (
            format!("lies in another region: {said}"),
            "add `region=…` to its address, or set `AWS_REGION`".to_owned(),
        ),
        (_, 401 | 403) => {
            (format!("does not let you {} `{name}`: {said}", action.verb), refused_help(action))
        }
        (_, 429 | 503) => (
            format!("is too busy: {said}"),
            "try again later, or with fewer stages at once".to_owned(),
        ),
        _ => (
            format!("cannot {} `{name}`: {said}", action.verb),
            "look at the server's log".to_owned(),
        ),
    }
}

fn refused_help(action: Action) -> String {
    let right = action.right;
    if right == READ.right {
        format!(
            "ask for the right `{right}` on it (and `s3:ListBucket`, without which absent objects look forbidden)"
        )
    } else if right == WRITE.right {
        format!(
            "ask for the right `{right}` on it, or set `store.access` to `read-only`: what is new then stays on this machine"
        )
    } else {
        format!("ask for the right `{right}` on it")
    }
}

fn said(answer: &Answer) -> String {
    match (answer.code.as_str(), answer.message.as_str()) {
        ("", "") => format!("it answered {}", answer.status),
        (code, "") => format!("it answered {} {code}", answer.status),
        ("", message) => format!("it answered {}: {message}", answer.status),
        (code, message) => format!("it answered {} {code}: {message}", answer.status),
    }
}

/// Who was asked.
fn server(inner: &Inner) -> String {
    match inner.reach.get() {
        Some(reach) => match &reach.endpoint {
            Some(endpoint) => format!("`{endpoint}`"),
            None => format!("AWS in `{}`", reach.region),
        },
        None => "the server".to_owned(),
    }
}

fn done(action: Action) -> &'static str {
    match action.verb {
        "write" => "written",
        "read" => "read",
        "remove" => "removed",
        _ => "listed",
    }
}
