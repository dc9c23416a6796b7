//! `foreshift demo` itself on a pseudo-terminal, by keys, from the first picture to the shell: a
//! failing host is proposed for evacuation, approved, its canary stepped, a move rolled back.

#[path = "support/pty.rs"]
mod pty;

use std::path::Path;
use std::time::{Duration, Instant};

use pty::{MODERN, Pty};

/// A simulated minute or two of trouble, on a machine with other things to do.
const LONG: Duration = Duration::from_secs(240);

fn demo(arguments: &[&str]) -> Pty {
    let arguments: Vec<&str> = ["demo", "--seed", "7"].iter().chain(arguments).copied().collect();
    Pty::spawn(Path::new(env!("CARGO_BIN_EXE_foreshift")), &arguments, MODERN, (130, 40))
}

/// The words that begin with `prefix` and a number, in the order in which they stand: `P-3`, `M-12`.
fn numbered(text: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '-') {
        let number = word.strip_prefix(prefix).is_some_and(|n| n.parse::<u64>().is_ok());
        if number && !found.iter().any(|f| f == word) {
            found.push(word.to_string());
        }
    }
    found
}

/// Opens the confirmation `title` by `key` and goes through it, whatever it asks for; `false` where
/// the engine says that it is too late for that.
fn confirm(pty: &mut Pty, key: &str, action: &str, title: &str) -> bool {
    pty.keys(key);
    let (asked, refused) = (format!("{title}?"), format!("{action}: "));
    let text = pty.until(title, |text| text.contains(&asked) || text.contains(&refused));
    if !text.contains(&asked) {
        return false;
    }
    pty.armed();
    let text = pty.text();
    match text.split("type ").nth(1).and_then(|rest| rest.split_whitespace().next()) {
        Some(name) => {
            pty.keys(name);
            if text.contains("reason (") {
                pty.keys("\tthe test wants it");
            }
        }
        None if text.contains("y yes") => {
            pty.keys("y");
            pty.shows("enter do it");
        }
        None => {}
    }
    pty.keys("\r");
    pty.until("the popup to close", |text| !text.contains(&asked));
    true
}

/// Opens the newest proposal, reads what it would do, and approves it. While the host goes on failing
/// a plan can be overtaken by a better one: the engine refuses then, and the next is read.
fn approve(pty: &mut Pty) -> String {
    let end = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < end, "no proposal could be approved; the screen is:\n{}", pty.text());
        pty.keys("5gg");
        pty.until("the proposals", |text| text.contains("PROPOSALS"));
        pty.keys("\r");
        let shown = pty.until("what it would do", |text| text.contains("IF NOTHING IS DONE"));
        assert!(shown.contains("before") && shown.contains("after"), "{shown}");
        assert!(shown.contains("way back"), "{shown}");
        let proposal = numbered(&shown, "P-").remove(0);
        if !confirm(pty, "a", "approve", &format!("approve {proposal}")) {
            continue;
        }
        let approved = format!("{proposal} approved");
        let answer = pty.until("an answer", |text| text.contains(&approved) || text.contains("stale"));
        if answer.contains(&approved) {
            return proposal;
        }
    }
}

#[test]
fn a_failing_host_is_proposed_approved_stepped_and_a_move_undone_by_keys() {
    let mut pty = demo(&["--speed", "8"]);
    pty.shows("WAITING FOR YOU");
    pty.within(LONG, "the fleet", |text| text.contains("fra") && text.contains("healthy"));
    // Nobody touches a key: the failing host is seen, and a proposal waits.
    pty.within(LONG, "a proposal", |text| !numbered(text, "P-").is_empty());
    let proposal = approve(&mut pty);

    // One of its moves is stepped at its canary; each is a few seconds long.
    let end = Instant::now() + LONG;
    let mut stepped = None;
    while stepped.is_none() {
        assert!(Instant::now() < end, "no canary was stepped; the screen is:\n{}", pty.text());
        pty.keys("6gg");
        let list = pty.until("the migrations", |text| text.contains("MIGRATIONS"));
        let Some(row) = list.lines().find(|line| line.contains("canary") && line.contains("M-")) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let id = numbered(row, "M-").remove(0);
        pty.keys(&format!(":{id}\r"));
        pty.until(&id, |text| text.contains("WHAT HAPPENED") && text.contains(&id));
        if confirm(&mut pty, ".", "next-step", &format!("step {id}")) {
            stepped = Some(id);
        }
    }
    let stepped = stepped.unwrap();

    // It is undone, from wherever it is by now.
    assert!(confirm(&mut pty, "u", "undo", &format!("undo {stepped}")), "{}", pty.text());
    pty.within(LONG, "the way back", |text| text.contains("rolled back") || text.contains("aborted"));

    // The audit screen has it all.
    pty.keys("8");
    let audit = pty.until("the audit log", |text| text.contains("AUDIT") && text.contains("roll back"));
    assert!(audit.contains(&format!("approve {proposal}")), "{audit}");

    pty.keys("Q");
    let asked = pty.until("the end", |text| text.contains("quit?") || text.is_empty());
    if asked.contains("quit?") {
        pty.armed();
        pty.keys("y");
        pty.shows("enter do it");
        pty.keys("\r");
    }
    pty.ends();
    pty.assert_given_back();
    assert!(pty.child.wait().unwrap().success());
}

#[test]
fn it_stands_before_the_engine_does_and_sigterm_gives_the_terminal_back_at_any_time() {
    for wait_for_fleet in [false, true] {
        let mut pty = demo(&[]);
        pty.shows("WAITING FOR YOU");
        if wait_for_fleet {
            pty.within(LONG, "the fleet", |text| text.contains("fra"));
        }
        pty.keys("?");
        pty.shows("ON THIS SCREEN");
        pty.signal(rustix::process::Signal::TERM);
        pty.ends();
        pty.assert_given_back();
        assert!(pty.child.wait().unwrap().success());
    }
}

#[test]
fn a_read_only_console_offers_no_key_that_changes_anything_and_refuses_each() {
    let mut pty = demo(&["--read-only"]);
    pty.within(LONG, "the fleet", |text| text.contains("READ-ONLY") && text.contains("fra"));
    let screens = [
        ("1", "MOST AT RISK"),
        ("2", "HOSTS"),
        ("3", "PARTITIONS"),
        ("\r", "OF LATE"),
        ("4", "WORKLOADS"),
        ("5", "PROPOSALS"),
        ("6", "MIGRATIONS"),
        ("7", "LOG"),
        ("8", "AUDIT"),
        ("9", "ALERTS"),
    ];
    for (key, title) in screens {
        pty.keys(key);
        let text = pty.until(title, |text| text.contains(title) && text.contains("? help"));
        let footer = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        for offer in ["approve", "reject", "hold", "promote", "undo", "evacuate", "stop all", "next step"] {
            assert!(!footer.contains(offer), "{offer} is offered beside {title}: {footer}");
        }
    }
    for key in ["!", "m"] {
        pty.keys(key);
        pty.shows("this engine is read-only");
    }
    assert!(!pty.text().contains("cancel"), "a confirmation opened: {}", pty.text());
    pty.keys("Q");
    pty.ends();
    pty.assert_given_back();
}
