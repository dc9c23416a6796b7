use std::fs;

use super::*;
use crate::config::ProcessMatch;
use crate::fleet::Timestamp;

/// A tree like `/proc` and `/sys`, written by the test.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for disk in ["sda", "sdb", "loop0", "dm-0"] {
            fs::create_dir_all(tree.0.path().join("sys/block").join(disk)).unwrap();
        }
        tree
    }

    fn roots(&self) -> Roots {
        Roots { proc: self.0.path().join("proc"), sys: self.0.path().join("sys") }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

async fn collectors(tree: &Tree, config: &Agent) -> Collectors {
    Collectors::start(config, tree.roots()).await.unwrap()
}

#[tokio::test]
async fn what_the_kernel_says_becomes_canonical_metrics() {
    let tree = Tree::new();
    let first = |tree: &Tree| {
        tree.write("proc/stat", "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1 1\n");
        tree.write(
            "proc/diskstats",
            "8 0 sda 10 0 100 50 20 0 200 100 0 0 0\n8 1 sda1 10 0 100 50 20 0 200 999 0 0 0\n",
        );
        tree.write("proc/net/dev", "Inter-| x\n face |bytes\n  eth0: 1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n");
    };
    first(&tree);
    tree.write("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n");
    tree.write(
        "proc/pressure/memory",
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=9 avg60=0 avg300=0 total=1\n",
    );
    tree.write("sys/class/hwmon/hwmon0/temp1_input", "45000\n");
    tree.write("sys/class/hwmon/hwmon0/temp2_input", "-128000\n");
    tree.write("sys/class/hwmon/hwmon1/temp1_input", "61500\n");
    tree.write("sys/class/hwmon/hwmon1/in0_input", "1100\n");
    tree.write("sys/class/hwmon/hwmon1/in4_input", "12080\n");
    tree.write("sys/class/hwmon/hwmon1/in4_label", "+12V\n");
    tree.write("sys/class/power_supply/AC/online", "1\n");
    tree.write("sys/class/power_supply/AC2/online", "0\n");
    let mut collectors = collectors(&tree, &Agent::default()).await;
    let before = collectors.collect(Timestamp(1000), 0.0);
    assert!(!before.readings[0].metrics.contains_key("cpu.busy"), "no rates without a past");

    tree.write("proc/stat", "cpu  150 0 130 800 120 0 0 0 0 0\n");
    tree.write("proc/diskstats", "8 0 sda 20 0 1100 90 40 0 1200 200 0 0 0\n8 1 sda1 20 0 100 90 40 0 200 9999 0 0 0\n8 16 sdb 0 0 0 0 0 0 0 0 0 0 0\n7 0 loop0 99 0 1 999 1 0 1 999 0 0 0\n");
    tree.write(
        "proc/net/dev",
        "  eth0: 6000 1 0 0 0 0 0 0 7000 1 2 3 0 0 0 0\n    lo: 99999 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n",
    );
    let after = collectors.collect(Timestamp(6000), 5.0);
    let metrics = &after.readings[0].metrics;
    let expected = [
        ("cpu.busy", 40.0),
        ("cpu.iowait", 10.0),
        ("mem.used", 75.0),
        ("mem.pressure", 1.5),
        ("disk.read_latency", 4.0),
        ("disk.write_latency", 5.0),
        ("disk.throughput", 2000.0 * 512.0 / 5.0),
        ("net.throughput", 2000.0),
        ("net.errors", 1.0),
        ("temp", 61.5),
        ("power.volts", 12.08),
        ("power.online", 0.0),
    ];
    for (name, value) in expected {
        let got = metrics.get(name).copied();
        assert!(got.is_some_and(|got| (got - value).abs() < 1e-9), "{name}: {got:?}, not {value}");
    }
    assert_eq!(after.readings[0].at, Timestamp(6000));
}

#[tokio::test]
async fn a_counter_that_was_reset_is_a_gap() {
    let tree = Tree::new();
    let mut collectors = collectors(&tree, &Agent::default()).await;
    tree.write("proc/stat", "cpu  100 0 100 700 100 0 0 0\n");
    tree.write("proc/net/dev", "  eth0: 6000 1 0 0 0 0 0 0 7000 1 0 0 0 0 0 0\n");
    collectors.collect(Timestamp(0), 0.0);
    tree.write("proc/stat", "cpu  1 0 1 7 1 0 0 0\n");
    tree.write("proc/net/dev", "  eth0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n");
    let after = collectors.collect(Timestamp(5000), 5.0);
    let metrics = after.readings.first().map(|r| r.metrics.clone()).unwrap_or_default();
    assert!(!metrics.contains_key("cpu.busy") && !metrics.contains_key("net.throughput"), "{metrics:?}");
}

#[tokio::test]
async fn an_empty_machine_gives_nothing_and_does_not_fail() {
    let tree = Tree::new();
    tree.write("proc/diskstats", "garbage\n8 0\n");
    tree.write("proc/stat", "nonsense");
    tree.write("proc/net/dev", "::::\neth0: x y\n");
    let mut collectors = collectors(&tree, &Agent::default()).await;
    for second in 0..3 {
        let collected = collectors.collect(Timestamp(second * 5000), 5.0);
        assert!(collected.beats.is_empty());
        assert!(collected.readings.iter().flat_map(|r| r.metrics.keys()).all(|m| m != "cpu.busy"));
    }
}

#[tokio::test]
async fn a_partition_is_present_while_its_process_is() {
    let tree = Tree::new();
    let stat = |ticks: u64, start: u64| {
        format!("42 (a ) b) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {start} 0 0 0\n")
    };
    tree.write("proc/42/stat", &stat(100, 7));
    tree.write("proc/42/statm", "900 50 10 1 0 1 0\n");
    tree.write("run/p1.pid", "42\n");
    tree.write("proc/43/cmdline", "/usr/bin/redis-server\0*:7002\0");
    tree.write("proc/43/stat", &stat(1, 9).replace("42 (", "43 ("));
    tree.write("proc/43/statm", "1 1 1 1 0 1 0\n");
    let by_file = ProcessMatch { pid_file: Some(tree.0.path().join("run/p1.pid")), ..Default::default() };
    let by_command = ProcessMatch { command: Some("redis-server *:7002".into()), ..Default::default() };
    let by_nothing = ProcessMatch { command: Some("no such command".into()), ..Default::default() };
    let partitions =
        [("p1", by_file), ("p2", by_command), ("p3", by_nothing)].map(|(n, by)| (n.to_string(), by));
    let config = Agent { partitions: partitions.into(), ..Agent::default() };
    let mut collectors = collectors(&tree, &config).await;
    collectors.collect(Timestamp(0), 0.0);
    tree.write("proc/42/stat", &stat(350, 7));
    let beats = collectors.collect(Timestamp(5000), 5.0).beats;
    let p1 = &beats[0];
    assert_eq!((p1.present, p1.cpu, p1.memory), (true, Some(50.0), Some(50 * 4096)));
    assert!(beats[1].present && !beats[2].present);

    tree.write("proc/42/stat", &stat(1, 8));
    let again = &collectors.collect(Timestamp(10_000), 5.0).beats[0];
    assert_eq!((again.present, again.cpu), (true, None), "another process under the same id has no past");
    fs::remove_dir_all(tree.0.path().join("proc/42")).unwrap();
    assert!(!collectors.collect(Timestamp(15_000), 5.0).beats[0].present);
}
