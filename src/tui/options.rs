//! What the configuration and the command line say about the console.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::error::ConsoleError;
use super::keymap::Keymap;
use super::model::Engine;
use super::terminal::capabilities;
use super::theme::{Depth, GlyphSet, Look, Theme, ThemeError, nearest};

/// Options of a console. The default is right for a terminal of which nothing is known.
#[derive(Clone, Debug, Default)]
pub struct ConsoleOptions {
    /// Name of the theme; `None` = the terminal's own 16 colours.
    pub theme: Option<String>,
    /// A folder with theme files of one's own; they come before the built-in ones of that name.
    pub themes: Option<PathBuf>,
    /// Keys by action name, instead of the table's own.
    pub keys: BTreeMap<String, Vec<String>>,
    /// Colours; `None` = as the environment says.
    pub depth: Option<Depth>,
    /// Glyphs; `None` = as the environment says.
    pub glyphs: Option<GlyphSet>,
    /// For slow lines: data is drawn at most once a second; keys are echoed at once.
    pub pace: Pace,
    /// Mouse reports from the start.
    pub mouse: Mouse,
    /// Whether the engine ends with the console.
    pub engine: Engine,
    /// Ends the console from outside.
    pub shutdown: CancellationToken,
}

/// How often data may be drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pace {
    /// As it comes, at most 30 times a second.
    #[default]
    Normal,
    /// At most once a second.
    LowBandwidth,
}

impl Pace {
    /// Least time between two frames that no key asked for, in milliseconds.
    pub fn gap_ms(self) -> u64 {
        match self {
            Pace::Normal => 33,
            Pace::LowBandwidth => 1_000,
        }
    }
}

/// Whether the mouse is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mouse {
    /// No: selecting text is left to the terminal.
    #[default]
    Off,
    /// Yes.
    On,
}

/// Reads the environment; empty counts as unset.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl ConsoleOptions {
    /// The keymap.
    ///
    /// # Errors
    /// Unknown action, bad key, conflict.
    pub fn keymap(&self) -> Result<Arc<Keymap>, ConsoleError> {
        Ok(Arc::new(Keymap::build(&self.keys)?))
    }

    /// The themes fitted to the terminal, and which of them is worn first. Files that are wrong are
    /// handed back beside them, to be said on the screen: they keep nobody from the fleet.
    ///
    /// # Errors
    /// There is no theme of the wanted name.
    pub fn looks(&self) -> Result<(Vec<Look>, usize, Vec<ThemeError>), ConsoleError> {
        let (mut themes, wrong) = self.themes.as_deref().map(Theme::folder).unwrap_or_default();
        for theme in Theme::built_in()? {
            if !themes.iter().any(|own| own.name == theme.name) {
                themes.push(theme);
            }
        }
        let wanted = self.theme.as_deref().unwrap_or("base16");
        let Some(at) = themes.iter().position(|t| t.name == wanted) else {
            let names: Vec<&str> = themes.iter().map(|t| t.name.as_str()).collect();
            let nearest = nearest(wanted, &names).map(str::to_string);
            return Err(
                ThemeError::Unknown { name: wanted.to_string(), known: names.join(", "), nearest }.into()
            );
        };
        let depth = self.depth.unwrap_or_else(|| capabilities::depth(&environment));
        let glyphs = self.glyphs.unwrap_or_else(|| capabilities::glyphs(&environment));
        Ok((themes.iter().map(|t| Look::fit(t, depth, glyphs)).collect(), at, wrong))
    }
}
