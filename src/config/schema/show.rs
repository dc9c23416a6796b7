//! Sections `alerts` and `console`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// Section `[alerts]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Addresses that every alert is posted to as JSON.
    pub webhooks: Vec<Webhook>,
}

/// How bad an alert is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For your information.
    Info,
    /// Somebody should look.
    #[default]
    Warning,
    /// Somebody must act.
    Critical,
}

/// An address that alerts are posted to: `[[alerts.webhooks]]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// The address.
    pub url: String,
    /// Sent as the `Authorization` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Secret>,
    /// Alerts below this are not sent: `info`, `warning` or `critical`.
    #[serde(default)]
    pub from: Severity,
}

/// Section `[console]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    /// Name of a theme: `terminal` (the terminal's own 16 colours), `dark`, `high-contrast`, or a
    /// file in `themes/`.
    pub theme: String,
    /// Which signs charts and states are drawn with: `auto`, `braille`, `block` or `ascii`.
    pub glyphs: Glyphs,
    /// Whether the mouse is listened to; the terminal's own selection then needs the shift key.
    pub mouse: bool,
    /// Keys of your own for actions: `approve = "a"` or `approve = ["a", "ctrl-y"]`; what they did
    /// before is free then. The help screen names the actions.
    pub keys: BTreeMap<String, Keys>,
}

impl Default for Console {
    fn default() -> Self {
        Self { theme: "terminal".to_string(), glyphs: Glyphs::Auto, mouse: false, keys: BTreeMap::new() }
    }
}

/// The signs that charts and states are drawn with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Glyphs {
    /// By locale and terminal.
    #[default]
    Auto,
    /// Braille dots.
    Braille,
    /// Blocks.
    Block,
    /// ASCII only.
    Ascii,
}

/// One key or several.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "a key like \"a\" or \"ctrl-y\", or a list of keys")]
pub enum Keys {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Keys {
    /// The keys, in order.
    pub fn all(&self) -> &[String] {
        match self {
            Keys::One(key) => std::slice::from_ref(key),
            Keys::Many(keys) => keys,
        }
    }
}
