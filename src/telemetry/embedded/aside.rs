//! The store for whoever reads beside the engine: a training, a look at history. What came behind the
//! watermark is kept for the one that follows the store, and the watermark stays where it is.

use async_trait::async_trait;

use super::EmbeddedStore;
use crate::fleet::{PartitionId, Timestamp};
use crate::telemetry::source::{Ingest, PullReport, Source, SourceError};

/// A store that is read without being followed.
#[derive(Clone)]
pub struct Aside(EmbeddedStore);

impl EmbeddedStore {
    /// The same store, to be read without being followed.
    pub fn aside(&self) -> Aside {
        Aside(self.clone())
    }
}

#[async_trait]
impl Source for Aside {
    fn name(&self) -> String {
        Source::name(&self.0)
    }

    /// What is stored of `[since, until)`, and nothing else.
    async fn pull(
        &self,
        since: Timestamp,
        until: Timestamp,
        into: &mut dyn Ingest,
    ) -> Result<PullReport, SourceError> {
        let store = self.0.clone();
        self.0.deliver(move || store.scan(since, until), into).await
    }

    async fn pull_of(
        &self,
        partitions: &[PartitionId],
        since: Timestamp,
        until: Timestamp,
        into: &mut dyn Ingest,
    ) -> Result<Option<PullReport>, SourceError> {
        self.0.pull_of(partitions, since, until, into).await
    }

    async fn check(&self) -> Result<String, SourceError> {
        self.0.check().await
    }
}
