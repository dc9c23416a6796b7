//! What the structure of one side was when the other was made like it. What a person changes there later
//! (an index, a trigger, a function, a sequence, a right) no stream of rows carries: a cut would lose it, and so is
//! refused, by name. The two sides themselves cannot be compared as text: a server writes what was restored into
//! it otherwise than what it came from (a `CHECK` over a list). One server says the same of the same at any time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::PostgresMover;
use super::scope::Scope;
use super::session::{Session, literal, system};
use super::stage::{Stage, refuse};
use super::verify::Running;
use crate::drivers::error::{DriverError, Retry};
use crate::drivers::mover::Job;
use crate::fleet::WorkloadId;

/// How many changes are named.
const NAMED: usize = 8;
const DOING: &str = "comparing the structure";
/// How long the gate before a cut waits in one call.
const AT_THE_GATE: Duration = Duration::from_millis(800);
const LOOK: Duration = Duration::from_millis(5);

/// What was changed at a source, as long as both catalogs say the same.
#[derive(Clone, Debug)]
pub(super) struct Shapes {
    source: String,
    catalogs: [String; 2],
    changed: Vec<String>,
}

/// A structure as `pg_dump` writes it: every object by kind and name.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Shape(BTreeMap<String, String>);

impl Shape {
    /// Reads a dump that holds nothing of ours any more.
    pub(super) fn read(dump: &str) -> Self {
        let mut all: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut name = None;
        for line in dump.lines() {
            if let Some(header) = line.strip_prefix("-- Name: ").and_then(named) {
                name = Some(header);
            } else if let Some(name) = &name
                && !(line.trim().is_empty() || line.starts_with("--") || line.starts_with("SET default_"))
            {
                all.entry(name.clone()).or_default().push(line);
            }
        }
        let text = |(name, mut lines): (String, Vec<&str>)| {
            // Rights and columns have no order that a person gave them.
            if name.starts_with("ACL ") || name.starts_with("TABLE ") {
                lines.iter_mut().for_each(|line| *line = line.trim_end_matches(','));
                lines.sort_unstable();
            }
            (name, lines.join("\n"))
        };
        Self(all.into_iter().map(text).collect())
    }

    /// As it is kept: a hash and a name in each line.
    fn kept(&self) -> String {
        let line = |(name, text): (&String, &String)| format!("{} {name}\n", hash(text));
        self.0.iter().map(line).collect()
    }

    /// What is otherwise than it was kept: the name, and what became of it.
    fn changes(&self, kept: &str) -> Vec<(String, &'static str)> {
        let mut before: BTreeMap<&str, &str> =
            kept.lines().filter_map(|line| line.split_once(' ')).map(|(hash, name)| (name, hash)).collect();
        let mut found = Vec::new();
        for (name, text) in &self.0 {
            match before.remove(name.as_str()) {
                None => found.push((name.clone(), "is new")),
                Some(was) if was != hash(text) => found.push((name.clone(), "was changed")),
                Some(_) => {}
            }
        }
        found.extend(before.into_keys().map(|name| (name.to_string(), "is gone")));
        found
    }
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_string()
}

/// `INDEX m.tv` of a dump's `tv; Type: INDEX; Schema: m; Owner: o`.
fn named(header: &str) -> Option<String> {
    let (name, rest) = header.split_once("; Type: ")?;
    let (kind, rest) = rest.split_once("; Schema: ")?;
    let schema = rest.split_once("; Owner: ").map_or(rest, |(schema, _)| schema);
    Some(match schema {
        "-" => format!("{kind} {name}"),
        _ => format!("{kind} {schema}.{name}"),
    })
}

/// The statement that keeps, where it is carried out, what the other side's structure is.
pub(super) fn keep_sql(workload: &WorkloadId, shape: &Shape) -> String {
    format!(
        "INSERT INTO foreshift.shape (workload, objects) VALUES ({}, {}) \
         ON CONFLICT (workload) DO UPDATE SET objects = excluded.objects",
        literal(workload.as_str()),
        literal(&shape.kept())
    )
}

/// A number that is another one as soon as anybody changes the structure, on one server: every such change writes
/// rows of the catalog anew. Reads no definition, so that it can be asked for while writes are held.
pub(super) fn catalog_sql(scope: &Scope) -> String {
    let covered = scope.covers("n");
    let of_namespace = |table: &str, namespace: &str| {
        format!(
            "SELECT o.oid, o.xmin FROM {table} o JOIN pg_namespace n ON n.oid = o.{namespace} WHERE {covered}"
        )
    };
    let of_class = |table: &str, class: &str, oid: &str| {
        format!(
            "SELECT o.{oid}::bigint::oid, o.xmin FROM {table} o JOIN pg_class c ON c.oid = o.{class} \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {covered}"
        )
    };
    let all = [
        format!("SELECT n.oid, n.xmin FROM pg_namespace n WHERE {covered}"),
        // A materialised view that is filled anew is no change.
        format!("{} AND o.relkind <> 'm'", of_namespace("pg_class", "relnamespace")),
        of_namespace("pg_proc", "pronamespace"),
        of_namespace("pg_type", "typnamespace"),
        of_namespace("pg_constraint", "connamespace"),
        of_class("pg_attribute", "attrelid", "attrelid"),
        of_class("pg_attrdef", "adrelid", "oid"),
        of_class("pg_index", "indrelid", "indexrelid"),
        of_class("pg_trigger", "tgrelid", "oid"),
        of_class("pg_rewrite", "ev_class", "oid"),
        of_class("pg_policy", "polrelid", "oid"),
        of_class("pg_sequence", "seqrelid", "seqrelid"),
        format!(
            "SELECT o.oid, o.xmin FROM pg_enum o JOIN pg_type t ON t.oid = o.enumtypid \
             JOIN pg_namespace n ON n.oid = t.typnamespace WHERE {covered}"
        ),
    ];
    format!(
        "(SELECT count(*) || ' ' || coalesce(sum(hashtextextended(w.oid || ' ' || w.xmin, 0)), 0) \
         FROM ({}) w(oid, xmin))",
        all.join(" UNION ALL ")
    )
}

impl PostgresMover {
    /// The structure of a workload at a cluster.
    pub(super) async fn shape(&self, stage: &Stage, address: &str) -> Result<Shape, DriverError> {
        Ok(Shape::read(&self.dump(stage, address).await?))
    }

    /// What was changed at the source since the destination was made like it, and is not there, too; nothing where
    /// nobody noted how it was (a tenant's tables are made by people, on every cluster).
    async fn changed_since(
        &self,
        job: &Job,
        stage: &Stage,
        destination: &Session,
    ) -> Result<Vec<String>, DriverError> {
        if stage.scope.tenant().is_some() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT objects FROM foreshift.shape WHERE workload = {}",
            literal(job.workload.as_str())
        );
        let kept = destination.ask_if_there("reading what the structure was", &sql).await?;
        let Some(kept) = kept.and_then(|lines| lines.first().map(|line| line.text(0).to_string())) else {
            return Ok(Vec::new());
        };
        let now = self.shape(stage, &stage.source).await?;
        let changes = now.changes(&kept);
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        // Somebody may have changed both.
        let theirs = self.shape(stage, &stage.destination).await?;
        let missing = changes.into_iter().filter(|(name, _)| theirs.0.get(name) != now.0.get(name));
        Ok(missing.map(|(name, what)| format!("{name} {what}")).collect())
    }

    /// What the catalogs of both sides say now.
    async fn catalogs(&self, stage: &Stage) -> Result<[String; 2], DriverError> {
        let sql = format!("SELECT {}", catalog_sql(&stage.scope));
        let (source, destination) =
            (self.session(&stage.source).await?, self.session(&stage.destination).await?);
        let (ours, theirs) = (source.one(DOING, &sql).await?, destination.one(DOING, &sql).await?);
        Ok([ours.text(0).to_string(), theirs.text(0).to_string()])
    }

    /// What was changed ([`Self::changed_since`]), as both catalogs are now; `None` where that is not known after
    /// `patience`. It is read in the background and known for as long as nobody changes anything, so that nobody
    /// waits for it who holds writes.
    pub(super) async fn changed(
        &self,
        job: &Job,
        stage: &Stage,
        patience: Duration,
    ) -> Result<Option<Vec<String>>, DriverError> {
        if stage.scope.tenant().is_some() {
            return Ok(Some(Vec::new()));
        }
        let start = Instant::now();
        loop {
            let catalogs = self.catalogs(stage).await?;
            let known = self.with_work(job, |w| w.shapes.clone());
            if let Some(known) = known.filter(|k| k.source == stage.source && k.catalogs == catalogs) {
                return Ok(Some(known.changed));
            }
            if self.with_work(job, |w| w.comparing.is_none()) {
                let (mover, of, stage) = (self.clone(), job.clone(), stage.clone());
                let task = Running::spawn(async move { mover.compare_shapes(&of, &stage).await });
                self.with_work(job, |w| w.comparing = Some(task));
            }
            while !self.with_work(job, |w| w.comparing.as_ref().is_none_or(Running::is_finished)) {
                if start.elapsed() >= patience {
                    return Ok(None);
                }
                tokio::time::sleep(LOOK).await;
            }
            if let Some(ended) = self.with_work(job, |w| w.comparing.take()) {
                let shapes = ended.result(DOING, &stage.source).await?;
                self.with_work(job, |w| w.shapes = Some(shapes));
            }
            if start.elapsed() >= patience {
                return Ok(None);
            }
        }
    }

    async fn compare_shapes(&self, job: &Job, stage: &Stage) -> Result<Shapes, DriverError> {
        let catalogs = self.catalogs(stage).await?;
        let destination = self.session(&stage.destination).await?;
        let changed = self.changed_since(job, stage, &destination).await?;
        Ok(Shapes { source: stage.source.clone(), catalogs, changed })
    }

    /// Whether nothing was changed at a source whose catalog says this, as far as that is known.
    pub(super) fn is_known_unchanged(&self, job: &Job, stage: &Stage, catalog: &str) -> bool {
        self.with_work(job, |w| {
            let known = w.shapes.as_ref().filter(|k| k.source == stage.source && k.catalogs[0] == catalog);
            known.is_some_and(|known| known.changed.is_empty())
        })
    }

    /// What a cut waits for: both structures to be compared. What differs is told when the cut begins.
    pub(super) async fn shapes_wait_for(&self, job: &Job, stage: &Stage) -> Option<String> {
        match self.changed(job, stage, AT_THE_GATE).await {
            Ok(None) => Some("the structure of both sides to be compared".into()),
            Ok(Some(_)) | Err(_) => None,
        }
    }

    /// Refuses to hold writes for a cut that would lose what a person changed.
    pub(super) async fn refuse_changed(&self, job: &Job, stage: &Stage) -> Result<(), DriverError> {
        match self.changed(job, stage, self.options.command_timeout.to_std()).await? {
            Some(changed) if changed.is_empty() => Ok(()),
            Some(changed) => {
                let why = format!(
                    "the structure was changed here and is not so at {}: {}; no stream carries that. Change it \
                     there, too, or let the move begin anew",
                    stage.destination,
                    said(&changed)
                );
                refuse(&stage.source, DOING, why)
            }
            None => Err(slow(stage)),
        }
    }
}

/// Both structures are not compared yet.
pub(super) fn slow(stage: &Stage) -> DriverError {
    DriverError::new(
        Retry::Retryable,
        system(&stage.source),
        DOING,
        "it goes on in the background; try again",
    )
}

/// The first few of them.
fn said(changed: &[String]) -> String {
    let more = changed.len().saturating_sub(NAMED);
    let first = changed.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match more {
        0 => first,
        _ => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "SET statement_timeout = 0;\n\n--\n-- Name: m; Type: SCHEMA; Schema: -; Owner: o\n--\n\n\
        CREATE SCHEMA IF NOT EXISTS m;\n\nSET default_tablespace = '';\n\n--\n\
        -- Name: t; Type: TABLE; Schema: m; Owner: o\n--\n\nCREATE TABLE m.t (\n    id integer NOT NULL,\n    v integer\n);\n\n\
        --\n-- Name: t foreshift_guard; Type: TRIGGER; Schema: m; Owner: o\n--\n\n\n\
        --\n-- Name: tv; Type: INDEX; Schema: m; Owner: o\n--\n\nCREATE UNIQUE INDEX tv ON m.t USING btree (v);\n";

    #[test]
    fn what_was_changed_is_named_and_what_is_ours_is_none_of_it() {
        let shape = Shape::read(DUMP);
        let names: Vec<&str> = shape.0.keys().map(String::as_str).collect();
        assert_eq!(names, ["INDEX m.tv", "SCHEMA m", "TABLE m.t"], "the guard's line was taken out before");
        let kept = shape.kept();
        assert_eq!(shape.changes(&kept), []);
        let later = DUMP.replace("UNIQUE ", "").replace("-- Name: m;", "-- Name: other;");
        assert_eq!(
            Shape::read(&later).changes(&kept),
            [
                ("INDEX m.tv".to_string(), "was changed"),
                ("SCHEMA other".to_string(), "is new"),
                ("SCHEMA m".to_string(), "is gone")
            ]
        );
    }

    #[test]
    fn the_order_of_columns_and_rights_is_no_change() {
        let other = DUMP.replace(
            "    id integer NOT NULL,\n    v integer\n",
            "    v integer,\n    id integer NOT NULL\n",
        );
        assert_eq!(Shape::read(&other), Shape::read(DUMP));
    }

    #[test]
    fn a_kept_shape_that_is_none_finds_everything_new() {
        assert_eq!(Shape::read(DUMP).changes("no such thing\n\n").len(), 4);
    }
}
