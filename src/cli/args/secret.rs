//! `secret`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::flags::OutputFlags;

/// `flowrun secret`
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  flowrun secret set aws AWS_ACCESS_KEY_ID         asks for the value
  flowrun secret ls
  flowrun secret rm aws"
)]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    pub(crate) command: SecretCommand,
}

/// What is done with secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Keep a value, sealed; of one that is there already, a new version
    Set(SetArgs),
    /// List secrets, never their values
    Ls(LsArgs),
    /// Remove a secret, or one of its entries
    Rm(RmArgs),
}

/// `flowrun secret set`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun secret set aws AWS_ACCESS_KEY_ID         asks for the value and does not show it
  pass show aws | flowrun secret set aws AWS_ACCESS_KEY_ID
  flowrun secret set --group prod db PASSWORD --from-variable DB_PASSWORD
  flowrun secret set tls KEY --from-file server.key
  flowrun secret set aws --env-file aws.env        all of its entries

A value is UTF-8 text of at most 64 KiB. The line end after a value that is typed or read from stdin is cut off;
`--from-file` and `--from-variable` keep every byte. Values are never arguments, since everybody on the machine can read those.")]
pub(crate) struct SetArgs {
    /// The secret: `aws`; stages write `aws#ENTRY`, or `GROUP/aws#ENTRY`
    pub(crate) name: String,
    /// Its entry: `AWS_ACCESS_KEY_ID`
    pub(crate) entry: Option<String>,
    /// Its group
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) group: String,
    /// Take the value from this file, as it is
    #[arg(long, value_name = "FILE", conflicts_with = "from_variable")]
    pub(crate) from_file: Option<PathBuf>,
    /// Take the value from this variable
    #[arg(long, value_name = "NAME")]
    pub(crate) from_variable: Option<String>,
    /// Take every line `ENTRY=value` of this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["entry", "from_file", "from_variable"])]
    pub(crate) env_file: Option<PathBuf>,
    /// Caught to be refused with better words than an unexpected argument gets.
    #[arg(hide = true)]
    pub(crate) values: Vec<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun secret ls`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun secret ls
  flowrun secret ls --group prod -o json | jq '.[].entry'")]
pub(crate) struct LsArgs {
    /// Only of this group
    #[arg(long)]
    pub(crate) group: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// `flowrun secret rm`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowrun secret rm aws                            all of its entries
  flowrun secret rm --group prod db PASSWORD --yes")]
pub(crate) struct RmArgs {
    /// The secret
    pub(crate) name: String,
    /// Only this entry
    pub(crate) entry: Option<String>,
    /// Its group
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) group: String,
    /// Answer yes to every question
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}
