//! InfluxDB 2.x, a real server: set up, written to as Telegraf does, read with Flux, written back to.
//! Runs against `FORESHIFT_TEST_INFLUXD` (a program) or `FORESHIFT_TEST_INFLUXDB_URL`; without either
//! it says `skipped`, in CI too, where `influx_flux_replayed` reads recorded answers instead.

#[path = "support/influx2.rs"]
mod influx2;
#[path = "support/ingested.rs"]
mod ingested;
#[path = "support/recorded.rs"]
mod recorded;
mod support;
#[path = "support/telegraf.rs"]
mod telegraf;

use std::time::{Duration, Instant};

use foreshift::fleet::{Clock, Span, SystemClock, Timestamp};
use foreshift::telemetry::influx::{
    AGENT_MEASUREMENT, Credentials, InfluxOptions, InfluxSink, InfluxSource, Place, ReadOptions, Secret,
    Timeouts,
};
use foreshift::telemetry::{Reading, Sink, Source, SourceError};
use influx2::Influx2;
use ingested::Ingested;

/// When the recorded samples begin, in seconds.
const RECORDED_FROM: i64 = 1_700_000_000;

fn options(server: &Influx2, bucket: &str) -> InfluxOptions {
    InfluxOptions {
        url: server.url.clone(),
        place: Place::Bucket { org: server.org.clone(), bucket: bucket.into() },
        credentials: Credentials::Token(Secret::new(&server.token)),
        timeouts: Timeouts { connect: Span::seconds(2), idle: Span::seconds(10), whole: Span::seconds(60) },
    }
}

fn source(server: &Influx2, bucket: &str) -> InfluxSource {
    InfluxSource::new(&options(server, bucket), ReadOptions::default()).unwrap()
}

/// The last full ten seconds, in seconds.
fn now() -> i64 {
    SystemClock.now().0 / 10_000 * 10
}

#[tokio::test]
async fn what_telegraf_wrote_is_read_without_a_mapping() {
    let Some(server) = Influx2::start().await else { return };
    let bucket = server.bucket(7).await;
    let (start, end) = (now() - 600, now());
    server.write(&bucket, telegraf::lines(3, start, end)).await;
    let source = source(&server, &bucket);

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
    assert!(said.contains("version v2") && said.contains("3 hosts seen"), "{said}");
    assert!(said.contains("7 d 0 h kept (WARNING"), "{said}");
    assert!(said.contains("newest sample"), "{said}");
    assert!(!said.contains(&server.token));
}

#[tokio::test]
async fn our_agents_metrics_and_partitions_are_read_under_their_own_names() {
    let Some(server) = Influx2::start().await else { return };
    let bucket = server.bucket(0).await;
    let at = now() - 60;
    let lines = format!(
        "{AGENT_MEASUREMENT},host=h1,partition=p2,rack=r7 cpu.busy=12.5,queue.depth=3,my\\ app.lag=9 {0}\n\
         {AGENT_MEASUREMENT},host=h1,rack=r7 power.volts=12.1 {0}\n",
        at * 1000
    );
    server.write(&bucket, lines).await;
    let mut got = Ingested::default();
    source(&server, &bucket)
        .pull(Timestamp((at - 10) * 1000), Timestamp((at + 20) * 1000), &mut got)
        .await
        .unwrap();
    assert_eq!(got.of("h1/p2", "cpu.busy"), [(at * 1000, 12.5)]);
    assert_eq!(got.of("h1/p2", "my app.lag"), [(at * 1000, 9.0)]);
    assert_eq!(got.of("h1", "power.volts"), [(at * 1000, 12.1)]);
    assert_eq!(got.labels["h1"]["rack"], "r7");
}

#[tokio::test]
async fn a_pull_since_the_watermark_gives_what_is_new_and_what_came_late_and_nothing_twice() {
    let Some(server) = Influx2::start().await else { return };
    let bucket = server.bucket(0).await;
    let start = now() - 1000;
    server.write(&bucket, telegraf::lines(1, start, start + 300)).await;
    let source = source(&server, &bucket);
    let at = |second: i64| Timestamp((start + second) * 1000);
    let mut got = Ingested::default();
    let first = source.pull(at(0), at(300), &mut got).await.unwrap();
    assert_eq!(first.newest, Some(at(290)));

    server.write(&bucket, format!("mem,host=late,rack=r9 used_percent=77 {}", at(270).0)).await;
    server.write(&bucket, telegraf::lines(1, start, start + 330)).await;
    let mut then = Ingested::default();
    source.pull(at(290), at(330), &mut then).await.unwrap();
    for metric in ["cpu.busy", "disk.write_latency", "net.throughput"] {
        let times: Vec<i64> = then.of("web-0", metric).iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [at(290).0, at(300).0, at(310).0, at(320).0], "{metric}");
    }
    assert_eq!(then.of("late", "mem.used"), [(at(270).0, 77.0)]);
}

#[tokio::test]
async fn some_partitions_alone_are_read_beside_the_pulls_and_a_pull_gives_what_it_would_have_given() {
    let Some(server) = Influx2::start().await else { return };
    let bucket = server.bucket(0).await;
    let start = now() - 1000;
    let at = |second: i64| Timestamp((start + second) * 1000);
    server.write(&bucket, telegraf::lines(4, start, start + 300)).await;
    // A name that a query has to write with care: quotes, a backslash, and what Flux would put a value into.
    let odd = "o'br\"ien\\${x}";
    let parts: String = ["p1", "p2"]
        .iter()
        .map(|part| format!("mem,host={odd},partition={part} used_percent=7 {}\n", at(20).0))
        .collect();
    server.write(&bucket, parts).await;
    let source = source(&server, &bucket);
    let of_odd = format!("{odd}/p2");
    let names = ["web-2".into(), "web-1".into(), of_odd.as_str().into(), "gone".into()];

    let mut few = Ingested::default();
    let report = source.pull_of(&names, at(0), at(300), &mut few).await.unwrap().unwrap();
    assert_eq!(few.partitions(), [of_odd.as_str(), "web-1", "web-2"]);
    let mut all = Ingested::default();
    source.pull(at(0), at(300), &mut all).await.unwrap();
    assert_eq!(all.partitions().len(), 6, "what was read beside it is not taken for read");
    for partition in few.partitions() {
        let of = |got: &Ingested| -> Vec<_> {
            let own = got.samples.iter().filter(|((name, _), _)| name == partition);
            own.map(|((_, metric), samples)| (metric.clone(), samples.clone())).collect()
        };
        assert!(!of(&few).is_empty());
        assert_eq!(of(&few), of(&all), "{partition}");
    }
    let given = few.points();
    assert_eq!(report.points, given as u64);
    // The same in two parts, as history is read: a counter's growth at the border is of the step before.
    let mut parts = Ingested::default();
    for (from, to) in [(0, 150), (150, 300)] {
        source.pull_of(&names, at(from), at(to), &mut parts).await.unwrap();
    }
    assert_eq!(parts.samples, few.samples);
    let nothing = source.pull_of(&names, at(0), at(0), &mut few).await.unwrap();
    assert_eq!(nothing, Some(Default::default()));
    assert_eq!(few.points(), given);
}

#[tokio::test]
async fn counter_resets_and_gaps_are_gaps_not_numbers() {
    let Some(server) = Influx2::start().await else { return };
    let bucket = server.bucket(0).await;
    let start = now() - 1000;
    let at = |second: i64| Timestamp((start + second) * 1000);
    let counter: [(i64, i64); 5] = [(0, 1000), (10, 2000), (20, 50), (30, 1050), (60, 4050)];
    let lines: String = counter
        .iter()
        .map(|(s, v)| format!("net,host=h,interface=eth0 bytes_recv={v}i,bytes_sent=0i {}\n", at(*s).0))
        .collect();
    server.write(&bucket, lines).await;
    let mut got = Ingested::default();
    source(&server, &bucket).pull(at(0), at(70), &mut got).await.unwrap();
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
async fn a_wrong_token_a_missing_bucket_and_a_missing_organisation_are_told_apart() {
    let Some(server) = Influx2::start().await else { return };
    let bucket = server.bucket(0).await;
    let (since, until) = (Timestamp(now() * 1000) - Span::minutes(5), Timestamp(now() * 1000));
    let pull = async |options: InfluxOptions| {
        let source = InfluxSource::new(&options, ReadOptions::default()).unwrap();
        source.pull(since, until, &mut Ingested::default()).await.unwrap_err()
    };
    let wrong = Credentials::Token(Secret::new("not-this-one"));
    let error = pull(InfluxOptions { credentials: wrong, ..options(&server, &bucket) }).await;
    assert!(matches!(error, SourceError::Unauthorised { .. }) && !error.is_retryable(), "{error}");
    assert!(!error.to_string().contains("not-this-one"), "{error}");

    let error = pull(options(&server, "no such bucket")).await;
    assert!(matches!(error, SourceError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("no such bucket"), "{error}");

    let place = Place::Bucket { org: "nobody".into(), bucket };
    let error = pull(InfluxOptions { place, ..options(&server, "x") }).await;
    assert!(matches!(error, SourceError::Refused { .. } | SourceError::Unauthorised { .. }), "{error}");
}

#[tokio::test]
async fn scores_are_written_to_a_bucket_that_is_made_for_them() {
    let Some(server) = Influx2::start().await else { return };
    let name = format!("foreshift scores {}", std::process::id());
    let sink = InfluxSink::new(&options(&server, &name), Some(Span::days(30))).unwrap();
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
    let rows = server.query(&format!("from(bucket: \"{name}\") |> range(start: -1h)")).await;
    assert_eq!(rows.matches("88.5").count(), 1, "asked twice, there once: {rows}");
    assert!(rows.contains("\"a b,c=d\""), "{rows}");

    let wrong = Credentials::Token(Secret::new("not-this-one"));
    let sink =
        InfluxSink::new(&InfluxOptions { credentials: wrong, ..options(&server, &name) }, None).unwrap();
    let error = sink.write(&readings).await.unwrap_err();
    assert!(!error.retryable && !error.to_string().contains("not-this-one"), "{error}");
}

#[tokio::test]
async fn a_restart_under_the_source_leaves_no_gap() {
    let Some(mut server) = Influx2::start().await else { return };
    if server.server.is_none() {
        println!("skipped: needs a server of our own to restart");
        return;
    }
    let bucket = server.bucket(0).await;
    let start = now() - 1000;
    let at = |second: i64| Timestamp((start + second) * 1000);
    server.write(&bucket, telegraf::lines(1, start, start + 100)).await;
    let source = source(&server, &bucket);
    let mut got = Ingested::default();
    let newest = source.pull(at(0), at(100), &mut got).await.unwrap().newest.unwrap();

    if let Some(process) = &mut server.server {
        process.stop("INT", Duration::from_secs(30));
    }
    let begin = Instant::now();
    let error = source.pull(newest, at(200), &mut got).await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }) && error.is_retryable(), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5), "told at once, not after a time-out");

    server.start_again().await;
    server.write(&bucket, telegraf::lines(1, start, start + 200)).await;
    source.pull(newest, at(200), &mut got).await.unwrap();
    let mut times: Vec<i64> = got.of("web-0", "mem.used").iter().map(|(t, _)| *t).collect();
    times.dedup();
    assert_eq!(times.len(), 20, "no step is missing");
}

/// Records the answers that `influx_flux_replayed` is served, where `FORESHIFT_RECORD_FLUX` names
/// the folder to keep them in.
#[tokio::test]
async fn record_the_answers() {
    let Some(folder) = std::env::var_os("FORESHIFT_RECORD_FLUX").map(std::path::PathBuf::from) else {
        return;
    };
    let Some(server) = Influx2::start().await else { return };
    server.write("first", telegraf::lines(2, RECORDED_FROM, RECORDED_FROM + 60)).await;
    let agent = format!("{AGENT_MEASUREMENT},host=web-0,partition=p1 queue.depth=3 {}", RECORDED_FROM * 1000);
    server.write("first", agent).await;
    let (since, until) = (Timestamp(RECORDED_FROM * 1000), Timestamp((RECORDED_FROM + 60) * 1000));
    let pull = async |options: InfluxOptions, part: &str| {
        let between = recorded::Between::record(&server.url, &folder.join(part));
        let source =
            InfluxSource::new(&InfluxOptions { url: between.url.clone(), ..options }, ReadOptions::default());
        let source = source.unwrap();
        let pulled = source.pull(since, until, &mut Ingested::default()).await;
        let _ = source.check().await;
        pulled
    };
    pull(options(&server, "first"), "good").await.unwrap();
    let wrong = Credentials::Token(Secret::new("not-this-one"));
    pull(InfluxOptions { credentials: wrong, ..options(&server, "first") }, "unauthorised")
        .await
        .unwrap_err();
    pull(options(&server, "no such bucket"), "missing").await.unwrap_err();
    // Text where numbers are expected: the query fails on the server while it runs.
    let text =
        format!("cpu,host=web-0,cpu=cpu-total,rack=r0,site=fra,text=x usage_idle=\"idle\" {}", since.0);
    let bucket = server.bucket(0).await;
    server.write(&bucket, text).await;
    pull(options(&server, &bucket), "failed").await.unwrap_err();
}
