//! The screens: pure functions from the model to cells. `draw` is the whole picture.

pub mod cells;
pub mod chrome;
pub mod log;
pub mod migration;
pub mod models;
pub mod partition;
pub mod proposal;
pub mod pulse;
pub mod tables;
pub mod why;

use ratatui::buffer::Buffer;

use super::action::Kind;
use super::model::{Model, Screen};
use super::popups;
use super::text::{Pane, wrap};
use super::theme::Token;

/// Least size at which the screens are drawn.
pub const LEAST: (u16, u16) = (60, 16);
/// Rows of header and footer, with their rules.
const CHROME: u16 = 4;

/// Rows of the table of the present screen that are visible.
pub fn table_rows(model: &Model) -> u16 {
    let body = model.size.1.saturating_sub(CHROME);
    match model.screen() {
        Screen::Top(Kind::Models) => models::alert_rows(model, body),
        _ => body.saturating_sub(2),
    }
}

/// The screen's row on which the first row of the table stands.
pub fn table_top(model: &Model) -> u16 {
    match model.screen() {
        Screen::Top(Kind::Models) => 4,
        _ => 4,
    }
}

/// How far the present screen can be scrolled.
pub fn most_scroll(model: &Model) -> u16 {
    let body = model.size.1.saturating_sub(CHROME);
    let lines = match model.screen() {
        Screen::Proposal(_) | Screen::WhatIf => {
            model.chosen_proposal().map_or(0, |p| proposal::height(model, p))
        }
        Screen::Migration(_) => model.chosen_migration().map_or(0, |m| migration::height(model, m)),
        _ => 0,
    };
    lines.saturating_sub(body)
}

/// Draws everything.
pub fn draw(model: &Model, buf: &mut Buffer) {
    let look = model.look();
    buf.set_style(buf.area, look[Token::Text]);
    let area = buf.area;
    let mut pane = Pane::new(buf, area, look);
    if area.width < LEAST.0 || area.height < LEAST.1 {
        too_small(&mut pane);
        return;
    }
    chrome::header(model, &mut pane);
    let body = area.height - CHROME;
    {
        let mut body = pane.part(0, 2, area.width, body);
        match model.screen() {
            Screen::Top(Kind::Pulse) => pulse::draw(model, &mut body),
            Screen::Top(Kind::Log) => log::draw(model, &mut body),
            Screen::Top(Kind::Models) => models::draw(model, &mut body),
            Screen::Top(_) => tables::draw(model, &mut body),
            Screen::Partition(id) => partition::draw(model, id, &mut body),
            Screen::Proposal(_) | Screen::WhatIf => proposal::draw(model, &mut body),
            Screen::Migration(_) => migration::draw(model, &mut body),
        }
    }
    chrome::footer(model, &mut pane);
    popups::draw(model, &mut pane);
}

fn too_small(pane: &mut Pane<'_>) {
    let text = format!("too small: {}×{}, needs {}×{}", pane.width(), pane.height(), LEAST.0, LEAST.1);
    let lines = wrap(&text, usize::from(pane.width()));
    let top = pane.height().saturating_sub(lines.len() as u16) / 2;
    for (i, line) in lines.iter().enumerate() {
        let x = pane.width().saturating_sub(line.chars().count() as u16) / 2;
        pane.put(x, top + i as u16, line, pane.look[Token::Text]);
    }
}

/// A row in the middle of the body that says why there is nothing else.
pub(super) fn nothing(pane: &mut Pane<'_>, y: u16, text: &str) {
    pane.put(2, y, text, pane.look[Token::Dim]);
}
