//! What is wrong with a pipeline file, with its place, the reason and the mend.

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable identifier of the kind of problem, kebab-case: `unknown-key`, `unknown-stage`, `not-available`.
    pub code: &'static str,
    /// A lower-case fragment that reads well after `error: `.
    pub message: String,
    /// One imperative sentence.
    pub help: Option<String>,
    /// Bytes of the file that are underlined: offset and length.
    pub span: Option<(usize, usize)>,
    /// What is written under the underline.
    pub label: Option<String>,
}

/// All problems of one file; never empty.
#[derive(Debug, Clone)]
pub struct Problems {
    /// How the file is called in messages.
    pub file: String,
    /// The file's text, empty when it could not be read as text.
    pub text: String,
    /// The problems by place.
    pub list: Vec<Problem>,
}
