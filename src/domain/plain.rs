//! Text of strangers, shown to people on one line: in a log, in an explanation.
//! Never changes what is stored or compared, and never passes on what would move a cursor or turn a line.

use core::fmt::{self, Display, Formatter, Write as _};

/// Writes control characters, line ends of every kind and direction marks as numbers, the rest as it is.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a>(pub &'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            if letter.is_control() || moves(letter) {
                write!(f, "{}", letter.escape_default())?;
            } else {
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}

/// Line and paragraph separators, and the marks of Unicode's bidirectional algorithm.
const fn moves(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
