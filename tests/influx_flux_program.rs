//! The program over a real InfluxDB 2.x: what `check` says of it, a fleet that is shown and written back over a
//! restart of the server, history that detectors are fitted from, and `train` and `backtest`, which find in it
//! what they find in an InfluxDB 1.x. Runs against `FORESHIFT_TEST_INFLUXD` (a program); without it it says
//! `skipped`.

#[path = "support/influx1.rs"]
mod influx1;
#[path = "support/influx2.rs"]
mod influx2;
#[path = "support/lived.rs"]
mod lived;
#[path = "support/program.rs"]
mod program;
mod support;
#[path = "support/telegraf.rs"]
mod telegraf;

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use foreshift::engine::teach::{Due, Round, TeachOptions, pair, round};
use foreshift::fleet::{Clock, PartitionId, PredictionState, Span, SystemClock, Timestamp};
use foreshift::predict::{ForecastOptions, Taught};
use foreshift::protocol::Snapshot;
use foreshift::telemetry::influx::{
    Credentials, InfluxOptions, InfluxSource, Place, ReadOptions, Secret, Timeouts,
};
use foreshift::telemetry::{Batch, EmbeddedStore, Source, WindowsConfig};
use influx1::Influx1;
use influx2::Influx2;
use lived::{START, life};
use program::Program;
use serde_json::Value;
use support::wait_until_async;

const LONG: Duration = Duration::from_secs(60);
const SCORES: &str = "scores of foreshift";

/// The section that names the server's bucket, its token in a file of `folder`.
fn telemetry(server: &Influx2, bucket: &str, token: &str, folder: &Path) -> String {
    let file = folder.join("influx.token");
    // As an editor leaves it.
    std::fs::write(&file, format!("{token}\n")).expect("a file");
    format!(
        "[telemetry]\nsource = \"influxdb2\"\nurl = {:?}\norg = {:?}\nbucket = {bucket:?}\ntoken = {{ file = {:?} }}\n",
        server.url,
        server.org,
        file.display().to_string()
    )
}

/// Six hosts over the last so many seconds, up to now.
async fn feed(server: &Influx2, bucket: &str, seconds: i64) {
    let now = SystemClock.now().millis() / 1000;
    server.write(bucket, telegraf::lines(6, now - seconds, now)).await;
}

fn all(snapshot: &Snapshot, unknown: bool) -> bool {
    snapshot.partitions.len() == 6
        && snapshot.partitions.iter().all(|p| (p.prediction == PredictionState::Unknown) == unknown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_names_the_hosts_or_what_is_wrong_and_never_the_token() {
    let Some(server) = Influx2::start().await else { return };
    let bucket = server.bucket(0).await;
    feed(&server, &bucket, 600).await;
    let folder = tempfile::tempdir().expect("a folder");
    let check = |bucket: &str, token: &str| {
        let output = Program::new("", &telemetry(&server, bucket, token, folder.path())).run(&["check"]);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.contains(token), "{said}");
        (output.status.code(), said)
    };
    let (code, said) = check(&bucket, &server.token);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("version v2") && said.contains("6 hosts seen"), "{said}");
    for (bucket, token, word) in [
        (bucket.as_str(), "not-this-one", "unauthorized"),
        ("no such bucket", &server.token, "no such bucket"),
    ] {
        let (code, said) = check(bucket, token);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("broken") && said.contains(word), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_least_rights_is_enough_and_check_says_what_it_lacks() {
    let Some(server) = Influx2::start().await else { return };
    let (bucket, scores) = (server.bucket(0).await, server.bucket(0).await);
    feed(&server, &bucket, 600).await;
    let folder = tempfile::tempdir().expect("a folder");
    let check = |token: &str, scores: &str| {
        let rest = telemetry(&server, &bucket, token, folder.path());
        let rest = format!("{rest}[telemetry.write_back]\nenabled = true\nbucket = {scores:?}\n");
        let program = Program::new("", &rest);
        let output = program.run(&["check"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let of_scores = said.lines().find(|line| line.contains("write-back")).unwrap_or("").to_string();
        (output.status.code(), of_scores, program)
    };
    let reads = server.token_for(&bucket, None).await;
    let (code, said, _) = check(&reads, &scores);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("broken") && said.contains("insufficient permissions for write"), "{said}");

    let both = server.token_for(&bucket, Some(&scores)).await;
    let (code, said, program) = check(&both, &scores);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&scores) && said.contains("scores may be written"), "{said}");
    let nothing = server.query(&format!("from(bucket: {scores:?}) |> range(start: -1h)")).await;
    assert!(!nothing.contains("foreshift"), "check writes nothing: {nothing}");
    let _engine = program.engine(&[]);
    wait_until_async("scores are written with it", LONG, || async {
        feed(&server, &bucket, 30).await;
        scored(&server, &scores, "-1h").await == 6
    })
    .await;

    let (code, said, _) = check(&server.token, "not there yet");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("made with the first scores"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_shown_and_written_back_and_goes_on_over_a_restart_of_the_server() {
    let Some(mut server) = Influx2::start().await else { return };
    if server.server.is_none() {
        println!("skipped: needs a server of our own to restart");
        return;
    }
    let bucket = server.bucket(0).await;
    feed(&server, &bucket, 1_800).await;
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::new(
        "interval = \"1s\"\nstale_after = \"20s\"",
        &format!(
            "{}step = \"10s\"\n[telemetry.write_back]\nenabled = true\nbucket = {SCORES:?}\n",
            telemetry(&server, &bucket, &server.token, folder.path())
        ),
    );
    let mut engine = program.engine(&[]);
    wait_until_async("all are judged", LONG, || async {
        feed(&server, &bucket, 30).await;
        all(&program.snapshot().await, false)
    })
    .await;
    wait_until_async("scores are written back", LONG, || async {
        feed(&server, &bucket, 30).await;
        scored(&server, SCORES, "-1h").await == 6
    })
    .await;

    if let Some(process) = &mut server.server {
        process.stop("INT", Duration::from_secs(30));
    }
    wait_until_async("it is said that the server does not answer, and all are unknown", LONG, || async {
        let snapshot = program.snapshot().await;
        let said =
            snapshot.data.failing.as_ref().is_some_and(|(reason, _)| reason.contains("does not answer"));
        said && all(&snapshot, true)
    })
    .await;
    let before = program.snapshot().await.data;
    server.start_again().await;
    // Telegraf keeps what it cannot write, and writes it then.
    feed(&server, &bucket, 300).await;
    wait_until_async("all are judged again", LONG, || async {
        feed(&server, &bucket, 30).await;
        all(&program.snapshot().await, false)
    })
    .await;
    let after = program.snapshot().await.data;
    assert!(after.failing.is_none(), "{after:?}");
    let steps = (after.newest.expect("data") - before.newest.expect("data")).0 / 10_000;
    assert!(after.taken - before.taken >= steps.unsigned_abs() * 6 * 5, "{before:?} {after:?}");
    let back = SystemClock.now().millis() / 1000;
    wait_until_async("scores of now are written back", LONG, || async {
        feed(&server, &bucket, 30).await;
        scored(&server, SCORES, &back.to_string()).await == 6
    })
    .await;
    assert_eq!(program.snapshot().await.data.sink_failing, None);
    engine.stop("TERM", Duration::from_secs(10));
    assert!(!engine.log().contains(&server.token), "the token is in no line of the log");
}

/// Hosts whose health was written back since then.
async fn scored(server: &Influx2, bucket: &str, since: &str) -> usize {
    let query = format!(
        "from(bucket: {bucket:?}) |> range(start: {since}) |> filter(fn: (r) => r._measurement == \
         \"foreshift_score\" and r._field == \"health\") |> last() |> keep(columns: [\"partition\"])"
    );
    let said = server.query(&query).await;
    (0..6).filter(|h| said.contains(&format!("web-{h}"))).count()
}

/// Runs it and expects one JSON object.
fn object(program: &Program, arguments: &[&str]) -> Value {
    let output = program.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn train_and_backtest_find_in_it_what_they_find_in_an_influxdb_1() {
    let Some(new) = Influx2::start().await else { return };
    let Some(old) = Influx1::start().await else { return };
    let length = Span::hours(3);
    let (rows, died) = life(11, length).await;
    let bucket = new.bucket(0).await;
    old.query("", "CREATE DATABASE telegraf").await;
    for body in rows.bodies(START + length) {
        old.write("telegraf", body.clone()).await;
        new.write(&bucket, body).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let common = "partition_tag = \"partition\"\nhistory = \"1d\"\n";
    let first =
        format!("[telemetry]\nsource = \"influxdb1\"\nurl = {:?}\ndatabase = \"telegraf\"\n", old.url);
    let over_old = Program::new("", &format!("{first}{common}"));
    let second = telemetry(&new, &bucket, &new.token, folder.path());
    let over_new = Program::new("", &format!("{second}{common}"));

    let file = folder.path().join("failures.csv");
    let mut csv = String::from("at,subject,cause,label\n");
    for (_, partitions, at) in &died {
        partitions.iter().for_each(|p| writeln!(csv, "{},{p},died,failed", at.0).unwrap());
    }
    std::fs::write(&file, csv).unwrap();
    let (labels, to) = (file.display().to_string(), (START + length).0.to_string());
    let span = ["--from", "3h", "--to", &to, "--failures", &labels];

    let tested = |program| object(program, &[&["backtest", "--json"], &span[..]].concat());
    let (of_old, of_new) = (tested(&over_old), tested(&over_new));
    assert!(of_new["proposals"].as_array().is_some_and(|p| !p.is_empty()), "{of_new:#}");
    for what in ["from", "to", "partitions", "failures", "proposals", "configured", "recommendations"] {
        assert!(!of_new[what].is_null(), "{what}");
        assert_eq!(of_old[what], of_new[what], "{what}");
    }
    let trained = |program| object(program, &[&["train", "--json"], &span[..]].concat());
    let (of_old, of_new) = (trained(&over_old), trained(&over_new));
    assert!(of_new["windows"].as_array().is_some_and(|w| !w.is_empty()), "{of_new:#}");
    for what in ["rows", "failures", "windows"] {
        assert!(!of_new[what].is_null(), "{what}: {of_new:#}");
        assert_eq!(of_old[what], of_new[what], "{what}");
    }
}

/// The detectors of `h1/p1` and `h1/p2` that are fitted from what the source holds at `now`.
async fn taught(source: &dyn Source, now: Timestamp) -> Vec<(PartitionId, Taught)> {
    let (mut pupil, desk) = pair(&ForecastOptions::default());
    let due = ["h1/p1", "h1/p2"].map(|name| Due {
        partition: name.into(),
        sources: vec![name.into(), "h1".into()],
        application: "db/oltp".into(),
    });
    let options = TeachOptions { windows: WindowsConfig::default(), span: Span::days(5) };
    let asked = async { pupil.asked.recv().await.expect("it asks").send(due.to_vec()).expect("it waits") };
    let (done, ()) = tokio::join!(round(source, &desk, &options, now), asked);
    assert_eq!(done.expect("history"), Round { due: 2, taught: 2, left: 0 });
    vec![pupil.lessons.recv().await.expect("one"), pupil.lessons.recv().await.expect("the other")]
}

#[tokio::test]
async fn detectors_fitted_from_it_are_those_that_the_same_samples_give_elsewhere() {
    let Some(server) = Influx2::start().await else { return };
    let bucket = server.bucket(0).await;
    let store = EmbeddedStore::in_memory().expect("a store");
    let now = SystemClock.now().floor(Span::minutes(1));
    let rows = Span::days(4).0 / 30_000;
    let times: Vec<Timestamp> = (0..rows).map(|t| now - Span((rows - t) * 30_000)).collect();
    for (p, other) in [("p1", false), ("p2", true), ("p3", false)] {
        let value = |t: i64, by: f32| 40.0 + 10.0 * (t as f32 / 458.0).sin() + by * ((t * 7919) % 101) as f32;
        let noise = if other { 0.05 } else { 0.02 };
        let columns: Vec<(&str, Vec<f32>)> = vec![
            ("cpu.busy", (0..rows).map(|t| value(t, noise)).collect()),
            ("queue.depth", (0..rows).map(|t| 0.5 * value(t, 0.03)).collect()),
        ];
        for chunk in (0..rows as usize).collect::<Vec<_>>().chunks(5_000) {
            let mut lines = String::new();
            for &t in chunk {
                let (cpu, queue) = (columns[0].1[t], columns[1].1[t]);
                writeln!(
                    lines,
                    "foreshift_agent,host=h1,partition={p} cpu.busy={cpu},queue.depth={queue} {}",
                    times[t].0
                )
                .unwrap();
            }
            server.write(&bucket, lines).await;
        }
        let mut batch = Batch::new(times.clone());
        for (name, values) in columns {
            batch = batch.with_column(name, values);
        }
        store.append(&PartitionId::from(format!("h1/{p}")), &batch).expect("a batch");
    }
    let options = InfluxOptions {
        url: server.url.clone(),
        place: Place::Bucket { org: server.org.clone(), bucket },
        credentials: Credentials::Token(Secret::new(&server.token)),
        timeouts: Timeouts { connect: Span::seconds(2), idle: Span::seconds(10), whole: Span::seconds(60) },
    };
    let every = WindowsConfig::default().step;
    let source =
        InfluxSource::new(&options, ReadOptions { every, ..ReadOptions::default() }).expect("a source");
    let (ours, theirs) = (taught(&source, now).await, taught(&store, now).await);
    for ((partition, one), (same, other)) in ours.iter().zip(&theirs) {
        assert_eq!((partition, &one.metrics), (same, &other.metrics));
        assert_eq!((one.from, one.until), (other.from, other.until));
        assert!(one.model == other.model, "{partition}: the same samples, the same detector");
    }
    assert!(ours[0].1.model != ours[1].1.model);
}
