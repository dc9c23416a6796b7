//! Detectors over a restart: where the streams of those that were taught stand, and going on from there.

use super::assess::Assessor;
use super::combined::LATE;
use super::keep::record::is_young;
use super::keep::streams::{Standing, add, begin};
use super::keep::{Kept, KeptStream, MOST_AGE, Unfit};
use super::watch::{Origin, Watch};
use crate::fleet::{PartitionId, Span};
use crate::telemetry::{MetricIx, PartitionIx, Windows};

impl Assessor {
    /// Where the streams of all detectors that were taught stand, for [`super::keep::Shelf::keep_streams`];
    /// with them those that wait for their partition's first samples. `None` where there are none.
    pub fn streams<'a>(
        &self,
        windows: &Windows,
        waiting: impl Iterator<Item = (&'a PartitionId, &'a KeptStream)>,
    ) -> Option<Vec<u8>> {
        let mut out = begin(windows.config().step);
        let head = out.len();
        for (partition, stream) in waiting {
            add(&mut out, partition, &stream.standing());
        }
        for (partition, row) in windows.partitions().iter().zip(&self.rows) {
            let Some(watch) = row.watch.as_deref().filter(|w| matches!(w.origin, Origin::History(_))) else {
                continue;
            };
            let Watch { stream, scored, standing, said, print, .. } = watch;
            let of = Standing { print: *print, stream, scored: *scored, standing: *standing, said: *said };
            add(&mut out, partition, &of);
        }
        (out.len() > head).then_some(out)
    }

    /// From now on a detector that was kept watches its partition, from the row on at which its stream was
    /// written; where that is no longer in the window, or there is no stream, from what the window holds.
    ///
    /// # Errors
    /// It does not fit what is measured.
    pub fn resume(&mut self, windows: &Windows, partition: PartitionIx, kept: Kept) -> Result<(), Unfit> {
        let taught = kept.taught;
        is_young(taught.fitted, windows.now())?;
        let mut places = Vec::with_capacity(taught.metrics.len());
        for name in &taught.metrics {
            let place = windows.metric(name.as_str());
            places.push(place.ok_or_else(|| Unfit::Metric { metric: name.clone() })?);
        }
        let measured = |m: &&MetricIx| windows.newest(partition, **m).is_some();
        let (found, wanted) = (places.iter().filter(measured).count(), places.len());
        if 2 * found < wanted {
            return Err(Unfit::Metrics { found, wanted });
        }
        self.intern_windows(windows);
        let step = windows.config().step;
        let until = windows.head() - Span(LATE * step.0);
        let mut watch = Watch::taught(taught, places, windows);
        // A clock that was set back must not make it wait for its own future.
        let held = windows.tail() - MOST_AGE..=until + step;
        let stream = kept.stream.filter(|s| held.contains(&s.scored) && s.scored.0.rem_euclid(step.0) == 0);
        match stream {
            Some(stream) => watch.go_on(stream, windows, partition, until),
            None => watch.read(windows, partition, until),
        }
        self.rows[partition.0 as usize].watch = Some(Box::new(watch));
        Ok(())
    }
}
