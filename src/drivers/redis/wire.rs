//! A line to one node for reading many keys: requests go out in one piece, answers are looked at
//! where they arrived, without a copy of any value. The client library makes an owned value of
//! everything, which costs a full comparison more than the servers need for their part.
//!
//! RESP2 alone (Redis "RESP protocol specification"); whatever else comes is refused by name.

use std::time::Duration;

use memchr::memchr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::nodes::system;
use crate::drivers::error::{DriverError, Retry};

/// Longest value of Redis itself.
const LONGEST: usize = 512 << 20;
/// How deep answers may be nested; those that are asked for here have four levels.
const DEEPEST: usize = 8;
/// What a buffer keeps between two uses.
const KEPT: usize = 1 << 20;

/// Requests that are sent together.
#[derive(Default)]
pub(super) struct Requests {
    bytes: Vec<u8>,
    count: usize,
}

impl Requests {
    /// Adds one command.
    pub(super) fn add(&mut self, words: &[&[u8]]) {
        self.number(b'*', words.len());
        for word in words {
            self.number(b'$', word.len());
            self.bytes.extend_from_slice(word);
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.count += 1;
    }

    fn number(&mut self, mark: u8, n: usize) {
        let (mut digits, mut at, mut n) = ([0u8; 20], 20, n);
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        self.bytes.push(mark);
        self.bytes.extend_from_slice(&digits[at..]);
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// One answer, where it lies in the buffer.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Reply<'a> {
    Simple(&'a [u8]),
    /// The server's words, its code first.
    Error(&'a [u8]),
    Int(i64),
    Bulk(&'a [u8]),
    Nil,
    Array(Vec<Reply<'a>>),
}

impl<'a> Reply<'a> {
    /// Its text; empty for what is no text.
    pub(super) fn text(&self) -> String {
        match self {
            Reply::Simple(bytes) | Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Reply::Int(n) => n.to_string(),
            Reply::Error(_) | Reply::Nil | Reply::Array(_) => String::new(),
        }
    }

    /// Its items, where it is an array.
    pub(super) fn items(&self) -> Option<&[Reply<'a>]> {
        match self {
            Reply::Array(items) => Some(items),
            _ => None,
        }
    }
}

/// What does not follow the protocol, in words.
type Odd = String;

/// Reads one answer at the start of `bytes`: itself and its length; `None` where it is not whole.
fn parse(bytes: &[u8], depth: usize) -> Result<Option<(Reply<'_>, usize)>, Odd> {
    let Some((&mark, rest)) = bytes.split_first() else { return Ok(None) };
    let Some(end) = memchr(b'\n', rest) else {
        return if rest.len() > 1 << 16 { Err("a line without an end".into()) } else { Ok(None) };
    };
    let line = rest[..end].strip_suffix(b"\r").ok_or("a line that does not end with CR LF")?;
    let head = end + 2;
    let length = || match number(line) {
        Some(-1) => Ok(None),
        Some(n) => usize::try_from(n)
            .ok()
            .filter(|n| *n <= LONGEST)
            .map(Some)
            .ok_or_else(|| format!("a length of {n}")),
        None => Err(format!("a length of {:?}", String::from_utf8_lossy(line))),
    };
    Ok(Some(match mark {
        b'+' => (Reply::Simple(line), head),
        b'-' => (Reply::Error(line), head),
        b':' => {
            let n = number(line).ok_or_else(|| format!("a number {:?}", String::from_utf8_lossy(line)))?;
            (Reply::Int(n), head)
        }
        b'$' => match length()? {
            None => (Reply::Nil, head),
            Some(n) => {
                let Some(tail) = bytes.get(head + n..head + n + 2) else { return Ok(None) };
                if tail != b"\r\n" {
                    return Err("a value that is longer than its length".into());
                }
                (Reply::Bulk(&bytes[head..head + n]), head + n + 2)
            }
        },
        b'*' => match length()? {
            None => (Reply::Nil, head),
            Some(_) if depth >= DEEPEST => return Err("an answer nested too deep".into()),
            Some(n) => {
                let (mut items, mut at) = (Vec::with_capacity(n.min(4096)), head);
                for _ in 0..n {
                    let Some((item, len)) = parse(&bytes[at..], depth + 1)? else { return Ok(None) };
                    items.push(item);
                    at += len;
                }
                (Reply::Array(items), at)
            }
        },
        other => return Err(format!("an answer that begins with {:?}", char::from(other))),
    }))
}

fn number(line: &[u8]) -> Option<i64> {
    let (minus, digits) = match line {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let n = digits.iter().try_fold(0i64, |n, c| {
        c.is_ascii_digit().then_some(())?;
        n.checked_mul(10)?.checked_add(i64::from(c - b'0'))
    })?;
    Some(if minus { -n } else { n })
}

/// Answers, one after the other.
pub(super) struct Answers<'a> {
    rest: &'a [u8],
}

impl Answers<'_> {
    /// Bytes of the answers that were not looked at yet.
    pub(super) fn bytes(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Answers<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        // They were found whole and well formed when they arrived.
        let (reply, len) = parse(self.rest, 0).ok()??;
        self.rest = &self.rest[len..];
        Some(reply)
    }
}

/// A connection to one node.
pub(super) struct Wire {
    address: String,
    stream: TcpStream,
    patience: Duration,
    buffer: Vec<u8>,
    /// Answers may still be under way that nobody waits for.
    dirty: bool,
}

impl Wire {
    /// Connects, says who we are, and lets a replica answer reads itself.
    pub(super) async fn connect(
        address: &str,
        login: Option<(&str, &str)>,
        connect: Duration,
        patience: Duration,
    ) -> Result<Wire, DriverError> {
        let refused = |detail: String| {
            let detail = format!("{detail}; is the node up and may this machine reach it?");
            DriverError::new(Retry::Retryable, system(address), "connect", detail)
        };
        let place = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let Some(place) = place else {
            let detail = "expected an address like 10.0.0.1:6379";
            return Err(DriverError::new(Retry::Permanent, system(address), "connect", detail));
        };
        let stream = tokio::time::timeout(connect, TcpStream::connect(place))
            .await
            .map_err(|_| refused(format!("no connection within {} ms", connect.as_millis())))?
            .map_err(|e| refused(e.to_string()))?;
        stream.set_nodelay(true).map_err(|e| refused(e.to_string()))?;
        let mut wire = Wire { address: address.into(), stream, patience, buffer: Vec::new(), dirty: false };
        let mut hello = Requests::default();
        if let Some((user, password)) = login {
            hello.add(&[b"AUTH", user.as_bytes(), password.as_bytes()]);
        }
        hello.add(&[b"CLIENT", b"SETNAME", b"foreshift"]);
        hello.add(&[b"READONLY"]);
        for answer in wire.exchange(&hello).await? {
            if let Reply::Error(words) = answer {
                return Err(said(address, "connect", words));
            }
        }
        Ok(wire)
    }

    /// Where it leads.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Whether another may use it.
    pub(super) fn is_clean(&self) -> bool {
        !self.dirty
    }

    /// Sends the requests and waits for as many answers; a server's error is an answer.
    ///
    /// # Errors
    /// Retryable, where the line breaks or an answer does not come in time: everything that goes
    /// over it reads. Permanent, where what comes is not Redis' protocol.
    pub(super) async fn exchange(&mut self, requests: &Requests) -> Result<Answers<'_>, DriverError> {
        let address = self.address.clone();
        let failed = |retry, detail: String| DriverError::new(retry, system(&address), "reading", detail);
        self.dirty = true;
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        let patience = self.patience;
        let in_time = |what: &'static str| {
            failed(Retry::Retryable, format!("{what} within {} ms", patience.as_millis()))
        };
        tokio::time::timeout(patience, self.stream.write_all(&requests.bytes))
            .await
            .map_err(|_| in_time("requests were not taken"))?
            .map_err(|e| failed(Retry::Retryable, e.to_string()))?;
        let (mut at, mut whole) = (0, 0);
        loop {
            while whole < requests.count {
                match parse(&self.buffer[at..], 0) {
                    Ok(Some((_, len))) => {
                        at += len;
                        whole += 1;
                    }
                    Ok(None) => break,
                    Err(odd) => {
                        let detail = format!("expected Redis' protocol, got {odd}");
                        return Err(failed(Retry::Permanent, detail));
                    }
                }
            }
            if whole == requests.count {
                break;
            }
            self.buffer.reserve(64 << 10);
            let read = tokio::time::timeout(patience, self.stream.read_buf(&mut self.buffer))
                .await
                .map_err(|_| in_time("no answer"))?
                .map_err(|e| failed(Retry::Retryable, e.to_string()))?;
            if read == 0 {
                return Err(failed(Retry::Retryable, "the node closed the connection".into()));
            }
        }
        if at < self.buffer.len() {
            return Err(failed(Retry::Permanent, "expected no more answers than questions".into()));
        }
        self.dirty = false;
        Ok(Answers { rest: &self.buffer })
    }

    /// One command, whose error is ours.
    pub(super) async fn one(&mut self, words: &[&[u8]]) -> Result<Reply<'_>, DriverError> {
        let mut request = Requests::default();
        request.add(words);
        let address = self.address.clone();
        match self.exchange(&request).await?.next() {
            Some(Reply::Error(words)) => Err(said(&address, "reading", words)),
            Some(answer) => Ok(answer),
            None => Ok(Reply::Nil),
        }
    }
}

/// A server's error as ours.
pub(super) fn said(address: &str, doing: &str, words: &[u8]) -> DriverError {
    let words = String::from_utf8_lossy(words);
    let retry = match words.split(' ').next().unwrap_or_default() {
        "LOADING" | "MASTERDOWN" | "MOVED" | "ASK" | "CLUSTERDOWN" | "BUSY" | "TRYAGAIN" => Retry::Retryable,
        _ => Retry::Permanent,
    };
    DriverError::new(retry, system(address), doing, words.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_of_every_kind_are_read_where_they_lie() {
        let bytes = b"*5\r\n$3\r\na\r\n\r\n:-7\r\n+OK\r\n$-1\r\n*1\r\n$0\r\n\r\n-ERR no\r\n";
        let answers: Vec<Reply<'_>> = Answers { rest: bytes }.collect();
        let nested = Reply::Array(vec![Reply::Bulk(b"")]);
        let first = [Reply::Bulk(b"a\r\n"), Reply::Int(-7), Reply::Simple(b"OK"), Reply::Nil, nested];
        assert_eq!(answers, [Reply::Array(first.to_vec()), Reply::Error(b"ERR no")]);
        for cut in 0..bytes.len() - 9 {
            assert_eq!(parse(&bytes[..cut], 0), Ok(None), "{cut}");
        }
    }

    #[test]
    fn what_is_not_the_protocol_is_refused_by_name() {
        for odd in
            ["HTTP/1.1 400\r\n", "$x\r\n", "$99999999999999999999\r\n", "$-2\r\n", "$1\r\nabc\r\n", ":1\n"]
        {
            assert!(parse(odd.as_bytes(), 0).is_err(), "{odd:?}");
        }
        assert!(parse("*1\r\n".repeat(20).as_bytes(), 0).is_err());
    }

    #[test]
    fn requests_are_written_as_the_protocol_wants() {
        let mut requests = Requests::default();
        requests.add(&[b"GET", b"a\r\nb"]);
        requests.add(&[b"SCAN", b"1234567890", b""]);
        let text = "*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n*3\r\n$4\r\nSCAN\r\n$10\r\n1234567890\r\n$0\r\n\r\n";
        assert_eq!((requests.count, requests.bytes.as_slice()), (2, text.as_bytes()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_read_beyond_their_end(
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), proptest::sample::select(b"*$:+-\r\n0123".to_vec())], 0..200),
        ) {
            if let Ok(Some((_, len))) = parse(&bytes, 0) {
                prop_assert!(len <= bytes.len());
            }
        }
    }
}
