//! What several screens show of one thing in one cell: health with its direction, a probability, the
//! reasons in a few words, a step.

use ratatui::style::{Modifier, Style};

use crate::fleet::{PartitionId, Share, ShownState, Span};
use crate::protocol::{PartitionView, ProposalView, StepState};
use crate::tui::model::Model;
use crate::tui::text::{Piece, clock_minutes, clock_or_date};
use crate::tui::theme::{Look, Token};

/// A window as a heading: `15 m`, `1 h`, `24 h`.
pub fn window_name(window: Span) -> String {
    match window.0 / 60_000 {
        minutes @ 0..60 => format!("{minutes} m"),
        minutes if minutes < 72 * 60 => format!("{} h", minutes / 60),
        minutes => format!("{} d", minutes / 60 / 24),
    }
}

/// The range of health that trends are drawn in: below it everything is as bad.
pub const TREND: (f32, f32) = (20.0, 100.0);

/// Only what is failing or suspected is drawn in its colour; a fleet of bright bars is not calm.
pub fn trend_style(look: &Look, p: &PartitionView, style: Style) -> Style {
    match p.shown {
        ShownState::PredictiveFailure | ShownState::Suspect => {
            Style { add_modifier: Modifier::empty(), ..style }
        }
        _ => look[Token::Dim],
    }
}

/// Heading of the probability of window `w`: `in 1 h`.
pub fn window_heading(model: &Model, w: usize) -> String {
    model.snapshot.windows.get(w).map(|span| format!("in {}", window_name(*span))).unwrap_or_default()
}

/// Health with an arrow for where it is going.
pub fn health(look: &Look, p: &PartitionView) -> Vec<Piece> {
    let Some(score) = p.health else { return vec![(look.glyphs.dash.to_string(), look[Token::Unknown])] };
    let known: Vec<f32> = p.trend.iter().copied().filter(|v| v.is_finite()).collect();
    let half = known.len() / 2;
    let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
    // One point is no direction.
    let change = if half == 0 { 0.0 } else { mean(&known[half..]) - mean(&known[..half]) };
    let (arrow, token) = match change {
        c if c <= -3.0 => (look.glyphs.down, Token::Bad),
        // Getting better is news only where it was not well.
        c if c >= 3.0 && score.get() < 90.0 => (look.glyphs.up, Token::Good),
        _ => (" ", Token::Dim),
    };
    vec![(score.to_string(), score_style(look, score.get())), (format!(" {arrow}"), look[token])]
}

/// The look of a health score.
pub fn score_style(look: &Look, score: f64) -> Style {
    match score {
        s if s < 50.0 => look[Token::Bad],
        s if s < 75.0 => look[Token::Watch],
        _ => look[Token::Text],
    }
}

/// A probability with the look of how much it asks for.
pub fn chance(look: &Look, p: &PartitionView, window: usize) -> Piece {
    match p.failure.get(window) {
        None => (look.glyphs.dash.to_string(), look[Token::Dim]),
        Some(probability) => (probability.to_string(), chance_style(look, probability.get())),
    }
}

/// The look of a probability.
pub fn chance_style(look: &Look, probability: f64) -> Style {
    match probability {
        p if p >= 0.5 => look[Token::Bad],
        p if p >= 0.2 => look[Token::Watch],
        p if p < 0.05 => look[Token::Dim],
        _ => look[Token::Text],
    }
}

/// A state as people say it.
pub fn word(state: ShownState) -> &'static str {
    if state == ShownState::Active { "healthy" } else { state.word() }
}

/// A share in percent; neither nothing nor all where it is not.
pub fn percent(look: &Look, value: f64) -> String {
    Share::clamped(value).map_or(look.glyphs.dash.to_string(), |share| share.to_string())
}

/// The reasons of a partition in a few words; of one that is silent or out of service since when: a time stands
/// still, an age would draw every such row anew each minute.
pub fn because(p: &PartitionView, model: &Model) -> String {
    match (p.shown, p.seen) {
        (ShownState::Unknown, Some(seen)) => format!("silent since {}", clock_or_date(seen, model.now())),
        (ShownState::Unknown, None) => "never heard from".to_string(),
        (ShownState::Fenced, _) if p.because.is_empty() => out_since(p, model),
        (ShownState::Fenced, _) => format!("{}: {}", out_since(p, model), p.because),
        _ => p.because.clone(),
    }
}

/// Since when a partition serves nobody: short, so that the reason after it is seen, too.
pub fn out_since(p: &PartitionView, model: &Model) -> String {
    match p.since.age(model.now()) < Span::hours(24) {
        true => format!("since {}", clock_minutes(p.since)),
        false => format!("since {}", clock_or_date(p.since, model.now())),
    }
}

/// Whether all moves of a proposal end before the failure is expected: the least of its moves.
pub fn in_time(p: &ProposalView) -> Option<f64> {
    p.moves.iter().filter_map(|m| m.in_time.map(|t| t.get())).min_by(f64::total_cmp)
}

/// How long all moves take, one after the other.
pub fn takes(p: &ProposalView) -> Span {
    Span(p.moves.iter().map(|m| m.duration.0).sum())
}

/// The short name of a partition: its own part where the host is the same as `beside`.
pub fn short_partition(id: &PartitionId, beside: &PartitionId) -> String {
    if id.host() == beside.host() {
        return id.as_str().rsplit('/').next().unwrap_or(id.as_str()).to_string();
    }
    id.to_string()
}

/// A step in a word with its glyph.
pub fn step_piece(look: &Look, state: StepState, name: &str) -> Piece {
    let g = look.glyphs;
    let (glyph, token) = match state {
        StepState::Ahead => (g.ahead, Token::Dim),
        StepState::Running => (g.running, Token::Moving),
        StepState::Done => (g.done, Token::Good),
        StepState::Failed => (g.failed, Token::Bad),
        StepState::Skipped => (g.skipped, Token::Dim),
    };
    (format!("{glyph}{name}"), look[token])
}
