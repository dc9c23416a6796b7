//! Reads the file: text to types, and every error to a place and a sentence that says how to mend
//! it.

use std::path::Path;

use serde::Deserialize;

use super::check::{check, check_paths};
use super::error::{ConfigError, Problem};
use super::place::{Places, line_and_column};
use super::schema::Config;
use super::shape;

/// The example that is shipped: every key, what it means, and its default.
pub const EXAMPLE: &str = include_str!("../../config.example.toml");

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to its directory.
    ///
    /// # Errors
    /// Where the file cannot be read, is no TOML, has a key that is not known, a value of the
    /// wrong kind, or breaks a rule between keys; each with its place.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError::Unreadable { path: path.to_path_buf(), detail: e.to_string() })?;
        let mut config = Self::parse(&text, path)?;
        config.anchor(path.parent().unwrap_or(Path::new("")));
        located(check_paths(&config), &text, path)?;
        Ok(config)
    }

    /// Reads and checks a text; `file` is what messages call it. Paths stay as they are written
    /// and are not looked at.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let wrong =
            |error: toml::de::Error| ConfigError::Wrong { problems: vec![explained(&error, text, file)] };
        let document = toml::Deserializer::parse(text).map_err(wrong)?;
        let config = Self::deserialize(document).map_err(wrong)?;
        located(check(&config, &Places::read(text)), text, file)?;
        Ok(config)
    }

    /// The configuration of the shipped example.
    ///
    /// # Panics
    /// Never: a test loads the example.
    pub fn example() -> Self {
        Self::parse(EXAMPLE, Path::new("config.example.toml")).expect("the example is right")
    }

    /// Makes relative paths relative to `base`.
    fn anchor(&mut self, base: &Path) {
        let anchored = |path: &mut std::path::PathBuf| {
            if path.is_relative() {
                *path = base.join(&*path);
            }
        };
        anchored(&mut self.engine.data_dir);
        anchored(&mut self.agent.spool_dir);
        self.telemetry.files.iter_mut().for_each(anchored);
        self.predict.model_dir.iter_mut().for_each(anchored);
        self.predict.onnxruntime.iter_mut().for_each(anchored);
        for driver in self.drivers.values_mut() {
            let pools =
                driver.pgbouncers.iter_mut().flat_map(|b| std::iter::once(&mut b.file).chain(&mut b.tls_ca));
            driver.roots.iter_mut().chain(&mut driver.tls_ca).chain(pools).for_each(anchored);
        }
        let secrets = [&mut self.telemetry.token, &mut self.telemetry.password, &mut self.agent.token]
            .into_iter()
            .chain(self.drivers.values_mut().flat_map(|d| {
                std::iter::once(&mut d.password).chain(d.pgbouncers.iter_mut().map(|b| &mut b.password))
            }))
            .chain(self.alerts.webhooks.iter_mut().map(|w| &mut w.authorization));
        for secret in secrets.flatten() {
            secret.anchor(base);
        }
    }
}

/// Broken rules (path and what is wrong) as problems with their places, in the file's order.
fn located(broken: Vec<(String, String)>, text: &str, file: &Path) -> Result<(), ConfigError> {
    if broken.is_empty() {
        return Ok(());
    }
    let places = Places::read(text);
    let mut problems: Vec<(usize, Problem)> = broken
        .into_iter()
        .map(|(key, what)| {
            let byte = places.find(&key);
            let (line, column) = line_and_column(text, byte);
            (byte, Problem { file: file.to_path_buf(), line, column, key, what })
        })
        .collect();
    problems.sort_by_key(|(byte, _)| *byte);
    Err(ConfigError::Wrong { problems: problems.into_iter().map(|(_, p)| p).collect() })
}

fn explained(error: &toml::de::Error, text: &str, file: &Path) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let places = Places::read(text);
    let key = places.at(&span).to_string();
    let (line, column) = line_and_column(text, span.start);
    let what = sentence(error.message(), &key);
    Problem { file: file.to_path_buf(), line, column, key, what }
}

/// The library's message, said for somebody who has to mend the file.
fn sentence(message: &str, key: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return unknown_key(&quoted(rest), key);
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return unknown_word(&quoted(rest));
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        return format!("the key {} is missing here; add it", rest.trim());
    }
    for prefix in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((got, expected)) = message.strip_prefix(prefix).and_then(|m| m.split_once(", expected "))
        {
            return format!("expected {expected}, got {}", got.strip_prefix("string ").unwrap_or(got));
        }
    }
    if message == "wanted string or table" {
        return match shape::choices(key) {
            [] => "expected a word in quotes".to_string(),
            words => format!("expected one of {}", listed(words, '"')),
        };
    }
    if message == "invalid socket address syntax" {
        return "expected an address with its port, like \"127.0.0.1:7117\"".to_string();
    }
    match message {
        "duplicate key" => "this key is written twice; keep one".to_string(),
        _ => message.to_string(),
    }
}

/// What stands between backquotes.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

fn unknown_key(words: &[&str], key: &str) -> String {
    let (wrong, known) = match words.split_first() {
        Some((wrong, known)) => (*wrong, known),
        None => (key.rsplit('.').next().unwrap_or(key), &[][..]),
    };
    if let Some(near) = nearest(wrong, known) {
        return format!("unknown key; did you mean `{near}`?");
    }
    let elsewhere: Vec<String> = shape::keys()
        .into_iter()
        .filter_map(|k| k.path.strip_suffix(&format!(".{wrong}")).map(|section| format!("[{section}]")))
        .take(3)
        .collect();
    let hint = match elsewhere.as_slice() {
        [] => String::new(),
        sections => format!("it belongs to {}; ", sections.join(" or ")),
    };
    format!("unknown key; {hint}known here: {}", listed(known, '`'))
}

fn unknown_word(words: &[&str]) -> String {
    let (wrong, known) = words.split_first().map_or(("", &[][..]), |(wrong, known)| (*wrong, known));
    let near = nearest(wrong, known).map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
    format!("expected one of {}, got \"{wrong}\"{near}", listed(known, '"'))
}

/// The known word nearest to `wrong`, where one is near enough to be meant (Damerau 1964: at most
/// one edit in three letters, or the same beginning).
pub(crate) fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |word: &str| strsim::damerau_levenshtein(&wrong.to_lowercase(), word);
    let near = known.iter().copied().min_by_key(|word| distance(word))?;
    let close = distance(near) * 3 <= near.chars().count().max(wrong.chars().count());
    (close || strsim::jaro_winkler(wrong, near) > 0.9).then_some(near)
}

fn listed(words: &[&str], quote: char) -> String {
    words.iter().map(|w| format!("{quote}{w}{quote}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::place::parts;
    use super::*;

    /// The example with every commented key switched on: `#key = …` is a key, `# …` is prose.
    fn uncommented() -> String {
        let is_key = |line: &str| {
            line.strip_prefix('#')
                .is_some_and(|l| l.starts_with(|c: char| c.is_alphanumeric() || "[\"]".contains(c)))
        };
        EXAMPLE
            .lines()
            .map(|line| if is_key(line) { &line[1..] } else { line })
            .fold(String::new(), |all, line| all + line + "\n")
    }

    #[test]
    fn the_example_is_a_configuration_and_names_every_key_there_is() {
        let example = Config::example();
        assert_eq!(example.telemetry.source, crate::config::TelemetrySource::Influxdb2);
        let text = uncommented();
        Config::parse(&text, Path::new("config.example.toml")).unwrap_or_else(|e| panic!("{e}"));
        let written: BTreeSet<String> = Places::read(&text).paths().collect();
        let matches = |pattern: &str, path: &str| {
            let (pattern, path) = (parts(pattern), parts(path));
            pattern.len() == path.len() && pattern.iter().zip(path).all(|(a, b)| *a == "NAME" || *a == b)
        };
        let absent: Vec<String> = shape::keys()
            .into_iter()
            .map(|key| key.path)
            .filter(|key| !written.iter().any(|path| matches(key, path)))
            .collect();
        assert!(absent.is_empty(), "config.example.toml does not explain {absent:?}");
    }

    #[test]
    fn what_the_example_has_commented_out_is_the_default() {
        let commented: String = uncommented();
        let active: BTreeSet<String> = Places::read(EXAMPLE).paths().collect();
        let table: toml::Table = commented.parse().unwrap();
        let default = toml::Table::try_from(Config::default()).unwrap();
        let mut differ = Vec::new();
        for (section, keys) in &default {
            for (key, value) in keys.as_table().unwrap() {
                let path = format!("{section}.{key}");
                let written = table.get(section).and_then(|t| t.get(key));
                let plain = !value.is_table()
                    && !value.as_array().is_some_and(Vec::is_empty)
                    && value.as_str() != Some("");
                if plain
                    && !active.contains(&path)
                    && !active.contains(&format!("{path}[]"))
                    && written.map(ToString::to_string) != Some(value.to_string())
                {
                    differ.push(format!("{path}: example {written:?}, default {value:?}"));
                }
            }
        }
        assert!(differ.is_empty(), "{differ:#?}");
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("", Path::new("x")).unwrap(), Config::default());
        let written = toml::to_string(&Config::example()).unwrap();
        assert!(written.contains("token = \"***\""), "{written}");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, "[engine]\ndata_dir = \"d\"\n[agent]\ntoken = { file = \"t\" }\n").unwrap();
        std::fs::write(directory.path().join("t"), "hunter2").unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.engine.data_dir, directory.path().join("d"));
        assert_eq!(config.agent.token.unwrap().reveal().unwrap().expose(), "hunter2");
    }
}
