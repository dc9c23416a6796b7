//! Lines in the dots of braille cells: 2 across and 4 down in each cell. Without braille a cell
//! shows where in it the line runs, in ASCII.

/// A grid of dots.
pub struct LineCanvas {
    columns: usize,
    rows: usize,
    cells: Vec<u8>,
}

/// Bits of the dots of a braille cell by row, left and right (Unicode 16, U+2800).
const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

impl LineCanvas {
    /// An empty canvas of that many cells.
    pub fn new(columns: usize, rows: usize) -> Self {
        Self { columns, rows, cells: vec![0; columns * rows] }
    }

    /// Dots across.
    pub fn width(&self) -> usize {
        self.columns * 2
    }

    /// Dots down.
    pub fn height(&self) -> usize {
        self.rows * 4
    }

    fn dot(&mut self, x: i64, y: i64) {
        if x < 0 || y < 0 || x >= self.width() as i64 || y >= self.height() as i64 {
            return;
        }
        let (x, y) = (x as usize, y as usize);
        self.cells[y / 4 * self.columns + x / 2] |= BITS[y % 4][x % 2];
    }

    /// A line between two points in dots, ends included; what is outside is left out.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64)) {
        let far = (self.width() + self.height()) as f64 * 4.0;
        if ![from.0, from.1, to.0, to.1].iter().all(|v| v.is_finite() && v.abs() < far) {
            return;
        }
        let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).ceil().max(1.0);
        for step in 0..=steps as usize {
            let part = step as f64 / steps;
            let x = from.0 + (to.0 - from.0) * part;
            let y = from.1 + (to.1 - from.1) * part;
            self.dot(x.round() as i64, y.round() as i64);
        }
    }

    /// The glyph of a cell; `None` where nothing was drawn.
    pub fn glyph(&self, column: usize, row: usize, braille: bool) -> Option<char> {
        let bits = *self.cells.get(row * self.columns + column)?;
        if bits == 0 || column >= self.columns {
            return None;
        }
        if braille {
            return char::from_u32(0x2800 + u32::from(bits));
        }
        let rows = [0x09, 0x12, 0x24, 0xc0].map(|row| bits & row != 0);
        Some(match rows {
            [true, _, _, true] => '|',
            [true, _, true, _] | [_, true, _, true] => ':',
            [true, ..] => '\'',
            [_, true, ..] => '-',
            [_, _, true, _] => '.',
            _ => '_',
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fills_the_dots_between_its_ends() {
        let mut canvas = LineCanvas::new(2, 1);
        canvas.line((0.0, 0.0), (3.0, 3.0));
        assert_eq!(canvas.glyph(0, 0, true), Some('⠑'));
        assert_eq!(canvas.glyph(1, 0, true), Some('⢄'));
        assert_eq!(canvas.glyph(0, 0, false), Some('\''));
        canvas.line((f64::NAN, 0.0), (1e300, 0.0));
    }
}
