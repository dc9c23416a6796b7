//! A block: the samples of one partition over a short span, all its metrics side by side on the
//! same points in time, as bytes. The store keeps blocks, not points: one row for a message of an
//! agent or for hours of history.
//!
//! Layout, little endian; `v` is a LEB128 number of up to 64 bits, signed ones are zigzag:
//! `version(1) · v points · v columns · first time i64 · v step` (0 = the differences follow, one
//! zigzag `v` each) `· columns`; a column is `code(1)`, for code 255 a `v` length and the name,
//! then one `f32` a point, NaN = missing.

use crate::fleet::{MetricName, Span, Timestamp};

const VERSION: u8 = 1;
const NAMED: u8 = 255;

/// Codes of metric names on disk: only ever append.
const CODES: [&str; 16] = [
    "cpu.busy",
    "cpu.iowait",
    "mem.used",
    "mem.pressure",
    "disk.used",
    "disk.read_latency",
    "disk.write_latency",
    "disk.throughput",
    "net.throughput",
    "net.latency",
    "net.loss",
    "log.errors",
    "temp",
    "power.volts",
    "queue.depth",
    "request.latency",
];

/// Samples of one partition: `columns[metric].1[i]` was so at `times[i]`; NaN = missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    times: Vec<Timestamp>,
    columns: Vec<(MetricName, Vec<f32>)>,
}

impl Batch {
    /// A batch over these points in time, in any order, without columns yet.
    pub fn new(times: Vec<Timestamp>) -> Self {
        Self { times, columns: Vec::new() }
    }

    /// Adds a column; values beyond the points in time are left out, missing ones are NaN.
    pub fn with_column(mut self, metric: impl Into<MetricName>, mut values: Vec<f32>) -> Self {
        values.resize(self.times.len(), f32::NAN);
        self.columns.push((metric.into(), values));
        self
    }

    /// A batch from rows: points in time, each with the metrics of that moment, for example the
    /// readings of an agent's message.
    pub fn from_rows<'a, R>(rows: impl IntoIterator<Item = (Timestamp, R)>) -> Self
    where
        R: IntoIterator<Item = (&'a str, f32)>,
    {
        let mut batch = Self::default();
        for (at, row) in rows {
            batch.times.push(at);
            let (index, len) = (batch.times.len() - 1, batch.times.len());
            for (metric, value) in row {
                let column = match batch.columns.iter().position(|(name, _)| name.as_str() == metric) {
                    Some(column) => column,
                    None => {
                        batch.columns.push((MetricName::from(metric), Vec::new()));
                        batch.columns.len() - 1
                    }
                };
                let values = &mut batch.columns[column].1;
                values.resize(len, f32::NAN);
                values[index] = value;
            }
        }
        let len = batch.times.len();
        batch.columns.iter_mut().for_each(|(_, values)| values.resize(len, f32::NAN));
        batch
    }

    /// The points in time.
    pub fn times(&self) -> &[Timestamp] {
        &self.times
    }

    /// The columns, each as long as `times`.
    pub fn columns(&self) -> &[(MetricName, Vec<f32>)] {
        &self.columns
    }

    /// Samples that are not missing.
    pub fn samples(&self) -> u64 {
        self.columns.iter().map(|(_, values)| values.iter().filter(|v| !v.is_nan()).count() as u64).sum()
    }

    /// First and last point in time.
    pub fn range(&self) -> Option<(Timestamp, Timestamp)> {
        Some((*self.times.iter().min()?, *self.times.iter().max()?))
    }

    /// Cut into batches of at most `span`, each in order of time.
    pub(super) fn split(&self, span: Span) -> Vec<Batch> {
        if let Some((first, last)) = self.range()
            && last - first < span
        {
            return vec![self.clone()];
        }
        let mut order: Vec<usize> = (0..self.times.len()).collect();
        order.sort_by_key(|&i| self.times[i]);
        order
            .chunk_by(|&a, &b| self.times[a].floor(span) == self.times[b].floor(span))
            .map(|rows| Batch {
                times: rows.iter().map(|&i| self.times[i]).collect(),
                columns: self
                    .columns
                    .iter()
                    .map(|(name, values)| (name.clone(), rows.iter().map(|&i| values[i]).collect()))
                    .collect(),
            })
            .collect()
    }

    /// As bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let points = self.times.len();
        let mut out = Vec::with_capacity(32 + self.columns.len() * (points * 4 + 1));
        out.push(VERSION);
        write_number(&mut out, points as u64);
        write_number(&mut out, self.columns.len() as u64);
        out.extend(self.times.first().map_or(0, |t| t.0).to_le_bytes());
        let steps = || self.times.windows(2).map(|pair| pair[1].0.wrapping_sub(pair[0].0));
        match steps().next() {
            Some(step) if step > 0 && steps().all(|s| s == step) => write_number(&mut out, step as u64),
            _ => {
                write_number(&mut out, 0);
                steps().for_each(|step| write_number(&mut out, zigzag(step)));
            }
        }
        for (name, values) in &self.columns {
            match CODES.iter().position(|code| *code == name.as_str()) {
                Some(code) => out.push(code as u8),
                None => {
                    out.push(NAMED);
                    write_number(&mut out, name.as_str().len() as u64);
                    out.extend(name.as_str().as_bytes());
                }
            }
            values.iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
        out
    }
}

/// A block that is read in place.
pub(super) struct Block<'a> {
    pub(super) times: Vec<Timestamp>,
    columns: usize,
    rest: &'a [u8],
}

/// One column of a block.
pub(super) struct Column<'a> {
    pub(super) metric: &'a str,
    bytes: &'a [u8],
}

impl Column<'_> {
    /// The values, NaN = missing.
    pub(super) fn values(&self) -> impl Iterator<Item = f32> {
        self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
}

impl<'a> Block<'a> {
    /// The block in these bytes; `None` where they are not one.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        if version != VERSION {
            return None;
        }
        let points = usize::try_from(read_number(&mut rest)?).ok()?;
        let columns = usize::try_from(read_number(&mut rest)?).ok()?;
        let first = i64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?);
        let step = read_number(&mut rest)?;
        // Checked before anything is allocated or looped over: a value takes four bytes.
        if columns == 0 {
            return Some(Self { times: Vec::new(), columns, rest });
        }
        if columns > rest.len() || points.checked_mul(4)? > rest.len() {
            return None;
        }
        let mut times = Vec::with_capacity(points);
        let mut at = first;
        for i in 0..points {
            if i > 0 {
                let by = if step == 0 { unzigzag(read_number(&mut rest)?) } else { step as i64 };
                at = at.wrapping_add(by);
            }
            times.push(Timestamp(at));
        }
        Some(Self { times, columns, rest })
    }

    /// Its columns; ends early where the bytes do.
    pub(super) fn columns(&self) -> impl Iterator<Item = Column<'a>> {
        let (mut rest, points) = (self.rest, self.times.len());
        (0..self.columns).map_while(move |_| {
            let code = take(&mut rest, 1)?[0];
            let metric = if code == NAMED {
                let len = usize::try_from(read_number(&mut rest)?).ok()?;
                std::str::from_utf8(take(&mut rest, len)?).ok()?
            } else {
                CODES.get(code as usize).copied()?
            };
            Some(Column { metric, bytes: take(&mut rest, points.checked_mul(4)?)? })
        })
    }
}

/// Samples in the bytes of a block that are not missing.
pub(super) fn samples_of(bytes: &[u8]) -> u64 {
    let Some(block) = Block::read(bytes) else { return 0 };
    block.columns().map(|c| c.values().filter(|v| !v.is_nan()).count() as u64).sum()
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(n)?;
    *rest = left;
    Some(taken)
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::CANONICAL;
    use proptest::prelude::*;

    fn read_back(bytes: &[u8]) -> Option<Batch> {
        let block = Block::read(bytes)?;
        let columns =
            block.columns().map(|c| (MetricName::from(c.metric), c.values().collect::<Vec<f32>>())).collect();
        Some(Batch { times: block.times, columns })
    }

    #[test]
    fn every_canonical_metric_has_its_code_forever() {
        assert!(CANONICAL.iter().all(|m| CODES.contains(&m.name)));
    }

    #[test]
    fn rows_become_columns_with_gaps() {
        let batch = Batch::from_rows([
            (Timestamp(1000), vec![("temp", 40.0)]),
            (Timestamp(2000), vec![("temp", 41.0), ("own", 1.0)]),
            (Timestamp(3000), vec![("own", 2.0)]),
        ]);
        assert_eq!(batch.samples(), 4);
        assert!(batch.columns()[0].1[2].is_nan() && batch.columns()[1].1[0].is_nan());
    }

    proptest! {
        #[test]
        fn a_block_is_read_back_as_it_was_written(
            times in proptest::collection::vec(any::<i64>(), 1..40),
            names in proptest::collection::vec("[a-z.é]{0,12}|temp|cpu\\.busy", 1..5),
            seed in any::<u32>(),
        ) {
            let times: Vec<Timestamp> = times.into_iter().map(Timestamp).collect();
            let batch = names.iter().fold(Batch::new(times.clone()), |b, name| {
                b.with_column(name.as_str(), (0..times.len() as u32).map(|i| (i ^ seed) as f32).collect())
            });
            prop_assert_eq!(read_back(&batch.encode()), Some(batch));
        }

        #[test]
        fn bytes_that_are_no_block_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_back(&bytes);
            let mut versioned = vec![VERSION];
            versioned.extend(bytes);
            let _ = read_back(&versioned);
        }

        #[test]
        fn a_split_batch_keeps_every_sample_in_spans(times in proptest::collection::vec(0i64..10_000_000, 1..100)) {
            let n = times.len();
            let batch = Batch::new(times.into_iter().map(Timestamp).collect())
                .with_column("temp", (0..n).map(|i| i as f32).collect());
            let pieces = batch.split(Span::seconds(600));
            prop_assert_eq!(pieces.iter().map(Batch::samples).sum::<u64>(), n as u64);
            for piece in pieces {
                let (first, last) = piece.range().unwrap();
                prop_assert!(last - first < Span::seconds(600));
            }
        }
    }
}
