//! Line protocol: readings as InfluxDB takes them, one line a reading. `influxdb2`'s data points do
//! the escaping; what line protocol cannot say at all (line ends, a backslash at the end of a tag,
//! empty tags, numbers that are not finite) is cleaned or left out before.

use std::borrow::Cow;

use influxdb2::models::{DataPoint, WriteDataPoint};

use crate::telemetry::source::Reading;

/// Lines with times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lines {
    /// One line a reading, each with its end.
    pub(super) lines: Vec<Vec<u8>>,
    /// Readings without a finite field.
    pub(super) left_out: u64,
}

pub(super) fn lines(readings: &[Reading]) -> Lines {
    let mut out = Lines::default();
    for reading in readings {
        match line(reading) {
            Some(line) => out.lines.push(line),
            None => out.left_out += 1,
        }
    }
    out
}

/// The readings as one body of line protocol, times in milliseconds; readings without a finite field
/// are left out.
pub fn to_lines(readings: &[Reading]) -> Vec<u8> {
    lines(readings).lines.concat()
}

fn line(reading: &Reading) -> Option<Vec<u8>> {
    if reading.measurement.is_empty() {
        return None;
    }
    let mut point = DataPoint::builder(clean(&reading.measurement)).timestamp(reading.at.0);
    for (key, value) in reading.tags.iter().filter(|(key, value)| !key.is_empty() && !value.is_empty()) {
        point = point.tag(clean(key), clean(value));
    }
    for (key, value) in reading.fields.iter().filter(|(key, value)| !key.is_empty() && value.is_finite()) {
        point = point.field(clean(key), *value);
    }
    let mut line = Vec::with_capacity(128);
    point.build().ok()?.write_data_point_to(&mut line).ok()?;
    Some(line)
}

fn clean(text: &str) -> Cow<'_, str> {
    let text = if text.contains(['\n', '\r']) {
        Cow::Owned(text.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(text)
    };
    if text.ends_with('\\') { Cow::Owned(format!("{}_", text.trim_end_matches('\\'))) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Timestamp;
    use proptest::prelude::*;

    fn reading(tag: &str, value: f64) -> Reading {
        Reading {
            at: Timestamp(1_700_000_000_000),
            measurement: "foreshift score".into(),
            tags: vec![("host".into(), tag.into()), ("empty".into(), String::new())],
            fields: vec![("health".into(), value), ("risk,x".into(), 0.25)],
        }
    }

    #[test]
    fn what_has_a_meaning_in_line_protocol_is_escaped_and_what_is_not_finite_is_left_out() {
        let written = lines(&[reading("a, b=c\nd\\", 97.5), reading("h", f64::NAN)]);
        let text = |i: usize| String::from_utf8(written.lines[i].clone()).unwrap();
        assert_eq!(
            text(0),
            "foreshift\\ score,host=a\\,\\ b\\=c\\ d_ health=97.5,risk\\,x=0.25 1700000000000\n"
        );
        assert_eq!(text(1), "foreshift\\ score,host=h risk\\,x=0.25 1700000000000\n");
        let nothing = Reading { fields: vec![("health".into(), f64::INFINITY)], ..reading("h", 1.0) };
        assert_eq!(lines(&[nothing]).left_out, 1);
    }

    proptest! {
        #[test]
        fn a_reading_is_always_exactly_one_line(name in "\\PC{1,8}|[\n\r\\\\, =]{1,8}", value in any::<f64>()) {
            let reading = Reading {
                at: Timestamp(1),
                measurement: name.clone(),
                tags: vec![(name.clone(), name.clone())],
                fields: vec![(name, value)],
            };
            let out = to_lines(&[reading]);
            let ends = out.iter().filter(|c| **c == b'\n').count();
            prop_assert_eq!(ends, usize::from(value.is_finite()));
        }
    }
}
