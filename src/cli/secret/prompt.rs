//! Asks for a value at the terminal, which shows nothing of it.

use std::io::{ErrorKind, Read, Write};

use rustix::io::ioctl_fionread;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use crate::cli::error::CliError;

/// The terminal of this process, wherever its streams lead.
const TERMINAL: &str = "/dev/tty";

const INTERRUPT: u8 = 3;
const END: u8 = 4;
const CLEAR: u8 = 21;
const BACK: [u8; 2] = [8, 127];

/// Asks until a line is typed, and gives it without its end. Nothing was typed: it is empty.
pub(super) fn ask(question: &str) -> Result<Vec<u8>, CliError> {
    let terminal = fs_err::OpenOptions::new().read(true).write(true).open(TERMINAL)?;
    // Before the question: whoever answers at once is not shown either.
    let mut hushed = Hushed::new(terminal.into_parts().0)?;
    hushed.say(question)?;
    let typed = hushed.line();
    hushed.say("\n")?;
    let line = match typed? {
        Typed::Line(line) => line,
        Typed::Interrupt => return Err(CliError::Interrupted("nothing was set".into())),
        Typed::Key => {
            return Err(CliError::usage(
                "a key was pressed that stands for no character",
                "type the value again, or give it on stdin",
            ));
        }
    };
    if hushed.has_more()? {
        return Err(CliError::usage(
            "more than one line was typed, and a prompt takes one",
            "give a value with several lines on stdin, or with `--from-file`",
        ));
    }
    Ok(line)
}

/// What came from the keyboard.
#[derive(Debug, PartialEq, Eq)]
enum Typed {
    Line(Vec<u8>),
    /// Ctrl-C.
    Interrupt,
    /// Something that is neither text nor for editing a line.
    Key,
}

/// Takes keys one by one up to the end of a line.
fn line(mut keys: impl Iterator<Item = std::io::Result<u8>>) -> std::io::Result<Typed> {
    let mut line = Vec::new();
    loop {
        match keys.next().transpose()? {
            None | Some(b'\n' | b'\r' | END) => return Ok(Typed::Line(line)),
            Some(INTERRUPT) => return Ok(Typed::Interrupt),
            Some(CLEAR) => line.clear(),
            Some(key) if BACK.contains(&key) => {
                // A character of UTF-8 goes with all of its bytes.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            Some(key) if key < b' ' && key != b'\t' => return Ok(Typed::Key),
            Some(key) => line.push(key),
        }
    }
}

/// A terminal that shows nothing and passes every key on at once. It is as before when this goes.
struct Hushed {
    terminal: std::fs::File,
    before: Termios,
}

impl Hushed {
    fn new(terminal: std::fs::File) -> std::io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut modes = before.clone();
        let off = LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        modes.local_modes.remove(off);
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        let hushed = Self { terminal, before };
        tcsetattr(&hushed.terminal, OptionalActions::Now, &modes)?;
        Ok(hushed)
    }

    fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.terminal.write_all(text.as_bytes())
    }

    fn line(&self) -> std::io::Result<Typed> {
        let mut key = [0];
        let mut terminal = &self.terminal;
        // One by one: what follows the line is not to be taken.
        let keys = std::iter::from_fn(|| match terminal.read_exact(&mut key) {
            Ok(()) => Some(Ok(key[0])),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => Some(Err(error)),
        });
        line(keys)
    }

    fn has_more(&self) -> std::io::Result<bool> {
        Ok(ioctl_fionread(&self.terminal)? > 0)
    }
}

impl Drop for Hushed {
    fn drop(&mut self) {
        // What was typed too much is thrown away: the shell would run it and show it in its history. Fails only when the
        // terminal is gone.
        tcsetattr(&self.terminal, OptionalActions::Flush, &self.before).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> Typed {
        line(keys.iter().map(|key| Ok(*key))).unwrap()
    }

    #[test]
    fn a_line_can_be_mended_and_given_up() {
        let text = |text: &str| Typed::Line(text.into());
        assert_eq!(typed(b"one\ttwo\nthree"), text("one\ttwo"));
        assert_eq!(typed("ab\u{e9}\u{7f}\u{8}c\r".as_bytes()), text("ac"));
        assert_eq!(typed(b"\x7fwrong\x15right\n"), text("right"));
        assert_eq!(typed(b"\x04"), text(""));
        assert_eq!(typed(b"abc\x03"), Typed::Interrupt);
        assert_eq!(typed(b"abc\x1b[C\n"), Typed::Key, "an arrow");
    }
}
