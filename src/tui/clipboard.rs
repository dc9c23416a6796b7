//! Text into the clipboard of the terminal that the person sits at, also over SSH: OSC 52.

use super::options::environment;

/// Terminals take about this much.
const LIMIT: usize = 74_994;

/// The bytes that hand `text` to the terminal's clipboard; `None` where it is too long.
pub(super) fn copy(text: &str) -> Option<Vec<u8>> {
    let encoded = base64(text.as_bytes());
    if encoded.len() > LIMIT {
        return None;
    }
    let plain = format!("\x1b]52;c;{encoded}\x07");
    // tmux passes it on only when it is wrapped; screen likewise.
    let wrapped = if environment("TMUX").is_some() {
        format!("\x1bPtmux;{}\x1b\\", plain.replace('\x1b', "\x1b\x1b"))
    } else if environment("STY").is_some() {
        format!("\x1bP{plain}\x1b\\")
    } else {
        plain
    };
    Some(wrapped.into_bytes())
}

/// Base 64 (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(ALPHABET[(n >> (18 - 6 * i) & 63) as usize] as char);
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
