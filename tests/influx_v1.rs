//! InfluxDB 1.x, a real server: what Telegraf wrote is read with InfluxQL, scores are written back,
//! and what goes wrong is told.

#[path = "support/influx1.rs"]
mod influx1;
#[path = "support/ingested.rs"]
mod ingested;
mod support;
#[path = "support/telegraf.rs"]
mod telegraf;

use std::time::Duration;

use foreshift::fleet::{Clock, Span, SystemClock, Timestamp};
use foreshift::telemetry::influx::{
    Credentials, InfluxOptions, InfluxSink, InfluxSource, Place, ReadOptions, Timeouts,
};
use foreshift::telemetry::{Reading, Sink, Source, SourceError};
use influx1::Influx1;
use ingested::Ingested;

fn options(server: &Influx1, database: &str) -> InfluxOptions {
    InfluxOptions {
        url: server.url.clone(),
        place: Place::Database { database: database.into(), retention_policy: String::new() },
        credentials: Credentials::None,
        timeouts: Timeouts { connect: Span::seconds(2), idle: Span::seconds(5), whole: Span::seconds(20) },
    }
}

fn source(server: &Influx1, database: &str) -> InfluxSource {
    InfluxSource::new(&options(server, database), ReadOptions::default()).unwrap()
}

#[tokio::test]
async fn what_telegraf_wrote_is_read_without_a_mapping() {
    let Some(server) = Influx1::start().await else { return };
    server.query("", "CREATE DATABASE telegraf WITH DURATION 7d").await;
    let end = SystemClock.now().0 / 10_000 * 10;
    let start = end - 600;
    server.write("telegraf", telegraf::lines(3, start, end)).await;
    let source = source(&server, "telegraf");

    let mut got = Ingested::default();
    let (since, until) = (Timestamp(start * 1000), Timestamp(end * 1000));
    let report = source.pull(since, until, &mut got).await.unwrap();
    assert_eq!(report.newest, Some(until - Span::seconds(10)));
    assert_eq!(report.rejected, 0);
    assert_eq!(got.partitions(), ["web-0", "web-1", "web-2"]);
    support::expect_telegraf(|metric| got.last("web-1", metric));
    assert_eq!(got.of("web-1", "cpu.busy").len(), 60);
    assert_eq!(got.labels["web-1"]["rack"], "r1");

    let said = source.check().await.unwrap();
    assert!(said.contains("version 1.6") && said.contains("3 hosts seen"), "{said}");
    assert!(said.contains("7 d 0 h kept (WARNING"), "{said}");
}

#[tokio::test]
async fn a_pull_since_the_watermark_gives_what_is_new_and_what_came_late_and_nothing_twice() {
    let Some(server) = Influx1::start().await else { return };
    server.query("", "CREATE DATABASE telegraf").await;
    let start = SystemClock.now().0 / 10_000 * 10 - 1000;
    server.write("telegraf", telegraf::lines(1, start, start + 300)).await;
    let source = source(&server, "telegraf");
    let at = |second: i64| Timestamp((start + second) * 1000);
    let mut got = Ingested::default();
    let first = source.pull(at(0), at(300), &mut got).await.unwrap();
    assert_eq!(first.newest, Some(at(290)));

    let late = format!("mem,host=late,rack=r9 used_percent=77 {}", at(270).0);
    server.write("telegraf", late).await;
    server.write("telegraf", telegraf::lines(1, start, start + 330)).await;
    let mut then = Ingested::default();
    source.pull(at(290), at(330), &mut then).await.unwrap();
    let times: Vec<i64> = then.of("web-0", "cpu.busy").iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [at(290).0, at(300).0, at(310).0, at(320).0]);
    assert_eq!(then.of("late", "mem.used"), [(at(270).0, 77.0)]);
}

#[tokio::test]
async fn some_partitions_alone_are_read_beside_the_pulls_and_a_pull_gives_what_it_would_have_given() {
    let Some(server) = Influx1::start().await else { return };
    server.query("", "CREATE DATABASE telegraf").await;
    let start = SystemClock.now().0 / 10_000 * 10 - 1000;
    let at = |second: i64| Timestamp((start + second) * 1000);
    server.write("telegraf", telegraf::lines(4, start, start + 300)).await;
    let parts: String = ["p1", "p2"]
        .iter()
        .map(|part| format!("mem,host=o'brien,partition={part} used_percent=7 {}\n", at(20).0))
        .collect();
    server.write("telegraf", parts).await;
    let source = source(&server, "telegraf");
    let names = ["web-2".into(), "web-1".into(), "o'brien/p2".into(), "gone".into()];

    let mut few = Ingested::default();
    let report = source.pull_of(&names, at(0), at(300), &mut few).await.unwrap().unwrap();
    assert_eq!(few.partitions(), ["o'brien/p2", "web-1", "web-2"]);
    let mut all = Ingested::default();
    source.pull(at(0), at(300), &mut all).await.unwrap();
    assert_eq!(all.partitions().len(), 6, "what was read beside it is not taken for read");
    for metric in ["cpu.busy", "net.throughput", "disk.write_latency"] {
        assert_eq!(few.of("web-2", metric), all.of("web-2", metric), "{metric}");
        assert!(!few.of("web-2", metric).is_empty(), "{metric}");
    }
    let given: usize = few.points();
    assert_eq!(report.points, given as u64);
    let nothing = source.pull_of(&names, at(0), at(0), &mut few).await.unwrap();
    assert_eq!(nothing, Some(Default::default()));
    assert_eq!(few.points(), given);
}

#[tokio::test]
async fn counter_resets_and_gaps_are_gaps_not_numbers() {
    let Some(server) = Influx1::start().await else { return };
    server.query("", "CREATE DATABASE telegraf").await;
    let start = SystemClock.now().0 / 10_000 * 10 - 1000;
    let at = |second: i64| Timestamp((start + second) * 1000);
    let counter: [(i64, i64); 5] = [(0, 1000), (10, 2000), (20, 50), (30, 1050), (60, 4050)];
    let lines: String = counter
        .iter()
        .map(|(s, v)| format!("net,host=h,interface=eth0 bytes_recv={v}i,bytes_sent=0i {}\n", at(*s).0))
        .collect();
    server.write("telegraf", lines).await;
    let mut got = Ingested::default();
    source(&server, "telegraf").pull(at(0), at(70), &mut got).await.unwrap();
    let rates: Vec<_> =
        got.of("h", "net.throughput").iter().map(|(t, v)| ((t - at(0).0) / 1000, *v)).collect();
    assert_eq!(rates.iter().find(|(t, _)| *t == 10), Some(&(10, 100.0)));
    assert!(rates.iter().all(|(_, v)| *v >= 0.0), "a reset is no negative rate: {rates:?}");
    assert_eq!(
        rates.iter().find(|(t, _)| *t == 60),
        Some(&(60, 100.0)),
        "over a gap, by the time that passed"
    );
    assert!(!rates.iter().any(|(t, _)| *t == 40 || *t == 50));
}

#[tokio::test]
async fn scores_are_written_to_a_database_that_is_made_for_them() {
    let Some(server) = Influx1::start().await else { return };
    let sink = InfluxSink::new(&options(&server, "foreshift scores"), Some(Span::days(30))).unwrap();
    let now = SystemClock.now();
    let reading = |host: &str, health: f64| Reading {
        at: now,
        measurement: "foreshift_score".into(),
        tags: vec![("partition".into(), host.into())],
        fields: vec![("health".into(), health), ("forecast".into(), f64::NAN)],
    };
    let readings = [reading("a b,c=d", 88.5), reading("x", f64::NAN)];
    for _ in 0..2 {
        let written = sink.write(&readings).await.unwrap();
        assert_eq!((written.accepted, written.left_out), (1, 1));
    }
    let rows = server.query("foreshift scores", "SELECT health, partition FROM foreshift_score").await;
    let values = &rows["results"][0]["series"][0]["values"];
    assert_eq!(values, &serde_json::json!([[now.0, 88.5, "a b,c=d"]]), "asked twice, there once");
    let policies = server.query("", "SHOW RETENTION POLICIES ON \"foreshift scores\"").await;
    assert_eq!(policies["results"][0]["series"][0]["values"][0][1], "720h0m0s");
}

#[tokio::test]
async fn a_database_that_the_server_will_not_make_is_refused_in_its_own_words() {
    let Some(server) = Influx1::start().await else { return };
    let sink = InfluxSink::new(&options(&server, "a/b"), Some(Span::days(30))).unwrap();
    let reading = Reading {
        at: SystemClock.now(),
        measurement: "foreshift_score".into(),
        tags: vec![("partition".into(), "x".into())],
        fields: vec![("health".into(), 1.0)],
    };
    let error = sink.write(&[reading]).await.unwrap_err();
    assert!(error.detail.contains("making a/b failed: invalid name"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_away_is_unreachable_and_the_gap_is_filled_when_it_is_back() {
    let Some(mut server) = Influx1::start().await else { return };
    server.query("", "CREATE DATABASE telegraf").await;
    let start = SystemClock.now().0 / 10_000 * 10 - 1000;
    let at = |second: i64| Timestamp((start + second) * 1000);
    server.write("telegraf", telegraf::lines(1, start, start + 100)).await;
    let source = source(&server, "telegraf");
    let mut got = Ingested::default();
    let newest = source.pull(at(0), at(100), &mut got).await.unwrap().newest.unwrap();

    server.server.stop("TERM", Duration::from_secs(20));
    let error = source.pull(newest, at(200), &mut got).await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }) && error.is_retryable(), "{error}");

    server.start_again().await;
    server.write("telegraf", telegraf::lines(1, start, start + 200)).await;
    source.pull(newest, at(200), &mut got).await.unwrap();
    let mut times: Vec<i64> = got.of("web-0", "mem.used").iter().map(|(t, _)| *t).collect();
    times.dedup();
    assert_eq!(times.len(), 20, "no step is missing");
}

#[tokio::test]
async fn a_database_that_is_missing_is_named() {
    let Some(server) = Influx1::start().await else { return };
    let mut got = Ingested::default();
    let now = SystemClock.now();
    let error = source(&server, "nowhere").pull(now - Span::minutes(5), now, &mut got).await.unwrap_err();
    assert!(matches!(&error, SourceError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
}
