use std::collections::BTreeMap;

use super::*;
use crate::cli::exit::Exit;

struct Place {
    folder: tempfile::TempDir,
    flags: SettingFlags,
    caller: Caller,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let variables = BTreeMap::from([(
            "FLOWRUN_HOME".into(),
            folder.path().join("home").display().to_string(),
        )]);
        let caller = Caller { variables, folder: folder.path().to_owned() };
        fs_err::create_dir(folder.path().join("home")).unwrap();
        Self { folder, flags: SettingFlags::new(), caller }
    }

    fn with_file(self, name: &str, text: &str) -> Self {
        fs_err::write(self.folder.path().join(name), text).unwrap();
        self
    }

    fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.caller.variables.insert(name.into(), value.into());
        self
    }

    fn with_flag(mut self, name: &'static str, value: &str) -> Self {
        self.flags.insert(name, value.into());
        self
    }

    fn with_state(&self, url: &str) -> Result<Settings, CliError> {
        let mut flags = self.flags.clone();
        flags.insert("state", url.into());
        Settings::resolve(&flags, &self.caller, Some(self.folder.path()))
    }

    fn resolve(&self) -> Result<Settings, CliError> {
        Settings::resolve(&self.flags, &self.caller, Some(self.folder.path()))
    }
}

#[test]
fn the_first_place_wins() {
    let place = Place::new();
    assert_eq!(place.resolve().unwrap().jobs, machine::processors());
    let place = place.with_file("home/config.toml", "jobs = 11\n");
    assert_eq!(place.resolve().unwrap().jobs, 11);
    let place = place.with_file("flowrun.toml", "jobs = 12\n");
    assert_eq!(place.resolve().unwrap().jobs, 12);
    let place = place.with_variable("FLOWRUN_JOBS", "13");
    assert_eq!(place.resolve().unwrap().jobs, 13);
    let place = place.with_flag("jobs", "14");
    assert_eq!(place.resolve().unwrap().jobs, 14);
}

#[test]
fn relative_folders_start_where_they_are_written() {
    let place = Place::new().with_file("home/config.toml", "store = \"s\"\n");
    let folder = |name| StoreChoice::Folder(place.folder.path().join(name));
    assert_eq!(place.resolve().unwrap().store, folder("home/s"));
    let expected = folder("s");
    let place = place.with_variable("FLOWRUN_STORE", "s");
    assert_eq!(place.resolve().unwrap().store, expected);
}

#[test]
fn a_wrong_value_names_its_place() {
    let error = Place::new().with_flag("jobs", "0").resolve().unwrap_err();
    assert_eq!(error.to_string(), "the flag `--jobs` is `0`");
    assert_eq!(error.exit(), Exit::Usage);
    let place = Place::new().with_file("flowrun.toml", "\nmemory = \"4 apples\"\n");
    let error = place.resolve().unwrap_err();
    assert!(error.to_string().ends_with("flowrun.toml:2: `memory` is `4 apples`"), "{error}");
    assert_eq!(error.exit(), Exit::Invalid);
}

#[test]
fn later_places_are_said_to_be_later() {
    let error = Place::new().with_flag("runtime", "kubernetes").resolve().unwrap_err();
    assert!(matches!(error, CliError::NotAvailable { .. }), "{error}");
}

#[test]
fn stores() {
    let store = |text| Place::new().with_flag("store", text).resolve().map(|it| it.store);
    let bucket = store("s3://models/team?region=eu-central-1").unwrap();
    assert_eq!(bucket.to_string(), "s3://models/team");
    assert_eq!(bucket.address(), "s3://models/team?region=eu-central-1");
    let error = store("s3://key:secret@models/team").unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(!error.to_string().contains("secret"), "{error}");
    let error = store("https://models/team").unwrap_err().to_string();
    assert!(error.starts_with("the flag `--store`: "), "{error}");
}

#[test]
fn the_state_is_said_without_its_password() {
    let place = Place::new().with_variable("FLOWRUN_STATE", "postgres://me:hunter2@host/db");
    let settings = place.resolve().unwrap();
    assert_eq!(settings.state.to_string(), "postgres://me@host:5432/db");
    assert!(
        !format!("{settings:?}").replace(&format!("{:?}", settings.caller), "").contains("hunter2")
    );
    for wrong in ["postgres://me:hunter2@host/db?sslmod=x", "mysql://me:hunter2@host", "postgre"] {
        let error = place.with_state(wrong).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn runtimes() {
    let runtime = |name| Place::new().with_flag("runtime", name).resolve().map(|it| it.runtime);
    assert_eq!(Place::new().resolve().unwrap().runtime, RuntimeChoice::Local);
    assert_eq!(runtime("docker").unwrap(), RuntimeChoice::Docker);
    assert_eq!(runtime("auto").unwrap(), RuntimeChoice::Auto);
    assert!(runtime("podman").is_err());
}

#[test]
fn addresses_and_ports() {
    let place = Place::new();
    let settings = place.resolve().unwrap();
    assert_eq!(settings.gateway.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.replica_ports, 21_000..=28_999);
    let place =
        place.with_file("flowrun.toml", "gateway = \"[::1]:0\"\nreplica_ports = \"9000-9000\"\n");
    let settings = place.resolve().unwrap();
    assert_eq!(settings.gateway.to_string(), "[::1]:0");
    assert_eq!(settings.replica_ports, 9000..=9000);
    for wrong in ["8080", "localhost:8080", "127.0.0.1", "127.0.0.1:70000", ""] {
        assert!(address(wrong).is_err(), "{wrong}");
    }
    for wrong in ["8080", "9000-8000", "0-80", "1-70000", "-", "a-b"] {
        assert!(ports(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn sizes_and_processors() {
    assert_eq!(size("4Gi"), Ok(4 << 30));
    assert_eq!(size("500M"), Ok(500_000_000));
    assert!(size("4GB").is_err());
    assert!(size("-1").is_err());
    assert!(size("99999999999Ti").is_err());
    assert_eq!(processors("500m"), Ok(0.5));
    assert!(processors("nan").is_err());
}
