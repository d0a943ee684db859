//! Whom a server's certificate may be from: the file in `AWS_CA_BUNDLE`, as the AWS tools know it; else the system's authorities, or
//! those in `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use aws_types::os_shim_internal::Env;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The variable with a file of authorities, which are then the only ones.
const BUNDLE: &str = "AWS_CA_BUNDLE";

/// Whom to trust.
#[derive(Debug, Clone, Default)]
pub(super) struct Authorities {
    /// PEM; none: the system's.
    bundle: Option<Vec<u8>>,
    /// Why the file that was named cannot be used; nobody is trusted then.
    pub problem: Option<String>,
}

impl Authorities {
    /// Those of this process. Reads the file once more each time it is called.
    pub(super) fn of_process() -> Self {
        match Env::real().get(BUNDLE) {
            Ok(file) if !file.is_empty() => Self::of_file(&file),
            _ => Self::default(),
        }
    }

    fn of_file(file: &str) -> Self {
        let read = fs_err::read(file).map_err(|error| error.to_string());
        let checked = read.and_then(|text| checked(&text).map(|()| text));
        match checked {
            Ok(text) => Self { bundle: Some(text), problem: None },
            Err(why) => {
                let problem = format!("`{BUNDLE}` names `{file}`, which cannot be used: {why}");
                Self { bundle: Some(Vec::new()), problem: Some(problem) }
            }
        }
    }

    /// As the client takes them.
    pub(super) fn context(&self) -> Option<TlsContext> {
        let text = self.bundle.as_ref()?;
        let store = TrustStore::empty().with_pem_certificate(text.clone());
        TlsContext::builder().with_trust_store(store).build().ok()
    }
}

/// The client takes only what is whole, and panics at the rest.
fn checked(text: &[u8]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("it holds no certificate in PEM".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_is_said_and_trusts_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let path = file.to_str().unwrap();
        let why = |text: &str| {
            fs_err::write(&file, text).unwrap();
            let found = Authorities::of_file(path);
            assert_eq!(found.bundle, Some(Vec::new()), "{text}");
            found.problem.unwrap()
        };
        assert!(why("").contains("holds no certificate"));
        assert!(why("nonsense").contains(path));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(why(broken).contains("cannot be used"));
        fs_err::remove_file(&file).unwrap();
        assert!(Authorities::of_file(path).problem.unwrap().contains("No such file"));
        assert!(Authorities::default().context().is_none(), "the system's");
    }
}
