//! The QR code as SVG: the one component that the server renders and the browser renders again.
//! Never inverts with the theme: scanners want black on white with four quiet modules around.

use core::fmt::Write as _;

use leptos::prelude::*;
use qrcode::{Color, EcLevel, QrCode};

/// Light modules on each side, as ISO 18004 asks for.
const QUIET: usize = 4;

/// A code drawn as one path, a unit a module. The default draws nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawing {
    /// Side of the square in modules, quiet zone included.
    pub side: String,
    /// The dark modules, a rectangle for each run in a row.
    pub path: String,
    /// One character on a disc in the middle: whose code it is.
    pub mark: &'static str,
}

impl Default for Drawing {
    fn default() -> Self {
        Self { side: "0".to_owned(), path: String::new(), mark: "" }
    }
}

impl Drawing {
    /// Draws `content` with error correction M, which repairs 15 %; the disc covers 5 %. `None`: longer than
    /// any QR code holds.
    pub fn of(content: &str, mark: &'static str) -> Option<Self> {
        let code = QrCode::with_error_correction_level(content, EcLevel::M).ok()?;
        let width = code.width();
        let modules = code.into_colors();
        let mut path = String::with_capacity(4096);
        for (y, row) in modules.chunks(width).enumerate() {
            let mut x = 0;
            for run in row.chunk_by(|left, right| left == right) {
                if run.first() == Some(&Color::Dark) {
                    // Writing to a string cannot fail.
                    let _ = write!(path, "M{} {}h{}v1h-{2}z", x + QUIET, y + QUIET, run.len());
                }
                x += run.len();
            }
        }
        Some(Self { side: (width + 2 * QUIET).to_string(), path, mark })
    }
}

/// The code as a picture, with a text for those who do not see it.
#[component]
pub fn QrImage(
    /// The code, drawn.
    drawing: Drawing,
    /// What it is.
    alt: String,
) -> impl IntoView {
    let Drawing { side, path, mark } = drawing;
    let view_box = ["0 0 ", &side, " ", &side].concat();
    view! {
        <svg
            class="qr"
            xmlns="http://www.w3.org/2000/svg"
            viewBox=view_box
            shape-rendering="crispEdges"
            role="img"
            aria-label=alt
        >
            <rect width="100%" height="100%" fill="#fff"></rect>
            <path d=path fill="#000"></path>
            <svg x="40%" y="40%" width="20%" height="20%" viewBox="-10 -10 20 20" shape-rendering="auto">
                <circle r="9.5" fill="#fff"></circle>
                <circle r="8" class="spot"></circle>
                <text y="3.8" fill="#fff" font-size="10" font-weight="600" text-anchor="middle">
                    {mark}
                </text>
            </svg>
        </svg>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws the path back onto a grid and compares it with the library's matrix, quiet zone included.
    #[test]
    fn the_path_is_the_matrix() {
        let content = "weixin://wxpay/bizpayurl?pr=NwY5Mz9&groupid=00";
        let matrix = QrCode::with_error_correction_level(content, EcLevel::M).unwrap();
        let drawing = Drawing::of(content, "微").unwrap();
        let side: usize = drawing.side.parse().unwrap();
        assert_eq!(side, matrix.width() + 8);
        let mut grid = vec![vec![false; side]; side];
        for run in drawing.path.split('M').skip(1) {
            let (at, rest) = run.split_once('h').unwrap();
            let (x, y) = at.split_once(' ').unwrap();
            let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
            let (len, back) = rest.split_once("v1h-").unwrap();
            assert_eq!(format!("{len}z"), back);
            grid[y][x..x + len.parse::<usize>().unwrap()].fill(true);
        }
        for (y, row) in grid.iter().enumerate() {
            for (x, dark) in row.iter().enumerate() {
                let inside = (4..side - 4).contains(&x) && (4..side - 4).contains(&y);
                let expected = inside && matrix[(x - 4, y - 4)] == Color::Dark;
                assert_eq!(*dark, expected, "{x},{y}");
            }
        }
    }

    #[test]
    fn too_long_is_no_drawing() {
        assert_eq!(Drawing::of(&"x".repeat(3000), ""), None);
    }

    /// Modules that the disc touches, as they stand in the picture: radius 9.5 % of its side.
    #[test]
    fn the_disc_leaves_most_of_what_can_be_repaired() {
        for length in [20_u16, 40, 60, 80, 120, 200, 400] {
            let side: f64 = Drawing::of(&"x".repeat(length.into()), "").unwrap().side.parse().unwrap();
            let reach = |at: f64| ((at - side / 2.0).abs() - 0.5).max(0.0);
            let at = |from: f64| std::iter::successors(Some(from), |at| Some(at + 1.0));
            let inside = || at(4.5).take_while(move |at| *at < side - 4.0);
            let touched = inside().flat_map(|y| inside().map(move |x| (x, y)));
            let touched = touched.filter(|(x, y)| reach(*x).hypot(reach(*y)) < side * 0.095).count();
            let touched = f64::from(u32::try_from(touched).unwrap()) / (side - 8.0).powi(2);
            assert!((0.02..0.1).contains(&touched), "{length} characters: {touched}");
        }
    }
}
