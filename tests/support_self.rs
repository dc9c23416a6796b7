//! The guard that every test with a real server relies on does what it promises.

mod support;

use std::process::Command;
use std::time::Duration;

use support::{Server, find_program, free_ports, wait_until};

#[test]
fn a_server_is_gone_when_its_handle_is_dropped_also_on_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let server = Server::start("sleep", sleep, folder.path());
    let process = format!("/proc/{}", server.id());
    assert!(std::path::Path::new(&process).exists());
    let panicked = std::thread::spawn(move || {
        let _held = server;
        std::panic::resume_unwind(Box::new("as a failing assertion would"));
    })
    .join();
    assert!(panicked.is_err());
    wait_until("the process is gone", Duration::from_secs(5), || !std::path::Path::new(&process).exists());
}

#[test]
fn free_ports_differ_and_absent_programs_are_not_found() {
    let mut ports = free_ports(20);
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 20);
    assert!(find_program("sh").is_some());
    assert!(find_program("no-such-program-anywhere").is_none());
}
