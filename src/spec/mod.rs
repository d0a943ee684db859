//! The pipeline file: text → [`Pipeline`], or every [`Problem`] of it at once; and expressions.
//!
//! Owns the format (FORMAT.md), its words and its help. Knows nothing of runs, runtimes or stores.
//! After [`load`] no name dangles, no cycle exists and every expression compiles.
//!
//! A file goes `yaml` (text → nodes with places) → `document`, `stage`, … (nodes → `draft`, with the words of
//! `keys`) → `check` (draft → [`Pipeline`], names resolved). Problems are collected on the way; none stops it.

mod check;
mod document;
mod draft;
pub mod expression;
mod file;
mod image;
mod inputs;
mod keys;
mod param;
pub mod pipeline;
pub mod problem;
mod quantity;
mod reader;
mod render;
mod resources;
mod scalars;
mod schedule;
mod schema;
mod secrets;
mod service;
mod stage;
mod template;
mod words;
mod yaml;

#[cfg(test)]
mod service_tests;
#[cfg(test)]
mod tests;

pub use expression::{Expression, Scope, Template};
pub use file::read_file;
pub use pipeline::Pipeline;
pub use problem::{Problem, Problems};
pub use quantity::{parse_cpu, parse_duration, parse_size};
pub use schema::schema;

/// Reads a pipeline file of version 2.
///
/// `name` is how the file is called in messages, `bytes` its content (hostile content is fine: time and memory
/// are bounded). Returns the pipeline, or every problem, sorted by place.
pub fn load(name: &str, bytes: &[u8]) -> Result<Pipeline, Problems> {
    if bytes.len() as u64 > file::LARGEST {
        return Err(Problems::unreadable(name, file::too_large()));
    }
    let text = text_of(bytes).map_err(|problem| Problems::unreadable(name, problem))?;
    read(text).map_err(|list| Problems { file: name.to_owned(), text: text.to_owned(), list })
}

fn read(text: &str) -> Result<Pipeline, Vec<Problem>> {
    let (root, problems) = yaml::parse(text);
    let Some(root) = root else { return Err(problems) };
    if let document::Version::Other(problem) = document::version(&root) {
        return Err(vec![problem]);
    }
    let mut reader = reader::Reader::new(text, problems);
    let pipeline = reader.document(&root).and_then(|draft| check::check(&draft, &mut reader));
    let found = reader.finish();
    match pipeline {
        Some(pipeline) if found.problems.is_empty() => Ok(Pipeline {
            unavailable: found.unavailable,
            needs_containers: found.needs_containers,
            warnings: found.warnings,
            ..pipeline
        }),
        _ => Err(found.problems),
    }
}

/// The file as text, or why it is none.
fn text_of(bytes: &[u8]) -> Result<&str, Problem> {
    let line = |end: usize| bytes[..end].split(|byte| *byte == b'\n').count();
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(Problem::of_file("not-text", format!("holds a NUL byte on line {}", line(at)))
            .help("name a text file, written as UTF-8"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = line(error.valid_up_to());
        Problem::of_file("not-text", format!("is not UTF-8 on line {at}"))
            .help("save the file as UTF-8")
    })
}
