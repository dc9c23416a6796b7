//! Directories and a real HAProxy, put together by a configuration: a host is emptied by the program, the
//! traffic follows the owner on every instance, and both come back.

#[path = "support/haproxy.rs"]
mod haproxy;
#[path = "support/program.rs"]
mod program;
mod support;

use haproxy::Haproxies;
use program::Program;

#[test]
fn a_directory_leaves_its_host_and_every_router_follows() {
    let Some(haproxies) = Haproxies::start("roundrobin") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let roots = ["a", "b"].map(|name| folder.path().join(name));
    for root in &roots {
        std::fs::create_dir(root).expect("a root");
    }
    let cart = roots[0].join("cart");
    std::fs::create_dir_all(cart.join("deep")).expect("a folder");
    for i in 0..50 {
        std::fs::write(cart.join(format!("deep/{i}")), format!("number {i}")).expect("a file");
    }
    let program = Program::new(
        "interval = \"1s\"",
        &format!(
            "[fleet.nodes]\n{:?} = \"nas-1\"\n{:?} = \"nas-2\"\n\
             [plan]\ncool_down = \"100ms\"\n\
             [migration]\ncanary = [{{ share = \"50%\", hold = \"200ms\" }}]\nmin_samples = 1\nsoak = \"1s\"\n\
             [drivers.archive]\nclass = \"files\"\nrouter = \"edge\"\nroots = {:?}\n\
             [drivers.edge]\nclass = \"haproxy\"\nsockets = {:?}\nepochs = {:?}\n\
             servers = {{ \"nas-1/a\" = \"h1_p\", \"nas-2/b\" = \"h2_p\" }}\n",
            roots[0].display().to_string(),
            roots[1].display().to_string(),
            roots,
            haproxies.sockets(),
            haproxies.epochs.display().to_string(),
        ),
    );
    let checked = program.run(&["check"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("has a server for each of 2 places"), "{said}");
    for (host, to) in [("nas-1", 1), ("nas-2", 0)] {
        let (well, report) = program.report(&["evacuate", host, "--yes"]);
        assert!(well && report["migrations"]["completed"] == 1, "{report:#}");
        let moved = roots[to].join("cart/deep/49");
        assert_eq!(std::fs::read_to_string(moved).expect("it was moved"), "number 49");
        for instance in &haproxies.instances {
            let (first, second) = instance.ask(20);
            assert_eq!(if to == 0 { (second, first) } else { (first, second) }, (0, 20));
        }
    }
}

#[test]
fn no_more_bytes_a_second_begin_to_be_copied_than_the_limit_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let roots = ["a", "b"].map(|name| folder.path().join(name));
    for root in &roots {
        std::fs::create_dir(root).expect("a root");
    }
    for name in ["one", "two", "three"] {
        std::fs::create_dir(roots[0].join(name)).expect("a folder");
        std::fs::write(roots[0].join(name).join("data"), vec![7; 2_000_000]).expect("a file");
    }
    let program = Program::new(
        "interval = \"1s\"",
        &format!(
            "[fleet.nodes]\n{:?} = \"nas-1\"\n{:?} = \"nas-2\"\n\
             [limits]\nbytes_per_second = \"1MB\"\n[limits.moves]\nhost = 4\nrack = 4\n\
             [migration]\ncanary = []\nmin_samples = 1\nsoak = \"100ms\"\n\
             [drivers.archive]\nclass = \"files\"\nroots = {:?}\n",
            roots[0].display().to_string(),
            roots[1].display().to_string(),
            roots,
        ),
    );
    let (well, report) = program.report(&["evacuate", "nas-1", "--yes"]);
    assert!(well && report["migrations"]["completed"] == 3, "{report:#}");
    let shown = program.run(&["journal", "show", "--json"]).stdout;
    let mut begun: Vec<i64> = String::from_utf8_lossy(&shown)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|record| record["kind"] == "BUDGET" && record["change"] == 1)
        .filter_map(|record| record["at"].as_i64())
        .collect();
    begun.sort_unstable();
    println!("begun at {begun:?}");
    // Two megabytes at one a second: each begins two seconds after the one before it.
    assert_eq!(begun.len(), 3, "{}", String::from_utf8_lossy(&shown));
    assert!(begun.windows(2).all(|two| two[1] - two[0] >= 2_000), "{begun:?}");
}
