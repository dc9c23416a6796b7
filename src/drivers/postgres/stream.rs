//! One stream from a publisher to a subscriber: two publications (the tables, and the barrier), a
//! slot, a subscription. Which way data flows is set by what the publication of the tables publishes,
//! so both streams of a migration can stand and be proved all the while, and turning about is part of
//! one transaction: PostgreSQL 15 knows no `origin = none`, and two streams that both publish are a
//! loop.

use std::time::{Duration, Instant};

use super::PostgresMover;
use super::session::{Session, ident, literal, system};
use super::stage::{Table, barrier_publication, refuse};
use crate::drivers::error::{DriverError, Retry};
use crate::fleet::Span;

/// Whether a publication of tables says anything yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Publishes {
    All,
    Nothing,
}

/// Whether the barrier's first row is copied by the subscription, or made on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FirstRow {
    Made,
    Copied,
}

/// How far a subscription is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    Absent,
    /// Disabled by us, or by itself after an error.
    Disabled,
    /// Tables that are copied, of all.
    Copying(i64, i64),
    /// Every table is copied and the stream is applied.
    Streaming(i64),
}

fn barrier(stream: &str) -> String {
    format!("foreshift.{}", ident(stream))
}

/// Makes the barrier's table.
pub(super) async fn make_barrier(
    session: &Session,
    stream: &str,
    first: FirstRow,
) -> Result<(), DriverError> {
    let table = barrier(stream);
    let mut sql = format!(
        "CREATE TABLE IF NOT EXISTS {table} (id int PRIMARY KEY, token bigint NOT NULL, \
         sealed bigint NOT NULL, sequences jsonb NOT NULL)"
    );
    if first == FirstRow::Made {
        sql.push_str(&format!("; INSERT INTO {table} VALUES (1, 0, -1, '[]') ON CONFLICT DO NOTHING"));
    }
    session.ask("making the barrier", &sql).await.map(|_| ())
}

/// Makes both publications; where they are there they stay as they are.
pub(super) async fn publish(
    session: &Session,
    stream: &str,
    tables: &[Table],
    publishes: Publishes,
) -> Result<(), DriverError> {
    let filter =
        |t: &Table| t.tenant.as_ref().map(|t| format!(" WHERE ({})", t.filter())).unwrap_or_default();
    let names: Vec<String> =
        tables.iter().filter(|t| t.ordinary).map(|t| format!("{}{}", t.on(), filter(t))).collect();
    let what = match publishes {
        // A row filter does not hold for TRUNCATE: it would empty the tables of every tenant there.
        Publishes::All if tables.iter().any(|t| t.tenant.is_some()) => "insert, update, delete",
        Publishes::All => "insert, update, delete, truncate",
        Publishes::Nothing => "",
    };
    let sql = format!(
        "DO $foreshift$ BEGIN \
         IF NOT EXISTS (SELECT 1 FROM pg_publication WHERE pubname = {stream_text}) THEN \
           CREATE PUBLICATION {stream_name} FOR TABLE {names} WITH (publish = '{what}'); END IF; \
         IF NOT EXISTS (SELECT 1 FROM pg_publication WHERE pubname = {barrier_text}) THEN \
           CREATE PUBLICATION {barrier_name} FOR TABLE {table}; END IF; END $foreshift$",
        stream_text = literal(stream),
        stream_name = ident(stream),
        names = names.join(", "),
        barrier_text = literal(&barrier_publication(stream)),
        barrier_name = ident(&barrier_publication(stream)),
        table = barrier(stream),
    );
    session.ask("publishing", &sql).await.map(|_| ())
}

/// Makes the slot. It waits for every transaction under way; one that is long gives `Retryable`.
pub(super) async fn make_slot(session: &Session, stream: &str) -> Result<(), DriverError> {
    let doing = "making the replication slot";
    let there = format!("SELECT 1 FROM pg_replication_slots WHERE slot_name = {}", literal(stream));
    if !session.ask(doing, &there).await?.is_empty() {
        return Ok(());
    }
    let sql = format!("SELECT pg_create_logical_replication_slot({}, 'pgoutput')", literal(stream));
    session.ask(doing, &sql).await.map(|_| ()).map_err(|error| match error.retry {
        Retry::Retryable => DriverError {
            detail: format!(
                "{}; a slot waits for transactions under way: is one of them long?",
                error.detail
            ),
            ..error
        },
        _ => error,
    })
}

/// Why a stream that was begun can never catch up; `None` = its slot still holds what is to be sent.
pub(super) async fn lost(publisher: &Session, stream: &str) -> Result<Option<String>, DriverError> {
    let sql = format!(
        "SELECT count(*), coalesce(bool_or(wal_status = 'lost'), false), \
           current_setting('max_slot_wal_keep_size') FROM pg_replication_slots WHERE slot_name = {}",
        literal(stream)
    );
    let found = publisher.one("looking at the replication slot", &sql).await?;
    let at = &publisher.address;
    Ok(if found.number(0) == 0 {
        Some(format!(
            "the replication slot {stream} is gone from {at} (dropped, or the server was replaced by its \
             standby), and with it what was not sent yet; a copy has to begin anew"
        ))
    } else if found.yes(1) {
        Some(format!(
            "the replication slot {stream} is lost: {at} keeps no more than max_slot_wal_keep_size = {} for it, \
             and removed what the other side had not taken by then; raise it there (SELECT pg_reload_conf() \
             is enough) or find out why the other side is so far behind; a copy has to begin anew",
            found.text(2)
        ))
    } else {
        None
    })
}

/// Refuses what would wait in vain, because the stream's slot is lost.
pub(super) async fn refuse_lost(
    publisher: &Session,
    stream: &str,
    doing: &str,
    what: &str,
) -> Result<(), DriverError> {
    match lost(publisher, stream).await? {
        Some(why) => refuse(&publisher.address, doing, format!("{what}{why}")),
        None => Ok(()),
    }
}

/// What a lost slot means once the owner has changed.
pub(super) const NO_WAY_BACK: &str =
    "the way back is gone, the new owner goes on; back leads only another move: ";

impl PostgresMover {
    /// Makes the subscription at the subscriber; done again it changes nothing. The statement holds
    /// what the servers log in with, so nothing of it is logged or shown by the server.
    pub(super) async fn subscribe(
        &self,
        subscriber: &str,
        publisher: &str,
        stream: &str,
        first: FirstRow,
    ) -> Result<(), DriverError> {
        let doing = "subscribing";
        let session = self.session(subscriber).await?;
        let there = format!("SELECT 1 FROM pg_subscription WHERE subname = {}", literal(stream));
        if !session.ask(doing, &there).await?.is_empty() {
            return Ok(());
        }
        session.throw_away();
        let quiet = "SET log_statement = 'none'; SET log_min_duration_statement = -1; \
            SET log_min_duration_sample = -1; SET log_min_error_statement = 'panic'; \
            SET track_activities = off; SET pg_stat_statements.track = 'none'; \
            SET pg_stat_statements.track_utility = off";
        session.ask(doing, quiet).await?;
        let sql = format!(
            "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {}, {} WITH (create_slot = false, \
             slot_name = {}, copy_data = {}, enabled = true, disable_on_error = false, streaming = on, \
             synchronous_commit = off)",
            ident(stream),
            literal(&self.connection_text(publisher, stream)),
            ident(stream),
            ident(&barrier_publication(stream)),
            literal(stream),
            first == FirstRow::Copied,
        );
        let made = session.ask(doing, &sql).await.map(|_| ());
        session.throw_away();
        made
    }

    /// How a subscriber logs in at the publisher.
    fn connection_text(&self, publisher: &str, stream: &str) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let (host, port) = publisher.rsplit_once(':').unwrap_or((publisher, "5432"));
        let mut text = format!(
            "host={} port={port} dbname={} user={} application_name={stream} connect_timeout=5 \
             keepalives_idle=10 keepalives_interval=5 keepalives_count=3",
            quoted(host.trim_start_matches('[').trim_end_matches(']')),
            quoted(&self.options.database),
            quoted(&self.options.username),
        );
        if self.options.tls_ca.is_some() {
            text.push_str(" sslmode=require");
        }
        if let Some(file) = &self.options.passfile {
            text.push_str(&format!(" passfile={}", quoted(file)));
        } else if let Some(password) = &self.options.password {
            text.push_str(&format!(" password={}", quoted(password)));
        }
        text
    }
}

/// How far a subscription is.
pub(super) async fn state(session: &Session, stream: &str) -> Result<State, DriverError> {
    let sql = format!(
        "SELECT s.subenabled, count(r.srrelid), count(r.srrelid) FILTER (WHERE r.srsubstate = 'r'), \
           (SELECT count(*) FROM pg_stat_subscription a WHERE a.subid = s.oid AND a.relid IS NULL \
             AND a.pid IS NOT NULL) \
         FROM pg_subscription s LEFT JOIN pg_subscription_rel r ON r.srsubid = s.oid \
         WHERE s.subname = {} AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         GROUP BY s.oid, s.subenabled",
        literal(stream)
    );
    let lines = session.ask("looking at the subscription", &sql).await?;
    let Some(line) = lines.first() else { return Ok(State::Absent) };
    let (all, ready, workers) = (line.number(1), line.number(2), line.number(3));
    Ok(if !line.yes(0) {
        State::Disabled
    } else if ready < all || workers == 0 {
        State::Copying(ready, all)
    } else {
        State::Streaming(all)
    })
}

/// Writes the barrier and returns its token.
pub(super) async fn send_barrier(publisher: &Session, stream: &str) -> Result<i64, DriverError> {
    let sql = format!("UPDATE {} SET token = token + 1 RETURNING token", barrier(stream));
    Ok(publisher.one("writing the barrier", &sql).await?.number(0))
}

/// The token and the seal as they are on one side.
pub(super) async fn read_barrier(session: &Session, stream: &str) -> Result<(i64, i64), DriverError> {
    let sql = format!("SELECT token, sealed FROM {}", barrier(stream));
    let lines = session.ask("reading the barrier", &sql).await?;
    Ok(lines.first().map_or((-1, -1), |line| (line.number(0), line.number(1))))
}

/// Waits until the subscriber has applied the barrier, and so all that was committed before it.
pub(super) async fn wait_for_barrier(
    subscriber: &Session,
    stream: &str,
    token: i64,
    limit: Duration,
) -> Result<Duration, DriverError> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(500);
    while read_barrier(subscriber, stream).await?.0 < token {
        if start.elapsed() > limit {
            return Err(DriverError::new(
                Retry::Retryable,
                system(&subscriber.address),
                "waiting for the barrier",
                format!(
                    "barrier {token} of {stream} did not arrive within {limit:?}; is the stream applied?"
                ),
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(5));
    }
    Ok(start.elapsed())
}

/// Takes a subscription away without asking its publisher for the slot, and its barrier with it.
pub(super) async fn unsubscribe(session: &Session, stream: &str, limit: Span) -> Result<(), DriverError> {
    let doing = "removing the subscription";
    let there = format!(
        "SELECT subslotname IS NOT NULL FROM pg_subscription WHERE subname = {} \
         AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
        literal(stream)
    );
    if !session.ask(doing, &there).await?.is_empty() {
        let name = ident(stream);
        session.ask_long(doing, &format!("ALTER SUBSCRIPTION {name} DISABLE"), limit).await?;
        session.ask_long(doing, &format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"), limit).await?;
        session.ask_long(doing, &format!("DROP SUBSCRIPTION {name}"), limit).await?;
    }
    session.ask(doing, &format!("DROP TABLE IF EXISTS {}", barrier(stream))).await.map(|_| ())
}

/// Takes the publications away, and the barrier with them.
pub(super) async fn unpublish(session: &Session, stream: &str) -> Result<(), DriverError> {
    let sql = format!(
        "DROP PUBLICATION IF EXISTS {}; DROP PUBLICATION IF EXISTS {}; DROP TABLE IF EXISTS {}",
        ident(stream),
        ident(&barrier_publication(stream)),
        barrier(stream)
    );
    session.ask("removing the publication", &sql).await.map(|_| ())
}

/// Drops the slot; whoever still reads from it is sent away first. `false` = not yet.
pub(super) async fn drop_slot(session: &Session, stream: &str) -> Result<bool, DriverError> {
    let doing = "dropping the replication slot";
    let sql = format!(
        "SELECT active, CASE WHEN active THEN pg_terminate_backend(active_pid) END \
         FROM pg_replication_slots WHERE slot_name = {}",
        literal(stream)
    );
    match session.ask(doing, &sql).await?.first() {
        None => Ok(true),
        Some(line) if line.yes(0) => Ok(false),
        Some(_) => {
            let sql = format!("SELECT pg_drop_replication_slot({})", literal(stream));
            session.ask(doing, &sql).await.map(|_| true)
        }
    }
}
