//! Glyphs by meaning, in two sets: with and without Unicode. Every glyph is one column wide.

/// Which glyphs a terminal can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GlyphSet {
    /// Unicode with braille.
    #[default]
    Unicode,
    /// Plain ASCII.
    Ascii,
}

/// The glyphs.
#[derive(PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Glyphs {
    pub active: &'static str,
    pub suspect: &'static str,
    pub failing: &'static str,
    pub migrating: &'static str,
    pub standby: &'static str,
    pub passive: &'static str,
    pub probation: &'static str,
    pub unknown: &'static str,
    pub fenced: &'static str,
    pub decommissioned: &'static str,
    pub info: &'static str,
    pub done: &'static str,
    pub failed: &'static str,
    pub running: &'static str,
    pub ahead: &'static str,
    pub skipped: &'static str,
    pub cursor: &'static str,
    pub back: &'static str,
    pub into: &'static str,
    pub arrow: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub flat: &'static str,
    pub rule: &'static str,
    pub bar: &'static str,
    pub ellipsis: &'static str,
    pub dash: &'static str,
    pub dot: &'static str,
    pub delta: &'static str,
    pub spark: &'static [&'static str],
    pub full: &'static str,
    pub empty: &'static str,
    pub shade50: &'static str,
    pub shade90: &'static str,
    pub shade_median: &'static str,
    pub now: &'static str,
    pub cross: &'static str,
    pub tick: &'static str,
    pub corner: &'static str,
    /// Frame of a popup: top left, top, top right, side, bottom left, bottom right.
    pub frame: [&'static str; 6],
    /// Whether lines of charts are drawn in braille.
    pub braille: bool,
}

static UNICODE: Glyphs = Glyphs {
    active: "●",
    suspect: "▲",
    failing: "✖",
    migrating: "⇄",
    standby: "○",
    passive: "◌",
    probation: "◐",
    unknown: "?",
    fenced: "⊘",
    decommissioned: "∅",
    info: "i",
    done: "✔",
    failed: "✖",
    running: "▶",
    ahead: "·",
    skipped: "–",
    cursor: "▸",
    back: "‹",
    into: "›",
    arrow: "→",
    up: "▲",
    down: "▼",
    flat: "▶",
    rule: "─",
    bar: "│",
    ellipsis: "…",
    dash: "–",
    dot: "·",
    delta: "Δ",
    spark: &["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    full: "█",
    empty: "░",
    shade50: "▒",
    shade90: "░",
    shade_median: "▓",
    now: "┊",
    cross: "◆",
    tick: "┤",
    corner: "└",
    frame: ["╭", "─", "╮", "│", "╰", "╯"],
    braille: true,
};

static ASCII: Glyphs = Glyphs {
    active: "o",
    suspect: "!",
    failing: "X",
    migrating: ">",
    standby: "-",
    passive: "c",
    probation: "~",
    unknown: "?",
    fenced: "#",
    decommissioned: "_",
    info: "i",
    done: "+",
    failed: "X",
    running: ">",
    ahead: ".",
    skipped: "-",
    cursor: ">",
    back: "<",
    into: ">",
    arrow: "->",
    up: "^",
    down: "v",
    flat: "=",
    rule: "-",
    bar: "|",
    ellipsis: "~",
    dash: "-",
    dot: ".",
    delta: "d",
    spark: &["_", ".", ",", "-", "~", "=", "*", "#"],
    full: "#",
    empty: ".",
    shade50: ":",
    shade90: ".",
    shade_median: "*",
    now: ":",
    cross: "X",
    tick: "+",
    corner: "+",
    frame: ["+", "-", "+", "|", "+", "+"],
    braille: false,
};

impl GlyphSet {
    /// The set's glyphs.
    pub fn glyphs(self) -> &'static Glyphs {
        match self {
            GlyphSet::Unicode => &UNICODE,
            GlyphSet::Ascii => &ASCII,
        }
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn every_glyph_of_a_state_is_one_column_and_unlike_the_others() {
        for g in [&UNICODE, &ASCII] {
            let states = [
                g.active,
                g.suspect,
                g.failing,
                g.migrating,
                g.standby,
                g.passive,
                g.probation,
                g.unknown,
                g.fenced,
                g.decommissioned,
            ];
            for (i, glyph) in states.iter().enumerate() {
                assert_eq!(glyph.width(), 1);
                assert!(!states[..i].contains(glyph), "{glyph} stands for two states");
            }
        }
    }
}
