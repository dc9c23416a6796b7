//! What things look like, by meaning: a theme file names meanings (`state.bad`), never widgets. It
//! is read once, resolved to what the terminal can show, and then only looked up.

pub mod colour;
mod file;
pub(crate) use file::nearest;
pub mod glyphs;

use std::ops::Index;
use std::path::Path;

use ratatui::style::{Color, Modifier, Style};
use thiserror::Error;

pub use colour::Depth;
pub use glyphs::{GlyphSet, Glyphs};

use crate::fleet::ShownState;
use crate::protocol::Severity;

macro_rules! tokens {
    ($($(#[$doc:meta])* $token:ident = $name:literal),* $(,)?) => {
        /// A meaning that has a look.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Token {
            $($(#[$doc])* $token,)*
        }

        impl Token {
            /// Every meaning.
            pub const ALL: &[Token] = &[$(Token::$token),*];

            /// Its name in a theme file: table and key.
            pub fn name(self) -> &'static str {
                match self {
                    $(Token::$token => $name,)*
                }
            }
        }
    };
}

tokens! {
    /// Ordinary text; its background is the screen's.
    Text = "ui.text",
    /// Text that matters less.
    Dim = "ui.dim",
    /// Rules and dots: hardly there.
    Faint = "ui.faint",
    /// Headings of sections.
    Title = "ui.title",
    /// The one accent colour.
    Accent = "ui.accent",
    /// The selected row.
    Selection = "ui.selection",
    /// A key in the footer and in help.
    Key = "ui.key",
    /// A key that does nothing now.
    Disabled = "ui.disabled",
    /// The name of the fleet in the header.
    Header = "ui.header",
    /// Inside of a popup.
    Popup = "ui.popup",
    /// Frame of a popup.
    PopupFrame = "ui.popup_frame",
    /// Frame and title of a popup that changes something.
    Danger = "ui.danger",
    /// What is being typed.
    Input = "ui.input",
    /// Well.
    Good = "state.good",
    /// To be watched.
    Watch = "state.watch",
    /// Expected to fail, failed.
    Bad = "state.bad",
    /// On the move.
    Moving = "state.moving",
    /// Emptied, spare.
    Standby = "state.standby",
    /// Not known.
    Unknown = "state.unknown",
    /// Forbidden, out of service.
    Off = "state.off",
    /// What was measured.
    History = "chart.history",
    /// The middle of the forecast.
    Median = "chart.median",
    /// The 50 % interval.
    Band50 = "chart.band50",
    /// The 90 % interval.
    Band90 = "chart.band90",
    /// A bound, and where it is crossed.
    Threshold = "chart.threshold",
    /// Axes and their labels.
    Axis = "chart.axis",
}

/// What is wrong with a theme: where, what was expected.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ThemeError {
    /// The file is no TOML, or says something that a theme does not say.
    #[error("{place}:{line}:{column}: {what}")]
    Bad {
        /// The file or the name of the built-in theme.
        place: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What was found, what was expected, the nearest name.
        what: String,
    },
    /// There is no theme of that name.
    #[error("there is no theme {name:?}; there are {known}{}", nearest.as_ref().map(|n| format!("; did you mean {n:?}?")).unwrap_or_default())]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
        /// The nearest of these.
        nearest: Option<String>,
    },
    /// The file cannot be read.
    #[error("theme file {place}: {why}")]
    Unreadable {
        /// The file.
        place: String,
        /// What the system said.
        why: String,
    },
}

/// A theme as it was written: looks by meaning, not yet fitted to a terminal.
#[derive(Clone, PartialEq, Debug)]
pub struct Theme {
    /// Its name.
    pub name: String,
    styles: Vec<Style>,
}

const BUILT_IN: [(&str, &str); 5] = [
    ("base16", include_str!("../../../themes/base16.toml")),
    ("dark", include_str!("../../../themes/dark.toml")),
    ("light", include_str!("../../../themes/light.toml")),
    ("high-contrast", include_str!("../../../themes/high-contrast.toml")),
    ("deuteranopia", include_str!("../../../themes/deuteranopia.toml")),
];

impl Theme {
    /// The built-in themes.
    ///
    /// # Errors
    /// None in a released build: a test reads them all.
    pub fn built_in() -> Result<Vec<Theme>, ThemeError> {
        BUILT_IN.iter().map(|(name, text)| Theme::read(name, text)).collect()
    }

    /// The theme in `text`; `place` names it in errors.
    ///
    /// # Errors
    /// Place, what was expected, the nearest name.
    pub fn read(place: &str, text: &str) -> Result<Theme, ThemeError> {
        file::read(place, text, &mut vec![place.to_string()])
    }

    /// Every `*.toml` in `folder`, by name; a file that is wrong is an error beside the good ones.
    pub fn folder(folder: &Path) -> (Vec<Theme>, Vec<ThemeError>) {
        let (mut themes, mut errors) = (Vec::new(), Vec::new());
        let unreadable = |why: std::io::Error| ThemeError::Unreadable {
            place: folder.display().to_string(),
            why: why.to_string(),
        };
        let files = match std::fs::read_dir(folder) {
            Ok(files) => files,
            Err(why) => return (themes, vec![unreadable(why)]),
        };
        let mut paths: Vec<_> = files.flatten().map(|f| f.path()).collect();
        paths.sort();
        for path in paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == "toml")) {
            let place = path.display().to_string();
            let read = std::fs::read_to_string(&path)
                .map_err(|why| ThemeError::Unreadable { place: place.clone(), why: why.to_string() })
                .and_then(|text| Theme::read(&place, &text));
            match read {
                Ok(theme) => themes.push(theme),
                Err(error) => errors.push(error),
            }
        }
        (themes, errors)
    }

    /// The look of a meaning, as written.
    pub fn style(&self, token: Token) -> Style {
        self.styles[token as usize]
    }

    fn built_in_text(name: &str) -> Option<&'static str> {
        BUILT_IN.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
    }
}

/// A theme fitted to a terminal: colours at its depth, glyphs that its font has.
#[derive(Clone, PartialEq, Debug)]
pub struct Look {
    /// Name of the theme.
    pub name: String,
    /// The glyphs.
    pub glyphs: &'static Glyphs,
    /// Whether forecast bands are painted as backgrounds; else they are shaded with characters.
    pub paints_bands: bool,
    styles: Vec<Style>,
}

impl Look {
    /// `theme` on a terminal of `depth` with `glyphs`.
    pub fn fit(theme: &Theme, depth: Depth, glyphs: GlyphSet) -> Look {
        let fitted: Vec<Style> =
            Token::ALL.iter().map(|token| fit_style(*token, theme.style(*token), depth)).collect();
        let has_bg = |token: Token| fitted[token as usize].bg.is_some_and(|bg| bg != Color::Reset);
        Look {
            name: theme.name.clone(),
            glyphs: glyphs.glyphs(),
            paints_bands: has_bg(Token::Band50)
                && has_bg(Token::Band90)
                && fitted[Token::Band50 as usize].bg != fitted[Token::Band90 as usize].bg,
            styles: fitted,
        }
    }

    /// Glyph and look of a state.
    pub fn state(&self, state: ShownState) -> (&'static str, Style) {
        let g = self.glyphs;
        let (glyph, token) = match state {
            ShownState::Active => (g.active, Token::Good),
            ShownState::Suspect => (g.suspect, Token::Watch),
            ShownState::PredictiveFailure => (g.failing, Token::Bad),
            ShownState::Migrating => (g.migrating, Token::Moving),
            ShownState::Standby => (g.standby, Token::Standby),
            ShownState::Passive => (g.passive, Token::Standby),
            ShownState::Probation => (g.probation, Token::Watch),
            ShownState::Unknown => (g.unknown, Token::Unknown),
            ShownState::Fenced => (g.fenced, Token::Off),
            ShownState::Decommissioned => (g.decommissioned, Token::Off),
        };
        (glyph, self[token])
    }

    /// Glyph, word and look of how bad an alert is.
    pub fn severity(&self, severity: Severity) -> (&'static str, &'static str, Style) {
        match severity {
            Severity::Info => (self.glyphs.info, "info", self[Token::Dim]),
            Severity::Warning => (self.glyphs.suspect, "warning", self[Token::Watch]),
            Severity::Critical => (self.glyphs.failing, "critical", self[Token::Bad]),
        }
    }
}

impl Index<Token> for Look {
    type Output = Style;
    fn index(&self, token: Token) -> &Style {
        &self.styles[token as usize]
    }
}

fn fit_style(token: Token, style: Style, depth: Depth) -> Style {
    // Where the whole screen or a popup loses its background, nothing is lost.
    let reversible = matches!(token, Token::Selection | Token::Input);
    let mut fitted = style;
    fitted.fg = style.fg.map(|c| colour::at_depth(c, depth));
    fitted.bg = style.bg.map(|c| colour::at_depth(c, depth));
    // Two colours that became one would hide the text, a background that went away the selection.
    let lost_bg = style.bg.is_some_and(|bg| bg != Color::Reset) && fitted.bg == Some(Color::Reset);
    let hidden = fitted.fg.is_some() && fitted.fg == fitted.bg && fitted.fg != Some(Color::Reset);
    if hidden {
        fitted.fg = Some(Color::Reset);
        fitted.bg = Some(Color::Reset);
    }
    if (lost_bg || hidden) && reversible {
        fitted = fitted.add_modifier(Modifier::REVERSED);
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_theme_reads_and_is_legible() {
        for theme in Theme::built_in().unwrap() {
            let screen = theme.style(Token::Text).bg.and_then(colour::rgb);
            for token in Token::ALL {
                if matches!(token, Token::Faint | Token::Band50 | Token::Band90) {
                    continue;
                }
                let style = theme.style(*token);
                let bg = style.bg.and_then(colour::rgb).or(screen);
                if let (Some(fg), Some(bg)) = (style.fg.and_then(colour::rgb), bg) {
                    let ratio = colour::contrast(fg, bg);
                    let least = if *token == Token::Disabled { 3.0 } else { 4.5 };
                    assert!(ratio >= least, "{}: {} has contrast {ratio:.1}", theme.name, token.name());
                }
            }
        }
    }

    #[test]
    fn without_colours_the_selection_is_still_seen() {
        for theme in Theme::built_in().unwrap() {
            let look = Look::fit(&theme, Depth::None, GlyphSet::Unicode);
            for token in Token::ALL {
                assert!(look[*token].fg.is_none_or(|c| c == Color::Reset));
                assert!(look[*token].bg.is_none_or(|c| c == Color::Reset));
            }
            let selection = look[Token::Selection];
            assert!(selection.add_modifier.contains(Modifier::REVERSED), "{}", theme.name);
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest() {
        let error = Theme::read("mine.toml", "name = \"mine\"\n[state]\ngoood = \"green\"\n").unwrap_err();
        assert_eq!(error.to_string(), "mine.toml:3:1: unknown key \"goood\": did you mean \"good\"?");
        let error =
            Theme::read("mine.toml", "name = \"mine\"\n[ui]\ntext = { fg = \"gren\" }\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "mine.toml:3:15: \"gren\" is no colour: expected #rrggbb, 0 to 255, a name from [palette], or one of the 16: did you mean \"green\"?"
        );
    }

    #[test]
    fn a_theme_says_only_what_differs_from_the_one_it_inherits() {
        let theme = Theme::read("mine", "name = \"mine\"\ninherits = \"dark\"\n[state]\nbad = \"#ff0000\"\n")
            .unwrap();
        let dark = Theme::built_in().unwrap().into_iter().find(|t| t.name == "dark").unwrap();
        assert_eq!(theme.style(Token::Bad).fg, Some(Color::Rgb(255, 0, 0)));
        assert_eq!(theme.style(Token::Good), dark.style(Token::Good));
    }
}
