//! Certificates of authorities that this machine's variables name, as a container sees them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;

/// A file of this machine and where it is seen.
pub type Given = (PathBuf, PathBuf);

const FILES: [&str; 7] = [
    "SSL_CERT_FILE",
    "NIX_SSL_CERT_FILE",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "SSL_CLIENT_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];
const FOLDERS: [&str; 2] = ["SSL_CERT_DIR", "GIT_SSL_CAPATH"];

/// Whether a variable names a file or folder of certificates.
fn names_certificates(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    FILES.contains(&upper.as_str())
        || FOLDERS.contains(&upper.as_str())
        || ["_CA_BUNDLE", "_CA_FILE", "_CA_CERTS", "_CA_CERTS_FILE"]
            .iter()
            .any(|end| upper.ends_with(end))
}

/// Changes variables that name files of certificates to where a container sees them: `/flowrun/ca.crt`, and `ca-2.crt` and so on
/// for further files. Gives what must be mounted there, read-only. Folders of certificates and what is not there are dropped:
/// links in such folders lead out of them.
pub fn inside(variables: &mut BTreeMap<String, String>) -> Vec<Given> {
    let mut given: Vec<Given> = Vec::new();
    variables.retain(|name, value| {
        if !names_certificates(name) {
            return true;
        }
        // What is mounted must not be a link: it would lead to another place there.
        let Some(file) = fs::canonicalize(Path::new(&*value)).ok().filter(|file| file.is_file())
        else {
            return false;
        };
        let known = given.iter().find(|(source, _)| *source == file);
        let place = if let Some((_, place)) = known {
            place.clone()
        } else {
            let place = PathBuf::from(match given.len() {
                0 => "/flowrun/ca.crt".to_owned(),
                more => format!("/flowrun/ca-{}.crt", more + 1),
            });
            given.push((file, place.clone()));
            place
        };
        *value = place.display().to_string();
        true
    });
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_seen_and_folders_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(folder.path()).unwrap();
        let file = |name: &str| place.join(name).display().to_string();
        fs::write(file("a.crt"), "a").unwrap();
        fs::write(file("b.crt"), "b").unwrap();
        std::os::unix::fs::symlink(file("a.crt"), file("link.crt")).unwrap();
        let mut variables: BTreeMap<String, String> = [
            ("PIP_CERT", file("link.crt")),
            ("SSL_CERT_FILE", file("a.crt")),
            ("REQUESTS_CA_BUNDLE", file("b.crt")),
            ("SSL_CERT_DIR", place.display().to_string()),
            ("CURL_CA_BUNDLE", file("gone.crt")),
            ("HTTPS_PROXY", "http://p".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let given = inside(&mut variables);
        let shown: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown,
            [
                "HTTPS_PROXY=http://p",
                "PIP_CERT=/flowrun/ca.crt",
                "REQUESTS_CA_BUNDLE=/flowrun/ca-2.crt",
                "SSL_CERT_FILE=/flowrun/ca.crt",
            ]
        );
        let given: Vec<_> = given.iter().map(|(source, _)| source.display().to_string()).collect();
        assert_eq!(given, [file("a.crt"), file("b.crt")]);
    }
}
