//! Canary reads: clients of a database cannot be steered by share, so a canary step sends real reads
//! of real rows to both sides at a bounded rate, measures each, and compares the rows.

use std::time::{Duration, Instant};

use super::PostgresMover;
use super::hash::row_hash;
use super::session::Session;
use super::stage::{Stage, Table, tables};
use super::verify::{by_key, look_at, some_keys};
use crate::drivers::error::DriverError;
use crate::drivers::mover::{CanarySample, Job};
use crate::drivers::paired_reads::{Read, Sampler};
use crate::fleet::{Clock, Share, SystemClock, Timestamp};

/// Rows that are chosen anew together.
const CHOSEN: usize = 50;
/// A schema without a row is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// What is read of a schema without a row: that both sides answer is an answer, too.
const NO_ROW: &str = "SELECT 'no row'";

/// Starts reading `rate` rows a second on both sides.
fn start(mover: PostgresMover, job: Job, rate: u32) -> Sampler {
    Sampler::start(rate, |mut beat, reads| async move {
        let mut rows: Vec<(Table, Vec<String>)> = Vec::new();
        let mut empty_since: Option<Instant> = None;
        for turn in 0u64.. {
            beat.tick().await;
            let Ok(stage) = mover.stage(&job) else { return };
            if rows.is_empty() && empty_since.is_none_or(|since| since.elapsed() > LOOK_AGAIN) {
                rows = choose(&mover, &stage).await.unwrap_or_default();
                empty_since = rows.is_empty().then(Instant::now);
            }
            let row = rows.pop();
            reads.keep(one_read(&mover, &stage, &job, row, turn.is_multiple_of(2)).await);
        }
    })
}

/// Some rows of every table, in turn.
async fn choose(mover: &PostgresMover, stage: &Stage) -> Result<Vec<(Table, Vec<String>)>, DriverError> {
    let session = match mover.session(&stage.source).await {
        Ok(session) => session,
        Err(_) => mover.session(&stage.destination).await?,
    };
    let mut rows: Vec<(usize, Table, Vec<String>)> = Vec::new();
    for table in tables(&session, &stage.scope).await?.into_iter().filter(|t| t.ordinary) {
        for (i, key) in some_keys(&session, &table, CHOSEN).await?.into_iter().enumerate() {
            rows.push((i, table.clone(), key));
        }
    }
    rows.sort_by_key(|(i, ..)| std::cmp::Reverse(*i));
    Ok(rows.into_iter().map(|(_, table, key)| (table, key)).collect())
}

/// Reads one row on both sides, or asks both for an answer where there is none.
async fn one_read(
    mover: &PostgresMover,
    stage: &Stage,
    job: &Job,
    row: Option<(Table, Vec<String>)>,
    source_first: bool,
) -> Read {
    let at = SystemClock.now();
    // Connections first: they are no part of a read.
    let sessions = tokio::join!(mover.session(&stage.source), mover.session(&stage.destination));
    let sql = row.as_ref().map_or_else(
        || NO_ROW.to_string(),
        |(table, key)| {
            format!(
                "SELECT {} FROM ONLY {} AS r WHERE {}{}",
                row_hash(table, "r"),
                table.on(),
                by_key(table, std::slice::from_ref(key)),
                table.and_only("r")
            )
        },
    );
    // In turns: who is asked second finds the processor awake.
    let (source, destination) = if source_first {
        let source = timed(sessions.0, &sql).await;
        (source, timed(sessions.1, &sql).await)
    } else {
        let destination = timed(sessions.1, &sql).await;
        (timed(sessions.0, &sql).await, destination)
    };
    let mut differs = None;
    if let (Some((a, _)), Some((b, _)), Some((table, key))) = (&source, &destination, row)
        && a != b
    {
        // Written to in between, most likely: look again until it is certain. After the switch the
        // destination is the owner.
        let opened = mover.opened(job, stage).await.unwrap_or(false);
        let stage = if opened { mover.stage(&job.mirrored(job.generation)) } else { mover.stage(job) };
        if let Ok(stage) = stage
            && let Ok((_, found)) = look_at(mover, &stage, &table, vec![key]).await
        {
            differs = found.into_iter().next();
        }
    }
    Read { at, source_ms: source.map(|s| s.1), destination_ms: destination.map(|d| d.1), differs }
}

/// The hash of one row on one side and how long the read took.
async fn timed(session: Result<Session, DriverError>, sql: &str) -> Option<(String, f64)> {
    let session = session.ok()?;
    let start = Instant::now();
    let lines = session.ask("reading a row", sql).await.ok()?;
    let hash = lines.first().map(|l| l.text(0).to_string()).unwrap_or_default();
    Some((hash, start.elapsed().as_secs_f64() * 1e3))
}

impl PostgresMover {
    /// Starts or ends the reads of a canary step.
    pub(super) async fn canary(&self, job: &Job, share: Share) -> Result<String, DriverError> {
        let stage = self.stage(job)?;
        if share.get() <= 0.0 {
            self.with_work(job, |w| w.sampler = None);
            return Ok("no reads are sent any more".into());
        }
        let rate = (f64::from(self.options.canary_reads_per_s) * share.get()).ceil().max(5.0) as u32;
        let sampler = start(self.clone(), job.clone(), rate);
        self.with_work(job, |w| w.sampler = Some(sampler));
        self.keep(job, &stage);
        Ok(format!("{rate} reads a second go to both sides and are compared"))
    }

    /// What was measured since `since`, source first.
    pub(super) async fn measured(
        &self,
        job: &Job,
        since: Timestamp,
    ) -> Result<(CanarySample, CanarySample), DriverError> {
        self.stage(job)?;
        if !self.with_work(job, |w| w.sampler.is_some()) {
            let sampler = start(self.clone(), job.clone(), self.options.canary_reads_per_s);
            self.with_work(job, |w| w.sampler = Some(sampler));
        }
        Ok(self.with_work(job, |w| w.sampler.as_ref().map(|s| s.since(since))).unwrap_or_default())
    }
}
