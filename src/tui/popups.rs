//! What opens over a screen: help, palette, explanation, confirmation. All of them fit into any
//! terminal that the screens fit into.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::action::{Reach, TABLE};
use super::can::{Can, can};
use super::confirm::{Confirm, Field, Tier};
use super::model::{Model, Popup};
use super::palette;
use super::text::{Pane, Piece, wrap};
use super::theme::Token;

/// A rectangle of the wanted size in the middle of `area`, never larger than it.
pub(super) fn popup_rect(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

/// Draws what is open, if something is.
pub(super) fn draw(model: &Model, pane: &mut Pane<'_>) {
    match &model.popup {
        None | Some(Popup::Filter { .. }) => {}
        Some(Popup::Help { scroll }) => help(model, pane, *scroll),
        Some(Popup::Palette { typed, selected }) => commands(model, pane, typed, *selected),
        Some(Popup::Why { title, sentences }) => why(model, pane, title, sentences),
        Some(Popup::Confirm(confirm)) => confirmation(model, pane, confirm),
    }
}

/// Clears a framed box with a title and gives its inside.
fn framed<'a>(pane: &'a mut Pane<'_>, rect: Rect, title: &str, frame: Style) -> Pane<'a> {
    let look = pane.look;
    let inside = look[Token::Popup];
    let mut whole = pane.part(rect.x, rect.y, rect.width, rect.height);
    let (w, h) = (whole.width(), whole.height());
    let blank = " ".repeat(usize::from(w));
    for y in 0..h {
        let area = whole.part(0, y, w, 1).area;
        for x in area.left()..area.right() {
            if let Some(cell) = whole.buf.cell_mut((x, area.y)) {
                cell.reset();
            }
        }
        whole.put(0, y, &blank, look[Token::Text].patch(inside));
    }
    let [top_left, top, top_right, side, bottom_left, bottom_right] = look.glyphs.frame;
    for x in 1..w.saturating_sub(1) {
        whole.cell(x, 0, top, frame);
        whole.cell(x, h.saturating_sub(1), top, frame);
    }
    for y in 1..h.saturating_sub(1) {
        whole.cell(0, y, side, frame);
        whole.cell(w.saturating_sub(1), y, side, frame);
    }
    whole.cell(0, 0, top_left, frame);
    whole.cell(w.saturating_sub(1), 0, top_right, frame);
    whole.cell(0, h.saturating_sub(1), bottom_left, frame);
    whole.cell(w.saturating_sub(1), h.saturating_sub(1), bottom_right, frame);
    whole.put_in(2, 0, w.saturating_sub(4), &format!(" {title} "), frame.add_modifier(Modifier::BOLD));
    let area = Rect {
        x: whole.area.x + 2.min(w),
        y: whole.area.y + 1.min(h),
        width: w.saturating_sub(4),
        height: h.saturating_sub(2),
    };
    Pane::new(pane.buf, area, look)
}

/// A look on the background of a popup.
fn on_popup(model: &Model, token: Token) -> Style {
    let look = model.look();
    look[Token::Popup].patch(Style { bg: None, ..look[token] })
}

/// Columns of a popup that shows help.
fn help_width(model: &Model) -> u16 {
    model.size.0.saturating_sub(4).min(100)
}

/// The lines of help: first what can be done here, then what can be done everywhere.
fn help_text(model: &Model) -> Vec<Vec<Piece>> {
    const KEYS: usize = 20;
    let room = usize::from(help_width(model)).saturating_sub(KEYS + 4);
    let kind = model.screen().kind();
    let (key_style, text) = (on_popup(model, Token::Key), on_popup(model, Token::Text));
    let mut lines = Vec::new();
    for (everywhere, title) in
        [(false, format!("ON THIS SCREEN ({})", kind.name())), (true, "EVERYWHERE".to_string())]
    {
        lines.push(vec![(title, on_popup(model, Token::Title))]);
        for row in TABLE.iter().filter(|row| row.on.has(kind) && row.on.everywhere() == everywhere) {
            let keys = model.keymap.all(row.action);
            let keys = if keys.is_empty() { format!(":{}", row.name) } else { keys };
            let asks = if row.reach == Reach::Change { " (asks first)" } else { "" };
            let (not_now, style) = match can(model, row.action) {
                Can::No(why) => (format!(" – not now: {why}"), on_popup(model, Token::Disabled)),
                _ => (String::new(), text),
            };
            for (i, words) in wrap(&format!("{}{asks}{not_now}", row.words), room).into_iter().enumerate() {
                let keys = if i == 0 { keys.as_str() } else { "" };
                lines.push(vec![(format!("  {keys:<18}"), key_style), (words, style)]);
            }
        }
        lines.push(Vec::new());
    }
    lines.push(vec![("STATES".to_string(), on_popup(model, Token::Title))]);
    use crate::fleet::ShownState as S;
    let states = [
        (S::Active, "within its own normal"),
        (S::Suspect, "unlike its past and its peers for some windows: watched closely"),
        (S::PredictiveFailure, "expected to fail: an alert is out, the planner works"),
        (S::Migrating, "work is being moved"),
        (S::Standby, "emptied, kept under watch"),
        (S::Probation, "well again, not yet trusted"),
        (S::Passive, "a copy that could serve"),
        (S::Unknown, "no data young enough; never taken for healthy"),
        (S::Fenced, "forbidden to serve"),
        (S::Decommissioned, "out of service for good"),
    ];
    for (state, words) in states {
        let (glyph, style) = model.look().state(state);
        let style = model.look()[Token::Popup].patch(Style { bg: None, ..style });
        lines.push(vec![(format!("  {glyph} {:<20}", state.word()), style), (words.to_string(), text)]);
    }
    lines
}

/// How far help can be scrolled.
pub(super) fn help_lines(model: &Model) -> u16 {
    (help_text(model).len() as u16).saturating_sub(model.size.1.saturating_sub(4))
}

fn help(model: &Model, pane: &mut Pane<'_>, scroll: u16) {
    let lines = help_text(model);
    let height = (lines.len() as u16 + 2).min(pane.height().saturating_sub(2));
    let rect = popup_rect(Rect { x: 0, y: 0, ..pane.area }, help_width(model), height);
    let mut inside = framed(pane, rect, "help", on_popup(model, Token::PopupFrame));
    let height = inside.height();
    for (y, line) in lines.iter().skip(usize::from(scroll)).take(usize::from(height)).enumerate() {
        inside.pieces(0, y as u16, line);
    }
    if lines.len() as u16 > scroll + height {
        let more = format!("{} more", model.look().glyphs.down);
        inside.put_right(inside.width(), height.saturating_sub(1), &more, on_popup(model, Token::Accent));
    }
}

fn commands(model: &Model, pane: &mut Pane<'_>, typed: &str, selected: usize) {
    let offers = palette::offers(model, typed);
    let room = pane.height().saturating_sub(8).clamp(3, 14);
    let shown = (offers.len() as u16).min(room).max(1);
    let area = Rect { x: 0, y: 0, ..pane.area };
    let mut rect = popup_rect(area, area.width.saturating_sub(8).min(90), shown + 3);
    rect.y = 2.min(area.height.saturating_sub(rect.height));
    let mut inside = framed(pane, rect, "command", on_popup(model, Token::PopupFrame));
    let input = on_popup(model, Token::Input);
    let x = inside.put(0, 0, ": ", on_popup(model, Token::Key));
    let x = inside.put(x, 0, typed, input);
    inside.put(x, 0, " ", input.add_modifier(Modifier::REVERSED));
    if typed.is_empty() {
        inside.put(
            x + 2,
            0,
            "an action, a screen, a host, a partition, a workload, P-…, M-…",
            on_popup(model, Token::Dim),
        );
    }
    if offers.is_empty() {
        inside.put(0, 1, "nothing has that name", on_popup(model, Token::Watch));
        return;
    }
    let offset = (selected + 1).saturating_sub(usize::from(shown));
    for (line, (i, offer)) in offers.iter().enumerate().skip(offset).take(usize::from(shown)).enumerate() {
        let y = line as u16 + 1;
        let off = offer.cannot.is_some();
        let name = on_popup(model, if off { Token::Disabled } else { Token::Text });
        inside.put_in(0, y, 24, &offer.name, name);
        let words = offer.cannot.as_ref().map_or(offer.words.clone(), |why| format!("not now: {why}"));
        inside.put(26, y, &words, on_popup(model, Token::Dim));
        if i == selected {
            inside.tint(y, 1, model.look()[Token::Selection]);
        }
    }
}

fn why(model: &Model, pane: &mut Pane<'_>, title: &str, sentences: &[String]) {
    let area = Rect { x: 0, y: 0, ..pane.area };
    let width = area.width.saturating_sub(8).min(84);
    let lines: Vec<String> =
        sentences.iter().flat_map(|s| bullet(model, s, usize::from(width.saturating_sub(4)))).collect();
    let rect = popup_rect(area, width, (lines.len() as u16 + 2).min(area.height.saturating_sub(2)));
    let mut inside = framed(pane, rect, &format!("why: {title}"), on_popup(model, Token::PopupFrame));
    for (y, line) in lines.iter().enumerate() {
        inside.put(0, y as u16, line, on_popup(model, Token::Text));
    }
}

fn bullet(model: &Model, sentence: &str, width: usize) -> Vec<String> {
    wrap(sentence, width.saturating_sub(2))
        .into_iter()
        .enumerate()
        .map(|(i, line)| format!("{} {line}", if i == 0 { model.look().glyphs.dot } else { " " }))
        .collect()
}

/// What can be typed into a confirmation: label, what was typed, whether the next character goes there.
fn fields(c: &Confirm) -> Vec<(String, &str, bool)> {
    let mut fields = Vec::new();
    if let Some(name) = c.tier.name() {
        let here = c.reason.is_none() || c.at == Field::Name;
        fields.push((format!("type {name} to {}: ", c.verb), c.typed.as_str(), here));
    }
    if let Some(reason) = &c.reason {
        let here = fields.is_empty() || c.at == Field::Reason;
        fields.push(("reason (for the journal): ".to_string(), reason.as_str(), here));
    }
    fields
}

fn confirmation(model: &Model, pane: &mut Pane<'_>, c: &Confirm) {
    let area = Rect { x: 0, y: 0, ..pane.area };
    let width = area.width.saturating_sub(6).min(78);
    let inner = usize::from(width.saturating_sub(4));
    let lines: Vec<String> = c.says.iter().flat_map(|s| wrap(s, inner)).collect();
    let fields = fields(c);
    // The fields and the blank line above them.
    let typing = if fields.is_empty() { 0 } else { fields.len() as u16 + 1 };
    let rect = popup_rect(area, width, (lines.len() as u16 + 4 + typing).min(area.height));
    let mut inside = framed(pane, rect, &format!("{}?", c.title), on_popup(model, Token::Danger));
    let bottom = inside.height().saturating_sub(1);
    let text_rows = bottom.saturating_sub(1 + typing);
    for (y, line) in lines.iter().take(usize::from(text_rows)).enumerate() {
        let token = if y == 0 { Token::Title } else { Token::Text };
        inside.put(0, y as u16, line, on_popup(model, token));
    }
    let input = on_popup(model, Token::Input);
    for (i, (label, typed, here)) in fields.iter().rev().enumerate() {
        let y = bottom.saturating_sub(2 + i as u16);
        let x = inside.put(0, y, label, on_popup(model, Token::Dim));
        let x = inside.put(x, y, typed, input);
        if *here {
            inside.put(x, y, " ", input.add_modifier(Modifier::REVERSED));
        }
    }
    buttons(model, &mut inside, bottom, c);
}

fn buttons(model: &Model, inside: &mut Pane<'_>, y: u16, c: &Confirm) {
    if let Some(hint) = &c.hint {
        inside.put(0, y, hint, on_popup(model, Token::Watch));
        return;
    }
    let (key, dim) = (on_popup(model, Token::Key), on_popup(model, Token::Dim));
    let ready = c.complete();
    let focus = model.look()[Token::Selection];
    let plain = on_popup(model, Token::Text);
    let mut x = inside.put(0, y, " cancel ", if ready { plain } else { focus }) + 1;
    x = inside.put(x, y, &format!(" {} ", c.verb), if ready { focus } else { plain }) + 2;
    let hints: &[(&str, &str)] = match c.tier {
        Tier::Light => &[("enter", "do it"), ("esc", "cancel")],
        Tier::Weighed if ready => &[("enter", "do it"), ("esc", "cancel")],
        Tier::Weighed => &[("y", "yes"), ("enter", "cancel")],
        Tier::Accounted(_) if !ready => &[("tab", "other field"), ("esc", "cancel")],
        Tier::Typed(_) | Tier::Accounted(_) => &[("enter", "do it"), ("esc", "cancel")],
    };
    if !c.armed(model.moment) {
        // Keys do not count yet, so none is offered.
        return;
    }
    for (k, words) in hints {
        x = inside.put(x, y, k, key);
        x = inside.put(x, y, &format!(" {words}   "), dim);
    }
}
