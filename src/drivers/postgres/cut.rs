//! The cut and what stands around it: hold, let go, open, prove the way back.

use std::time::{Duration, Instant};

use super::session::{Session, ident, literal, system};
use super::shape::keep_sql;
use super::stage::{Stage, barrier_publication, refuse, tables};
use super::stream::{
    self, FirstRow, NO_WAY_BACK, Publishes, State, make_barrier, make_slot, send_barrier, wait_for_barrier,
};
use super::verify::{look_at, some_keys};
use super::{PostgresMover, digest, done, working};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Answer, Evidence, Job, Permit, is_seal};
use crate::fleet::{Clock, SystemClock, Timestamp};

/// How long the way back may take for its proof.
const PROOF: Duration = Duration::from_secs(5);
/// Rows that are compared after the switch.
const SAMPLED: usize = 100;

impl PostgresMover {
    /// Holds writes at the source. What is under way is waited for, but not beyond the deadline.
    pub(super) async fn fence(
        &self,
        job: &Job,
        permit: &Permit,
        until: Timestamp,
    ) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        // All rows are read for nothing while writes are held.
        self.with_work(job, |w| w.comparison = None);
        let left = (until - SystemClock.now()).0;
        let sealed = is_seal(until, SystemClock.now());
        let session = self.session(&stage.source).await?;
        if !sealed && !self.ready_to_compare(job, &stage, &session).await? {
            return Ok(done("the destination is open already"));
        }
        let start = Instant::now();
        if !sealed {
            let half = Duration::from_millis(left.clamp(2, self.options.command_timeout.0.max(2)) as u64 / 2);
            self.pause_pools(job, &stage, &session, permit, half).await?;
        }
        let left = (until - SystemClock.now()).0;
        let patience = left.clamp(1, self.options.command_timeout.0.max(1) / 2);
        // Only the seal must survive a crash of the server; it takes the first hold with it.
        let commit = if sealed { "on" } else { "off" };
        let sql = format!(
            "SET LOCAL lock_timeout = {patience}; SET LOCAL synchronous_commit = {commit}; \
             SELECT foreshift.hold({}, {}, {}, {}, to_timestamp({}::numeric / 1000), {sealed}, {})",
            literal(job.workload.as_str()),
            stage.lock,
            job.generation.0,
            permit.epoch().0,
            until.millis(),
            literal(&stage.names.stream),
        );
        let held = session.ask("holding writes", &sql).await;
        if let Err(error) = held {
            // It may have been done already, and opened.
            if error.retry == Retry::Permanent && self.opened(job, &stage).await.unwrap_or(false) {
                return Ok(done("the destination is open already"));
            }
            // Where it is certainly not held nobody has to wait for it; a newer leader's pause is none of ours.
            let theirs = error.detail.contains("deposed");
            return Err(match error.retry {
                Retry::Unknown => error,
                _ if sealed || theirs => error,
                _ => self.resume_after(&stage, error).await,
            });
        }
        Ok(done(format!(
            "{} after {:.1} ms, when transactions under way had ended",
            if sealed { "sealed" } else { "held" },
            start.elapsed().as_secs_f64() * 1e3
        )))
    }

    /// Lets the clients behind the pools wait, unless a newer leader was here.
    async fn pause_pools(
        &self,
        job: &Job,
        stage: &Stage,
        source: &Session,
        permit: &Permit,
        limit: Duration,
    ) -> Result<(), DriverError> {
        let mark = self.mark(source, &job.workload).await?;
        if mark.is_some_and(|m| m.epoch > permit.epoch().0) {
            return refuse(
                &stage.source,
                "holding writes",
                "a newer leader was here: this engine is deposed",
            );
        }
        self.pause(stage, limit).await.map(|_| ())
    }

    /// Makes sure, before anything is held, that the digests of both sides are there and short.
    /// `false` = the destination is open already.
    async fn ready_to_compare(
        &self,
        job: &Job,
        stage: &Stage,
        source: &Session,
    ) -> Result<bool, DriverError> {
        if self.opened(job, stage).await? {
            return Ok(false);
        }
        // Of a migration's own copy the stream is the way back.
        let mark = self.mark(source, &job.workload).await?;
        let what = if mark.is_some_and(|m| m.made_by == stage.names.copy) { NO_WAY_BACK } else { "" };
        stream::refuse_lost(source, &stage.names.stream, "holding writes", what).await?;
        self.keep(job, stage);
        let destination = self.session(&stage.destination).await?;
        self.refuse_changed(job, stage).await?;
        let tables = tables(source, &stage.scope).await?;
        for session in [source, &destination] {
            digest::fold(session, &stage.names.digest).await?;
            if !digest::missing(session, &stage.names.digest, &tables).await?.is_empty() {
                return Err(DriverError::new(
                    Retry::Retryable,
                    system(&session.address),
                    "holding writes",
                    "the digest is begun anew, because the server crashed since; try again when it is there",
                ));
            }
        }
        Ok(true)
    }

    /// Lets writes at the source go on, unless the destination is the owner by now; and those who wait in a
    /// pool, at the owner.
    pub(super) async fn unfence(&self, job: &Job, permit: &Permit) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        let opened = self.opened(job, &stage).await.unwrap_or(false);
        if opened {
            let said = "the destination is the owner; the source stays a copy".to_string();
            return self.and_pools(&stage, &stage.destination, permit, said).await;
        }
        match self.let_go(job, &stage, permit).await?.as_str() {
            // By then it is somebody else's.
            "standby" if !self.bouncers.is_empty() => {
                let owner = self.owner_of(&job.workload).await?;
                let owner = owner.as_ref().unwrap_or(&stage.source);
                self.and_pools(&stage, owner, permit, "the source is a copy".to_string()).await
            }
            "" => {
                self.and_pools(&stage, &stage.source, permit, "the source was never held".to_string()).await
            }
            was => {
                let said = format!("the source is written to; it was {was}");
                self.and_pools(&stage, &stage.source, permit, said).await
            }
        }
    }

    /// Done, once those who wait in a pool go on at the owner; a PgBouncer that does not answer is asked until
    /// it does.
    async fn and_pools(
        &self,
        stage: &Stage,
        owner: &str,
        permit: &Permit,
        said: String,
    ) -> Result<Answer, DriverError> {
        let start = Instant::now();
        match self.lead_to(stage, owner, permit.epoch().0).await {
            Ok(0) => Ok(done(said)),
            Ok(n) => {
                let ms = start.elapsed().as_secs_f64() * 1e3;
                Ok(done(format!("{said}; {n} pools lead to {owner} after {ms:.1} ms")))
            }
            Err(error) if error.retry == Retry::Permanent => Err(error),
            Err(error) => Ok(working(format!("{said}; its clients to go on there: {error}"))),
        }
    }

    /// How the source was held before this; empty where it never was.
    async fn let_go(&self, job: &Job, stage: &Stage, permit: &Permit) -> Result<String, DriverError> {
        let session = self.session(&stage.source).await?;
        if self.mark(&session, &job.workload).await?.is_none() {
            return Ok(String::new());
        }
        let sql = format!(
            "SELECT foreshift.let_go({}, {}, {})",
            literal(job.workload.as_str()),
            permit.epoch().0,
            literal(&stage.names.stream)
        );
        let was = session.one("letting writes go on", &sql).await?;
        Ok(was.text(0).to_string())
    }

    /// Makes the destination the owner at the job's generation: one transaction, at the destination
    /// alone, so that a source that died meanwhile does not matter.
    pub(super) async fn open(&self, job: &Job, permit: &Permit) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        let session = self.session(&stage.destination).await?;
        let start = Instant::now();
        let open = async |unsealed: bool| {
            let sql = format!(
                "SET LOCAL lock_timeout = {}; SELECT foreshift.open({}, {}, {}, {}, {}, {unsealed})",
                self.options.lock_timeout.0.max(1),
                literal(job.workload.as_str()),
                job.generation.0,
                permit.epoch().0,
                literal(&stage.names.stream),
                literal(&stage.names.back)
            );
            Ok::<_, DriverError>(session.one("opening", &sql).await?.text(0).to_string())
        };
        let mut how = open(false).await?;
        if how == "unsealed" {
            self.refuse_beside_an_owner(job, &stage.source).await?;
            // The source was never sealed, so it is lost: what it may still send must not arrive.
            let disable = format!("ALTER SUBSCRIPTION {} DISABLE", ident(&stage.names.stream));
            session.ask("ending the stream", &disable).await?;
            how = open(true).await?;
        }
        let how = match how.as_str() {
            "already" => "open already".to_string(),
            "sealed" => "sequences and rows as the source left them".to_string(),
            _ => "the source was not sealed: sequences are as they were copied, check them".to_string(),
        };
        let ms = start.elapsed().as_secs_f64() * 1e3;
        let said =
            format!("{} is the owner at {} after {ms:.1} ms: {how}", stage.destination, job.generation);
        self.and_pools(&stage, &stage.destination, permit, said).await
    }

    /// A source that answers and takes writes is not lost: a second owner is not made beside it.
    async fn refuse_beside_an_owner(&self, job: &Job, source: &str) -> Result<(), DriverError> {
        let Ok(session) = self.session(source).await else { return Ok(()) };
        let mark = self.mark(&session, &job.workload).await?;
        if mark.as_ref().is_some_and(|m| m.mode == "writable" || (m.mode == "fenced" && !m.held)) {
            return refuse(
                source,
                "opening the destination",
                "the source takes writes; it must be sealed first",
            );
        }
        // It answers and is held: sealed, its barrier is on the way; only held, it will let go.
        if mark.is_some_and(|m| m.mode == "fenced") {
            return Err(DriverError::new(
                Retry::Retryable,
                system(source),
                "opening the destination",
                "the source answers and its seal has not arrived at the destination; nothing was opened",
            ));
        }
        Ok(())
    }

    /// Makes the way back: it stands, and carries nothing but its own barrier.
    pub(super) async fn arm_reverse(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        let (source, destination) =
            (self.session(&stage.source).await?, self.session(&stage.destination).await?);
        let back = stage.names.back.as_str();
        if stage.scope.tenant().is_none() {
            let shape = self.shape(&stage, &stage.destination).await?;
            source.ask("noting the structure", &keep_sql(&job.workload, &shape)).await?;
        }
        self.bring_sequences(&source, &destination, &stage.scope).await?;
        let tables = tables(&source, &stage.scope).await?;
        for session in [&destination, &source] {
            make_barrier(session, back, FirstRow::Made).await?;
        }
        stream::publish(&destination, back, &tables, Publishes::Nothing).await?;
        make_slot(&destination, back).await?;
        stream::refuse_lost(&destination, back, "making the way back", "").await?;
        self.subscribe(&stage.source, &stage.destination, back, FirstRow::Made).await?;
        let wanted = tables.iter().filter(|t| t.ordinary).count() as i64 + 1;
        match stream::state(&source, back).await? {
            State::Streaming(n) if n == wanted => {
                Ok(done(format!("a stream back of {} tables stands and is silent", n - 1)))
            }
            State::Streaming(n) => refuse(
                &stage.source,
                "making the way back",
                format!("its subscription knows {n} tables, expected {wanted}"),
            ),
            State::Disabled => {
                let enable = format!("ALTER SUBSCRIPTION {} ENABLE", ident(back));
                source.ask("making the way back", &enable).await?;
                Ok(working("the stream back to be taken up again"))
            }
            State::Copying(..) | State::Absent => Ok(working("the stream back to be taken up")),
        }
    }

    /// Sends a barrier the way back and sees it applied at the source.
    pub(super) async fn probe_reverse(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        if self.opened(job, &stage).await? {
            return self.enable_reverse(job).await;
        }
        let (source, destination) =
            (self.session(&stage.source).await?, self.session(&stage.destination).await?);
        stream::refuse_lost(&destination, &stage.names.back, "proving the way back", "").await?;
        stream::refuse_lost(&source, &stage.names.stream, "proving the way back", "").await?;
        let token = send_barrier(&destination, &stage.names.back).await?;
        let took = wait_for_barrier(&source, &stage.names.back, token, PROOF).await?;
        self.keep(job, &stage);
        Ok(done(format!(
            "a barrier written at the destination was applied at the source after {:.1} ms",
            took.as_secs_f64() * 1e3
        )))
    }

    /// After the switch: the old owner becomes a copy that follows, and proves it.
    pub(super) async fn enable_reverse(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        if !self.opened(job, &stage).await? {
            return Err(DriverError::new(
                Retry::Retryable,
                system(&stage.destination),
                "proving the way back",
                "the destination does not own the workload yet; ask for opening first",
            ));
        }
        let source = match self.session(&stage.source).await {
            Ok(source) => source,
            Err(error) if error.retry == Retry::Retryable => {
                return Ok(working(format!(
                    "the old owner {} to answer: without it there is no way back",
                    stage.source
                )));
            }
            Err(error) => return Err(error),
        };
        let sql = format!(
            "UPDATE foreshift.owner SET mode = 'standby', until = NULL, owner_is = {} \
             WHERE workload = {} AND generation < {}",
            literal(&stage.destination),
            literal(job.workload.as_str()),
            job.generation.0
        );
        source.ask("making the old owner a copy", &sql).await?;
        self.keep(job, &stage);
        let back = stage.names.back.as_str();
        let destination = self.session(&stage.destination).await?;
        stream::refuse_lost(&destination, back, "proving the way back", NO_WAY_BACK).await?;
        match stream::state(&source, back).await? {
            State::Streaming(_) => {}
            State::Disabled => {
                let enable = format!("ALTER SUBSCRIPTION {} ENABLE", ident(back));
                source.ask("proving the way back", &enable).await?;
                return Ok(working("the stream back to be taken up again"));
            }
            State::Absent => return refuse(&stage.source, "proving the way back", "there is no stream back"),
            State::Copying(..) => return Ok(working("the old owner to take the stream back up")),
        }
        let token = send_barrier(&destination, back).await?;
        let took = wait_for_barrier(&source, back, token, PROOF).await?;
        // The owner first: the comparison of the mirrored job. Its structure is known when it is to go back.
        let mirrored = self.stage(&job.mirrored(job.generation))?;
        self.changed(job, &mirrored, Duration::ZERO).await?;
        let tables = tables(&destination, &stage.scope).await?;
        let (mut items, mut differences) = (0, Vec::new());
        for table in tables.iter().filter(|t| t.ordinary) {
            let keys = some_keys(&destination, table, SAMPLED).await?;
            if keys.is_empty() {
                continue;
            }
            let (looked, found) = look_at(self, &mirrored, table, keys).await?;
            items += looked;
            differences.extend(found);
        }
        differences.truncate(20);
        Ok(Answer::Done(Evidence {
            summary: format!(
                "{} follows, {:.1} ms behind; {items} sampled rows, {} different",
                stage.source,
                took.as_secs_f64() * 1e3,
                differences.len()
            ),
            equal: Some(differences.is_empty()),
            items,
            differences,
            artifacts: Vec::new(),
        }))
    }

    /// Ends the stream to the destination, for now or for good.
    pub(super) async fn stop_replication(&self, job: &Job) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        self.forget(job);
        let session = self.session(&stage.destination).await?;
        let name = stage.names.stream.as_str();
        match stream::state(&session, name).await? {
            State::Absent => Ok(done("nothing is being copied")),
            State::Disabled => Ok(done("the stream has ended")),
            _ => {
                let sql = format!("ALTER SUBSCRIPTION {} DISABLE", ident(name));
                session.ask("ending the stream", &sql).await?;
                Ok(done(format!("the stream {name} and {} has ended", barrier_publication(name))))
            }
        }
    }
}
