//! The ways to credentials for a bucket that the AWS tools know: that they work, and what is said when they do not.

use std::path::PathBuf;

use crate::authority::Script;
use crate::place::{Output, Place};
use crate::team::server;

const PIPELINE: &str = "version: \"2\"\nname: login\nstages:\n  one:\n    run: echo 1 > o\n    files: []\n    outputs: {o: o}\n";

/// Answers `AssumeRoleWithWebIdentity` with the keys of the tests when the token is right; says what it was asked.
const STS: &str = "
import http.server, sys, urllib.parse

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = urllib.parse.parse_qs(self.rfile.read(int(self.headers['content-length'])).decode())
        good = asked['Action'] == ['AssumeRoleWithWebIdentity'] and asked['WebIdentityToken'] == ['the-token']
        open(sys.argv[1], 'a').write(asked['RoleArn'][0] + ' ' + str(good) + '\\n')
        if good:
            body = f'''<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>
                <Credentials><AccessKeyId>{sys.argv[2]}</AccessKeyId><SecretAccessKey>{sys.argv[3]}</SecretAccessKey>
                <SessionToken></SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
                </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>'''
        else:
            body = '<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>'
        self.send_response(200 if good else 403)
        self.send_header('content-type', 'text/xml')
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
";

/// An S3 server that takes no credentials any more.
const EXPIRED: &str = "
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get('content-length', 0)))
        body = b'<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>'
        self.send_response(400)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)
    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
";

/// A place whose caller has no login of the AWS tools, but for what a test gives.
struct Caller {
    place: Place,
    store: String,
    key: String,
    word: String,
}

impl Caller {
    #[expect(clippy::disallowed_methods, reason = "who starts the servers says how to log in")]
    fn new() -> Self {
        let place = Place::with(PIPELINE);
        let unique = place.outside("").file_name().unwrap().to_str().unwrap().to_owned();
        let store = server("FLOWRUN_TEST_S3_SEAWEED").replacen('?', &format!("/{unique}?"), 1);
        let variable = |name: &str| std::env::var(name).unwrap();
        let (key, word) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
        Self { place, store, key, word }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.place.outside(name);
        fs_err::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `apply` in a new home, so that the bucket has to be asked.
    fn apply(&self, home: &str, store: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = self.place.command(&["apply", "--store", store]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command
            .env("FLOWRUN_HOME", self.place.outside(home))
            .env("HOME", self.place.outside("nobody"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(variables.iter().copied());
        Output::of(&mut command)
    }

    /// The same, which fails, and says each of these words and no secret.
    fn is_refused(&self, store: &str, variables: &[(&str, &str)], words: &[&str]) {
        let output = self.apply("refused", store, variables);
        assert_eq!(output.code, 5, "{}{}", output.stdout, output.stderr);
        for word in words {
            assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
        }
        for secret in [&*self.word, "the-token"] {
            assert!(!output.stderr.contains(secret), "{}", output.stderr);
        }
    }
}

#[test]
fn a_web_identity_is_a_login() {
    let caller = Caller::new();
    let told = caller.file("told", "");
    let sts = Script::start(STS, &[&told, &caller.key, &caller.word]);
    let endpoint = format!("http://127.0.0.1:{}", sts.port);
    let (good, bad) = (caller.file("good", "the-token"), caller.file("bad", "another"));
    let role = "arn:aws:iam::123456789012:role/ci";
    let variables = |token| {
        [
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
            ("AWS_ROLE_ARN", role),
            ("AWS_ENDPOINT_URL_STS", &*endpoint),
            ("AWS_REGION", "us-east-1"),
        ]
    };
    caller.apply("ann", &caller.store, &variables(&good)).success();
    let output = caller.apply("bob", &caller.store, &variables(&good)).success();
    assert!(output.stderr.contains("1 reused"), "{}", output.stderr);
    let asked = fs_err::read_to_string(&told).unwrap();
    assert!(asked.lines().count() >= 2, "{asked}");
    assert!(asked.lines().all(|line| line == format!("{role} True")), "{asked}");

    let said = ["web identity", "Not authorized", role];
    caller.is_refused(&caller.store, &variables(&bad), &said);
    let said = ["web identity", "/nowhere/token"];
    caller.is_refused(&caller.store, &variables("/nowhere/token"), &said);
}

#[test]
fn profiles_and_processes_are_logins() {
    let caller = Caller::new();
    let (key, word) = (&caller.key, &caller.word);
    let json = format!(r#"{{"Version": 1, "AccessKeyId": "{key}", "SecretAccessKey": "{word}"}}"#);
    let json = caller.file("keys.json", &json);
    let config = caller.file(
        "config",
        &format!(
            "[profile team]\nregion = us-east-1\n[profile tool]\ncredential_process = cat {json}\n\
             [profile broken]\ncredential_process = sh -c 'echo the tool has no login >&2; exit 3'\n\
             [profile empty]\nregion = us-east-1\n"
        ),
    );
    let keys = format!("[team]\naws_access_key_id = {key}\naws_secret_access_key = {word}\n");
    let shared = caller.file("credentials", &keys);
    let files = [("AWS_CONFIG_FILE", &*config), ("AWS_SHARED_CREDENTIALS_FILE", &*shared)];
    let with = |profile| [files[0], files[1], ("AWS_PROFILE", profile)];
    let named = |profile: &str| format!("{}&profile={profile}", caller.store);
    caller.apply("ann", &caller.store, &with("team")).success();
    for (home, store, variables) in [
        ("a", &caller.store, &with("tool")[..]),
        ("b", &named("team"), &files),
        ("c", &named("tool"), &files),
    ] {
        let output = caller.apply(home, store, variables).success();
        assert!(output.stderr.contains("1 reused"), "{}", output.stderr);
    }

    let said = ["without credentials", "`broken`", "the tool has no login"];
    caller.is_refused(&caller.store, &with("broken"), &said);
    caller.is_refused(&named("broken"), &files, &said);
    for profile in ["empty", "absent"] {
        let said = ["without credentials", &format!("`{profile}`")];
        caller.is_refused(&named(profile), &files, &said);
        caller.is_refused(&caller.store, &with(profile), &said);
    }
    // What was looked at is said when there is nothing at all.
    let said = ["`AWS_ACCESS_KEY_ID`", "profile `default`", "`AWS_WEB_IDENTITY_TOKEN_FILE`"];
    caller.is_refused(&caller.store, &[], &said);
}

#[test]
fn a_login_that_is_over_is_said() {
    let caller = Caller::new();
    let expired = Script::start(EXPIRED, &[]);
    let store = format!("s3://models?region=us-east-1&endpoint=http://127.0.0.1:{}", expired.port);
    let variables = [
        ("AWS_ACCESS_KEY_ID", &*caller.key),
        ("AWS_SECRET_ACCESS_KEY", &caller.word),
        ("AWS_SESSION_TOKEN", "the-token"),
    ];
    let said = ["s3://models", "does not take these credentials any more", "sign in again"];
    caller.is_refused(&store, &variables, &said);
}
