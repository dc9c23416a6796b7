//! The copy: a slot at the source, a subscription at the destination, and what PostgreSQL says about
//! how far they are.

use std::time::{Duration, Instant};

use super::options::AfterMove;
use super::scope::Scope;
use super::session::{Session, ident, literal};
use super::stage::{Stage, tables};
use super::stream::{self, FirstRow, State, make_barrier, make_slot};
use super::{PostgresMover, digest, done, working};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Job, JobStatus};
use crate::fleet::{Bytes, Span};

/// How long a call waits for the copy before it says that it goes on.
const PATIENCE: Duration = Duration::from_millis(800);
/// How long the lag is measured; a stream that is further behind is that far behind at least.
const LAG: Duration = Duration::from_millis(250);

impl PostgresMover {
    /// Starts the copy, or says how far it is.
    pub(super) async fn replicate(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        if self.opened(job, &stage).await? {
            return Ok(done("the destination is open already"));
        }
        let name = stage.names.stream.as_str();
        let (source, destination) =
            (self.session(&stage.source).await?, self.session(&stage.destination).await?);
        if stream::state(&destination, name).await? == State::Absent {
            make_barrier(&destination, name, FirstRow::Copied).await?;
            if let Err(error) = make_slot(&source, name).await {
                return match error.retry {
                    Retry::Retryable => Ok(working(error.detail)),
                    _ => Err(error),
                };
            }
            self.subscribe(&stage.destination, &stage.source, name, FirstRow::Copied).await?;
        }
        stream::refuse_lost(&source, name, "copying", "").await?;
        let start = Instant::now();
        let copied = loop {
            match stream::state(&destination, name).await? {
                State::Streaming(tables) => break tables - 1,
                State::Disabled => {
                    // By StopReplication or by an error: it goes on from where it was.
                    let enable = format!("ALTER SUBSCRIPTION {} ENABLE", ident(name));
                    destination.ask("taking the stream up again", &enable).await?;
                    let errors = self.apply_errors(&destination, name).await?;
                    return Ok(working(format!("the stream to be taken up again{errors}")));
                }
                State::Copying(ready, all) if start.elapsed() > PATIENCE => {
                    let errors = self.apply_errors(&destination, name).await?;
                    return Ok(working(format!("the copy: {ready} of {all} tables there{errors}")));
                }
                State::Copying(..) => tokio::time::sleep(Duration::from_millis(20)).await,
                State::Absent => return Ok(working("the subscription")),
            }
        };
        if let Some(waiting_for) = self.fill_views(job, &stage, &source, &destination).await? {
            return Ok(working(waiting_for));
        }
        let tables = tables(&source, &stage.scope).await?;
        digest::install(&destination, &stage.scope, &stage.names.digest, &tables, self.options.lock_timeout)
            .await?;
        Ok(done(format!("{copied} tables are copied and the stream is applied")))
    }

    async fn apply_errors(&self, session: &Session, name: &str) -> Result<String, DriverError> {
        let sql = format!(
            "SELECT apply_error_count + sync_error_count FROM pg_stat_subscription_stats WHERE subname = {}",
            literal(name)
        );
        let count = session.ask("looking for errors", &sql).await?.first().map_or(0, |l| l.number(0));
        Ok(match count {
            0 => String::new(),
            n => format!("; {n} errors so far, the destination's log says which"),
        })
    }

    /// Where the job is: how far behind by the log's own positions.
    pub(super) async fn job_status(&self, job: &Job) -> Result<JobStatus, DriverError> {
        let stage = self.stage(job)?;
        let (source, destination) =
            tokio::join!(self.session(&stage.source), self.session(&stage.destination));
        if source.is_err()
            && let Err(error) = destination
        {
            return Err(error);
        }
        let mut status = JobStatus {
            copied: Bytes(0),
            total: Bytes(0),
            streaming: false,
            lag: None,
            source_alive: false,
            destination_alive: false,
            owner: None,
            note: String::new(),
            broken: None,
            can_call_off: false,
        };
        if let Ok(session) = &source
            && let Ok(bytes) = self.size(session, &stage.scope).await
        {
            (status.source_alive, status.total) = (true, bytes);
        }
        if let Ok(session) = &destination
            && let Ok(bytes) = self.size(session, &stage.scope).await
        {
            (status.destination_alive, status.copied) = (true, bytes);
            let state = stream::state(session, &stage.names.stream).await?;
            status.streaming = matches!(state, State::Streaming(_));
            if stage.scope.tenant().is_some() {
                // Other tenants' rows are there, too, so what is there says nothing.
                status.copied = copied_of(status.total, &state);
            }
            if state == State::Disabled {
                status.note = format!("the subscription {} is disabled", stage.names.stream);
            }
            if self.mark(session, &job.workload).await?.is_some_and(|m| m.open_at(job.generation)) {
                status.streaming = true;
                status.lag = Some(Span::ZERO);
            }
        }
        status.total = Bytes(status.total.0.max(status.copied.0));
        self.look_for_lost_streams(&mut status, (&source, &destination), &stage).await?;
        if let (Ok(source), Ok(destination), true, None) =
            (&source, &destination, status.streaming && status.source_alive, status.lag)
        {
            status.lag = lag(source, destination, &stage).await?;
        }
        Ok(status)
    }

    /// Notices that what is not sent yet will never be: before the switch nothing can catch up then, after
    /// it there is no way back.
    async fn look_for_lost_streams(
        &self,
        status: &mut JobStatus,
        (source, destination): (&Result<Session, DriverError>, &Result<Session, DriverError>),
        stage: &Stage,
    ) -> Result<(), DriverError> {
        let Ok(there) = destination else { return Ok(()) };
        let (publisher, subscriber, stream) = match status.lag {
            Some(_) => (destination, source, &stage.names.back),
            None => (source, destination, &stage.names.stream),
        };
        let (Ok(publisher), Ok(subscriber)) = (publisher, subscriber) else { return Ok(()) };
        if stream::state(subscriber, stream).await? == State::Absent {
            return Ok(());
        }
        if let Some(why) = stream::lost(publisher, stream).await? {
            if publisher.address == there.address {
                status.note = format!("{}{why}", stream::NO_WAY_BACK);
            } else {
                status.streaming = false;
                status.note.clone_from(&why);
                status.broken = Some(why);
            }
        }
        Ok(())
    }

    /// What will be sent, in order.
    pub(super) fn commands(&self, job: &Job) -> Vec<String> {
        let Ok(stage) = self.stage(job) else { return Vec::new() };
        let Stage { names, scope, source, destination, lock } = &stage;
        let guarded = match scope {
            Scope::Database(_) => "every schema",
            Scope::Schema(_) | Scope::Tenant(_) => scope.marked(),
        };
        let (publishes, sequences) = match scope.tenant() {
            None => ("insert, update, delete, truncate", "setval of every sequence"),
            Some(_) => ("insert, update, delete", "every sequence to where the source's stands, never back"),
        };
        let (all, structure, filter, left) = match scope.tenant() {
            None => (
                String::new(),
                "an older copy of ours is dropped before that".to_string(),
                String::new(),
                match scope {
                    Scope::Database(database) => format!("DROP DATABASE {database}"),
                    _ => format!("DROP of all that is in {}", scope.words()),
                },
            ),
            Some(t) => (
                format!(" (it heeds {} = {})", t.column, t.value),
                "where its tables are there they stay, and an older copy of the tenant's rows is deleted"
                    .to_string(),
                format!(" of rows WHERE {}", t.filter()),
                format!("DELETE of the rows WHERE {}", t.filter()),
            ),
        };
        let (stream, back) = (&names.stream, &names.back);
        let (pause, resume) = self.pool_commands(&stage);
        let mut lines = vec![
            format!(
                "both> CREATE SCHEMA foreshift, its table owner, guard triggers on every table of {guarded}{all}"
            ),
            match scope {
                Scope::Database(database) => format!(
                    "{destination}> CREATE DATABASE {0}; pg_dump --schema-only {database} of {source}, into it; \
                     ALTER DATABASE {0} RENAME TO {database}; an older copy of ours is dropped before",
                    names.copy
                ),
                _ => format!(
                    "pg_dump --schema-only --schema {} of {source}, into {destination}; {structure}",
                    scope.marked()
                ),
            },
            format!("both> triggers {0}_added, _changed, _gone, _cleared on every table", names.digest),
            format!(
                "{source}> CREATE PUBLICATION {stream}{filter}, {stream}_b; pg_create_logical_replication_slot('{stream}')"
            ),
            format!("{destination}> CREATE SUBSCRIPTION {stream} (copy_data = true)"),
            "both> SELECT count(*), sum(hash) of every table, then of the rows that differ".to_string(),
            format!(
                "{destination}> CREATE PUBLICATION {back} (publish = ''); pg_create_logical_replication_slot('{back}')"
            ),
            format!("{source}> CREATE SUBSCRIPTION {back} (copy_data = false); a barrier goes over it"),
        ];
        if scope.tenant().is_none() {
            lines.push(
                "both> pg_dump --schema-only once more: what was changed since is not lost by a cut".into(),
            );
        }
        lines.extend(pause);
        lines.extend([
            format!(
                "{source}> pg_advisory_xact_lock({lock}); ALTER PUBLICATION {stream} SET (publish = ''); a barrier"
            ),
            "both> the maintained digests, once the barrier has arrived".to_string(),
            format!(
                "{destination}> {sequences}; ALTER PUBLICATION {back} SET (publish = '{publishes}'); writes are allowed"
            ),
        ]);
        lines.extend(resume);
        lines.extend([
            "both> SELECT count(*), sum(hash) of every table once more after the watch (migration.compare_after_soak)".to_string(),
            match self.options.after_move {
                AfterMove::KeepCopy => format!(
                    "{source}> stays as a copy that refuses writes; all of the above but the guard is dropped at the end"
                ),
                AfterMove::DropCopy => format!(
                    "{source}> {left} once it is a copy for good, and of all of the above; the mark stays"
                ),
            },
            format!("way back: the same from the fourth line up, from {destination} to {source}"),
        ]);
        lines
    }
}

/// How much of a copy is there, by the tables that are done.
fn copied_of(total: Bytes, state: &State) -> Bytes {
    match state {
        State::Streaming(_) => total,
        State::Copying(ready, all) => Bytes(total.0 * (*ready).max(0) as u64 / (*all).max(1) as u64),
        State::Absent | State::Disabled => Bytes(0),
    }
}

/// The time from a position of the source's log until the destination has received it. What it
/// reports of itself is old between its reports, so the position is waited for.
async fn lag(source: &Session, destination: &Session, stage: &Stage) -> Result<Option<Span>, DriverError> {
    let doing = "measuring the lag";
    let position = source.one(doing, "SELECT pg_current_wal_flush_lsn()").await?.text(0).to_string();
    let start = Instant::now();
    let sql = format!(
        "SELECT coalesce(greatest(received_lsn, latest_end_lsn) >= {}, false), \
           pg_wal_lsn_diff({0}, greatest(received_lsn, latest_end_lsn)) \
         FROM pg_stat_subscription WHERE subname = {} AND relid IS NULL",
        format_args!("{}::pg_lsn", literal(&position)),
        literal(&stage.names.stream)
    );
    loop {
        let lines = destination.ask(doing, &sql).await?;
        let Some(line) = lines.first() else { return Ok(None) };
        if line.yes(0) {
            return Ok(Some(Span(start.elapsed().as_millis() as i64)));
        }
        if start.elapsed() > LAG {
            // At the 10 MB a second that a slow apply worker takes.
            let behind = line.number(1).max(0) / 10_000;
            return Ok(Some(Span(LAG.as_millis() as i64 + behind)));
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}
