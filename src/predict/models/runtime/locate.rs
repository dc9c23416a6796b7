//! Where the library of ONNX Runtime may be.

use std::path::{Path, PathBuf};

/// The first library that exists: the configured one, `ORT_DYLIB_PATH`, the usual folders, a
/// pip-installed `onnxruntime` of the virtual environment, the user or the system.
pub fn find(configured: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = configured {
        return Some(library_in(path).unwrap_or_else(|| path.to_path_buf()));
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
        let path = PathBuf::from(path);
        return Some(library_in(&path).unwrap_or(path));
    }
    folders().iter().find_map(|folder| library_in(folder))
}

/// The library at `path`, or in the folder at `path`: the newest version.
fn library_in(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_path_buf());
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(path)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let stem = name.strip_prefix("lib").unwrap_or(&name);
            let rest = stem.strip_prefix("onnxruntime").unwrap_or("?");
            rest.starts_with(".so") || rest.ends_with(".dylib") || rest == ".dll"
        })
        .collect();
    found.sort_by_key(|p| version_of(p));
    found.pop()
}

fn version_of(path: &Path) -> Vec<u32> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.split('.').filter_map(|part| part.parse().ok()).collect()
}

fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = [
        "/usr/local/lib",
        "/usr/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/opt/onnxruntime/lib",
        "/opt/homebrew/lib",
    ]
    .map(PathBuf::from)
    .into();
    let mut prefixes: Vec<PathBuf> = Vec::new();
    prefixes.extend(std::env::var_os("VIRTUAL_ENV").map(PathBuf::from));
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        prefixes.push(home.join(".local"));
        prefixes.extend(children(&home.join(".pyenv/versions")));
    }
    // The Python that answers first on the path.
    if let Some(path) = std::env::var_os("PATH") {
        for folder in std::env::split_paths(&path) {
            if folder.join("python3").exists()
                && let Some(prefix) = folder.parent()
            {
                prefixes.push(prefix.to_path_buf());
            }
        }
    }
    prefixes.extend([PathBuf::from("/usr/local"), PathBuf::from("/usr")]);
    for prefix in prefixes {
        for python in children(&prefix.join("lib")) {
            if python.file_name().is_some_and(|n| n.to_string_lossy().starts_with("python3")) {
                for packages in ["site-packages", "dist-packages"] {
                    folders.push(python.join(packages).join("onnxruntime/capi"));
                }
            }
        }
    }
    folders
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_of_a_folder_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1", "libonnxruntime_providers_shared.so"]
        {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let found = find(Some(dir.path())).unwrap();
        assert!(found.ends_with("libonnxruntime.so.1.31.1"), "{found:?}");
    }
}
