//! Standard output and standard error. A reader that went away is no reason to fail.

use std::io::{IsTerminal as _, Write as _};

/// What standard output can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Whether it is a terminal.
    pub terminal: bool,
    /// Whether to use colours.
    pub colour: bool,
    /// Whether what people read goes to standard error, because programs read the other.
    aside: bool,
}

impl Screen {
    /// `no_color` is the value of the variable of that name: anything but an empty value means no
    /// colours.
    pub(crate) fn new(no_color: Option<&str>) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let colour = terminal && no_color.is_none_or(str::is_empty);
        Self { terminal, colour, aside: false }
    }

    /// Standard error, plain.
    pub(crate) const fn aside() -> Self {
        Self { terminal: false, colour: false, aside: true }
    }

    /// Writes one line for people.
    pub(crate) fn line(self, text: &str) {
        if self.aside { error(text) } else { line(text) }
    }

    /// `text` in the colour of an ANSI SGR code, or plain.
    pub(crate) fn paint(self, sgr: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{sgr}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes one line to standard output.
pub(crate) fn line(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _closed = writeln!(stdout, "{text}");
}

/// Writes one line to standard error.
pub(crate) fn error(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _closed = writeln!(stderr, "{text}");
}
