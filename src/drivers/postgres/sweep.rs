//! Taking away what a migration made, and finding it by name alone when everything else is lost.

use super::scope::Scope;
use super::session::{Session, ident, literal, system};
use super::stage::{Names, Stage, Table, refuse, tables};
use super::structure::objects;
use super::{PostgresMover, digest, done, stream, working};
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::{Action, Answer, Artifact, Job, Permit, Probe};
use crate::fleet::{PartitionId, Span, WorkloadId};

/// Kinds of artifacts.
pub(super) const DIGEST: &str = "digest";
pub(super) const COPY: &str = "copy";
pub(super) const PUBLICATION: &str = "publication";
pub(super) const SLOT: &str = "replication_slot";
pub(super) const SUBSCRIPTION: &str = "subscription";
/// A database of a PgBouncer whose clients wait.
pub(super) const PAUSED: &str = "paused_pool";
/// What the names of all that we make begin with, as SQL's regular expression.
pub(super) const OURS: &str = "^fs_[0-9a-f]{16}";
/// Ending a subscription may have to wait for its publisher.
pub(super) const UNSUBSCRIBE: Span = Span::seconds(8);

/// An artifact of that kind and name at a partition.
pub(super) fn at(kind: &str, name: &str, partition: &PartitionId) -> Artifact {
    Artifact { kind: kind.into(), name: name.into(), partition: partition.clone() }
}

/// What was found, in order and once each, or why nothing was: what a cluster that is down holds cannot be said, and
/// the others' is.
pub(super) fn all_found(
    mut found: Vec<Artifact>,
    failed: Option<DriverError>,
) -> Result<Vec<Artifact>, DriverError> {
    match failed {
        Some(error) if found.is_empty() => Err(error),
        _ => {
            found.sort();
            found.dedup();
            Ok(found)
        }
    }
}

/// What an action makes, in the order in which it is made; it goes the other way round.
pub(super) fn artifacts(job: &Job, action: &Action) -> Vec<Artifact> {
    let names = Names::of(job);
    match action {
        Action::Prepare => vec![
            at(COPY, &names.copy, &job.destination),
            at(DIGEST, &names.digest, &job.source),
            at(PUBLICATION, &names.stream, &job.source),
        ],
        Action::Replicate => vec![
            at(DIGEST, &names.digest, &job.destination),
            at(SLOT, &names.stream, &job.source),
            at(SUBSCRIPTION, &names.stream, &job.destination),
        ],
        Action::ArmReverse => vec![
            at(PUBLICATION, &names.back, &job.destination),
            at(SLOT, &names.back, &job.destination),
            at(SUBSCRIPTION, &names.back, &job.source),
        ],
        _ => Vec::new(),
    }
}

/// Takes a subscription, publication or slot away; `None` where the artifact is none of these.
pub(super) async fn remove_of_stream(
    session: &Session,
    artifact: &Artifact,
) -> Result<Option<Answer>, DriverError> {
    let name = artifact.name.as_str();
    match artifact.kind.as_str() {
        SUBSCRIPTION => stream::unsubscribe(session, name, UNSUBSCRIBE).await?,
        PUBLICATION => stream::unpublish(session, name).await?,
        SLOT => {
            if !stream::drop_slot(session, name).await? {
                return Ok(Some(working(format!("{name} to be let go by who reads from it"))));
            }
        }
        _ => return Ok(None),
    }
    Ok(Some(gone(session, artifact)))
}

/// The answer where an artifact is not there any more.
pub(super) fn gone(session: &Session, artifact: &Artifact) -> Answer {
    done(format!("{} {} is gone from {}", artifact.kind, artifact.name, session.address))
}

/// Refuses a kind of artifact that is not made here.
pub(super) fn no_such_kind<T>(address: &str, doing: &str, kind: &str) -> Result<T, DriverError> {
    let kinds = [Artifact::FENCE, SUBSCRIPTION, PUBLICATION, SLOT, DIGEST, COPY, PAUSED].join(", ");
    refuse(address, doing, format!("expected one of {kinds}, got {kind}"))
}

impl PostgresMover {
    /// Takes one artifact away; where it is gone nothing is done.
    pub(super) async fn cleanup(
        &self,
        job: &Job,
        artifact: &Artifact,
        permit: &Permit,
    ) -> Result<Answer, DriverError> {
        if artifact.kind == PAUSED {
            return self.resumed(artifact, permit).await;
        }
        let address = self.address_of(&artifact.partition)?;
        let name = artifact.name.as_str();
        if !name.starts_with("fs_") {
            return refuse(&address, format!("removing {name}").as_str(), "it is none of ours");
        }
        let session = self.session(&address).await?;
        if let Some(answer) = remove_of_stream(&session, artifact).await? {
            return Ok(answer);
        }
        match artifact.kind.as_str() {
            DIGEST => {
                self.forget(job);
                digest::remove(&session, name, self.options.lock_timeout).await?;
                self.unguard_owner(&session, job).await?;
            }
            COPY => self.remove_copy(&session, job, name).await?,
            kind => return no_such_kind(&address, "cleanup", kind),
        }
        Ok(gone(&session, artifact))
    }

    /// Ends a pause.
    pub(super) async fn resumed(&self, artifact: &Artifact, permit: &Permit) -> Result<Answer, DriverError> {
        self.end_pause(artifact, permit.epoch().0).await?;
        Ok(done(format!("the clients of {} go on", artifact.partition)))
    }

    /// An owner needs no guard; a copy keeps it.
    async fn unguard_owner(&self, session: &Session, job: &Job) -> Result<(), DriverError> {
        let writable = self.mark(session, &job.workload).await?.is_none_or(|m| m.mode == "writable");
        if writable {
            let stage = self.stage(job)?;
            match stage.scope.tenant() {
                None => self.unguard(session, &stage.scope).await?,
                Some(_) => self.unguard_rows(session, &job.workload).await?,
            }
        }
        Ok(())
    }

    /// Removes a copy that no longer is to be, only where it is certain that it owns nothing.
    async fn remove_copy(&self, session: &Session, job: &Job, name: &str) -> Result<(), DriverError> {
        let stage = self.stage(job)?;
        let Some(mark) = self.mark(session, &job.workload).await? else { return Ok(()) };
        if mark.made_by != name {
            return Ok(());
        }
        if mark.mode != "standby" {
            self.other_owns(session, job, &stage, mark.generation).await?;
        }
        self.drop_copy(session, &job.workload, stage.scope.marked()).await
    }

    /// Drops what a copy made, and says in its mark that it is none any more.
    pub(super) async fn drop_copy(
        &self,
        session: &Session,
        workload: &WorkloadId,
        schema: &str,
    ) -> Result<(), DriverError> {
        let doing = "removing the copy";
        if self.drop_copied_rows(session, workload).await? {
            return Ok(());
        }
        if schema.is_empty() || self.workload_of(schema) != *workload {
            let why = format!(
                "{workload} is not the schema {schema}, and nothing says which rows it is; nothing was removed"
            );
            return refuse(&session.address, doing, why);
        }
        let sql = format!("SELECT made FROM foreshift.owner WHERE workload = {}", literal(workload.as_str()));
        let made = session.one(doing, &sql).await?.text(0).to_string();
        let whole = Scope::Schema(schema.to_string());
        let names: Vec<String> = tables(session, &whole).await?.iter().map(Table::on).collect();
        let row = literal(workload.as_str());
        let forget = format!("DELETE FROM foreshift.owner WHERE workload = {row}");
        let keep = format!(
            "UPDATE foreshift.owner SET mode = 'standby', made_by = NULL, made = 'nothing' WHERE workload = {row}"
        );
        let sql = match made.as_str() {
            "schema" => format!("DROP SCHEMA IF EXISTS {} CASCADE; {forget}", ident(schema)),
            // The schema stood there empty: all that is in it came with the copy.
            "tables" => {
                let mut drops = String::new();
                for line in session.ask(doing, &objects(schema)).await? {
                    drops.push_str(&format!("DROP {} IF EXISTS {} CASCADE; ", line.text(0), line.text(1)));
                }
                format!("{drops}{forget}")
            }
            _ if !names.is_empty() => {
                format!("SET LOCAL session_replication_role = replica; TRUNCATE {}; {keep}", names.join(", "))
            }
            _ => keep,
        };
        session.ask_long(doing, &sql, self.options.scan_timeout).await.map(|_| ())
    }

    /// Makes certain that the other cluster of the job is the owner, at a later generation.
    pub(super) async fn other_owns(
        &self,
        session: &Session,
        job: &Job,
        stage: &Stage,
        generation: u64,
    ) -> Result<(), DriverError> {
        let address =
            if session.address == stage.source { stage.destination.clone() } else { stage.source.clone() };
        let other = self.session(&address).await?;
        let owns = self
            .mark(&other, &job.workload)
            .await?
            .is_some_and(|m| m.mode == "writable" && m.generation > generation);
        if owns {
            return Ok(());
        }
        Err(DriverError::new(
            Retry::Permanent,
            system(&session.address),
            "removing the copy",
            "it may own the workload: the other side does not; nothing was removed",
        ))
    }

    /// Whether an artifact is gone.
    pub(super) async fn look_cleanup(&self, artifact: &Artifact) -> Result<Probe, DriverError> {
        if artifact.kind == PAUSED {
            // One that does not answer is asked again, and no person for it.
            let resumed = self.is_resumed(artifact).await.unwrap_or(false);
            return Ok(if resumed { super::probe::applied("its clients go on") } else { Probe::NotStarted });
        }
        let address = self.address_of(&artifact.partition)?;
        let session = self.session(&address).await?;
        // A subscription's table outlives it by one statement, and looks like a publication's then.
        let found = self.found_at(&session, &artifact.partition).await?;
        let is = |kind: &str| kind == artifact.kind || (artifact.kind == SUBSCRIPTION && kind == PUBLICATION);
        let there = found.iter().any(|a| a.name == artifact.name && is(&a.kind));
        Ok(if there { Probe::NotStarted } else { super::probe::applied("it is not there") })
    }

    /// Every artifact of ours on one cluster.
    pub(super) async fn found_at(
        &self,
        session: &Session,
        partition: &PartitionId,
    ) -> Result<Vec<Artifact>, DriverError> {
        let doing = "looking for artifacts of ours";
        let ours = literal(OURS);
        let sql = format!(
            "SELECT '{SUBSCRIPTION}', subname FROM pg_subscription WHERE subname ~ {ours} \
               AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             UNION SELECT '{SLOT}', slot_name FROM pg_replication_slots WHERE slot_name ~ {ours} \
               AND database = current_database() \
             UNION SELECT '{PUBLICATION}', left(pubname, 19) FROM pg_publication WHERE pubname ~ {ours} \
             UNION SELECT '{DIGEST}', left(tgname, 19) FROM pg_trigger WHERE tgname ~ {ours} \
             UNION SELECT '{DIGEST}', left(proname, 19) FROM pg_proc p \
               JOIN pg_namespace n ON n.oid = p.pronamespace \
               WHERE n.nspname = 'foreshift' AND proname ~ {ours} \
             UNION SELECT CASE WHEN relname ~ '_(list|sums)$' THEN '{DIGEST}' \
                 WHEN EXISTS (SELECT 1 FROM pg_subscription s WHERE s.subname = relname) THEN '{SUBSCRIPTION}' \
                 ELSE '{PUBLICATION}' END, left(relname, 19) FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = 'foreshift' AND c.relkind = 'r' AND relname ~ {ours} \
             ORDER BY 1, 2"
        );
        let mut lines = session.ask(doing, &sql).await?;
        if session.one(doing, "SELECT to_regclass('foreshift.owner') IS NOT NULL").await?.yes(0) {
            let copies = format!("SELECT '{COPY}', made_by FROM foreshift.owner WHERE made_by ~ {ours}");
            lines.extend(session.ask(doing, &copies).await?);
        }
        let fences = format!(
            "SELECT '{}', h.fence FROM foreshift.held h JOIN foreshift.owner o USING (workload) \
             WHERE o.mode = 'fenced' AND o.until > clock_timestamp() + interval '24 hours'",
            Artifact::FENCE
        );
        lines.extend(session.ask_if_there(doing, &fences).await?.unwrap_or_default());
        Ok(lines.iter().map(|line| at(line.text(0), line.text(1), partition)).collect())
    }

    /// Every artifact of ours on every cluster that answers.
    pub(super) async fn scan(&self) -> Result<Vec<Artifact>, DriverError> {
        let (mut found, mut failed) = self.paused_pools().await;
        for address in &self.options.clusters {
            let looked = async {
                let session = self.session(address).await?;
                self.found_at(&session, &self.partition_of(address)).await
            };
            match looked.await {
                Ok(some) => found.extend(some),
                Err(error) => failed = Some(error),
            }
        }
        all_found(found, failed)
    }
}
