//! Latency and throughput of disks from `/proc/diskstats`. The slowest disk speaks for the host; a
//! disk that did nothing says nothing.

use std::collections::HashMap;

use super::{Metrics, Roots, put, rate, text};

/// A sector of `/proc/diskstats` is always 512 bytes, whatever the disk's own are.
const SECTOR: f64 = 512.0;

/// Counters at the last look, by device.
#[derive(Default)]
pub(super) struct Disk {
    before: HashMap<String, Counters>,
}

#[derive(Clone, Copy, Default)]
struct Counters {
    reads: u64,
    read_sectors: u64,
    read_ms: u64,
    writes: u64,
    written_sectors: u64,
    write_ms: u64,
}

impl Disk {
    pub(super) fn read(&mut self, roots: &Roots, elapsed: f64, metrics: &mut Metrics) {
        let Some(stats) = text(&roots.proc.join("diskstats")) else { return };
        let now: HashMap<String, Counters> =
            stats.lines().filter_map(parse).filter(|(name, _)| is_whole_disk(roots, name)).collect();
        let (mut read_ms, mut write_ms, mut sectors) = (None::<f64>, None::<f64>, None::<f64>);
        for (name, now) in &now {
            let Some(before) = self.before.get(name) else { continue };
            let slower = |known: Option<f64>, this: Option<f64>| match (known, this) {
                (Some(known), Some(this)) => Some(known.max(this)),
                (known, this) => known.or(this),
            };
            read_ms = slower(read_ms, each(before.read_ms, now.read_ms, before.reads, now.reads));
            write_ms = slower(write_ms, each(before.write_ms, now.write_ms, before.writes, now.writes));
            let moved = rate(Some(before.read_sectors), now.read_sectors, elapsed).zip(rate(
                Some(before.written_sectors),
                now.written_sectors,
                elapsed,
            ));
            if let Some((read, written)) = moved {
                sectors = Some(sectors.unwrap_or(0.0) + read + written);
            }
        }
        self.before = now;
        put(metrics, "disk.read_latency", read_ms);
        put(metrics, "disk.write_latency", write_ms);
        put(metrics, "disk.throughput", sectors.map(|s| s * SECTOR));
    }
}

/// Milliseconds of one operation between two looks.
fn each(ms_before: u64, ms: u64, before: u64, now: u64) -> Option<f64> {
    let done = now.checked_sub(before).filter(|n| *n > 0)?;
    Some(ms.checked_sub(ms_before)? as f64 / done as f64)
}

/// `major minor name reads merged sectors ms writes merged sectors ms …`
fn parse(line: &str) -> Option<(String, Counters)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let count = |index: usize| words.get(index)?.parse::<u64>().ok();
    let counters = Counters {
        reads: count(3)?,
        read_sectors: count(5)?,
        read_ms: count(6)?,
        writes: count(7)?,
        written_sectors: count(9)?,
        write_ms: count(10)?,
    };
    Some((words.get(2)?.to_string(), counters))
}

/// Disks have a folder under `/sys/block`, parts of disks do not; of what has one, devices that stand
/// on others are left out.
fn is_whole_disk(roots: &Roots, name: &str) -> bool {
    let stands_on_others = ["loop", "ram", "zram", "dm-", "md", "sr", "fd"];
    !stands_on_others.iter().any(|prefix| name.starts_with(prefix))
        && roots.sys.join("block").join(name).exists()
}
