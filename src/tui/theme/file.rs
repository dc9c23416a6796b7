//! Reads a theme file. Every complaint names file, line and column, what was expected, and the
//! nearest name.

use std::collections::BTreeMap;
use std::ops::Range;

use ratatui::style::{Color, Modifier, Style};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Theme, ThemeError, Token};

const SIXTEEN: [(&str, Color); 17] = [
    ("default", Color::Reset),
    ("black", Color::Black),
    ("red", Color::Red),
    ("green", Color::Green),
    ("yellow", Color::Yellow),
    ("blue", Color::Blue),
    ("magenta", Color::Magenta),
    ("cyan", Color::Cyan),
    ("gray", Color::Gray),
    ("dark-gray", Color::DarkGray),
    ("light-red", Color::LightRed),
    ("light-green", Color::LightGreen),
    ("light-yellow", Color::LightYellow),
    ("light-blue", Color::LightBlue),
    ("light-magenta", Color::LightMagenta),
    ("light-cyan", Color::LightCyan),
    ("white", Color::White),
];

const MODIFIERS: [(&str, Modifier); 5] = [
    ("bold", Modifier::BOLD),
    ("dim", Modifier::DIM),
    ("italic", Modifier::ITALIC),
    ("underlined", Modifier::UNDERLINED),
    ("reversed", Modifier::REVERSED),
];

struct Reader<'a> {
    place: &'a str,
    text: &'a str,
    palette: BTreeMap<String, Color>,
}

/// Reads `text`; `path` are the themes that led here by `inherits`, so that a circle is found.
pub(super) fn read(place: &str, text: &str, path: &mut Vec<String>) -> Result<Theme, ThemeError> {
    let mut reader = Reader { place, text, palette: BTreeMap::new() };
    let document = DeTable::parse(text).map_err(|error| {
        reader.bad(error.span().unwrap_or(0..0), format!("this is no TOML: {}", error.message()))
    })?;
    let table = document.get_ref();
    let mut name = place.to_string();
    let mut styles = vec![Style::default(); Token::ALL.len()];
    if let Some((_, parent)) = table.iter().find(|(key, _)| key.get_ref() == "inherits") {
        let wanted = reader.string(parent)?;
        let circle = path.iter().any(|p| p == wanted);
        let Some(text) = Theme::built_in_text(wanted).filter(|_| !circle) else {
            let what = if circle { "inherits itself" } else { "only built-in themes can be inherited" };
            return Err(reader.bad(parent.span(), format!("{wanted:?}: {what}")));
        };
        path.push(wanted.to_string());
        styles = read(wanted, text, path)?.styles;
    }
    if let Some((_, palette)) = table.iter().find(|(key, _)| key.get_ref() == "palette") {
        for (key, value) in reader.table(palette)? {
            let colour = reader.colour(value)?;
            reader.palette.insert(key.get_ref().to_string(), colour);
        }
    }
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "name" => name = reader.string(value)?.to_string(),
            "inherits" | "palette" => {}
            section @ ("ui" | "state" | "chart") => reader.section(section, value, &mut styles)?,
            other => {
                let known = ["name", "inherits", "palette", "ui", "state", "chart"];
                return Err(reader.unknown(key.span(), other, &known));
            }
        }
    }
    Ok(Theme { name, styles })
}

impl Reader<'_> {
    fn bad(&self, span: Range<usize>, what: String) -> ThemeError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        ThemeError::Bad { place: self.place.to_string(), line, column, what }
    }

    fn unknown(&self, span: Range<usize>, name: &str, known: &[&str]) -> ThemeError {
        let hint = nearest(name, known).map(|n| format!("did you mean {n:?}?"));
        let hint = hint.unwrap_or_else(|| format!("expected one of {}", known.join(", ")));
        self.bad(span, format!("unknown key {name:?}: {hint}"))
    }

    fn string<'v>(&self, value: &'v Spanned<DeValue<'_>>) -> Result<&'v str, ThemeError> {
        value.get_ref().as_str().ok_or_else(|| self.bad(value.span(), "expected text in quotes".to_string()))
    }

    fn table<'v, 'i>(&self, value: &'v Spanned<DeValue<'i>>) -> Result<&'v DeTable<'i>, ThemeError> {
        value.get_ref().as_table().ok_or_else(|| self.bad(value.span(), "expected a table".to_string()))
    }

    fn section(
        &self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        styles: &mut [Style],
    ) -> Result<(), ThemeError> {
        for (key, value) in self.table(value)? {
            let full = format!("{name}.{}", key.get_ref());
            let Some(token) = Token::ALL.iter().find(|t| t.name() == full) else {
                let known: Vec<&str> = Token::ALL
                    .iter()
                    .filter_map(|t| t.name().split_once('.').filter(|(s, _)| *s == name).map(|(_, key)| key))
                    .collect();
                return Err(self.unknown(key.span(), key.get_ref(), &known));
            };
            styles[*token as usize] = self.style(value)?;
        }
        Ok(())
    }

    fn style(&self, value: &Spanned<DeValue<'_>>) -> Result<Style, ThemeError> {
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            return Ok(Style::new().fg(self.colour(value)?));
        }
        let mut style = Style::new();
        for (key, value) in self.table(value)? {
            match key.get_ref().as_ref() {
                "fg" => style.fg = Some(self.colour(value)?),
                "bg" => style.bg = Some(self.colour(value)?),
                "mods" => {
                    let list = value.get_ref().as_array();
                    let list = list.ok_or_else(|| self.bad(value.span(), "expected a list".to_string()))?;
                    for item in list.iter() {
                        let name = self.string(item)?;
                        let Some((_, modifier)) = MODIFIERS.iter().find(|(n, _)| *n == name) else {
                            return Err(self.unknown(item.span(), name, &MODIFIERS.map(|(n, _)| n)));
                        };
                        style = style.add_modifier(*modifier);
                    }
                }
                other => return Err(self.unknown(key.span(), other, &["fg", "bg", "mods"])),
            }
        }
        Ok(style)
    }

    fn colour(&self, value: &Spanned<DeValue<'_>>) -> Result<Color, ThemeError> {
        if let Some(number) = value.get_ref().as_integer() {
            return u8::from_str_radix(number.as_str(), number.radix())
                .map(Color::Indexed)
                .map_err(|_| self.bad(value.span(), format!("{number} is no colour: expected 0 to 255")));
        }
        let name = self.string(value)?;
        if let Some(colour) = self.palette.get(name) {
            return Ok(*colour);
        }
        if let Some((_, colour)) = SIXTEEN.iter().find(|(n, _)| *n == name) {
            return Ok(*colour);
        }
        if let Some(hex) = name.strip_prefix('#').filter(|h| h.len() == 6 && h.is_ascii())
            && let Ok(rgb) = u32::from_str_radix(hex, 16)
        {
            return Ok(Color::Rgb((rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8));
        }
        let mut known: Vec<&str> = self.palette.keys().map(String::as_str).collect();
        known.extend(SIXTEEN.map(|(n, _)| n));
        let hint = nearest(name, &known).map(|n| format!(": did you mean {n:?}?")).unwrap_or_default();
        let expected = "expected #rrggbb, 0 to 255, a name from [palette], or one of the 16";
        Err(self.bad(value.span(), format!("{name:?} is no colour: {expected}{hint}")))
    }
}

/// The known name that is nearest to `name`, where one is near.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|k| (strsim::jaro_winkler(name, k), *k))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}
