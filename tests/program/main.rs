//! Tests of the real program, as a person at the terminal meets it.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod aftermath;
mod examples;
mod failures;
mod hindsight;
mod kill;
mod place;
mod reuse;
mod sources;
mod words;
