//! Numbers as bytes, little-endian: what is kept of a detector on disk. Whoever reads says how many numbers
//! are to follow, from what was read before and was found good, so no bytes make a detector of odd shape.

/// Writes.
#[derive(Debug, Default)]
pub(in crate::predict) struct Writer(pub(in crate::predict) Vec<u8>);

impl Writer {
    pub(in crate::predict) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(in crate::predict) fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    pub(in crate::predict) fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    pub(in crate::predict) fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(in crate::predict) fn i64(&mut self, value: i64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(in crate::predict) fn f32(&mut self, value: f32) {
        self.0.extend(value.to_le_bytes());
    }

    pub(in crate::predict) fn f64(&mut self, value: f64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(in crate::predict) fn f32s(&mut self, values: &[f32]) {
        values.iter().for_each(|v| self.f32(*v));
    }

    /// A text with its length before it; one of more than 65,535 bytes is cut and is then refused by who
    /// reads it.
    pub(in crate::predict) fn text(&mut self, text: &str) {
        let bytes = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
        self.u16(bytes.len() as u16);
        self.0.extend(bytes);
    }
}

/// Reads; `None` where the bytes end or are not what was asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::predict) struct Reader<'a>(pub(in crate::predict) &'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// So many bytes.
    pub(in crate::predict) fn slice(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(in crate::predict) fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    pub(in crate::predict) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(in crate::predict) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(in crate::predict) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(in crate::predict) fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    /// Any number, infinities and NaN too.
    pub(in crate::predict) fn any_f32(&mut self) -> Option<f32> {
        self.take().map(f32::from_le_bytes)
    }

    /// A finite number.
    pub(in crate::predict) fn f32(&mut self) -> Option<f32> {
        self.any_f32().filter(|v| v.is_finite())
    }

    /// A finite number.
    pub(in crate::predict) fn f64(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes).filter(|v| v.is_finite())
    }

    /// `false` or `true`.
    pub(in crate::predict) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// So many finite numbers.
    pub(in crate::predict) fn f32s(&mut self, count: usize) -> Option<Vec<f32>> {
        self.any_f32s(count).filter(|all| all.iter().all(|v| v.is_finite()))
    }

    /// So many numbers of any kind but NaN.
    pub(in crate::predict) fn any_f32s(&mut self, count: usize) -> Option<Vec<f32>> {
        let bytes = self.slice(count.checked_mul(4)?)?;
        let all: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        (!all.iter().any(|v| v.is_nan())).then_some(all)
    }

    pub(in crate::predict) fn u16s(&mut self, count: usize) -> Option<Vec<u16>> {
        let bytes = self.slice(count.checked_mul(2)?)?;
        Some(bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect())
    }

    pub(in crate::predict) fn text(&mut self) -> Option<&'a str> {
        let count = usize::from(self.u16()?);
        std::str::from_utf8(self.slice(count)?).ok()
    }

    /// What was read, where nothing is left.
    pub(in crate::predict) fn ended<T>(self, read: T) -> Option<T> {
        self.0.is_empty().then_some(read)
    }
}
