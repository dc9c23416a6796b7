//! What the terminal can show, from the environment alone: asking the terminal itself would cost a
//! round trip and hang where nobody answers.

use crate::tui::theme::{Depth, GlyphSet};

/// Reads an environment variable; empty counts as unset.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Colours: `NO_COLOR` (any value) wins, then `CLICOLOR_FORCE`, `COLORTERM`, `TERM`.
pub fn depth(env: Env<'_>) -> Depth {
    let term = env("TERM").unwrap_or_default();
    if env("NO_COLOR").is_some() {
        return Depth::None;
    }
    if matches!(env("COLORTERM").as_deref(), Some("truecolor" | "24bit")) || term.ends_with("-direct") {
        return Depth::True;
    }
    if term.contains("256color") {
        return Depth::Indexed;
    }
    if matches!(term.as_str(), "dumb" | "vt100" | "vt102" | "vt220") && env("CLICOLOR_FORCE").is_none() {
        return Depth::None;
    }
    Depth::Sixteen
}

/// Glyphs: Unicode where the locale is UTF-8 and the terminal is no text console.
pub fn glyphs(env: Env<'_>) -> GlyphSet {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(env).unwrap_or_default().to_lowercase();
    let utf8 = locale.contains("utf-8") || locale.contains("utf8");
    let poor = matches!(env("TERM").as_deref(), Some("linux" | "dumb" | "vt100" | "vt102" | "vt220"));
    if utf8 && !poor { GlyphSet::Unicode } else { GlyphSet::Ascii }
}

/// Whether full-screen programs can run at all.
pub fn full_screen(env: Env<'_>) -> bool {
    !matches!(env("TERM").as_deref(), None | Some("dumb"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        move |name| pairs.iter().find(|(k, v)| k == name && !v.is_empty()).map(|(_, v)| v.clone())
    }

    #[test]
    fn the_environment_says_how_many_colours() {
        assert_eq!(depth(&with(&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")])), Depth::True);
        assert_eq!(depth(&with(&[("TERM", "tmux-256color")])), Depth::Indexed);
        assert_eq!(depth(&with(&[("TERM", "xterm")])), Depth::Sixteen);
        assert_eq!(depth(&with(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")])), Depth::None);
        assert_eq!(depth(&with(&[("TERM", "linux")])), Depth::Sixteen);
    }

    #[test]
    fn without_unicode_there_is_ascii() {
        assert_eq!(glyphs(&with(&[("LANG", "en_GB.UTF-8"), ("TERM", "xterm")])), GlyphSet::Unicode);
        assert_eq!(glyphs(&with(&[("LANG", "C"), ("TERM", "xterm")])), GlyphSet::Ascii);
        assert_eq!(glyphs(&with(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")])), GlyphSet::Ascii);
        assert_eq!(glyphs(&with(&[("LANG", "C.UTF-8"), ("TERM", "linux")])), GlyphSet::Ascii);
    }
}
