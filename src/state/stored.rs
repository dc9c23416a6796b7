//! Plain data as it is stored.

use serde::Serialize;

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
