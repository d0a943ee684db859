//! Every key of the format in one table: the reader refuses what does not stand here, and the schema is made of it.

/// A map with known keys.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name in the schema.
    pub(super) name: &'static str,
    /// What it is, in a sentence: "a key of …".
    pub(super) what: &'static str,
    /// The keys.
    pub(super) keys: &'static [Key],
    /// Whether `x-…` keys are free.
    pub(super) extensible: bool,
}

/// A key of a [`Table`].
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) form: Form,
    pub(super) required: bool,
}

/// The shape of a value.
#[derive(Debug)]
pub(super) enum Form {
    /// Text; a number or boolean is taken as it is written.
    Text,
    /// The file's version.
    Version,
    /// The name of a pipeline.
    PipelineName,
    /// The name of a stage, input, output, param or axis.
    Name,
    /// A path below the base.
    Path,
    Boolean,
    /// A whole number within bounds.
    Whole(u64, u64),
    Number,
    /// Text, number or boolean.
    Scalar,
    Duration,
    Size,
    Cpu,
    /// `2x`
    Factor,
    /// Where data is fetched from.
    Address,
    /// `sha256:` or `b3:` and 64 digits.
    ContentDigest,
    /// One `${{ … }}`.
    Expression,
    /// One of these words.
    Choice(&'static [&'static str]),
    List(&'static Form),
    /// Names of the user's choice → values.
    Map(Names, &'static Form),
    Table(&'static Table),
    AnyOf(&'static [Form]),
}

/// What the keys of a [`Form::Map`] are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Names {
    /// A stage, input, output, param or axis.
    Name,
    /// An environment variable.
    Variable,
    /// Anything.
    Any,
}

const fn key(name: &'static str, about: &'static str, form: Form) -> Key {
    Key { name, about, form, required: false }
}

const fn required(name: &'static str, about: &'static str, form: Form) -> Key {
    Key { name, about, form, required: true }
}

const fn table(name: &'static str, what: &'static str, keys: &'static [Key]) -> Table {
    Table { name, what, keys, extensible: false }
}

/// Port numbers.
pub(super) const PORT: Form = Form::Whole(1, 65_535);
const COMMAND: Form = Form::AnyOf(&[Form::Text, Form::List(&Form::Text)]);
const CONDITIONS: Form = Form::AnyOf(&[Form::Expression, Form::List(&Form::Expression)]);
const ENV: Form = Form::Map(Names::Variable, &Form::Scalar);
const SECRETS: Form = Form::Map(Names::Variable, &Form::AnyOf(&[Form::Text, Form::Table(&SECRET)]));
const BUILDS: Form = Form::AnyOf(&[Form::Path, Form::Table(&BUILD)]);
const RETRY: Form = Form::AnyOf(&[Form::Whole(0, 1000), Form::Table(&RETRIES)]);

/// The words of `pull`.
pub(super) const PULL: &[&str] = &["missing", "always", "never"];
/// The capabilities of Linux.
#[rustfmt::skip]
pub(super) const CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF",
    "CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER",
    "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
    "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN",
    "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT",
    "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];
/// The words of a param's `type`.
pub(super) const TYPES: &[&str] = &["string", "number", "integer", "boolean"];

pub(super) static FILE: Table = Table {
    name: "pipeline",
    what: "a pipeline file",
    extensible: true,
    keys: &[
        required("version", "The version of the format.", Form::Version),
        required("name", "The pipeline's name, also a part of host names.", Form::PipelineName),
        key(
            "source",
            "Where the code is; default: the git work tree that holds this file.",
            Form::Table(&SOURCE),
        ),
        key(
            "params",
            "Parameters: a default, or a map that says more.",
            Form::Map(Names::Name, &Form::AnyOf(&[Form::Scalar, Form::Table(&PARAM)])),
        ),
        key(
            "defaults",
            "What holds for every stage that does not say otherwise.",
            Form::Table(&DEFAULTS),
        ),
        required("stages", "The stages by name.", Form::Map(Names::Name, &Form::Table(&STAGE))),
        key("on_failure", "A stage that runs when the outcome is failed.", Form::Name),
        key("on_exit", "A stage that always runs at the end.", Form::Name),
        key("timeout", "How long the whole run may take.", Form::Duration),
        key(
            "volumes",
            "Folders of services that outlive releases.",
            Form::Map(Names::Name, &Form::Table(&VOLUME)),
        ),
        key("schedule", "When runs start by themselves.", Form::Table(&SCHEDULE)),
        key(
            "targets",
            "Places to apply to, each with its own params, secrets and live releases.",
            Form::Map(Names::Name, &Form::Table(&TARGET)),
        ),
    ],
};

pub(super) static SOURCE: Table = table(
    "source",
    "`source`",
    &[
        required(
            "git",
            "A repository: https, ssh, git@host:path, file, or a local path.",
            Form::Text,
        ),
        key("ref", "A branch, tag or commit; default: the remote's default branch.", Form::Text),
    ],
);

pub(super) static PARAM: Table = table(
    "param",
    "a parameter",
    &[
        key("type", "What values it takes; default: as its default value.", Form::Choice(TYPES)),
        required("default", "Its value unless told otherwise.", Form::Scalar),
        key("min", "The smallest number.", Form::Number),
        key("max", "The largest number.", Form::Number),
        key("help", "What it is for.", Form::Text),
    ],
);

pub(super) static DEFAULTS: Table = table(
    "defaults",
    "`defaults`",
    &[
        key("image", "A container image.", Form::Text),
        key("build", "How to build the container image: a folder, or a map.", BUILDS),
        key("pull", "When to pull the image.", Form::Choice(PULL)),
        key("python", "The version of Python: \"3.12\".", Form::Text),
        key("requirements", "Lines for pip; an empty list switches off.", Form::List(&Form::Text)),
        key("requirements_file", "A file of lines for pip.", Form::Path),
        key("env", "Environment variables.", ENV),
        key("secrets", "Secrets as environment variables or files.", SECRETS),
        key("resources", "What a stage needs of the machine.", Form::Table(&RESOURCES)),
        key("retries", "How often a failed attempt is tried again.", RETRY),
        key("timeout", "How long one attempt may take.", Form::Duration),
        key("container", "How the container is confined.", Form::Table(&CONTAINER)),
    ],
);

pub(super) static STAGE: Table = table(
    "stage",
    "a stage",
    &[
        key("run", "What is executed: text for `sh -e -c`, or a list as it is.", COMMAND),
        key(
            "args",
            "Arguments for the image's own program, without `run`.",
            Form::List(&Form::Text),
        ),
        key("needs", "Stages that must be done first.", Form::List(&Form::Name)),
        key("when", "Runs only if this holds.", CONDITIONS),
        key(
            "inputs",
            "What it takes from other stages.",
            Form::Map(Names::Name, &Form::AnyOf(&[Form::Text, Form::Table(&INPUT)])),
        ),
        key(
            "outputs",
            "Files and folders it makes, below the base.",
            Form::Map(Names::Name, &Form::Path),
        ),
        key("metrics", "A JSON file of numbers it writes.", Form::Path),
        key("values", "A JSON file of texts, numbers and booleans it writes.", Form::Path),
        key("params", "Parameters it reads from FLOWRUN_PARAMS.", Form::List(&Form::Name)),
        key(
            "files",
            "Globs of the repo files it sees; default: all below the base.",
            Form::List(&Form::Text),
        ),
        key("workdir", "Its current directory below the base.", Form::Path),
        key("env", "Environment variables.", ENV),
        key("secrets", "Secrets as environment variables or files.", SECRETS),
        key("python", "The version of Python: \"3.12\".", Form::Text),
        key("requirements", "Lines for pip; an empty list switches off.", Form::List(&Form::Text)),
        key("requirements_file", "A file of lines for pip.", Form::Path),
        key("image", "A container image.", Form::Text),
        key("build", "How to build the container image: a folder, or a map.", BUILDS),
        key("pull", "When to pull the image.", Form::Choice(PULL)),
        key(
            "matrix",
            "Axes of values: one task for each combination.",
            Form::Map(Names::Name, &Form::List(&Form::Scalar)),
        ),
        key("pick", "Which copy of a matrix later stages see.", Form::Table(&PICK)),
        key(
            "cache",
            "Whether results are reused: yes, no, only those, or younger than this.",
            Form::AnyOf(&[Form::Boolean, Form::Choice(&["only"]), Form::Duration]),
        ),
        key("retries", "How often a failed attempt is tried again.", RETRY),
        key("timeout", "How long one attempt may take.", Form::Duration),
        key("resources", "What it needs of the machine.", Form::Table(&RESOURCES)),
        key("container", "How the container is confined.", Form::Table(&CONTAINER)),
        key(
            "volumes",
            "Volumes and where the service sees them.",
            Form::Map(Names::Name, &Form::Text),
        ),
        key("uses", "A built-in or shared stage.", Form::Text),
        key(
            "with",
            "Settings of the stage that `uses` names.",
            Form::Map(Names::Any, &Form::Scalar),
        ),
        key("service", "Makes it a service: it stays up.", Form::Table(&SERVICE)),
    ],
);

pub(super) static INPUT: Table = table(
    "input",
    "an input",
    &[
        key("from", "An output of a stage: `stage.output`.", Form::Text),
        key("path", "Where it is placed below the base.", Form::Path),
        key("live", "The input of a service's live release: `service.input`.", Form::Text),
        key("optional", "Whether it may be missing.", Form::Boolean),
        key(
            "url",
            "Where it is fetched from: `https://…`, `s3://bucket/key` or `file:///path`.",
            Form::Address,
        ),
        key(
            "digest",
            "The digest its content must have: `sha256:…` or `b3:…`. What is known by it is not fetched again.",
            Form::ContentDigest,
        ),
        key(
            "token",
            "A secret that is sent to an `https:` address as a bearer token: `[group/]name[#entry]`; default entry: `TOKEN`.",
            Form::Text,
        ),
    ],
);

pub(super) static SECRET: Table = table(
    "secret",
    "a secret",
    &[
        required("secret", "`[group/]name`.", Form::Text),
        key("entry", "The entry of the secret; default: the variable's name.", Form::Text),
        key(
            "file",
            "Whether the variable holds the path of a file with the secret.",
            Form::Boolean,
        ),
        key("optional", "Whether it may be missing.", Form::Boolean),
    ],
);

pub(super) static BUILD: Table = table(
    "build",
    "`build`",
    &[
        key("context", "The folder that is sent to the builder.", Form::Path),
        key("dockerfile", "The Dockerfile.", Form::Path),
        key("args", "Arguments of the build.", Form::Map(Names::Variable, &Form::Scalar)),
    ],
);

pub(super) static PICK: Table = table(
    "pick",
    "`pick`",
    &[
        key("max", "The metric whose largest value wins.", Form::Text),
        key("min", "The metric whose smallest value wins.", Form::Text),
    ],
);

pub(super) static RETRIES: Table = table(
    "retries",
    "`retries`",
    &[
        key("max", "Retries after the first attempt.", Form::Whole(0, 1000)),
        key("backoff", "The pause before the first retry; it doubles.", Form::Duration),
        key("on_oom", "More memory after running out of it.", Form::Table(&ON_OOM)),
    ],
);

pub(super) static ON_OOM: Table = table(
    "on_oom",
    "`on_oom`",
    &[
        required("memory", "How much more memory: `2x`.", Form::Factor),
        key("max", "Never more than this.", Form::Size),
    ],
);

pub(super) static RESOURCES: Table = table(
    "resources",
    "`resources`",
    &[
        key("cpu", "Processors: `0.5` or `500m`.", Form::Cpu),
        key("memory", "Memory: `4Gi`.", Form::Size),
        key("gpu", "Graphics processors.", Form::Whole(0, 1024)),
        key("limit", "Also a limit, not only a request.", Form::Boolean),
    ],
);

pub(super) static CONTAINER: Table = table(
    "container",
    "`container`",
    &[
        key("user", "Who runs it.", Form::Choice(&["caller", "image"])),
        key(
            "root",
            "Whether the root filesystem can be written.",
            Form::Choice(&["read-only", "writable"]),
        ),
        key("network", "Whether it has a network.", Form::Choice(&["default", "none"])),
        key("capabilities", "Capabilities it keeps.", Form::List(&Form::Choice(CAPABILITIES))),
    ],
);

pub(super) static SERVICE: Table = table(
    "service",
    "`service`",
    &[
        required("port", "The port where it is reached.", PORT),
        key("listen", "The port the program insists on; default: `$PORT`.", PORT),
        key("protocol", "What it speaks.", Form::Choice(&["http", "tcp"])),
        key("ports", "More ports by name; not routed.", Form::Map(Names::Name, &PORT)),
        key("replicas", "How many copies run.", Form::Whole(0, 1000)),
        key("ready", "When a replica counts as ready.", Form::Table(&READY)),
        key("alive", "When a replica is started anew.", Form::Table(&ALIVE)),
        key("drain", "How long an old replica may finish its requests.", Form::Duration),
        key(
            "route",
            "The path of the gateway that leads to it.",
            Form::AnyOf(&[Form::Text, Form::Table(&ROUTE)]),
        ),
        key("gate", "What must hold, else the live release stays.", CONDITIONS),
        key("verify", "A stage that tries the new replicas before they go live.", Form::Name),
    ],
);

pub(super) static READY: Table = table(
    "ready",
    "`ready`",
    &[
        key("http", "A path that answers 2xx.", Form::Text),
        key("tcp", "The port takes connections.", Form::Boolean),
        key("run", "A command that ends with 0.", COMMAND),
        key("within", "How long it may take.", Form::Duration),
        key("interval", "The pause between tries.", Form::Duration),
    ],
);

pub(super) static ALIVE: Table = table(
    "alive",
    "`alive`",
    &[
        required("http", "A path that answers 2xx.", Form::Text),
        key("interval", "The pause between tries.", Form::Duration),
        key("failures", "How many failures in a row count.", Form::Whole(1, 1000)),
    ],
);

pub(super) static ROUTE: Table = table(
    "route",
    "`route`",
    &[
        required("path", "The path.", Form::Text),
        key("weight", "The share of requests, in percent.", Form::Whole(0, 100)),
    ],
);

pub(super) static VOLUME: Table =
    table("volume", "a volume", &[key("size", "Its size.", Form::Size)]);

pub(super) static SCHEDULE: Table = table(
    "schedule",
    "`schedule`",
    &[
        required("cron", "Five fields: minute, hour, day, month, weekday.", Form::Text),
        key("timezone", "A name of the tz database: `Europe/Paris`.", Form::Text),
        key(
            "overlap",
            "What happens when the run before has not ended.",
            Form::Choice(&["wait", "skip", "replace"]),
        ),
        key(
            "catch_up",
            "Which missed runs are made up for.",
            Form::Choice(&["none", "last", "all"]),
        ),
    ],
);

pub(super) static TARGET: Table = table(
    "target",
    "a target",
    &[
        key("params", "Values of parameters.", Form::Map(Names::Name, &Form::Scalar)),
        key("secrets", "The group that secrets are taken from.", Form::Text),
    ],
);

impl Table {
    /// Whether the key is one of these.
    pub(super) fn has(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name)
    }

    /// The words that a key's value can be, when it is one of a few.
    pub(super) fn choices(&self, name: &str) -> &'static [&'static str] {
        match self.keys.iter().find(|key| key.name == name).map(|key| &key.form) {
            Some(Form::Choice(choices)) => choices,
            _ => &[],
        }
    }

    /// The bounds of a key's value, when it is a whole number.
    pub(super) fn bounds(&self, name: &str) -> (u64, u64) {
        match self.keys.iter().find(|key| key.name == name).map(|key| &key.form) {
            Some(Form::Whole(least, most)) => (*least, *most),
            _ => (0, u64::MAX),
        }
    }
}
