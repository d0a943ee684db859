//! `cargo +nightly fuzz run spec fuzz/corpus/spec src/spec/testdata/bad`: whatever the bytes, the reader comes back,
//! and what it says can be shown.

#![no_main]

use flowrun::spec::{Scope, load};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match load("fuzz.yaml", bytes) {
        Err(problems) => {
            assert!(!problems.list.is_empty());
            assert!(!problems.render(true).is_empty());
            assert_eq!(problems.to_json().as_array().map(Vec::len), Some(problems.list.len()));
        }
        Ok(pipeline) => {
            for stage in pipeline.stages.values() {
                let gate = stage.service().into_iter().flat_map(|service| &service.gate);
                for condition in stage.when.iter().chain(gate) {
                    drop(condition.holds(&Scope::default()));
                    drop(condition.named(&Scope::default()));
                }
                for text in stage.env.values() {
                    drop(text.expand_for_shell(&Scope::default()));
                }
            }
        }
    }
});
