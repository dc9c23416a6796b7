//! What the program does with wrong words, with `--read-only`, and where nobody reads what it says.

#[path = "support/program.rs"]
mod program;
mod support;

use std::path::Path;
use std::process::{Output, Stdio};

use program::{Program, bare};

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn data(program: &Program) -> std::path::PathBuf {
    program.config.parent().expect("a folder").join("data")
}

const EMBEDDED: &str = "[telemetry]\nsource = \"embedded\"";

#[test]
fn read_only_refuses_every_command_that_changes_something_before_it_opens_anything() {
    let program = Program::new("", EMBEDDED);
    for arguments in [
        &["agent"][..],
        &["evacuate", "h1", "--yes"],
        &["failures", "add", "h1"],
        &["failures", "import", "/dev/null"],
        &["failures", "correct", "1", "survived"],
        &["leaks"],
        &["leaks", "--remove", "--yes"],
        &["models", "promote", "1"],
        &["models", "shadow", "1"],
        &["models", "revert"],
        &["train"],
        &["train", "--shipped"],
    ] {
        let refused = program.command(arguments).arg("--read-only").output().expect("the program");
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", err(&refused));
        assert!(err(&refused).contains("--read-only changes nothing"), "{arguments:?}: {}", err(&refused));
        assert!(!data(&program).exists(), "{arguments:?} made the data directory");
    }
    for arguments in [&["failures", "list"][..], &["failures", "export"], &["models", "list"], &["check"]] {
        let looked = program.command(arguments).arg("--read-only").output().expect("the program");
        assert_eq!(looked.status.code(), Some(0), "{arguments:?}: {}{}", out(&looked), err(&looked));
        assert!(!data(&program).exists(), "{arguments:?} made the data directory");
    }
}

#[test]
fn a_reader_that_leaves_ends_nothing_in_a_panic() {
    let program = Program::new("", EMBEDDED);
    for arguments in
        [&["check"][..], &["models", "list"], &["failures", "export"], &["bench", "--partitions", "2"]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = program.command(arguments);
        let ended = command.stdout(writer).stderr(Stdio::piped()).output().expect("the program");
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}: {}", err(&ended));
        assert!(!err(&ended).contains("panicked"), "{arguments:?}: {}", err(&ended));
    }
}

#[test]
fn numbers_and_addresses_that_make_no_sense_are_refused_with_what_would() {
    for (arguments, expected) in [
        (&["demo", "--headless", "--speed", "NaN"][..], "above 0"),
        (&["demo", "--headless", "--speed", "0"], "above 0"),
        (&["demo", "--headless", "--speed", "-1"], "above 0"),
        (&["bench", "--partitions", "0"], "from 1"),
        (&["bench", "--cycles", "0"], "from 1"),
        (&["attach", ""], "http://127.0.0.1:7117"),
        (&["attach", "ftp://x"], "http://127.0.0.1:7117"),
        (&["journal", "show", "nonsense"], "M-12"),
    ] {
        let refused = bare(arguments).output().expect("the program");
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", err(&refused));
        assert!(err(&refused).contains(expected), "{arguments:?}: {}", err(&refused));
    }
}

#[test]
fn without_a_configuration_headless_says_where_it_looked() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = bare(&["--headless"]);
    command.current_dir(folder.path()).env("HOME", folder.path()).env_remove("XDG_CONFIG_HOME");
    let refused = command.output().expect("the program");
    let said = err(&refused);
    assert_eq!((refused.status.code(), out(&refused).as_str()), (Some(1), ""), "{said}");
    for part in ["/foreshift.toml", ".config/foreshift/config.toml", "--config", "demo --headless"] {
        assert!(said.contains(part), "{said} does not name {part}");
    }
}

#[test]
fn check_finds_what_the_console_would_refuse() {
    for (section, expected) in [
        ("[console.keys]\napprove = [\"x\"]", "on one screen"),
        ("[console.keys]\naprove = [\"a\"]", "approve"),
        ("[console]\ntheme = \"nope\"", "nope"),
    ] {
        let found = Program::new("", &format!("{EMBEDDED}\n{section}")).run(&["check"]);
        let said = out(&found);
        assert_eq!(found.status.code(), Some(1), "{section}: {said}");
        let line = said.lines().find(|l| l.contains("broken")).unwrap_or_default();
        assert!(line.contains("console") && line.contains(expected), "{section}: {said}");
    }
}

#[test]
fn check_warns_of_a_driver_that_finds_nothing_to_move() {
    let folder = tempfile::tempdir().expect("a folder");
    let roots = ["a", "b"].map(|root| folder.path().join(root));
    roots.iter().for_each(|root| std::fs::create_dir(root).expect("a root"));
    let section = format!("[drivers.archive]\nclass = \"files\"\nroots = {roots:?}");
    let program = Program::new("", &format!("{EMBEDDED}\n{section}"));
    let line = |said: &str| said.lines().find(|l| l.contains("archive")).unwrap_or_default().to_string();
    let said = line(&out(&program.run(&["check"])));
    assert!(said.contains("warning") && said.contains("0 workloads: nothing there can be moved"), "{said}");
    std::fs::create_dir(roots[0].join("cart")).expect("a workload");
    let said = line(&out(&program.run(&["check"])));
    assert!(!said.contains("warning") && said.contains("1 workloads"), "{said}");
}

#[tokio::test]
async fn check_finds_a_running_installation_well() {
    let program = Program::new("", EMBEDDED);
    let _engine = program.engine(&[]);
    let found = program.run(&["check"]);
    let said = out(&found);
    assert_eq!(found.status.code(), Some(0), "{said}");
    let telemetry = said.lines().find(|l| l.contains("telemetry")).unwrap_or_default();
    assert!(telemetry.contains("warning") && telemetry.contains("attach"), "{said}");
    let moved = program.run(&["evacuate", "h1", "--yes", "--read-only"]);
    assert_eq!(moved.status.code(), Some(2), "{}", err(&moved));
}

#[test]
fn the_failure_history_takes_what_can_be_learnt_from_and_takes_it_once() {
    let program = Program::new("", EMBEDDED);
    let failures = |arguments: &[&str]| program.run(&[&["failures"], arguments].concat());
    let file = |name: &str, text: &str| {
        let path = program.config.with_file_name(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let listed = failures(&["list"]);
    assert_eq!((listed.status.code(), out(&listed).as_str()), (Some(0), ""), "{}", err(&listed));

    let empty = file("empty.csv", "at,subject,cause,label\n");
    let future = file("future.csv", "at,subject,cause,label\n2999-01-01T00:00:00Z,h1,x,failed\n");
    for (arguments, expected) in [
        (&["add", ""][..], "subject"),
        (&["add", "h1", "--at", "2999-01-01T00:00:00Z"], "future"),
        (&["add", "h1", "--at", "1000"], "from 2000 on"),
        (&["import", &empty], "no record"),
        (&["import", &future], "future.csv:2"),
    ] {
        let refused = failures(arguments);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {}", out(&refused));
        assert!(err(&refused).contains(expected), "{arguments:?}: {}", err(&refused));
    }
    assert!(!Path::new(&data(&program)).exists(), "nothing was recorded");

    let records = "at,subject,cause,label\n1790000000,h1,disk,failed\n1790000000000,h1,disk,failed\n\
                   1790000001,h1,disk,failed\n";
    let records = file("records.csv", records);
    assert_eq!(
        out(&failures(&["import", &records])),
        "2 records taken; 1 left out that were there already\n"
    );
    assert_eq!(
        out(&failures(&["import", &records])),
        "0 records taken; 3 left out that were there already\n"
    );
    assert_eq!(
        out(&failures(&["add", "h2", "--at", "1790000002", "--cause", "a\nb\u{1b}[31m"])),
        "recorded as 3\n"
    );
    let other =
        file("other.csv", "label,cause,subject,at\nfailed,disk,h3,1790000000\nsurvived,,h1,1790000000\n");
    let refused = failures(&["import", &other]);
    assert_eq!(refused.status.code(), Some(1), "{}", out(&refused));
    assert!(
        err(&refused).contains("other.csv:3: h1 at 2026-09-21T14:13:20Z survived, but record 1 says"),
        "{refused:?}"
    );
    let list = out(&failures(&["list"]));
    assert_eq!(list.lines().count(), 3, "the line before was not taken either: {list}");
    assert!(list.ends_with("h2  a b [31m\n"), "{list:?}");
}
