//! Tests of the real program, as a person at the terminal meets it.

mod aftermath;
mod examples;
mod failures;
mod kill;
mod place;
mod reuse;
mod sources;
