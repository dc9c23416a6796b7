//! Which directories are partitions.

use std::path::PathBuf;

use crate::fleet::{ApplicationId, PartitionId};

/// One partition: a directory whose directories are workloads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// What it is called; contains its host's name.
    pub partition: PartitionId,
    /// Where it is.
    pub path: PathBuf,
}

/// The roots that the driver moves directories between.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilesOptions {
    /// All partitions.
    pub roots: Vec<Root>,
    /// The application that the directories belong to.
    pub application: ApplicationId,
}

impl FilesOptions {
    /// Every path is a partition called like its last part.
    pub fn new(application: &str, roots: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let root = |path: PathBuf| {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            Root { partition: PartitionId::from(name), path }
        };
        Self {
            roots: roots.into_iter().map(Into::into).map(root).collect(),
            application: ApplicationId::from(application),
        }
    }
}
