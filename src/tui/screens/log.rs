//! Screen 7: the program's own log, through tui-logger's widget. The events are moved by the
//! console's own loop; no thread polls for them.

use std::sync::Arc;

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;
use tui_logger::{ExtLogRecord, LevelFilter, LogFormatter, TuiLoggerWidget, TuiWidgetEvent, TuiWidgetState};

use crate::fleet::Timestamp;
use crate::tui::model::Model;
use crate::tui::text::{Pane, clip, clock, wrap};
use crate::tui::theme::Token;

/// State of the log's widget: which part is seen, which levels.
#[derive(Clone)]
pub struct LogPane {
    state: Arc<TuiWidgetState>,
    level: usize,
}

const LEVELS: [LevelFilter; 5] =
    [LevelFilter::Error, LevelFilter::Warn, LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace];

impl std::fmt::Debug for LogPane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogPane").field("level", &LEVELS[self.level]).finish_non_exhaustive()
    }
}

impl Default for LogPane {
    fn default() -> Self {
        Self::at(2)
    }
}

impl LogPane {
    fn at(level: usize) -> Self {
        let state = TuiWidgetState::new().set_default_display_level(LEVELS[level]);
        Self { state: Arc::new(state), level }
    }

    /// Shows one level less.
    pub fn less(&mut self) {
        *self = Self::at(self.level.saturating_sub(1));
    }

    /// Shows one level more.
    pub fn more(&mut self) {
        *self = Self::at((self.level + 1).min(LEVELS.len() - 1));
    }

    /// Pages through the log; to its end goes back to following it.
    pub fn scroll(&mut self, steps: isize) {
        self.state.transition(match steps {
            isize::MAX => TuiWidgetEvent::EscapeKey,
            s if s < 0 => TuiWidgetEvent::PrevPageKey,
            _ => TuiWidgetEvent::NextPageKey,
        });
    }
}

/// Draws the screen.
pub fn draw(model: &Model, pane: &mut Pane<'_>) {
    let look = model.look();
    pane.put(2, 0, "LOG", look[Token::Title]);
    let level = LEVELS[model.log.level].to_string().to_lowercase();
    pane.put(7, 0, &format!("{level} and above"), look[Token::Dim]);
    let area = pane.part(2, 1, pane.width().saturating_sub(3), pane.height().saturating_sub(1)).area;
    if area.width < 4 || area.height < 2 {
        return;
    }
    let lines = Lines {
        dim: look[Token::Dim],
        text: look[Token::Text],
        watch: look[Token::Watch],
        bad: look[Token::Bad],
    };
    TuiLoggerWidget::default()
        .style(look[Token::Text])
        .formatter(Box::new(lines))
        .state(&model.log.state)
        .render(area, pane.buf);
    let blank =
        area.positions().all(|at| pane.buf.cell(at).is_none_or(|cell| cell.symbol().trim().is_empty()));
    if blank {
        pane.put(2, 2, "nothing has been logged at this level yet", look[Token::Dim]);
    }
}

/// How an event is written: time in UTC as everywhere here, level, the part of the program, the
/// message, continued under itself.
struct Lines {
    dim: Style,
    text: Style,
    watch: Style,
    bad: Style,
}

const LEVEL: usize = 5;
const PART: usize = 20;

impl LogFormatter for Lines {
    fn min_width(&self) -> u16 {
        20
    }

    fn format(&self, width: usize, event: &ExtLogRecord) -> Vec<Line<'_>> {
        let at = clock(Timestamp(event.timestamp.timestamp().as_millisecond()));
        let level = event.level.as_str().to_lowercase();
        let style = match level.as_str() {
            "error" => self.bad,
            "warn" => self.watch,
            "info" => self.text,
            _ => self.dim,
        };
        let part = event.target().trim_start_matches("foreshift::");
        let before = at.len() + 2 + LEVEL + 2;
        // Where the line is short, the message matters more than who says it.
        let (part, indent) = if width >= 70 {
            (format!("{:<PART$}  ", clip(part, PART, "…")), before + PART + 2)
        } else {
            (String::new(), before)
        };
        let message = event.msg().trim();
        let mut lines = Vec::new();
        for (i, words) in
            message.lines().flat_map(|l| wrap(l, width.saturating_sub(indent).max(10))).enumerate()
        {
            lines.push(if i == 0 {
                Line::from(vec![
                    Span::styled(format!("{at}  "), self.dim),
                    Span::styled(format!("{level:<LEVEL$}  "), style),
                    Span::styled(part.clone(), self.dim),
                    Span::styled(words, style),
                ])
            } else {
                Line::from(vec![Span::raw(" ".repeat(indent)), Span::styled(words, style)])
            });
        }
        lines
    }
}
