//! A series in a few characters; what is missing is a gap.

use super::line_canvas::LineCanvas;
use crate::tui::theme::Look;

/// The last `width` slots of `values`, each the mean of what falls into it, as bars between `low`
/// and `high`.
pub fn sparkline(look: &Look, values: &[f32], width: usize, low: f32, high: f32) -> String {
    let bars = look.glyphs.spark;
    let mut line = String::new();
    for slot in 0..width {
        let from = slot * values.len() / width.max(1);
        let to = ((slot + 1) * values.len() / width.max(1)).max(from + 1).min(values.len());
        let known: Vec<f32> = values[from.min(to)..to].iter().copied().filter(|v| v.is_finite()).collect();
        if known.is_empty() {
            line.push(' ');
            continue;
        }
        let mean = known.iter().sum::<f32>() / known.len() as f32;
        let part = if high > low { (mean - low) / (high - low) } else { 0.5 };
        let top = (bars.len() - 1) as f32;
        line.push_str(bars[(part.clamp(0.0, 1.0) * top).round() as usize]);
    }
    line
}

/// The same as a thin line, where the terminal has braille: two values a cell, four levels. A table
/// of it stays calm where bars would be a wall.
pub fn trend_line(look: &Look, values: &[f32], width: usize, low: f32, high: f32) -> String {
    if !look.glyphs.braille {
        return sparkline(look, values, width, low, high);
    }
    let mut canvas = LineCanvas::new(width, 1);
    let dots = canvas.width();
    let mut before: Option<(f64, f64)> = None;
    for x in 0..dots {
        let at = x * values.len() / dots.max(1);
        let Some(value) = values.get(at).filter(|v| v.is_finite()) else {
            before = None;
            continue;
        };
        let part = f64::from(((value - low) / (high - low)).clamp(0.0, 1.0));
        let point = (x as f64, ((1.0 - part) * 3.0).round());
        canvas.line(before.unwrap_or(point), point);
        before = Some(point);
    }
    (0..width).map(|x| canvas.glyph(x, 0, true).unwrap_or(' ')).collect()
}

/// The range of the known values; `None` where there is none.
pub fn range(values: &[f32]) -> Option<(f32, f32)> {
    values.iter().copied().filter(|v| v.is_finite()).fold(None, |range, v| match range {
        None => Some((v, v)),
        Some((low, high)) => Some((f32::min(low, v), f32::max(high, v))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::{Depth, GlyphSet, Theme};

    #[test]
    fn gaps_stay_gaps() {
        let look = Look::fit(&Theme::built_in().unwrap()[0], Depth::Sixteen, GlyphSet::Unicode);
        assert_eq!(sparkline(&look, &[0.0, f32::NAN, 7.0], 3, 0.0, 7.0), "▁ █");
        assert_eq!(sparkline(&look, &[], 2, 0.0, 1.0), "  ");
        assert_eq!(range(&[f32::NAN, 2.0, 1.0]), Some((1.0, 2.0)));
    }
}
