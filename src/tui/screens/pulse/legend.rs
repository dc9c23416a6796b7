//! The counts of every state under the strip. Where the row is too short, what nobody is in goes first, then what
//! asks least of a person.

use super::super::cells::word;
use crate::fleet::ShownState;
use crate::tui::field::badness;
use crate::tui::model::Model;
use crate::tui::text::Pane;
use crate::tui::theme::Token;

/// The states in the order in which they are shown, and whether they are shown of nobody, too.
const STATES: [(ShownState, bool); 10] = [
    (ShownState::Active, true),
    (ShownState::Suspect, true),
    (ShownState::PredictiveFailure, true),
    (ShownState::Fenced, false),
    (ShownState::Unknown, true),
    (ShownState::Migrating, false),
    (ShownState::Standby, false),
    (ShownState::Probation, false),
    (ShownState::Passive, false),
    (ShownState::Decommissioned, false),
];

/// Columns between two states.
const GAP: usize = 3;

struct Entry {
    state: ShownState,
    words: String,
    count: usize,
}

impl Entry {
    fn width(&self) -> usize {
        1 + self.words.len() + self.count.to_string().len() + GAP
    }
}

/// Counts of every state, glyph and word.
pub(super) fn draw(model: &Model, pane: &mut Pane<'_>, y: u16, note: &str) {
    let look = model.look();
    let mut x = 2;
    for entry in entries(model, usize::from(pane.width()).saturating_sub(2)) {
        let (glyph, style) = look.state(entry.state);
        let (glyph_style, count_style) =
            if entry.count == 0 { (look[Token::Dim], look[Token::Dim]) } else { (style, look[Token::Text]) };
        x = pane.put(x, y, glyph, glyph_style);
        x = pane.put(x, y, &entry.words, look[Token::Dim]);
        x = pane.put(x, y, &entry.count.to_string(), count_style) + GAP as u16;
    }
    if !note.is_empty() && usize::from(x) + note.len() < usize::from(pane.width()) {
        pane.put_right(pane.width() - 1, y, note, look[Token::Dim]);
    }
}

/// What is shown of the states in `room` columns.
fn entries(model: &Model, room: usize) -> Vec<Entry> {
    let count = |state| model.snapshot.partitions.iter().filter(|p| p.shown == state).count();
    let mut entries: Vec<Entry> = STATES
        .into_iter()
        .map(|(state, always)| {
            (Entry { state, words: format!(" {} ", word(state)), count: count(state) }, always)
        })
        .filter(|(entry, always)| *always || entry.count > 0)
        .map(|(entry, _)| entry)
        .collect();
    // How many are well is what all else is compared with: it stays.
    let least = |e: &Entry| (e.count == 0, e.state != ShownState::Active, badness(e.state));
    while entries.iter().map(Entry::width).sum::<usize>() > room + GAP && entries.len() > 1 {
        let Some(at) = (0..entries.len()).max_by_key(|i| least(&entries[*i])) else { break };
        entries.remove(at);
    }
    entries
}
