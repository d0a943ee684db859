//! Replaces secrets in what a program writes, before it is written anywhere.
//!
//! All spellings of all values are found in one pass over the bytes (Aho and Corasick, 1975). A *run* is a stretch that
//! overlapping finds cover together; each run becomes one [`MASK`]. What is written is a function of the whole text: where it
//! is cut into chunks changes nothing. At any time exactly those last bytes are held back that a find may begin with or
//! that belong to a run which may still grow; the state of the automaton says how many they are.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use super::{CHUNK, secret_forms};
use crate::secret::HandedSecret;

/// What stands in the place of a secret. Shorter than anything it replaces, so that a masked log is never the longer one.
pub const MASK: &str = "***";
const _: () = assert!(MASK.len() < secret_forms::SHORTEST);

/// The secrets that must not appear in a log. Cheap to clone.
#[derive(Clone, Default)]
pub struct Masks(Option<Arc<Search>>);

impl fmt::Debug for Masks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_empty() { "no masks" } else { "masks" })
    }
}

impl Masks {
    /// Masks for these values: the value, each line of one with several lines, its base64 wherever it stands in what is
    /// encoded, its percent-encoded, JSON-escaped and quoted forms. Nothing shorter than 4 bytes.
    ///
    /// Needs about 50 bytes of memory per byte of these forms. The error speaks of values beyond a hundred megabytes.
    pub fn of(secrets: &[HandedSecret]) -> std::io::Result<Self> {
        let mut forms = std::collections::BTreeSet::new();
        for secret in secrets {
            forms.append(&mut secret_forms::forms(secret.value.reveal()));
        }
        Self::of_forms(&forms.into_iter().collect::<Vec<_>>())
    }

    pub(super) fn of_forms(forms: &[Vec<u8>]) -> std::io::Result<Self> {
        if forms.is_empty() {
            return Ok(Self(None));
        }
        Ok(Self(Some(Arc::new(Search::new(forms)?))))
    }

    /// Whether nothing is masked.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this text shows a secret.
    pub fn find_in(&self, text: &str) -> bool {
        let Some(search) = &self.0 else { return false };
        let mut runs = Vec::new();
        search.scan(search.start, text.as_bytes(), 0, &mut runs);
        !runs.is_empty()
    }

    /// A text without secrets. Unless it is `whole`, what may be the beginning of one at its end is left out.
    pub(in crate::runtime) fn masked(&self, text: &[u8], whole: bool) -> Vec<u8> {
        let Some(mut masker) = self.masker() else { return text.to_vec() };
        let mut shown = Vec::new();
        masker.push(text, &mut |piece, _| shown.extend_from_slice(piece));
        if whole {
            masker.flush(&mut |piece, _| shown.extend_from_slice(piece));
        }
        shown
    }

    /// One that takes what one stream writes; nothing when there is nothing to mask.
    pub(super) fn masker(&self) -> Option<Masker> {
        let search = self.0.clone()?;
        let state = search.start;
        Some(Masker { search, state, held: Vec::new(), runs: Vec::new(), swallowed: 0 })
    }
}

/// The automaton over all forms.
struct Search {
    automaton: NFA,
    start: StateID,
    /// The bytes that forms begin with.
    begins: [bool; 256],
    /// By state: how many of the last bytes a find that is not complete may begin with. Sorted.
    waits: Box<[(StateID, u32)]>,
}

impl Search {
    fn new(forms: &[Vec<u8>]) -> std::io::Result<Self> {
        let build = NFA::builder().match_kind(MatchKind::Standard).prefilter(false).build(forms);
        let automaton = build.map_err(std::io::Error::other)?;
        let start = automaton.start_state(Anchored::No).map_err(std::io::Error::other)?;
        let mut begins = [false; 256];
        // All beginnings of forms by the state they lead to, with their length, and whether something goes on from there.
        let mut beginnings = std::collections::BTreeMap::new();
        for (number, form) in forms.iter().enumerate() {
            begins[usize::from(form[0])] = true;
            let mut state = start;
            for (place, byte) in form.iter().enumerate() {
                state = automaton.next_state(Anchored::No, state, *byte);
                let goes_on = place + 1 < form.len();
                let known = beginnings.entry(state).or_insert((place + 1, false, number));
                known.1 |= goes_on;
            }
        }
        // Where nothing goes on, a later find begins further back: at the longest end of the form that is a beginning too.
        let mut by_length: Vec<_> = beginnings.iter().collect();
        by_length.sort_by_key(|(_, (length, ..))| *length);
        let mut waits = std::collections::BTreeMap::new();
        for (state, (length, goes_on, number)) in by_length {
            let waiting = if *goes_on {
                u32::try_from(*length).map_err(std::io::Error::other)?
            } else {
                let end = forms[*number][1..]
                    .iter()
                    .fold(start, |state, byte| automaton.next_state(Anchored::No, state, *byte));
                waits.get(&end).copied().unwrap_or(0)
            };
            waits.insert(*state, waiting);
        }
        Ok(Self { automaton, start, begins, waits: waits.into_iter().collect() })
    }

    /// Reads `text` from `from` on and adds what it finds to the runs, which are in order and do not overlap.
    fn scan(
        &self,
        mut state: StateID,
        text: &[u8],
        from: usize,
        runs: &mut Vec<Range<usize>>,
    ) -> StateID {
        let mut at = from;
        while at < text.len() {
            if state == self.start {
                match text[at..].iter().position(|byte| self.begins[usize::from(*byte)]) {
                    Some(plain) => at += plain,
                    None => break,
                }
            }
            state = self.automaton.next_state(Anchored::No, state, text[at]);
            at += 1;
            if self.automaton.is_match(state) {
                let found = (0..self.automaton.match_len(state))
                    .map(|number| self.automaton.match_pattern(state, number))
                    .map(|form| self.automaton.pattern_len(form))
                    .max();
                let mut run = at - found.unwrap_or_default()..at;
                while let Some(last) = runs.pop_if(|last| last.end > run.start) {
                    run.start = run.start.min(last.start);
                }
                runs.push(run);
            }
        }
        state
    }

    fn waits(&self, state: StateID) -> usize {
        let found = self.waits.binary_search_by_key(&state, |(state, _)| *state);
        found.map_or(0, |place| self.waits[place].1 as usize)
    }
}

/// Masks one stream.
pub(super) struct Masker {
    search: Arc<Search>,
    state: StateID,
    /// What is not decided, never longer than the longest form.
    held: Vec<u8>,
    /// Runs in it.
    runs: Vec<Range<usize>>,
    /// So many bytes of the first run stood before what is held: a run of any length needs no memory.
    swallowed: u64,
}

impl Masker {
    /// Bytes that were taken and not given out.
    pub(super) fn held(&self) -> u64 {
        self.swallowed + self.held.len() as u64
    }

    /// Takes what was written next and gives out what is decided: at most [`CHUNK`] bytes to write at a time, and for how many
    /// bytes of the program they stand.
    ///
    /// After each piece that is given out, no find can begin before its end and end after it: another masker that begins with the
    /// byte after it gives out the same.
    pub(super) fn push(&mut self, bytes: &[u8], give: &mut dyn FnMut(&[u8], u64)) {
        if self.held.is_empty() {
            // Most of a log takes this way and is not copied.
            self.take(bytes, 0, give);
        } else {
            let known = self.held.len();
            let mut text = std::mem::take(&mut self.held);
            text.extend_from_slice(bytes);
            self.take(&text, known, give);
        }
    }

    /// Gives out what is held, when nothing more can come.
    pub(super) fn flush(&mut self, give: &mut dyn FnMut(&[u8], u64)) {
        let text = std::mem::take(&mut self.held);
        let end = text.len();
        self.give(&text, end, give);
        self.state = self.search.start;
    }

    fn take(&mut self, text: &[u8], known: usize, give: &mut dyn FnMut(&[u8], u64)) {
        self.state = self.search.scan(self.state, text, known, &mut self.runs);
        let decided = text.len() - self.search.waits(self.state);
        self.give(text, decided, give);
        self.held.extend_from_slice(&text[decided..]);
    }

    /// Gives out what stands before `decided`. A run that reaches beyond it may grow and is kept back as a number.
    fn give(&mut self, text: &[u8], decided: usize, give: &mut dyn FnMut(&[u8], u64)) {
        if self.runs.first().is_none_or(|run| run.start >= decided) {
            text[..decided].chunks(CHUNK).for_each(|piece| give(piece, piece.len() as u64));
            self.begin_at(decided);
            return;
        }
        let mut piece = Piece { bytes: Vec::new(), raw: 0, give };
        let mut at = 0;
        let mut over = 0;
        for run in &self.runs {
            if run.start >= decided {
                break;
            }
            piece.plain(&text[at..run.start]);
            if run.end > decided {
                at = decided;
                self.swallowed += (decided - run.start) as u64;
                break;
            }
            piece.mask(run.len() as u64 + std::mem::take(&mut self.swallowed));
            at = run.end;
            over += 1;
        }
        piece.plain(&text[at..decided]);
        piece.end();
        self.runs.drain(..over);
        self.begin_at(decided);
    }

    /// Counts the places of runs from here on.
    fn begin_at(&mut self, decided: usize) {
        for run in &mut self.runs {
            *run = run.start.saturating_sub(decided)..run.end - decided;
        }
    }
}

/// What is given out next.
struct Piece<'a> {
    bytes: Vec<u8>,
    raw: u64,
    give: &'a mut dyn FnMut(&[u8], u64),
}

impl Piece<'_> {
    fn plain(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            let (now, later) = text.split_at(text.len().min(CHUNK));
            if self.bytes.len() + now.len() > CHUNK {
                self.end();
            }
            self.bytes.extend_from_slice(now);
            self.raw += now.len() as u64;
            text = later;
        }
    }

    fn mask(&mut self, raw: u64) {
        if self.bytes.len() + MASK.len() > CHUNK {
            self.end();
        }
        self.bytes.extend_from_slice(MASK.as_bytes());
        self.raw += raw;
    }

    fn end(&mut self) {
        if self.raw > 0 {
            (self.give)(&self.bytes, self.raw);
            self.bytes.clear();
            self.raw = 0;
        }
    }
}

#[cfg(test)]
mod tests;
