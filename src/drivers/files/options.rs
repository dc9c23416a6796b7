//! Which directories are partitions.

use std::path::PathBuf;

use crate::fleet::{ApplicationId, HostId, PartitionId};

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
    /// Class of its workloads: `files/NAME`.
    pub class: String,
    /// All partitions.
    pub roots: Vec<Root>,
    /// The application that the directories belong to.
    pub application: ApplicationId,
}

impl FilesOptions {
    /// The driver `name` of the configuration, whose application is called like it; every path is a
    /// partition called like its last part.
    pub fn new(name: &str, roots: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self {
            class: format!("files/{name}"),
            roots: roots.into_iter().map(|path| Root::new(path.into(), None)).collect(),
            application: ApplicationId::from(name),
        }
    }
}

impl Root {
    /// The directory at `path`: the partition `HOST/LAST` of the host that is said to hold it, else one
    /// that is called like its last part, as is its host.
    pub fn new(path: PathBuf, host: Option<&HostId>) -> Self {
        let last = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let partition = host.map_or_else(|| PartitionId::from(last.as_str()), |h| PartitionId::of(h, &last));
        Self { partition, path }
    }
}
