//! With what a web server is asked for something private: a token, what the address says, or the user's `.netrc`. Sent over TLS or to
//! this machine, never shown, and left out where a redirect leads to another host.

use reqwest::RequestBuilder;

use super::web::Web;
use crate::address::Address;
use crate::secret::SecretText;

/// Adds the login to a request. One in the address is the client's own affair.
pub(super) fn with_login(
    request: RequestBuilder,
    web: &Web,
    address: &Address,
    token: Option<&SecretText>,
) -> RequestBuilder {
    if !address.takes_logins() || address.has_login() {
        return request;
    }
    if let Some(token) = token {
        return request.bearer_auth(token.reveal());
    }
    let host = address.url().host_str().unwrap_or_default();
    match found(&web.netrc, host) {
        Some(login) => request.basic_auth(login.name, Some(login.password)),
        None => request,
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Login {
    name: String,
    password: String,
}

/// What a `.netrc` says of a host: its first `machine` of this name, else its `default`. Macros are passed over.
fn found(netrc: &str, host: &str) -> Option<Login> {
    let mut words = words(netrc).into_iter();
    // By the name of the machine; none: the default.
    let mut logins: Vec<(Option<&str>, Login)> = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "default" => logins.push((None, Login::default())),
            "machine" | "login" | "password" | "account" => {
                let Some(value) = words.next() else { break };
                match (word, logins.last_mut()) {
                    ("machine", _) => logins.push((Some(value), Login::default())),
                    ("login", Some((_, login))) => value.clone_into(&mut login.name),
                    ("password", Some((_, login))) => value.clone_into(&mut login.password),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let own = logins.iter().position(|(machine, _)| *machine == Some(host));
    let at = own.or_else(|| logins.iter().position(|(machine, _)| machine.is_none()))?;
    Some(logins.swap_remove(at).1)
}

/// The words of the file, without comments and macros; a word may stand between double quotes.
fn words(netrc: &str) -> Vec<&str> {
    let (mut words, mut in_macro) = (Vec::new(), false);
    for line in netrc.lines() {
        if in_macro {
            in_macro = !line.trim().is_empty();
            continue;
        }
        let mut rest = line.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let (word, after) = match rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                Some(quoted) => quoted,
                None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
            };
            if word == "macdef" {
                in_macro = true;
                break;
            }
            words.push(word);
            rest = after.trim_start();
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# of the team\nmachine a.org login ann password one\n\
        machine b.org\n  login \"bob b\"\n  account x\n  password two#2\n\
        macdef init\nmachine c.org login eve password evil\n\ndefault login any password three\n";

    fn login(netrc: &str, host: &str) -> Option<(String, String)> {
        found(netrc, host).map(|login| (login.name, login.password))
    }

    #[test]
    fn a_host_has_its_own_login_or_the_default() {
        let some = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(login(FILE, "a.org"), some("ann", "one"));
        assert_eq!(login(FILE, "b.org"), some("bob b", "two#2"));
        assert_eq!(login(FILE, "c.org"), some("any", "three"), "a macro is no login");
        let without = FILE.split("default").next().unwrap();
        assert_eq!(login(without, "c.org"), None);
        assert_eq!(login(without, "b.org"), some("bob b", "two#2"));
        assert_eq!(login("machine a.org", "a.org"), some("", ""));
        assert_eq!(login("machine", "a.org"), None);
        assert_eq!(login("", "a.org"), None);
    }
}
