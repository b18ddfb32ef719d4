//! What others wrote, made harmless for a terminal.

use std::borrow::Cow;

/// The text with its control characters written out, so that it can't move the cursor, change a title or pretend to be
/// another line.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, line separators, and the marks that turn the direction of writing.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_control_a_terminal_is_written_out() {
        assert_eq!(escape("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(escape("one\r\ntwo\t"), "one\\r\\ntwo\\t");
        assert_eq!(
            escape("\u{9b}1m\u{7f}\u{202e}"),
            "\\u{9b}1m\\u{7f}\\u{202e}"
        );
    }

    #[test]
    fn other_text_is_left_alone() {
        assert_eq!(escape("grüß dich, 世界 👋 \\n"), "grüß dich, 世界 👋 \\n");
    }
}
