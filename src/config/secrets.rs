//! Secrets: the file says where one is kept (a file, an environment variable, a command), never
//! what it is. It is read when it is needed; whatever is printed of it is `***`.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// What a secret looks like in the file, for messages.
pub(crate) const SECRET_FORM: &str =
    "{ file = \"path\" }, { env = \"NAME\" } or { command = [\"program\", \"argument\"] }";

/// How long a command may take to tell a secret.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);

/// Where a secret is kept. Everything that prints it prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Kept);

#[derive(Clone, PartialEq, Eq)]
enum Kept {
    File(PathBuf),
    Env(String),
    Command(Vec<String>),
}

/// A secret that was read. It is shown to nobody; [`Revealed::expose`] hands it to a connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Revealed(String);

/// Why a secret could not be read. Names where it is kept, never what it is.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("secret in file {path}: {detail}; the file must exist and be readable by this user")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// The variable is not set.
    #[error("secret in environment variable {name}: it is not set (or is not UTF-8); set it and start again")]
    Env {
        /// The variable.
        name: String,
    },
    /// The command failed.
    #[error("secret from command {program}: {detail}; run it by hand to see why")]
    Command {
        /// The program; its arguments are not shown.
        program: String,
        /// How it ended.
        detail: String,
    },
    /// There was nothing.
    #[error("secret from {place}: it is empty")]
    Empty {
        /// Where it is kept.
        place: String,
    },
}

impl Secret {
    /// A secret that is the first line of a file.
    pub fn in_file(path: impl Into<PathBuf>) -> Self {
        Self(Kept::File(path.into()))
    }

    /// A secret in an environment variable.
    pub fn in_env(name: impl Into<String>) -> Self {
        Self(Kept::Env(name.into()))
    }

    /// A secret that a command prints.
    pub fn from_command(words: Vec<String>) -> Self {
        Self(Kept::Command(words))
    }

    /// Where it is kept, in words; of a command the program alone.
    pub fn place(&self) -> String {
        match &self.0 {
            Kept::File(path) => format!("file {}", path.display()),
            Kept::Env(name) => format!("environment variable {name}"),
            Kept::Command(words) => format!("command {}", words.first().map_or("", String::as_str)),
        }
    }

    /// Reads it: the file's, variable's or command's text without the blank at its end. A command
    /// has ten seconds; it blocks the thread meanwhile.
    ///
    /// # Errors
    /// Names where it is kept and what went wrong.
    pub fn reveal(&self) -> Result<Revealed, SecretError> {
        let text = match &self.0 {
            Kept::File(path) => std::fs::read_to_string(path)
                .map_err(|e| SecretError::File { path: path.display().to_string(), detail: e.to_string() })?,
            Kept::Env(name) => std::env::var(name).map_err(|_| SecretError::Env { name: name.clone() })?,
            Kept::Command(words) => run(words)?,
        };
        let text = text.trim_end();
        if text.is_empty() {
            return Err(SecretError::Empty { place: self.place() });
        }
        Ok(Revealed(text.to_string()))
    }

    /// Makes a relative path relative to `base`.
    pub(crate) fn anchor(&mut self, base: &Path) {
        if let Kept::File(path) = &mut self.0
            && path.is_relative()
        {
            *path = base.join(&*path);
        }
    }

    pub(crate) fn is_empty_reference(&self) -> bool {
        match &self.0 {
            Kept::File(path) => path.as_os_str().is_empty(),
            Kept::Env(name) => name.is_empty(),
            Kept::Command(words) => words.first().is_none_or(String::is_empty),
        }
    }
}

fn run(words: &[String]) -> Result<String, SecretError> {
    let program = words.first().cloned().unwrap_or_default();
    let failed = |detail: String| SecretError::Command { program: program.clone(), detail };
    let mut child = Command::new(&program)
        .args(words.iter().skip(1))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    let mut stdout = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        match stdout.as_mut() {
            Some(out) => out.take(1 << 16).read_to_string(&mut text).map(|_| text),
            None => Ok(text),
        }
    });
    let started = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|e| failed(e.to_string()))? {
            Some(status) => break status,
            None if started.elapsed() > COMMAND_PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed("it did not end within 10 s".to_string()));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if !status.success() {
        return Err(failed(format!("it ended with {status}")));
    }
    match reader.join() {
        Ok(Ok(text)) => Ok(text),
        _ => Err(failed("it printed something that is not UTF-8".to_string())),
    }
}

impl Revealed {
    /// The secret itself. For the connection that needs it, and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

macro_rules! hidden {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("***")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("***")
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str("***")
            }
        }
    )*};
}

hidden!(Secret, Revealed);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretTable {
    file: Option<PathBuf>,
    env: Option<String>,
    command: Option<Vec<String>>,
}

struct SecretVisitor;

impl SecretVisitor {
    /// Never repeats what was found.
    fn refused<T, E: serde::de::Error>(self) -> Result<T, E> {
        Err(E::custom(format!(
            "a secret is never written into this file, because files are copied, shown and committed; \
             expected {SECRET_FORM}"
        )))
    }
}

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SECRET_FORM)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Secret, E> {
        self.refused()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Secret, E> {
        self.refused()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Secret, E> {
        self.refused()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Secret, E> {
        self.refused()
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
        let table = SecretTable::deserialize(MapAccessDeserializer::new(map))?;
        match (table.file, table.env, table.command) {
            (Some(path), None, None) => Ok(Secret(Kept::File(path))),
            (None, Some(name), None) => Ok(Secret(Kept::Env(name))),
            (None, None, Some(words)) => Ok(Secret(Kept::Command(words))),
            _ => Err(serde::de::Error::custom(format!(
                "a secret is kept in exactly one place; expected {SECRET_FORM}"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_struct("Secret", &["file", "env", "command"], SecretVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_file_and_command_and_never_printed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "hunter2\n").unwrap();
        for secret in [Secret::in_file(&path), Secret::from_command(vec!["echo".into(), "hunter2".into()])] {
            let revealed = secret.reveal().unwrap();
            assert_eq!(revealed.expose(), "hunter2");
            for printed in [
                format!("{secret} {secret:?} {revealed} {revealed:?}"),
                serde_json::to_string(&(&secret, &revealed)).unwrap(),
                secret.place(),
            ] {
                assert!(!printed.contains("hunter2"), "{printed}");
            }
        }
    }

    #[test]
    fn a_missing_secret_says_where_it_was_looked_for() {
        let missing = Secret::in_env("FORESHIFT_NO_SUCH_VARIABLE").reveal().unwrap_err();
        assert!(missing.to_string().contains("FORESHIFT_NO_SUCH_VARIABLE"));
        let failed = Secret::from_command(vec!["false".into(), "hunter2".into()]).reveal().unwrap_err();
        assert!(failed.to_string().contains("command false") && !failed.to_string().contains("hunter2"));
        let empty = Secret::from_command(vec!["true".into()]).reveal().unwrap_err();
        assert!(matches!(empty, SecretError::Empty { .. }));
    }
}
