//! The user's logins at registries: `auths`, `credHelpers` and `credsStore` of Docker's `config.json`.
//!
//! A helper is the program `docker-credential-<name>` in `PATH`: it gets the registry on its stdin and answers JSON (protocol of
//! docker-credential-helpers: `get`, `list`). `ecr-login`, `gcr`, `gcloud`, `acr-env`, `pass`, `secretservice`, `desktop` and every other
//! that keeps it work.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::DockerSettings;

/// Under this name the Hub's login is kept.
const HUB: &str = "https://index.docker.io/v1/";

/// A helper that asks somebody a question gets this long.
const PATIENCE: Duration = Duration::from_mins(1);

/// A helper's user name when its secret is an identity token.
const TOKEN: &str = "<token>";

/// What Docker writes with `docker login`; other keys do not matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    #[serde(rename = "auth")]
    encoded: String,
    username: String,
    password: String,
    identitytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// The user's login at a registry, if there is one. An error is a fragment that says why it cannot be read.
pub(super) async fn of_registry(
    settings: &DockerSettings,
    registry: &str,
) -> Result<Option<DockerCredentials>, String> {
    login(settings, &read(settings)?, registry).await
}

/// All of the user's logins, for a build whose Dockerfile names any image. One that cannot be had is left out: whether it is
/// needed, the builder will say.
pub(super) async fn all(
    settings: &DockerSettings,
) -> Result<HashMap<String, DockerCredentials>, String> {
    let config = read(settings)?;
    let mut registries: BTreeSet<String> = config.auths.keys().cloned().collect();
    registries.extend(config.cred_helpers.keys().cloned());
    if let Some(store) = &config.creds_store
        && let Ok(said) = ask(settings, store, "list", "").await
        && let Ok(kept) = serde_json::from_str::<BTreeMap<String, String>>(&said)
    {
        registries.extend(kept.into_keys());
    }
    let mut logins = HashMap::new();
    for registry in registries {
        if let Ok(Some(login)) = login(settings, &config, &registry).await {
            let name = if host_of(&registry) == host_of(HUB) { HUB } else { host_of(&registry) };
            logins.insert(name.to_owned(), login);
        }
    }
    Ok(logins)
}

fn read(settings: &DockerSettings) -> Result<Config, String> {
    let Some(folder) = &settings.config else { return Ok(Config::default()) };
    let path = folder.join("config.json");
    match fs_err::read(&path) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => Ok(Config::default()),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| format!("`{}` is no valid JSON: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(error.to_string()),
    }
}

async fn login(
    settings: &DockerSettings,
    config: &Config,
    registry: &str,
) -> Result<Option<DockerCredentials>, String> {
    let registry = registry_name(registry);
    let of_registry = |key: &str| host_of(key) == host_of(registry);
    let helper = config.cred_helpers.iter().find(|(key, _)| of_registry(key));
    if let Some(helper) = helper.map(|(_, helper)| helper).or(config.creds_store.as_ref()) {
        return of_helper(settings, helper, registry).await;
    }
    let found = config
        .auths
        .get(registry)
        .or_else(|| config.auths.iter().find(|(key, _)| of_registry(key)).map(|(_, auth)| auth));
    let Some(auth) = found else { return Ok(None) };
    let credentials = |user: &str, password: &str| DockerCredentials {
        username: Some(user.to_owned()),
        password: Some(password.to_owned()),
        identitytoken: Some(auth.identitytoken.clone()).filter(|token| !token.is_empty()),
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    };
    if auth.encoded.is_empty() {
        let known = !auth.username.is_empty() || !auth.identitytoken.is_empty();
        return Ok(known.then(|| credentials(&auth.username, &auth.password)));
    }
    let (user, password) = decode(&auth.encoded)
        .ok_or_else(|| format!("the login at `{registry}` in `config.json` cannot be read"))?;
    Ok(Some(credentials(&user, &password)))
}

fn decode(auth: &str) -> Option<(String, String)> {
    let padding = DecodePaddingMode::Indifferent;
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(padding);
    let bytes = GeneralPurpose::new(&STANDARD, config).decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    // Old versions of Docker padded with zeros.
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

async fn of_helper(
    settings: &DockerSettings,
    helper: &str,
    registry: &str,
) -> Result<Option<DockerCredentials>, String> {
    let said = match ask(settings, helper, "get", registry).await {
        Ok(said) => said,
        // The helpers' own words for a registry that nobody has logged in to.
        Err(why) if why.contains("credentials not found") => return Ok(None),
        Err(why) => return Err(why),
    };
    let answer: HelperAnswer = serde_json::from_str(&said)
        .map_err(|_| format!("`docker-credential-{helper}` gave no login but something else"))?;
    let mut login = DockerCredentials {
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    };
    if answer.username == TOKEN {
        login.identitytoken = Some(answer.secret);
    } else {
        login.username = Some(answer.username);
        login.password = Some(answer.secret);
    }
    Ok(Some(login))
}

/// What a helper answers on its stdout. Its secrets never come into an error: only of what failed is shown what was said.
async fn ask(
    settings: &DockerSettings,
    helper: &str,
    verb: &str,
    registry: &str,
) -> Result<String, String> {
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| format!("`{program} {verb}` {why}");
    let found = find(settings, &program).ok_or_else(|| failed("is not in `PATH`".to_owned()))?;
    let talk = async {
        let mut child = Command::new(found)
            .arg(verb)
            .env_clear()
            .envs(&settings.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read what it is asked may still answer.
            drop(stdin.write_all(registry.as_bytes()).await);
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(PATIENCE, talk).await {
        Ok(output) => output.map_err(|error| failed(format!("cannot be run: {error}")))?,
        Err(_) => return Err(failed(format!("does not answer within {}s", PATIENCE.as_secs()))),
    };
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(said);
    }
    let aside = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let why = if said.is_empty() { aside } else { said };
    let why = why.lines().next().unwrap_or("fails and says nothing").to_owned();
    Err(failed(format!("says: {why}")))
}

fn find(settings: &DockerSettings, program: &str) -> Option<std::path::PathBuf> {
    let path = settings.env.get("PATH")?;
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// As which name Docker keeps the login at a registry.
fn registry_name(registry: &str) -> &str {
    match host_of(registry) {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB,
        _ => registry,
    }
}

/// `https://host:1/v2/` → `host:1`
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    struct Scene {
        folder: tempfile::TempDir,
        settings: DockerSettings,
    }

    /// A user with this `config.json`, and a helper `test` that runs this script.
    fn scene(config: &str, helper: &str) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("config.json"), config).unwrap();
        let program = folder.path().join("docker-credential-test");
        // Not by this process: a child that another test forks meanwhile would have it open for writing.
        let made = std::process::Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod 755 \"$0\""])
            .arg(&program)
            .arg(helper)
            .status();
        assert!(made.unwrap().success());
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let settings = DockerSettings {
            host: None,
            config: Some(folder.path().to_owned()),
            env: BTreeMap::from([("PATH".to_owned(), path)]),
            installation: "i".to_owned(),
        };
        Scene { folder, settings }
    }

    fn pair(login: Option<DockerCredentials>) -> Option<(String, String)> {
        let login = login?;
        Some((login.username.unwrap_or_default(), login.password.unwrap_or_default()))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with a login that may be none")]
    fn said(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[tokio::test]
    async fn logins_of_the_file_are_found_by_registry() {
        let auth = |text: &str| BASE64_STANDARD.encode(text);
        let config = format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{}"}}, "https://ghcr.io": {{"auth": "{}"}},
                "host:5000": {{"auth": "{}"}}, "empty.io": {{}}}}, "HttpHeaders": {{}}}}"#,
            auth("me:hub"),
            auth("me:g:h"),
            auth("me:port").trim_end_matches('='),
        );
        let scene = scene(&config, "");
        let of = async |registry: &str| pair(of_registry(&scene.settings, registry).await.unwrap());
        assert_eq!(of("docker.io").await, said("me", "hub"));
        assert_eq!(of("ghcr.io").await, said("me", "g:h"));
        assert_eq!(of("host:5000").await, said("me", "port"));
        assert_eq!(of("host:5001").await, None);
        assert_eq!(of("empty.io").await, None);
        let all = all(&scene.settings).await.unwrap();
        let mut names: Vec<&str> = all.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["ghcr.io", "host:5000", HUB]);
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_its_registry() {
        let helper = r#"read -r host; printf '{"ServerURL": "%s", "Username": "u", "Secret": "for %s"}' "$host" "$host""#;
        let scene = scene(r#"{"credHelpers": {"a.io": "test"}}"#, helper);
        let found = of_registry(&scene.settings, "a.io").await.unwrap();
        assert_eq!(pair(found), said("u", "for a.io"));
        assert_eq!(of_registry(&scene.settings, "b.io").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_store_keeps_all_logins_and_may_hold_a_token() {
        let helper = r#"[ "$1" = list ] && { echo '{"https://a.io/v2/": "u"}'; exit; }
            case "$(cat)" in
              a.io|https://a.io*) echo '{"Username": "<token>", "Secret": "t"}' ;;
              *) echo "credentials not found in native keychain"; exit 1 ;;
            esac"#;
        let scene = scene(r#"{"auths": {"b.io": {}}, "credsStore": "test"}"#, helper);
        let found = of_registry(&scene.settings, "a.io").await.unwrap().unwrap();
        assert_eq!((found.identitytoken.as_deref(), found.password), (Some("t"), None));
        assert_eq!(of_registry(&scene.settings, "b.io").await.unwrap(), None);
        let all = all(&scene.settings).await.unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a.io"]);
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let config = r#"{"auths": {"d.io": {"auth": "!"}}, "credHelpers": {"a.io": "test", "c.io": "gone"}}"#;
        let scene = scene(config, "echo locked >&2; exit 1");
        let why = async |registry| of_registry(&scene.settings, registry).await.unwrap_err();
        assert_eq!(why("a.io").await, "`docker-credential-test get` says: locked");
        assert_eq!(why("c.io").await, "`docker-credential-gone get` is not in `PATH`");
        assert_eq!(why("d.io").await, "the login at `d.io` in `config.json` cannot be read");
        fs_err::write(scene.folder.path().join("config.json"), "{").unwrap();
        assert!(why("a.io").await.contains("is no valid JSON"));
        fs_err::remove_file(scene.folder.path().join("config.json")).unwrap();
        assert_eq!(of_registry(&scene.settings, "a.io").await.unwrap(), None);
    }
}
