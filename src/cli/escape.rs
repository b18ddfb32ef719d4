//! Makes text from other people harmless for a terminal.
//!
//! Everything that the program prints passes one of these functions: stdout in [`output`](super::output), stderr in
//! [`failure`](super::failure). A printed text can therefore neither control the terminal nor mislead its reader.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns the text as one line. Every character that could move the cursor, change a title, turn the direction of
/// writing, or hide or fake a part of the line is written as an escape, such as `\u{1b}` or `
/// `.
pub fn escape(text: &str) -> Cow<'_, str> {
    replace(text, is_unsafe, |c, out| out.extend(c.escape_default()))
}

/// Escapes a text of several lines as [`escape`] does, but keeps its line feeds.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    let is_replaced = |c| c != '\n' && is_unsafe(c);
    replace(text, is_replaced, |c, out| out.extend(c.escape_default()))
}

/// Returns JSON of the same value, in which the characters that [`escape`] replaces are `\u` escapes.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    // Control characters below the space are whitespace between tokens: within a string, JSON escapes them already.
    let is_replaced = |c| c > ' ' && is_unsafe(c);
    replace(json, is_replaced, |c, out| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String can't fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// Returns TOML of the same value, in which the characters that [`escape`] replaces are escapes of a basic string.
pub fn escape_toml(toml: &str) -> Cow<'_, str> {
    let is_replaced = |c| c > ' ' && is_unsafe(c);
    replace(toml, is_replaced, |c, out| {
        // Writing to a String can't fail.
        let _ = match u32::from(c) {
            code @ ..=0xffff => write!(out, "\\u{code:04X}"),
            code => write!(out, "\\U{code:08X}"),
        };
    })
}

/// Replaces the characters that `is_replaced` selects. Borrows a text that has none of them.
fn replace(
    text: &str,
    is_replaced: impl Fn(char) -> bool,
    replacement: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.chars().any(&is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_replaced(c) {
            replacement(c, &mut replaced);
        } else {
            replaced.push(c);
        }
    }
    Cow::Owned(replaced)
}

/// Returns whether a character could control a terminal or mislead its reader.
///
/// The zero-width joiner and non-joiner are not escaped: emoji and several scripts need them, and they only affect
/// the characters beside them.
fn is_unsafe(c: char) -> bool {
    matches!(c,
        // C0, DEL, C1
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // The direction of writing
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // The ends of lines and paragraphs
        | '\u{2028}' | '\u{2029}'
        // Invisible: hyphens, fillers, separators, operators, the byte order mark, annotations, notes, tags
        | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One character of each kind, and the first and the last one of each range.
    const UNSAFE: &str = "\0\u{1b}\u{1f}\u{7f}\u{80}\u{85}\u{9b}\u{9f}\u{ad}\u{34f}\u{115f}\u{1160}\u{3164}\u{ffa0}\u{1d173}\u{1d17a}\u{61c}\u{180e}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\
        \u{202e}\u{2060}\u{2064}\u{2066}\u{2069}\u{206f}\u{feff}\u{fff9}\u{e0001}\u{e007f}";

    const SAFE: &str = "grüß dich, 世界 👋 👩\u{200d}🚀 نامه\u{200c}ای e\u{301} \u{a0} \\n \\u{1b}";

    #[test]
    fn characters_that_could_control_a_terminal_are_escaped() {
        assert_eq!(escape("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(escape("one\r\ntwo\t"), "one\\r\\ntwo\\t");
        assert_eq!(
            escape("\u{9b}1m\u{7f}\u{202e}"),
            "\\u{9b}1m\\u{7f}\\u{202e}"
        );
        for c in UNSAFE.chars() {
            assert!(escape(&c.to_string()).is_ascii(), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn line_feeds_of_a_multi_line_text_are_kept() {
        assert_eq!(escape_lines("one\r\ntwo\u{85}\n"), "one\\r\ntwo\\u{85}\n");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({ UNSAFE: [UNSAFE, SAFE, "\n\t\""] });
        for json in [
            serde_json::to_string(&value).unwrap(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let escaped = escape_json(&json);
            assert!(!escaped.chars().any(|c| c != '\n' && is_unsafe(c)));
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&escaped).unwrap(),
                value
            );
        }
        assert_eq!(
            escape_json("\"\u{e0001}\u{85}\""),
            "\"\\udb40\\udc01\\u0085\""
        );
    }

    #[test]
    fn escaped_toml_has_the_same_value() {
        let text = format!("{UNSAFE}{SAFE}").replace('\\', "");
        let value = toml::Table::from_iter([("x".to_owned(), toml::Value::from(text))]);
        let toml = toml::to_string(&value).unwrap();
        let escaped = escape_toml(&toml);
        assert!(!escaped.chars().any(|c| c != '\n' && is_unsafe(c)));
        assert_eq!(toml::from_str::<toml::Table>(&escaped).unwrap(), value);
    }

    #[test]
    fn harmless_text_is_not_changed() {
        for text in [
            escape(SAFE),
            escape_lines(SAFE),
            escape_json(SAFE),
            escape_toml(SAFE),
        ] {
            assert_eq!(text, SAFE);
        }
    }
}
