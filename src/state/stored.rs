//! Plain data as it is stored.

use serde::{Deserialize, Serialize};

/// The value as JSON, in a buffer that begins with `room` bytes: what is stored with every transition of
/// every migration need not grow one by one.
///
/// # Errors
/// Where the value says that it cannot be written, or has a map whose keys are no text.
pub fn stored<T: Serialize + ?Sized>(value: &T, room: usize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(room);
    serde_json::to_writer(&mut bytes, value)?;
    Ok(bytes)
}

/// The value that [`stored`] wrote. All bytes are looked at once whether they are text, not each text by itself.
///
/// # Errors
/// Where they are not such a value.
pub fn read_stored<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        // It says where they are not.
        Err(_) => serde_json::from_slice(bytes),
    }
}
