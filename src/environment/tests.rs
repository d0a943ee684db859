use super::*;

fn definition(requirements: &[&str]) -> Definition {
    Definition {
        image: None,
        python: "3.11.7".to_owned(),
        interpreter: PathBuf::from("/usr/bin/python3"),
        requirements: requirements.iter().map(|&line| line.to_owned()).collect(),
    }
}

#[test]
fn passwords_are_in_no_digest_and_no_text() {
    let secret = definition(&["--index-url https://me:secret@host/simple", "six"]);
    let plain = definition(&["--index-url https://host/simple", "six"]);
    assert_eq!(secret.digest(), plain.digest());
    for text in [serde_json::to_string(&secret).unwrap(), format!("{secret:?}")] {
        assert!(!text.contains("secret") && text.contains("https://host/simple"), "{text}");
    }
}

#[test]
fn what_defines_it_decides_the_digest() {
    let one = definition(&["six"]);
    assert_ne!(one.digest(), definition(&["six==1"]).digest());
    assert_ne!(one.digest(), definition(&["-c six"]).digest());
    let mut other = one.clone();
    other.interpreter = PathBuf::from("/opt/python3");
    assert_eq!(one.digest(), other.digest());
    other.python = "3.11.8".to_owned();
    assert_ne!(one.digest(), other.digest());
}
