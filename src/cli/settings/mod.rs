//! Settings: flag → `FLOWRUN_*` variable → `flowrun.toml` beside the pipeline → `config.toml` in the home → default.
//! The only reader of the environment.

mod file;
mod machine;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

pub(crate) use file::SettingsFile;
pub(crate) use table::{PASSED, named};

use super::args::SettingFlags;
use super::error::CliError;
use super::screen::ColourChoice;

/// The caller: its variables and its folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// Variables that are text.
    pub(crate) variables: BTreeMap<String, String>,
    /// The current folder, absolute.
    pub(crate) folder: PathBuf,
}

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where everything of flowrun's own lives, absolute.
    pub(crate) home: PathBuf,
    /// The folder of the store, absolute.
    pub(crate) store: PathBuf,
    /// Whether the store is written.
    pub(crate) read_only_store: bool,
    /// Tasks at once.
    pub(crate) jobs: u32,
    /// Processors to share out.
    pub(crate) cpu: f64,
    /// Bytes of memory to share out.
    pub(crate) memory: u64,
    /// Graphics processors to hand out.
    pub(crate) graphics: Vec<u32>,
    /// Runs kept per pipeline.
    pub(crate) keep_runs: usize,
    /// Days for which runs are kept.
    pub(crate) keep_days: u64,
    /// Bytes of log per stream.
    pub(crate) log_cap: u64,
    /// Names of the caller's variables that stages get.
    pub(crate) pass_env: Vec<String>,
    /// When colour is used.
    pub(crate) colour: ColourChoice,
    /// The caller.
    pub(crate) caller: Caller,
}

/// Where a value came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    File(PathBuf, usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(formatter, "the flag `{flag}`"),
            Self::Variable(variable) => write!(formatter, "the variable `{variable}`"),
            Self::File(path, line) => write!(formatter, "{}:{line}", path.display()),
        }
    }
}

struct Found {
    text: String,
    origin: Origin,
}

/// Every place where settings are looked for, first one first.
struct Layers<'a> {
    flags: &'a SettingFlags,
    caller: &'a Caller,
    files: Vec<SettingsFile>,
}

impl Caller {
    /// The caller of this process.
    pub(crate) fn of_process() -> Result<Self, CliError> {
        let folder = std::env::current_dir().map_err(|error| {
            CliError::usage(
                format!("the current folder cannot be used: {error}"),
                "go to another folder",
            )
        })?;
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self { variables, folder })
    }

    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables that pass `keep`.
    pub(crate) fn picked(&self, keep: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
        let kept = self.variables.iter().filter(|(name, _)| keep(name));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Who asks, `user@host`.
    pub(crate) fn user(&self, host: &str) -> String {
        match self.variable("USER").or_else(|| self.variable("LOGNAME")) {
            Some(user) => format!("{user}@{host}"),
            None => format!("uid-{}@{host}", rustix::process::getuid().as_raw()),
        }
    }

    /// Colour as flags and variables have it, for what is said before the files were read.
    pub(crate) fn colour(&self, flags: &SettingFlags) -> ColourChoice {
        let layers = Layers { flags, caller: self, files: Vec::new() };
        layers.read("color", colour).ok().flatten().unwrap_or_default()
    }
}

/// Whether a panic is shown at length.
#[expect(
    clippy::disallowed_methods,
    reason = "a panic may come before or after the caller's variables were read"
)]
pub(crate) fn wants_backtrace() -> bool {
    std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0")
}

impl Settings {
    /// Reads all settings. `beside` is the folder of the pipeline, whose `flowrun.toml` counts.
    pub(crate) fn resolve(
        flags: &SettingFlags,
        caller: &Caller,
        beside: Option<&Path>,
    ) -> Result<Self, CliError> {
        let mut layers = Layers { flags, caller, files: Vec::new() };
        if let Some(folder) = beside {
            layers.files.extend(SettingsFile::read(&folder.join("flowrun.toml"), false)?);
        }
        let home = match layers.folder("home")? {
            Some(home) => home,
            None => default_home()?,
        };
        layers.files.extend(SettingsFile::read(&home.join("config.toml"), true)?);

        if let Some(found) = layers.find("store").filter(|found| found.text.contains("://")) {
            return Err(not_yet(&format!("the store `{}`", found.text), "set `store` to a folder"));
        }
        if let Some(found) = layers.find("state").filter(|found| found.text != "sqlite") {
            return Err(if found.text.starts_with("postgres") {
                not_yet(&format!("the state `{}`", scheme(&found.text)), "leave out `state`")
            } else {
                refuse("state", &found, "`sqlite`")
            });
        }
        if let Some(found) = layers.find("runtime") {
            match found.text.as_str() {
                "local" | "auto" => {}
                "docker" | "kubernetes" => {
                    return Err(not_yet(
                        &format!("the runtime `{}`", found.text),
                        "use `--runtime local`",
                    ));
                }
                _ => {
                    return Err(refuse(
                        "runtime",
                        &found,
                        "`local`, `docker`, `kubernetes` or `auto`",
                    ));
                }
            }
        }
        let pass_env = layers.read("pass_env", names)?;
        Ok(Self {
            store: layers.folder("store")?.unwrap_or_else(|| home.join("store")),
            read_only_store: layers.read("store.access", access)?.unwrap_or(false),
            jobs: layers.read("jobs", from_one)?.unwrap_or_else(machine::processors),
            cpu: layers.read("cpu", processors)?.unwrap_or_else(|| machine::processors().into()),
            memory: layers.read("memory", size)?.unwrap_or_else(machine::memory),
            graphics: machine::graphics(
                caller.variables.get("CUDA_VISIBLE_DEVICES").map(String::as_str),
            ),
            keep_runs: layers.read("keep.runs", whole)?.unwrap_or(20),
            keep_days: layers.read("keep.days", whole)?.unwrap_or(30),
            log_cap: layers.read("log_cap", size)?.unwrap_or(256 << 20),
            pass_env: pass_env
                .unwrap_or_else(|| PASSED.iter().map(|&name| name.to_owned()).collect()),
            colour: layers.read("color", colour)?.unwrap_or_default(),
            home,
            caller: caller.clone(),
        })
    }
}

impl Layers<'_> {
    fn find(&self, name: &str) -> Option<Found> {
        let setting = named(name)?;
        if let Some(text) = self.flags.get(name) {
            return Some(Found { text: text.clone(), origin: Origin::Flag(setting.flag) });
        }
        if let Some(text) = self.caller.variable(setting.variable) {
            let origin = Origin::Variable(setting.variable);
            return Some(Found { text: text.to_owned(), origin });
        }
        self.files.iter().find_map(|file| {
            let (text, line) = file.entries.get(name)?;
            Some(Found { text: text.clone(), origin: Origin::File(file.path.clone(), *line) })
        })
    }

    fn read<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, CliError> {
        let Some(found) = self.find(name) else { return Ok(None) };
        parse(&found.text).map(Some).map_err(|wanted| refuse(name, &found, wanted))
    }

    /// A folder: relative to the caller's folder, or to the file that names it.
    fn folder(&self, name: &str) -> Result<Option<PathBuf>, CliError> {
        let Some(found) = self.find(name) else { return Ok(None) };
        if found.text.is_empty() {
            return Err(refuse(name, &found, "a folder"));
        }
        let base = match &found.origin {
            Origin::File(path, _) => {
                self.caller.folder.join(path.parent().unwrap_or(Path::new("")))
            }
            Origin::Flag(_) | Origin::Variable(_) => self.caller.folder.clone(),
        };
        // Without the `.` parts that a relative name brings along.
        Ok(Some(base.join(&found.text).components().collect()))
    }
}

/// Says where a value stands that cannot be, and what can.
fn refuse(name: &str, found: &Found, wanted: &str) -> CliError {
    let (text, origin) = (&found.text, &found.origin);
    let help = named(name).map(|setting| format!("give {wanted} (default: {})", setting.default));
    match origin {
        Origin::File(..) => {
            CliError::Invalid { message: format!("{origin}: `{name}` is `{text}`"), help }
        }
        Origin::Flag(_) | Origin::Variable(_) => {
            CliError::Usage { message: format!("{origin} is `{text}`"), help }
        }
    }
}

fn not_yet(what: &str, help: &str) -> CliError {
    CliError::NotAvailable { what: what.to_owned(), help: Some(help.to_owned()) }
}

/// What of a URL can be shown: it may hold a password.
fn scheme(url: &str) -> &str {
    url.split_once("://").map_or("postgres", |(scheme, _)| scheme)
}

fn default_home() -> Result<PathBuf, CliError> {
    let strategy = etcetera::choose_base_strategy().map_err(|_| {
        CliError::missing("your home folder cannot be found", "set `FLOWRUN_HOME` to a folder")
    })?;
    Ok(strategy.state_dir().unwrap_or_else(|| strategy.data_dir()).join("flowrun"))
}

fn from_one(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|&number| number > 0).ok_or("a whole number from 1")
}

fn whole<T: std::str::FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "a whole number")
}

fn processors(text: &str) -> Result<f64, &'static str> {
    crate::spec::parse_cpu(text).ok_or("a number above 0, like `2`, `0.5` or `500m`")
}

fn size(text: &str) -> Result<u64, &'static str> {
    crate::spec::parse_size(text).ok_or("a size like `512Mi`, `4Gi` or `500M`")
}

fn access(text: &str) -> Result<bool, &'static str> {
    match text {
        "read-only" => Ok(true),
        "read-write" => Ok(false),
        _ => Err("`read-write` or `read-only`"),
    }
}

fn colour(text: &str) -> Result<ColourChoice, &'static str> {
    match text {
        "auto" => Ok(ColourChoice::Auto),
        "always" => Ok(ColourChoice::Always),
        "never" => Ok(ColourChoice::Never),
        _ => Err("`auto`, `always` or `never`"),
    }
}

fn names(text: &str) -> Result<Vec<String>, &'static str> {
    let names: Vec<String> =
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.iter().any(|name| name.contains(['=', ' ', '\0'])) {
        return Err("names of variables, separated by commas");
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(place.resolve().unwrap().store, place.folder.path().join("home/s"));
        let place = place.with_variable("FLOWRUN_STORE", "s");
        assert_eq!(place.resolve().unwrap().store, place.folder.path().join("s"));
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
        for (name, value) in [
            ("store", "s3://bucket/a"),
            ("state", "postgres://me:secret@host/db"),
            ("runtime", "docker"),
            ("runtime", "kubernetes"),
        ] {
            let error = Place::new().with_flag(name, value).resolve().unwrap_err();
            assert!(matches!(error, CliError::NotAvailable { .. }), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(Place::new().with_flag("runtime", "auto").resolve().is_ok());
        assert!(Place::new().with_flag("runtime", "podman").resolve().is_err());
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
}
