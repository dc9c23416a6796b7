//! Hashes and numbers as text, without the machinery of formatting: keys and hashes are written for
//! every record of a journal, and the judge looks often.

use std::fmt::Write;

/// The bytes in hex, lower case, after what `text` holds already.
pub fn push_hex(text: &mut String, bytes: &[u8]) {
    text.reserve(bytes.len() * 2);
    for chunk in bytes.chunks(32) {
        let mut pairs = [[0; 2]; 32];
        for (pair, byte) in pairs.iter_mut().zip(chunk) {
            *pair = PAIRS[usize::from(*byte)];
        }
        text.push_str(std::str::from_utf8(&pairs.as_flattened()[..chunk.len() * 2]).unwrap_or_default());
    }
}

/// Each byte in hex.
const PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// The bytes in hex, lower case.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text
}

/// The longest number has so many digits.
const ZEROS: &str = "00000000000000000000";

/// The number after what `text` holds already, with zeros before it up to `least` digits.
pub fn push_number(text: &mut String, number: u64, least: usize) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number);
    text.push_str(&ZEROS[..least.saturating_sub(digits.len()).min(ZEROS.len())]);
    text.push_str(digits);
}

/// The number with two decimals after what `text` holds already, as `{:.2}` writes it.
pub fn push_hundredths(text: &mut String, number: f64) {
    let hundredths = number.abs() * 100.0;
    let rest = hundredths.fract();
    // Which way a half goes, and what is no number or long, is left to the formatter.
    if !(hundredths < 1e12 && (rest - 0.5).abs() > 1e-3) {
        write!(text, "{number:.2}").expect("text can be written to");
        return;
    }
    let rounded = hundredths as u64 + u64::from(rest > 0.5);
    if number.is_sign_negative() {
        text.push('-');
    }
    push_number(text, rounded / 100, 1);
    text.push('.');
    push_number(text, rounded % 100, 2);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_hashes_read_as_the_formatter_writes_them(
            number: u64,
            small in 0u64..2000,
            least in 1usize..=20,
            bytes in proptest::collection::vec(any::<u8>(), 0..70),
        ) {
            for n in [number, small] {
                let mut text = "x".to_string();
                push_number(&mut text, n, least);
                prop_assert_eq!(text, format!("x{n:0least$}"));
            }
            let wanted: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            prop_assert_eq!(hex(&bytes), wanted);
        }

        #[test]
        fn hundredths_read_as_the_formatter_writes_them(
            any: f64,
            small in -2e3..2e3,
            thousandths in -2_000_000i64..2_000_000,
        ) {
            // These are halves of hundredths, or next to one.
            let near = thousandths as f64 / 1_000.0;
            for number in [any, small, small * 1e6, near, near.next_up(), near.next_down(), -0.0, f64::NAN] {
                let mut text = "x".to_string();
                push_hundredths(&mut text, number);
                prop_assert_eq!(text, format!("x{number:.2}"));
            }
        }
    }
}
