//! From the terminal's bytes to keys, pastes and clicks. Our own parser, because it must say when
//! the terminal is gone (crossterm's reader spins for ever then) and must keep pasted text apart
//! from pressed keys.

use crate::tui::key::{Code, Key};

/// What a person did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A key was pressed.
    Key(Key),
    /// Text was pasted; it never triggers an action.
    Paste(String),
    /// The left button was pressed at column, row.
    Click(u16, u16),
    /// The wheel was turned at column, row: lines, negative is up.
    Scroll(u16, u16, i8),
}

/// At most this much of a paste is kept.
const PASTE_LIMIT: usize = 64 * 1024;
const PASTE_END: &[u8] = b"\x1b[201~";

/// Collects bytes and hands out what is complete.
#[derive(Default, Debug)]
pub struct Parser {
    bytes: Vec<u8>,
    paste: Option<Vec<u8>>,
}

impl Parser {
    /// Takes bytes as they were read; complete inputs go to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Input>) {
        self.bytes.extend_from_slice(bytes);
        loop {
            if self.paste.is_some() {
                if !self.end_paste(out) {
                    return;
                }
                continue;
            }
            match step(&self.bytes) {
                Step::More => return,
                Step::Skip(n) => drop(self.bytes.drain(..n)),
                Step::Took(input, n) => {
                    self.bytes.drain(..n);
                    out.push(input);
                }
                Step::PasteBegins(n) => {
                    self.bytes.drain(..n);
                    self.paste = Some(Vec::new());
                }
            }
            if self.bytes.is_empty() {
                return;
            }
        }
    }

    /// Nothing more came for a moment: an escape that waits alone is the escape key.
    pub fn pause(&mut self, out: &mut Vec<Input>) {
        if self.paste.is_none() && !self.bytes.is_empty() {
            if self.bytes == b"\x1b" {
                out.push(Input::Key(Key::plain(Code::Esc)));
            }
            self.bytes.clear();
        }
    }

    /// Whether bytes wait for their rest.
    pub fn waits(&self) -> bool {
        self.paste.is_none() && !self.bytes.is_empty()
    }

    fn end_paste(&mut self, out: &mut Vec<Input>) -> bool {
        let paste = self.paste.get_or_insert_default();
        let end = self.bytes.windows(PASTE_END.len()).position(|w| w == PASTE_END);
        // Without an end, the last bytes may be the beginning of it and must stay.
        let keep = end.unwrap_or_else(|| self.bytes.len().saturating_sub(PASTE_END.len() - 1));
        let room = PASTE_LIMIT.saturating_sub(paste.len());
        paste.extend_from_slice(&self.bytes[..keep.min(room)]);
        match end {
            None => {
                self.bytes.drain(..keep);
                false
            }
            Some(at) => {
                self.bytes.drain(..at + PASTE_END.len());
                let text = String::from_utf8_lossy(paste).into_owned();
                self.paste = None;
                out.push(Input::Paste(text));
                !self.bytes.is_empty()
            }
        }
    }
}

enum Step {
    More,
    Skip(usize),
    Took(Input, usize),
    PasteBegins(usize),
}

fn key(code: Code, n: usize) -> Step {
    Step::Took(Input::Key(Key::plain(code)), n)
}

fn step(bytes: &[u8]) -> Step {
    let Some(&first) = bytes.first() else { return Step::More };
    match first {
        0x1b => escape(bytes),
        b'\r' | b'\n' => key(Code::Enter, 1),
        b'\t' => key(Code::Tab, 1),
        0x7f | 0x08 => key(Code::Backspace, 1),
        0x00 => Step::Took(Input::Key(Key::ctrl(' ')), 1),
        0x01..=0x1a => Step::Took(Input::Key(Key::ctrl((first - 1 + b'a') as char)), 1),
        0x1c..=0x1f => Step::Took(Input::Key(Key::ctrl((first + 0x40) as char)), 1),
        _ => character(bytes),
    }
}

fn character(bytes: &[u8]) -> Step {
    let length = match bytes[0] {
        0x20..=0x7e => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Step::Skip(1),
    };
    if bytes.len() < length {
        // Only a true continuation is worth waiting for.
        return if bytes[1..].iter().all(|b| b & 0xc0 == 0x80) { Step::More } else { Step::Skip(1) };
    }
    match std::str::from_utf8(&bytes[..length]).ok().and_then(|s| s.chars().next()) {
        Some(c) if !c.is_control() => key(Code::Char(c), length),
        Some(_) => Step::Skip(length),
        None => Step::Skip(1),
    }
}

fn escape(bytes: &[u8]) -> Step {
    match bytes.get(1) {
        None => Step::More,
        Some(b'[') => control_sequence(bytes),
        Some(b'O') => match bytes.get(2) {
            None => Step::More,
            Some(b'P'..=b'S') => key(Code::F(bytes[2] - b'P' + 1), 3),
            Some(final_byte) => match arrow(*final_byte) {
                Some(code) => key(code, 3),
                None => Step::Skip(3),
            },
        },
        Some(0x1b) => key(Code::Esc, 1),
        Some(_) => match step(&bytes[1..]) {
            Step::Took(Input::Key(k), n) => Step::Took(Input::Key(Key { alt: true, ..k }), n + 1),
            Step::Took(_, n) | Step::Skip(n) | Step::PasteBegins(n) => Step::Skip(n + 1),
            Step::More => Step::More,
        },
    }
}

fn arrow(final_byte: u8) -> Option<Code> {
    Some(match final_byte {
        b'A' => Code::Up,
        b'B' => Code::Down,
        b'C' => Code::Right,
        b'D' => Code::Left,
        b'H' => Code::Home,
        b'F' => Code::End,
        b'Z' => Code::BackTab,
        _ => return None,
    })
}

/// `CSI parameters final` (ECMA-48 §5.4), of which keys, pastes and SGR mouse reports are used.
fn control_sequence(bytes: &[u8]) -> Step {
    const LONGEST: usize = 64;
    let Some(end) = bytes.iter().skip(2).position(|b| (0x40..=0x7e).contains(b)).map(|at| at + 2) else {
        return if bytes.len() > LONGEST { Step::Skip(bytes.len()) } else { Step::More };
    };
    let n = end + 1;
    let parameters = &bytes[2..end];
    if let Some(report) = parameters.strip_prefix(b"<") {
        return mouse(report, bytes[end], n);
    }
    let mut numbers = parameters
        .split(|b| *b == b';')
        .map(|p| std::str::from_utf8(p).ok().and_then(|t| t.parse::<u16>().ok()).unwrap_or(1));
    let (number, modifier) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
    let code = match bytes[end] {
        b'~' => match number {
            1 | 7 => Code::Home,
            2 => Code::Insert,
            3 => Code::Delete,
            4 | 8 => Code::End,
            5 => Code::PageUp,
            6 => Code::PageDown,
            11..=15 => Code::F(number as u8 - 10),
            17..=21 => Code::F(number as u8 - 11),
            23 | 24 => Code::F(number as u8 - 12),
            200 => return Step::PasteBegins(n),
            _ => return Step::Skip(n),
        },
        b @ b'P'..=b'S' => Code::F(b - b'P' + 1),
        b => match arrow(b) {
            Some(code) => code,
            None => return Step::Skip(n),
        },
    };
    let bits = modifier.saturating_sub(1);
    Step::Took(Input::Key(Key { code, ctrl: bits & 4 != 0, alt: bits & 2 != 0 }), n)
}

fn mouse(report: &[u8], final_byte: u8, n: usize) -> Step {
    let mut numbers =
        report.split(|b| *b == b';').map(|p| std::str::from_utf8(p).ok().and_then(|t| t.parse::<u16>().ok()));
    let (Some(Some(button)), Some(Some(x)), Some(Some(y))) = (numbers.next(), numbers.next(), numbers.next())
    else {
        return Step::Skip(n);
    };
    let (x, y) = (x.saturating_sub(1), y.saturating_sub(1));
    match (button, final_byte) {
        (0, b'M') => Step::Took(Input::Click(x, y), n),
        (64, b'M') => Step::Took(Input::Scroll(x, y, -3), n),
        (65, b'M') => Step::Took(Input::Scroll(x, y, 3), n),
        _ => Step::Skip(n),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<Input> {
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        parser.feed(bytes, &mut out);
        parser.pause(&mut out);
        out
    }

    fn keys(text: &str) -> Vec<Input> {
        crate::tui::key::parse_script(text).unwrap().into_iter().map(Input::Key).collect()
    }

    #[test]
    fn keys_of_every_kind_are_read() {
        assert_eq!(read(b"aG\r\t\x7f"), keys("aG<enter><tab><backspace>"));
        assert_eq!(read(b"\x1b[A\x1bOB\x1b[5~\x1b[1;5D"), keys("<up><down><pgup><C-left>"));
        assert_eq!(read(b"\x1bOP\x1b[15~\x1b[24~"), keys("<f1><f5><f12>"));
        assert_eq!(read(b"\x03\x1ax"), keys("<C-c><C-z>x"));
        assert_eq!(read("é\u{2014}".as_bytes()), keys("é\u{2014}"));
        assert_eq!(read(b"\x1bx\x1b"), keys("<A-x><esc>"));
    }

    #[test]
    fn pasted_text_is_one_paste_and_no_keys() {
        assert_eq!(read(b"\x1b[200~a\ry!\x1b[201~q"), [Input::Paste("a\ry!".into()), keys("q")[0].clone()]);
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        for byte in b"\x1b[200~yes\x1b[201~" {
            parser.feed(&[*byte], &mut out);
        }
        assert_eq!(out, [Input::Paste("yes".into())]);
    }

    #[test]
    fn the_mouse_is_read() {
        assert_eq!(
            read(b"\x1b[<0;5;7M\x1b[<0;5;7m\x1b[<65;1;1M"),
            [Input::Click(4, 6), Input::Scroll(0, 0, 3)]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 1usize..9) {
            let (mut parser, mut out) = (Parser::default(), Vec::new());
            for piece in bytes.chunks(cut) {
                parser.feed(piece, &mut out);
            }
            parser.pause(&mut out);
            prop_assert!(!parser.waits());
        }
    }
}
