//! The key and what is sealed with it.

use std::os::unix::fs::PermissionsExt;

use age::secrecy::ExposeSecret;

use super::*;

fn vault(folder: &tempfile::TempDir) -> Vault {
    Vault::open(None, &folder.path().join("key")).unwrap()
}

fn text(value: &str) -> SecretText {
    SecretText::new(value.to_owned())
}

fn fresh_key() -> SecretText {
    text(Identity::generate().to_string().expose_secret())
}

#[test]
fn what_is_sealed_is_opened_and_not_seen() {
    let home = tempfile::tempdir().unwrap();
    let vault = vault(&home);
    vault.make_key().unwrap();
    for value in ["s3cr3t-value", "two\nlines\n", "ü€🔑", ""] {
        let sealed = vault.seal(&text(value)).unwrap();
        assert!(value.is_empty() || !sealed.contains(value));
        assert!(!sealed.contains('\n'));
        assert_eq!(vault.unseal(&sealed).unwrap(), text(value));
    }
    assert_ne!(vault.seal(&text("a")).unwrap(), vault.seal(&text("a")).unwrap());
}

#[test]
fn the_key_is_made_on_demand_and_for_its_owner_alone() {
    let home = tempfile::tempdir().unwrap();
    let vault = vault(&home);
    let file = home.path().join("key");
    assert!(!vault.has_key().unwrap());
    assert!(matches!(vault.seal(&text("a")), Err(VaultError::Absent { .. })));
    assert!(!file.exists(), "only `make_key` makes a key");
    vault.make_key().unwrap();
    let before = fs_err::read(&file).unwrap();
    assert_eq!(fs_err::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    vault.make_key().unwrap();
    assert_eq!(fs_err::read(&file).unwrap(), before, "a key is never replaced");
    assert_eq!(fs_err::read_dir(home.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn many_at_once_end_with_one_key() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("key");
    let sealed: Vec<String> = std::thread::scope(|scope| {
        let each = || {
            let vault = Vault::open(None, &file).unwrap();
            vault.make_key().unwrap();
            vault.seal(&text("value")).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(each)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for one in sealed {
        assert_eq!(vault(&home).unseal(&one).unwrap(), text("value"));
    }
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let vault = vault(&home);
    vault.make_key().unwrap();
    let sealed = vault.seal(&text("value")).unwrap();
    for mode in [0o640, 0o604, 0o660] {
        let file = home.path().join("key");
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = vault.unseal(&sealed).unwrap_err();
        assert!(matches!(error, VaultError::NotPrivate { .. }), "{mode:o}: {error}");
        assert!(error.help().unwrap().contains("chmod 600"));
        assert!(vault.make_key().is_err());
    }
}

#[test]
fn a_given_key_wins() {
    let home = tempfile::tempdir().unwrap();
    let of_file = vault(&home);
    of_file.make_key().unwrap();
    let given = fresh_key();
    let of_variable = Vault::open(Some(&given), &home.path().join("key")).unwrap();
    let sealed = of_variable.seal(&text("value")).unwrap();
    assert_eq!(of_variable.unseal(&sealed).unwrap(), text("value"));
    let error = of_file.unseal(&sealed).unwrap_err();
    assert!(matches!(error, VaultError::OtherKey), "{error}");
    assert!(error.help().unwrap().contains("FLOWRUN_KEY"));

    let elsewhere = home.path().join("other");
    let only_variable = Vault::open(Some(&given), &elsewhere).unwrap();
    only_variable.make_key().unwrap();
    assert!(only_variable.has_key().unwrap() && !elsewhere.exists());
}

#[test]
fn what_is_no_key_is_said_and_not_shown() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("key");
    let error = Vault::open(Some(&text("AGE-SECRET-KEY-1HUSH")), &file).unwrap_err();
    assert_eq!(error.to_string(), "`FLOWRUN_KEY` holds no key");
    assert!(error.help().unwrap().contains("AGE-SECRET-KEY-1"));
    vault(&home).make_key().unwrap();
    for text in ["", "# only a remark\n", "AGE-SECRET-KEY-1HUSH\n"] {
        fs_err::write(&file, text).unwrap();
        let error = vault(&home).has_key().unwrap_err();
        assert!(matches!(error, VaultError::NoKey { .. }), "{error}");
        assert!(error.help().unwrap().contains("backup"));
        assert!(!format!("{error} {error:?}").contains("HUSH"));
    }
}

#[test]
fn damage_is_told_from_another_key() {
    let home = tempfile::tempdir().unwrap();
    let vault = vault(&home);
    vault.make_key().unwrap();
    let sealed = vault.seal(&text("a value of some length")).unwrap();
    let mut bytes = STANDARD.decode(&sealed).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let cut = &sealed[..sealed.len() / 2 / 4 * 4];
    for damaged in [STANDARD.encode(bytes), cut.to_owned(), "no base64 …".to_owned(), String::new()]
    {
        let error = vault.unseal(&damaged).unwrap_err();
        assert!(matches!(error, VaultError::Damaged), "{damaged}: {error}");
    }
}

#[test]
fn neither_vault_nor_value_is_shown() {
    let key = fresh_key();
    let vault = Vault::open(Some(&key), Path::new("key")).unwrap();
    assert_eq!(format!("{vault:?} {key:?}"), "Vault ***");
}
