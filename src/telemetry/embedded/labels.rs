//! What is said of hosts beside their samples, in a file of its own.

use std::collections::BTreeMap;
use std::path::Path;

use crate::fleet::HostId;

/// Labels of each host.
pub(super) type Labels = BTreeMap<HostId, BTreeMap<String, String>>;

/// Those of the folder; none where there is no file.
pub(super) fn read_labels(path: &Path) -> Result<Labels, String> {
    let file = path.join("labels.json");
    match std::fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Labels::new()),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

/// Writes them so that the file is whole at every moment.
pub(super) fn write_labels(path: &Path, labels: &Labels) -> Result<(), String> {
    let (new, file) = (path.join("labels.json.new"), path.join("labels.json"));
    let bytes = serde_json::to_vec_pretty(labels).map_err(|e| e.to_string())?;
    std::fs::write(&new, bytes)
        .and_then(|()| std::fs::rename(&new, &file))
        .map_err(|e| format!("{}: {e}", file.display()))
}
