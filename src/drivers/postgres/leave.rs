//! What becomes of the place that a workload has left: it stays as a copy that refuses writes, or what the
//! move left there is dropped. The mark stays either way: it is what refuses a deposed leader.

use super::options::AfterMove;
use super::scope::Scope;
use super::session::{Session, literal};
use super::stage::{Stage, refuse};
use super::structure::objects;
use super::sweep::UNSUBSCRIBE;
use super::{PostgresMover, done, stream};
use crate::drivers::error::DriverError;
use crate::drivers::mover::{Answer, Job, Permit};

const DOING: &str = "retiring the source";
/// The schema that PostgreSQL makes itself, and which stays.
const PUBLIC: &str = "public";

impl PostgresMover {
    /// Leaves the source as policy says; the destination's copy is its own from now on.
    pub(super) async fn retire(&self, job: &Job, permit: &Permit) -> Result<Answer, DriverError> {
        let stage = self.stage(job)?;
        if !self.opened(job, &stage).await? {
            return refuse(
                &stage.destination,
                DOING,
                "the destination does not own the workload; nothing was done",
            );
        }
        self.forget(job);
        let destination = self.session(&stage.destination).await?;
        let own = format!(
            "UPDATE foreshift.owner SET made_by = NULL, made = 'nothing' WHERE workload = {}",
            literal(job.workload.as_str())
        );
        destination.ask(DOING, &own).await?;
        let source = self.session(&stage.source).await?;
        let sql = format!(
            "UPDATE foreshift.owner SET mode = 'standby', until = NULL, made_by = NULL, owner_is = {} \
             WHERE workload = {} AND generation < {}",
            literal(&stage.destination),
            literal(job.workload.as_str()),
            job.generation.0
        );
        source.ask(DOING, &sql).await?;
        // A whole database goes as one.
        if self.options.after_move == AfterMove::KeepCopy || matches!(stage.scope, Scope::Database(_)) {
            return Ok(done(format!("{} stays as a copy that refuses writes", stage.source)));
        }
        // Who applies the stream back would look for its tables in vain.
        stream::unsubscribe(&source, &stage.names.back, UNSUBSCRIBE).await?;
        match stage.scope.tenant() {
            None => self.drop_left(&source, job, &stage, permit).await?,
            Some(tenant) => self.drop_left_rows(&source, job, &stage, tenant, permit).await?,
        }
        Ok(done(format!("{} was dropped from {}; the mark stays", stage.scope.words(), stage.source)))
    }

    /// Drops a copy that a move left, in the one transaction that makes certain that it is one and stays one; done
    /// again it changes nothing.
    pub(super) async fn drop_left(
        &self,
        session: &Session,
        job: &Job,
        stage: &Stage,
        permit: &Permit,
    ) -> Result<(), DriverError> {
        let sql = format!(
            "SET LOCAL lock_timeout = {wait}; SELECT pg_advisory_xact_lock({lock}); \
             DO $left$ DECLARE m foreshift.owner; outside text[]; drops text[]; one text; torn text; BEGIN \
             SELECT * INTO m FROM foreshift.owner o WHERE o.workload = {workload} FOR UPDATE; \
             IF m.epoch > {epoch} THEN RAISE EXCEPTION USING ERRCODE = 'FS001', \
               MESSAGE = format('the leader of epoch e%s was here, ours is e{epoch}: this engine is deposed', m.epoch); \
             END IF; \
             IF m.mode IS DISTINCT FROM 'standby' OR m.generation >= {generation} THEN \
               RAISE EXCEPTION USING ERRCODE = 'FS002', MESSAGE = format( \
               '%s is %s here at g%s, so it is no copy that a move to g{generation} left; nothing was dropped', \
               {workload}, coalesce(m.mode, 'not known'), m.generation); END IF; \
             outside := ARRAY({outside}); \
             drops := ARRAY(SELECT format('DROP %s IF EXISTS %s CASCADE', l.kind, l.name) \
               FROM ({objects}) AS l(kind, name)); \
             FOREACH one IN ARRAY drops LOOP EXECUTE one; END LOOP; \
             SELECT string_agg(t.what, ', ' ORDER BY t.what) INTO torn \
               FROM (SELECT unnest(outside) AS what EXCEPT ({outside})) t; \
             IF torn IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = 'FS003', MESSAGE = format( \
               'of other schemas there depends on it: %s; drop that, or leave the copy', torn); END IF; \
             IF {schema} <> '{PUBLIC}' THEN BEGIN EXECUTE format('DROP SCHEMA IF EXISTS %I RESTRICT', {schema}); \
               EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END; END IF; END $left$",
            wait = self.options.lock_timeout.0.max(1),
            lock = stage.lock,
            workload = literal(job.workload.as_str()),
            epoch = permit.epoch().0,
            generation = job.generation.0,
            schema = literal(stage.scope.marked()),
            objects = objects(stage.scope.marked()),
            outside = others(stage.scope.marked()),
        );
        session.ask_long("dropping the copy that is left", &sql, self.options.scan_timeout).await.map(|_| ())
    }

    /// Whether the source is left as policy says.
    pub(super) async fn is_left(&self, source: &Session, scope: &Scope) -> Result<bool, DriverError> {
        if self.options.after_move == AfterMove::KeepCopy || matches!(scope, Scope::Database(_)) {
            return Ok(true);
        }
        if scope.tenant().is_some() {
            return self.no_row_left(source, scope).await;
        }
        Ok(source.ask("looking for what is left", &objects(scope.marked())).await?.is_empty())
    }
}

/// What asks for all that stands in other schemas and could go with something of this one.
fn others(schema: &str) -> String {
    let within = "ARRAY(SELECT n.oid FROM pg_namespace n WHERE n.nspname LIKE 'pg\\_%' OR n.nspname = WHICH)"
        .replace("WHICH", &literal(schema));
    format!(
        "SELECT 'relation ' || c.oid::regclass::text FROM pg_class c WHERE c.relnamespace <> ALL ({within}) \
         UNION ALL SELECT 'routine ' || p.oid::regprocedure::text FROM pg_proc p \
           WHERE p.pronamespace <> ALL ({within}) \
         UNION ALL SELECT 'type ' || t.oid::regtype::text FROM pg_type t \
           WHERE t.typnamespace <> ALL ({within}) \
         UNION ALL SELECT 'constraint ' || k.conname || ' of ' || k.conrelid::regclass::text \
           FROM pg_constraint k WHERE k.connamespace <> ALL ({within}) \
         UNION ALL SELECT 'column ' || a.attname || ' of ' || c.oid::regclass::text FROM pg_attribute a \
           JOIN pg_class c ON c.oid = a.attrelid \
           WHERE c.relnamespace <> ALL ({within}) AND a.attnum > 0 AND NOT a.attisdropped \
         UNION ALL SELECT 'default of ' || a.attname || ' of ' || c.oid::regclass::text FROM pg_attrdef d \
           JOIN pg_class c ON c.oid = d.adrelid \
           JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
           WHERE c.relnamespace <> ALL ({within}) \
         UNION ALL SELECT 'rule ' || r.rulename || ' of ' || c.oid::regclass::text FROM pg_rewrite r \
           JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace <> ALL ({within}) \
         UNION ALL SELECT 'policy ' || y.polname || ' of ' || c.oid::regclass::text FROM pg_policy y \
           JOIN pg_class c ON c.oid = y.polrelid WHERE c.relnamespace <> ALL ({within}) \
         UNION ALL SELECT 'trigger ' || g.tgname || ' of ' || c.oid::regclass::text FROM pg_trigger g \
           JOIN pg_class c ON c.oid = g.tgrelid WHERE c.relnamespace <> ALL ({within}) AND NOT g.tgisinternal \
         UNION ALL SELECT 'event trigger ' || e.evtname FROM pg_event_trigger e"
    )
}
