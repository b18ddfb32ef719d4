//! Draws a text as a QR code in a terminal, for the camera of a phone.
//!
//! Serves the banner. A code is drawn with Unicode half blocks, so that a character holds two modules, which are the squares
//! of the code.

use std::io;

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// Width of the light margin on each side of a code, in modules. Readers need it to find the code.
const MARGIN: usize = 4;

/// Returns the number of columns of the terminal that stdout is. None if it is no terminal.
pub fn columns_of_stdout() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(io::stdout())?;
    Some(width.0.into())
}

/// Returns the lines of the code of a text, if they fit into `columns`.
///
/// The light modules are drawn and the dark ones left out, because most terminals write light on dark. Phones read the
/// inverse too, which a terminal that writes dark on light shows.
pub fn draw(text: &str, columns: usize) -> Option<String> {
    // A screen has no stains, and a smaller code fits smaller terminals.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    if code.width() + 2 * MARGIN > columns {
        return None;
    }
    let drawing = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    Some(drawing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_only_where_it_fits() {
        let url = "http://192.168.100.100:10090";
        let width = 25 + 2 * MARGIN;
        assert_eq!(draw(url, width - 1), None);
        let drawn = draw(url, width).unwrap();
        assert_eq!(drawn.lines().count(), width.div_ceil(2));
        assert!(drawn.lines().all(|line| line.chars().count() == width));
        // The margin is light.
        assert!(drawn.starts_with(&"█".repeat(width)), "{drawn}");
        // The frame of a corner is dark, and so not drawn.
        let corner = drawn.lines().nth(2).unwrap();
        assert!(corner.starts_with("████ ▄▄▄▄▄ █"), "{drawn}");
    }
}
