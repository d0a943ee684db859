//! What a command beside a job said, for whoever asks why its answer is no: the end of its output on one line, without secrets of
//! the job.

use super::log::Masks;
use crate::words;

/// How much of its output is looked at, bytes. What comes after that is not told.
const HEARD: usize = 64 * 1024;
/// How much of the end of this is told, bytes.
const TOLD: usize = 1024;

/// Output that is collected.
#[derive(Debug, Default)]
pub(super) struct Heard {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Heard {
    /// Takes what was written next. False: no more is wanted.
    pub(super) fn add(&mut self, bytes: &[u8]) -> bool {
        let room = HEARD - self.bytes.len();
        self.is_cut |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        !self.is_cut
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How the command ended, with what it said.
    pub(super) fn told(&self, ended: &str, masks: &Masks) -> String {
        let text = masks.masked(&self.bytes, !self.is_cut);
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(TOLD)..]);
        let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if said.is_empty() {
            ended.to_owned()
        } else {
            format!("{ended}: {}", words::visible(&said))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{HandedSecret, SecretText};

    fn told(pieces: &[&[u8]]) -> String {
        let value = SecretText::new("hunter22".to_owned());
        let secret = HandedSecret { variable: "KEY".to_owned(), value, file: false };
        let mut heard = Heard::default();
        for piece in pieces {
            heard.add(piece);
        }
        heard.told("it ended", &Masks::of(&[secret]).unwrap())
    }

    #[test]
    fn an_answer_tells_the_end_of_what_was_said() {
        assert_eq!(told(&[]), "it ended");
        assert_eq!(told(&[b"not\n yet\n"]), "it ended: not yet");
        assert!(told(&[&[b'x'; 3000]]).len() < 1100);
    }

    #[test]
    fn an_answer_tells_no_secret_also_where_it_is_cut() {
        assert_eq!(told(&[b"no: hun", b"ter22\n"]), "it ended: no: ***");
        let long = "x".repeat(HEARD - 4);
        let cut = told(&[long.as_bytes(), b"hunter22"]);
        assert!(cut.ends_with('x'), "{}", &cut[cut.len() - 20..]);
        // What is shown begins in the middle of one.
        let many = "hunter22 ".repeat(1000);
        assert!(!told(&[many.as_bytes()]).contains("ter"));
    }
}
