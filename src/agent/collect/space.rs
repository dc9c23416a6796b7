//! How full the file systems are: the fullest speaks for the host. Looked at once a minute, because
//! a file system that hangs must not be asked often.

use std::ffi::CString;
use std::time::{Duration, Instant};

use super::{Metrics, Roots, put, text};

const EVERY: Duration = Duration::from_secs(60);
/// File systems that hold data of this host.
const REAL: [&str; 9] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs"];

/// The last look.
#[derive(Default)]
pub(super) struct Space {
    last: Option<(Instant, Option<f64>)>,
}

impl Space {
    pub(super) fn read(&mut self, roots: &Roots, metrics: &mut Metrics) {
        let used = match self.last {
            Some((at, used)) if at.elapsed() < EVERY => used,
            _ => {
                let mounts = text(&roots.proc.join("self/mounts")).unwrap_or_default();
                let used = mounts.lines().filter_map(real_mount).filter_map(|path| used_percent(&path));
                let fullest = used.reduce(f64::max);
                self.last = Some((Instant::now(), fullest));
                fullest
            }
        };
        put(metrics, "disk.used", used);
    }
}

/// The mount point of a line of `/proc/self/mounts`, where it is a real file system.
fn real_mount(line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    let (_, path, kind) = (words.next()?, words.next()?, words.next()?);
    let pseudo = ["/snap/", "/boot"].iter().any(|prefix| path.starts_with(prefix));
    (REAL.contains(&kind) && !pseudo).then(|| path.replace("\\040", " "))
}

/// As `df` counts: used of used and available to users.
fn used_percent(path: &str) -> Option<f64> {
    let stats = statvfs(path)?;
    let used = stats.f_blocks.checked_sub(stats.f_bfree)? as f64;
    let all = used + stats.f_bavail as f64;
    (all > 0.0).then(|| used / all * 100.0)
}

#[allow(unsafe_code)]
fn statvfs(path: &str) -> Option<libc::statvfs> {
    let path = CString::new(path).ok()?;
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` ends with NUL and `stats` has room for the structure, which the call fills when
    // it returns 0; it is read only then.
    unsafe { (libc::statvfs(path.as_ptr(), stats.as_mut_ptr()) == 0).then(|| stats.assume_init()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_file_systems_count() {
        assert_eq!(real_mount("/dev/sda1 /my\\040disk ext4 rw 0 0").as_deref(), Some("/my disk"));
        assert_eq!(real_mount("proc /proc proc rw 0 0"), None);
        assert_eq!(real_mount("/dev/loop3 /snap/core/1 ext4 ro 0 0"), None);
        assert!(used_percent("/").is_some_and(|used| (0.0..=100.0).contains(&used)));
        assert_eq!(used_percent("/no/such/place"), None);
    }
}
