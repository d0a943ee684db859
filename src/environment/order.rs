//! What one build makes, and where.

use std::path::Path;

use super::{Definition, EnvironmentSettings};
use crate::words::count;

/// Told short texts to show.
pub(super) type Progress<'a> = &'a (dyn Fn(String) + Send + Sync);

/// An environment that is to be built.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) settings: &'a EnvironmentSettings,
    pub(super) definition: &'a Definition,
    /// Those of the definition, or their lock.
    pub(super) requirements: &'a [String],
    /// An empty place under the lock of the build, or none yet.
    pub(super) root: &'a Path,
    pub(super) progress: Progress<'a>,
}

impl Order<'_> {
    /// `3 requirements`, without options.
    pub(super) fn counted(&self) -> String {
        count(self.requirements.iter().filter(|line| !line.starts_with('-')).count(), "requirement")
    }
}
