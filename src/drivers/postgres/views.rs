//! Materialised views: their definition comes with the structure, without rows, and nobody can read one that was
//! never filled. So they are filled at the destination once what they read is there. What they hold is as of
//! then; the owner refreshes them as it did before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PostgresMover;
use super::scope::Scope;
use super::session::{Clusters, Session};
use super::stage::{Stage, qualified};
use super::verify::Running;
use crate::drivers::error::DriverError;
use crate::drivers::mover::Job;
use crate::fleet::Span;

/// How long a call waits for the views before it says that it goes on.
const PATIENCE: Duration = Duration::from_millis(800);

/// The materialised views of a workload that are filled, or are not, as SQL names them and in the order in which
/// they were made: one that reads another was made after it.
async fn views(session: &Session, scope: &Scope, filled: bool) -> Result<Vec<String>, DriverError> {
    let sql = format!(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE {} AND c.relkind = 'm' AND c.relispopulated = {filled} ORDER BY c.oid",
        scope.covers("n")
    );
    let lines = session.ask("reading the materialised views", &sql).await?;
    Ok(lines.iter().map(|line| qualified(line.text(0), line.text(1))).collect())
}

async fn fill(
    clusters: Arc<Clusters>,
    address: String,
    wanted: Vec<String>,
    scan: Span,
) -> Result<(), DriverError> {
    let session = clusters.session(&address).await?;
    for on in wanted {
        let doing = format!("filling the materialised view {on}");
        session.ask_long(&doing, &format!("REFRESH MATERIALIZED VIEW {on}"), scan).await?;
    }
    Ok(())
}

impl PostgresMover {
    /// Fills the materialised views that are filled at the source and are not at the destination; what it waits
    /// for, `None` = nothing any more.
    pub(super) async fn fill_views(
        &self,
        job: &Job,
        stage: &Stage,
        source: &Session,
        destination: &Session,
    ) -> Result<Option<String>, DriverError> {
        let scope = &stage.scope;
        let start = Instant::now();
        loop {
            if self.with_work(job, |w| w.views.as_ref().is_some_and(|r| !r.is_finished())) {
                if start.elapsed() > PATIENCE {
                    return Ok(Some("the materialised views to be filled".into()));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            if let Some(ended) = self.with_work(job, |w| w.views.take()) {
                ended.result("filling the materialised views", &stage.destination).await?;
            }
            let empty = views(destination, scope, false).await?;
            if empty.is_empty() {
                return Ok(None);
            }
            let filled = views(source, scope, true).await?;
            let wanted: Vec<String> = empty.into_iter().filter(|view| filled.contains(view)).collect();
            if wanted.is_empty() {
                return Ok(None);
            }
            let (clusters, scan) = (self.clusters.clone(), self.options.scan_timeout);
            let filling = fill(clusters, stage.destination.clone(), wanted, scan);
            self.with_work(job, |w| w.views = Some(Running::spawn(filling)));
        }
    }
}
