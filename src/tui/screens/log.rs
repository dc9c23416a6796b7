//! Screen 7: the program's own log, through tui-logger's widget. The events are moved by the
//! console's own loop; no thread polls for them.

use std::sync::Arc;

use tui_logger::{LevelFilter, TuiLoggerLevelOutput, TuiLoggerWidget, TuiWidgetEvent, TuiWidgetState};

use crate::tui::model::Model;
use crate::tui::text::Pane;
use crate::tui::theme::Token;
use ratatui::widgets::Widget;

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
    TuiLoggerWidget::default()
        .output_separator(' ')
        .output_timestamp(Some("%H:%M:%S".to_string()))
        .output_level(Some(TuiLoggerLevelOutput::Abbreviated))
        .output_target(true)
        .output_file(false)
        .output_line(false)
        .style(look[Token::Text])
        .style_error(look[Token::Bad])
        .style_warn(look[Token::Watch])
        .style_info(look[Token::Text])
        .style_debug(look[Token::Dim])
        .style_trace(look[Token::Dim])
        .state(&model.log.state)
        .render(area, pane.buf);
}
