//! Comparing. Before the cut every row of both sides is read while both go on: where the sums of a
//! table differ, buckets of keys are compared, then rows, and a row that may just have been written is
//! looked at again behind a barrier until it is certain. At the cut only the maintained digests are
//! compared; where they differ the rows are looked for in what time there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join;
use tokio::task::JoinHandle;

use super::digest::{self, Sum};
use super::hash::{key_hash, row_hash};
use super::scope::Scope;
use super::session::{Clusters, Session, ident, literal, system};
use super::shape::{catalog_sql, slow};
use super::stage::{Stage, Table, structure_sql, tables};
use super::stream::{refuse_lost, send_barrier, wait_for_barrier};
use super::{PostgresMover, done, working};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Evidence, Job};
use crate::fleet::Span;

/// How long a call waits for the comparison before it says that it goes on.
const PATIENCE: Duration = Duration::from_millis(900);
/// Buckets of a table's keys.
const BUCKETS: u32 = 1024;
/// Rows that are looked at again together.
const TOGETHER: usize = 2_000;
/// Looks at rows that are written to all the while; then they are left to the cut.
const LOOKS: usize = 8;
/// Differences that are named.
const NAMED: usize = 20;
/// How long the apply worker may take for a barrier while nothing is held.
const BARRIER: Duration = Duration::from_secs(5);
/// The same while writes are held.
const BARRIER_AT_CUT: Duration = Duration::from_millis(600);
/// How long differences are looked for while writes are held.
const LOOK_AT_CUT: Duration = Duration::from_millis(300);

/// Something long that goes on, a comparison of all rows for example; dropped, it ends.
pub(super) struct Running<T>(JoinHandle<Result<T, DriverError>>);

impl<T: Send + 'static> Running<T> {
    pub(super) fn spawn(task: impl Future<Output = Result<T, DriverError>> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }

    pub(super) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// What came of it; waits for its end.
    pub(super) async fn result(mut self, doing: &str, address: &str) -> Result<T, DriverError> {
        (&mut self.0).await.map_err(|error| {
            DriverError::new(Retry::Retryable, system(address), doing, format!("it was broken off: {error}"))
        })?
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a comparison found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Found {
    tables: usize,
    rows: u64,
    /// Rows that were written to at every look.
    busy: usize,
    different: u64,
    differences: Vec<String>,
}

/// Both sides of a comparison, the owner first.
struct Sides {
    owner: Session,
    other: Session,
    scope: Scope,
    stream: String,
    digest: String,
    scan: Span,
}

impl Sides {
    async fn open(clusters: &Arc<Clusters>, stage: &Stage, scan: Span) -> Result<Self, DriverError> {
        Ok(Self {
            owner: clusters.session(&stage.source).await?,
            other: clusters.session(&stage.destination).await?,
            scope: stage.scope.clone(),
            stream: stage.names.stream.clone(),
            digest: stage.names.digest.clone(),
            scan,
        })
    }
}

impl PostgresMover {
    /// Compares every row of both sides.
    pub(super) async fn verify(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        if self.opened(job, &stage).await? {
            return Ok(done("the destination is open already"));
        }
        let going_on = self.with_work(job, |w| w.comparison.is_some());
        if !going_on {
            let sides = Sides::open(&self.clusters, &stage, self.options.scan_timeout).await?;
            refuse_lost(&sides.owner, &stage.names.stream, "comparing", "").await?;
            let task = Running::spawn(async move { compare_all(&sides).await });
            self.with_work(job, |w| w.comparison = Some(task));
            self.keep(job, &stage);
        }
        let start = Instant::now();
        while !self.with_work(job, |w| w.comparison.as_ref().is_none_or(Running::is_finished)) {
            if start.elapsed() > PATIENCE {
                return Ok(working("the comparison of all rows"));
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let Some(running) = self.with_work(job, |w| w.comparison.take()) else {
            return Ok(working("another call of the same comparison"));
        };
        let found = running.result("comparing", &stage.source).await?;
        Ok(Answer::Done(found.evidence()))
    }

    /// Compares the maintained digests of both sides; the source must be held.
    pub(super) async fn verify_at_cut(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        let start = Instant::now();
        let sides = Sides::open(&self.clusters, &stage, self.options.scan_timeout).await?;
        let barrier = format!("foreshift.{}", ident(&stage.names.stream));
        let looks =
            format!("SELECT {}; {}", structure_sql(&stage.scope), digest::sums_sql(&stage.names.digest));
        // The source stands still, so all of it is asked for at once.
        let ours = format!(
            "SELECT mode = 'fenced' AND clock_timestamp() <= until, (SELECT token FROM {barrier}), \
               (SELECT sealed = {} FROM {barrier}), {} \
             FROM foreshift.owner WHERE workload = {}; {looks}",
            job.generation.0,
            catalog_sql(&stage.scope),
            literal(job.workload.as_str())
        );
        let doing = "comparing at the cut";
        let mut ours = sides.owner.ask(doing, &ours).await?.into_iter();
        let held = ours.next().filter(|line| line.yes(0));
        let Some(held) = held else {
            return Err(DriverError::new(
                Retry::Retryable,
                system(&stage.source),
                doing,
                "the source is not held any more; fence it and compare again",
            ));
        };
        // The seal brought a barrier that is behind every write; a hold alone did not.
        let token = match held.yes(2) {
            true => held.number(1),
            false => send_barrier(&sides.owner, &stage.names.stream).await?,
        };
        wait_for_barrier(&sides.other, &stage.names.stream, token, BARRIER_AT_CUT).await?;
        let arrived = start.elapsed();
        let mut theirs = sides.other.ask(doing, &looks).await?.into_iter();
        let (our_shape, their_shape) = (ours.next(), theirs.next());
        let known = self.with_work(job, |w| w.tables.clone());
        let tables = match known {
            // As they were when all rows were compared.
            Some((shape, tables)) if Some(&shape) == our_shape.as_ref() => tables,
            _ => tables(&sides.owner, &stage.scope).await?,
        };
        if let Some(shape) = &our_shape {
            let known = Some((shape.clone(), tables.clone()));
            self.with_work(job, |w| w.tables = known);
        }
        let (ours, theirs): (Vec<_>, Vec<_>) = (ours.collect(), theirs.collect());
        let ours = digest::sums(&stage.source, &ours, &tables)?;
        let theirs = digest::sums(&stage.destination, &theirs, &tables)?;
        let mut found = Found { tables: tables.iter().filter(|t| t.ordinary).count(), ..Found::default() };
        if our_shape != their_shape {
            found.different += 1;
            found
                .differences
                .push(format!("{}: its tables do not look the same any more", stage.scope.words()));
        }
        if !self.is_known_unchanged(job, &stage, held.text(3)) {
            let changed = self.changed(job, &stage, self.options.command_timeout.to_std()).await?;
            let changed = changed.ok_or_else(|| slow(&stage))?;
            found.different += changed.len() as u64;
            found.differences.extend(changed);
        }
        for (number, table) in tables.iter().enumerate().filter(|(_, t)| t.ordinary) {
            let (a, b) = (ours.get(&number), theirs.get(&number));
            found.rows += a.map_or(0, |s| s.rows.max(0) as u64);
            if a != b {
                found.different += 1;
                let looked = tokio::time::timeout(LOOK_AT_CUT, differences(&sides, table)).await;
                match looked {
                    Ok(Ok(rows)) if !rows.is_empty() => {
                        found.differences.extend(rows.iter().take(NAMED).map(|row| named(table, row)));
                    }
                    _ => found.differences.push(format!("{}: {}", table.words(), both_sums(a, b))),
                }
            }
        }
        found.differences.truncate(NAMED);
        let mut evidence = found.evidence();
        evidence.summary = format!(
            "{}; barrier after {:.1} ms, digests after {:.1} ms",
            evidence.summary,
            arrived.as_secs_f64() * 1e3,
            start.elapsed().as_secs_f64() * 1e3
        );
        Ok(Answer::Done(evidence))
    }
}

fn both_sums(a: Option<&Sum>, b: Option<&Sum>) -> String {
    let say = |s: Option<&Sum>| s.map_or("nothing".into(), |s| format!("{} rows, digest {}", s.rows, s.hash));
    format!("{} at the source, {} at the destination", say(a), say(b))
}

impl Found {
    fn evidence(&self) -> Evidence {
        let mut summary = format!("{} rows of {} tables", self.rows, self.tables);
        summary.push_str(&match self.different {
            0 => " equal".to_string(),
            n => format!(", {n} different"),
        });
        if self.busy > 0 {
            summary
                .push_str(&format!("; {} were written to meanwhile and are compared at the cut", self.busy));
        }
        Evidence {
            summary,
            equal: Some(self.different == 0),
            differences: self.differences.clone(),
            items: self.rows,
            artifacts: Vec::new(),
        }
    }
}

async fn compare_all(sides: &Sides) -> Result<Found, DriverError> {
    let tables = tables(&sides.owner, &sides.scope).await?;
    let mut found = Found { tables: tables.iter().filter(|t| t.ordinary).count(), ..Found::default() };
    for (number, table) in tables.iter().enumerate().filter(|(_, t)| t.ordinary) {
        let read = |session| digest::begin(session, &sides.digest, number, table, sides.scan);
        let (ours, theirs) = try_join(read(&sides.owner), read(&sides.other)).await?;
        found.rows += ours.rows.max(0) as u64;
        if ours == theirs {
            continue;
        }
        let (different, busy) = certain(sides, table, differences(sides, table).await?).await?;
        found.busy += busy;
        found.different += different.len() as u64;
        let room = NAMED.saturating_sub(found.differences.len());
        found.differences.extend(different.iter().take(room).map(|row| named(table, row)));
    }
    let dangling = super::references::dangling(&sides.other, &sides.scope, &tables, sides.scan).await?;
    found.different += dangling.len() as u64;
    found.differences.extend(dangling);
    found.differences.truncate(NAMED);
    for session in [&sides.owner, &sides.other] {
        digest::fold(session, &sides.digest).await?;
    }
    Ok(found)
}

/// The key of a row and why it is named.
type Row = (Vec<String>, &'static str);

fn named(table: &Table, (key, why): &Row) -> String {
    let key: Vec<String> = table.key.iter().zip(key).map(|(name, value)| format!("{name}={value}")).collect();
    format!("{} ({}): {why}", table.words(), key.join(", "))
}

/// Rows that are not equal now, by key; some of them may just be on their way.
async fn differences(sides: &Sides, table: &Table) -> Result<Vec<Row>, DriverError> {
    let on = table.on();
    let bucket = format!("({}) & {}", key_hash(table, "r"), BUCKETS - 1);
    let sums = format!(
        "SELECT {bucket}, count(*), sum({}) FROM ONLY {on} AS r{} GROUP BY 1",
        row_hash(table, "r"),
        table.only("r")
    );
    let doing = format!("comparing {}", table.words());
    let (ours, theirs) = try_join(
        sides.owner.ask_long(&doing, &sums, sides.scan),
        sides.other.ask_long(&doing, &sums, sides.scan),
    )
    .await?;
    let map = |lines: Vec<super::session::Line>| -> BTreeMap<i64, Vec<String>> {
        lines.iter().map(|l| (l.number(0), l.rest(1))).collect()
    };
    let (ours, theirs) = (map(ours), map(theirs));
    let odd: BTreeSet<i64> =
        ours.keys().chain(theirs.keys()).filter(|b| ours.get(b) != theirs.get(b)).copied().collect();
    let mut rows = Vec::new();
    for some in odd.into_iter().collect::<Vec<_>>().chunks(32) {
        let list: Vec<String> = some.iter().map(i64::to_string).collect();
        let condition = format!("{bucket} IN ({})", list.join(", "));
        let (ours, theirs) = try_join(
            hashes(&sides.owner, sides, table, &condition),
            hashes(&sides.other, sides, table, &condition),
        )
        .await?;
        rows.extend(unequal(&ours, &theirs));
        if rows.len() > TOGETHER {
            break;
        }
    }
    Ok(rows)
}

fn unequal(ours: &BTreeMap<Vec<String>, String>, theirs: &BTreeMap<Vec<String>, String>) -> Vec<Row> {
    let keys: BTreeSet<&Vec<String>> = ours.keys().chain(theirs.keys()).collect();
    keys.into_iter()
        .filter_map(|key| {
            let why = match (ours.get(key), theirs.get(key)) {
                (Some(a), Some(b)) if a == b => return None,
                (Some(_), Some(_)) => "its content differs",
                (Some(_), None) => "it is missing at the destination",
                _ => "it is at the destination alone",
            };
            Some((key.clone(), why))
        })
        .collect()
}

/// The hashes of some rows, by key.
async fn hashes(
    session: &Session,
    sides: &Sides,
    table: &Table,
    condition: &str,
) -> Result<BTreeMap<Vec<String>, String>, DriverError> {
    let key: Vec<String> = table.key.iter().map(|c| format!("r.{}::text", ident(c))).collect();
    let sql = format!(
        "SELECT {}, {} FROM ONLY {} AS r WHERE {condition}{}",
        row_hash(table, "r"),
        key.join(", "),
        table.on(),
        table.and_only("r")
    );
    let doing = format!("comparing {}", table.words());
    let lines = session.ask_long(&doing, &sql, sides.scan).await?;
    Ok(lines.iter().map(|line| (line.rest(1), line.text(0).to_string())).collect())
}

/// `key IN (…)` for some rows.
pub(super) fn by_key(table: &Table, rows: &[Vec<String>]) -> String {
    let columns: Vec<String> = table.key.iter().map(|c| format!("r.{}", ident(c))).collect();
    let values: Vec<String> = rows
        .iter()
        .map(|key| format!("({})", key.iter().map(|v| literal(v)).collect::<Vec<_>>().join(", ")))
        .collect();
    format!("({}) IN ({})", columns.join(", "), values.join(", "))
}

/// Which of the rows certainly differ, and how many are written to all the while: a row is equal or
/// different for certain where the owner's did not change while a barrier went over.
async fn certain(sides: &Sides, table: &Table, rows: Vec<Row>) -> Result<(Vec<Row>, usize), DriverError> {
    let mut different = Vec::new();
    let mut open: Vec<Vec<String>> = rows.into_iter().map(|(key, _)| key).collect();
    for look in 0..LOOKS {
        if open.is_empty() {
            break;
        }
        if look > 0 {
            tokio::time::sleep(Duration::from_millis(10 << look)).await;
        }
        let mut again = Vec::new();
        for some in open.chunks(TOGETHER) {
            let condition = by_key(table, some);
            let before = hashes(&sides.owner, sides, table, &condition).await?;
            let token = send_barrier(&sides.owner, &sides.stream).await?;
            wait_for_barrier(&sides.other, &sides.stream, token, BARRIER).await?;
            let there = hashes(&sides.other, sides, table, &condition).await?;
            let after = hashes(&sides.owner, sides, table, &condition).await?;
            for (key, why) in unequal(&before, &there) {
                if before.get(&key) == after.get(&key) {
                    different.push((key, why));
                } else {
                    again.push(key);
                }
            }
        }
        open = again;
    }
    Ok((different, open.len()))
}

/// What a look at some rows of both sides says: how many were looked at, and which certainly differ.
pub(super) async fn look_at(
    mover: &PostgresMover,
    stage: &Stage,
    table: &Table,
    keys: Vec<Vec<String>>,
) -> Result<(u64, Vec<String>), DriverError> {
    let sides = Sides::open(&mover.clusters, stage, mover.options.command_timeout).await?;
    let condition = by_key(table, &keys);
    let (ours, theirs) = try_join(
        hashes(&sides.owner, &sides, table, &condition),
        hashes(&sides.other, &sides, table, &condition),
    )
    .await?;
    let open = unequal(&ours, &theirs);
    let (different, _) = certain(&sides, table, open).await?;
    Ok((keys.len() as u64, different.iter().map(|row| named(table, row)).collect()))
}

/// Keys of some rows of a table, from anywhere in it.
pub(super) async fn some_keys(
    session: &Session,
    table: &Table,
    most: usize,
) -> Result<Vec<Vec<String>>, DriverError> {
    let key: Vec<String> = table.key.iter().map(|c| format!("r.{}::text", ident(c))).collect();
    let (on, only) = (table.on(), table.only("r"));
    let pages = format!(
        "SELECT greatest(pg_relation_size({}) / current_setting('block_size')::int, 1)",
        literal(&on)
    );
    let doing = "choosing rows";
    let pages = session.one(doing, &pages).await?.number(0).max(1);
    // A page in so many, so that about `most` rows are seen.
    let share = (100.0 * most as f64 / (pages as f64 * 20.0)).clamp(0.001, 100.0);
    let sql = format!(
        "SELECT {} FROM {on} AS r TABLESAMPLE SYSTEM ({share:.4}){only} LIMIT {most}",
        key.join(", ")
    );
    let mut lines = session.ask(doing, &sql).await?;
    if lines.is_empty() {
        lines = session
            .ask(doing, &format!("SELECT {} FROM ONLY {on} AS r{only} LIMIT {most}", key.join(", ")))
            .await?;
    }
    Ok(lines.iter().map(|line| line.rest(0)).collect())
}
