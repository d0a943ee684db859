//! Lines on a terminal of which each takes the place of the one before: how far the pull of an image is. Elsewhere they are lines
//! now and then.

use std::io::IsTerminal;

use super::screen::{Loudness, Screen, to_stderr};
use crate::runtime::docker::image::Said;
use crate::words::visible;

/// Back to the begin of the line, which is emptied.
const ANEW: &str = "\r\u{1b}[2K";
/// How wide a terminal is that does not say so.
const USUAL_WIDTH: u16 = 80;

/// Shows what is said; what passes is gone when this is.
pub(crate) struct Passing {
    screen: Screen,
    is_terminal: bool,
}

impl Passing {
    /// On stderr.
    pub(crate) fn on(screen: Screen) -> Self {
        let is_terminal = std::io::stderr().is_terminal() && screen.loudness >= Loudness::Usual;
        Self { screen, is_terminal }
    }

    /// Shows it.
    pub(crate) fn tell(&self, said: Said) {
        match (said, self.is_terminal) {
            (Said::SoFar { text, .. }, true) => to_stderr(&replacing(&visible(&text), width())),
            (Said::Line(text), true) => {
                to_stderr(ANEW);
                self.screen.say(&visible(&text));
            }
            (said, false) => {
                if let Some(text) = said.lasting() {
                    self.screen.say(&visible(&text));
                }
            }
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if self.is_terminal {
            to_stderr(ANEW);
        }
    }
}

fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map_or(USUAL_WIDTH, |size| size.ws_col).into()
}

/// The text in place of what stands there, cut so that it stays one line.
fn replacing(text: &str, width: usize) -> String {
    let cut: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{ANEW}{cut}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passing_line_stays_one_line() {
        assert_eq!(replacing("pulling `a`: [##··]", 8), "\r\u{1b}[2Kpulling");
        assert_eq!(replacing("ab", 80), "\r\u{1b}[2Kab");
        assert_eq!(replacing("ab", 0), "\r\u{1b}[2K");
    }
}
