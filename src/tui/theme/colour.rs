//! Colours at the depth that a terminal has: true colour, 256, 16 or none. The nearest colour is the
//! nearest in OKLab (Ottosson 2020), where equal distances look equal.

use ratatui::style::Color;

/// How many colours a terminal shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Depth {
    /// None: attributes alone carry what colour would.
    None,
    /// The terminal's own 16.
    #[default]
    Sixteen,
    /// The 256 of xterm.
    Indexed,
    /// 24 bit.
    True,
}

/// xterm's defaults for the 16 colours, in the order of their numbers.
const SIXTEEN: [(Color, u32); 16] = [
    (Color::Black, 0x000000),
    (Color::Red, 0xcd0000),
    (Color::Green, 0x00cd00),
    (Color::Yellow, 0xcdcd00),
    (Color::Blue, 0x0000ee),
    (Color::Magenta, 0xcd00cd),
    (Color::Cyan, 0x00cdcd),
    (Color::Gray, 0xe5e5e5),
    (Color::DarkGray, 0x7f7f7f),
    (Color::LightRed, 0xff0000),
    (Color::LightGreen, 0x00ff00),
    (Color::LightYellow, 0xffff00),
    (Color::LightBlue, 0x5c5cff),
    (Color::LightMagenta, 0xff00ff),
    (Color::LightCyan, 0x00ffff),
    (Color::White, 0xffffff),
];

/// The colour at `depth`: itself where the terminal can show it, else the nearest that it can.
pub fn at_depth(colour: Color, depth: Depth) -> Color {
    match (colour, depth) {
        (Color::Reset, _) | (_, Depth::None) => Color::Reset,
        (Color::Rgb(r, g, b), Depth::Indexed) => Color::Indexed(nearest_indexed([r, g, b])),
        (Color::Rgb(r, g, b), Depth::Sixteen) => nearest_sixteen([r, g, b]),
        (Color::Indexed(n), Depth::Sixteen) => nearest_sixteen(indexed_rgb(n)),
        (colour, _) => colour,
    }
}

/// Red, green and blue of a colour, 0 to 255; `None` for the terminal's own default and for its 16,
/// whose looks only the terminal knows.
pub fn rgb(colour: Color) -> Option<[u8; 3]> {
    match colour {
        Color::Rgb(r, g, b) => Some([r, g, b]),
        Color::Indexed(n) if n >= 16 => Some(indexed_rgb(n)),
        _ => None,
    }
}

fn channels(rgb: u32) -> [u8; 3] {
    [(rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8]
}

fn indexed_rgb(n: u8) -> [u8; 3] {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    match n {
        0..16 => channels(SIXTEEN[n as usize].1),
        16..232 => {
            let n = (n - 16) as usize;
            [LEVELS[n / 36], LEVELS[n / 6 % 6], LEVELS[n % 6]]
        }
        232.. => [8 + 10 * (n - 232); 3],
    }
}

fn nearest_indexed(rgb: [u8; 3]) -> u8 {
    let wanted = oklab(rgb);
    (16..=255u8)
        .min_by(|a, b| {
            distance(wanted, oklab(indexed_rgb(*a))).total_cmp(&distance(wanted, oklab(indexed_rgb(*b))))
        })
        .unwrap_or(16)
}

fn nearest_sixteen(rgb: [u8; 3]) -> Color {
    let wanted = oklab(rgb);
    SIXTEEN
        .iter()
        .min_by(|a, b| {
            distance(wanted, oklab(channels(a.1))).total_cmp(&distance(wanted, oklab(channels(b.1))))
        })
        .map_or(Color::Reset, |(colour, _)| *colour)
}

/// Distance of two colours in OKLab; lightness counts once.
fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum()
}

/// sRGB to linear light (IEC 61966-2-1).
fn linear(channel: u8) -> f64 {
    let c = f64::from(channel) / 255.0;
    if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
}

fn oklab(rgb: [u8; 3]) -> [f64; 3] {
    let [r, g, b] = rgb.map(linear);
    let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).cbrt();
    let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).cbrt();
    let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).cbrt();
    [
        0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s,
        1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s,
        0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s,
    ]
}

/// Contrast ratio of two colours, 1 to 21 (WCAG 2.2, "contrast ratio").
pub fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
    let luminance = |rgb: [u8; 3]| {
        let [r, g, b] = rgb.map(linear);
        0.2126 * r + 0.7152 * g + 0.0722 * b
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_becomes_the_nearest_that_the_terminal_has() {
        let red = Color::Rgb(0xf0, 0x10, 0x10);
        assert_eq!(at_depth(red, Depth::True), red);
        assert_eq!(at_depth(red, Depth::Indexed), Color::Indexed(196));
        assert_eq!(at_depth(red, Depth::Sixteen), Color::LightRed);
        assert_eq!(at_depth(red, Depth::None), Color::Reset);
        assert_eq!(at_depth(Color::Green, Depth::Indexed), Color::Green);
    }

    #[test]
    fn black_on_white_is_21_to_1() {
        assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 1e-9);
    }
}
