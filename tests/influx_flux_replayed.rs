//! Recorded answers of a real InfluxDB 2.7, served byte for byte: what CI runs where no such server
//! is there. `tests/fixtures/flux/README.md` says how they were recorded.

#[path = "support/ingested.rs"]
mod ingested;
#[path = "support/recorded.rs"]
mod recorded;
mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use foreshift::fleet::{Span, Timestamp};
use foreshift::telemetry::influx::{
    Credentials, InfluxOptions, InfluxSource, Place, ReadOptions, Secret, Timeouts,
};
use foreshift::telemetry::{PullReport, Source, SourceError};
use ingested::Ingested;
use recorded::{Between, recorded};

const SINCE: Timestamp = Timestamp(1_700_000_000_000);

fn folder(part: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/flux").join(part)
}

fn source(server: &Between) -> InfluxSource {
    let options = InfluxOptions {
        url: server.url.clone(),
        place: Place::Bucket { org: "foreshift".into(), bucket: "first".into() },
        credentials: Credentials::Token(Secret::new("a-token-for-tests")),
        timeouts: Timeouts { connect: Span::seconds(2), idle: Span::millis(700), whole: Span::seconds(5) },
    };
    InfluxSource::new(&options, ReadOptions::default()).unwrap()
}

async fn pull(server: &Between, got: &mut Ingested) -> Result<PullReport, SourceError> {
    source(server).pull(SINCE, SINCE + Span::seconds(60), got).await
}

#[tokio::test]
async fn a_whole_pull_gives_what_telegraf_wrote() {
    let server = Between::replay(&folder("good"));
    let mut got = Ingested::default();
    let report = pull(&server, &mut got).await.unwrap();
    assert_eq!((report.rejected, report.newest), (0, Some(SINCE + Span::seconds(50))));
    support::expect_telegraf(|metric| got.last("web-1", metric));
    assert_eq!(got.of("web-0/p1", "queue.depth"), [(SINCE.0, 3.0)]);
    assert_eq!(got.labels["web-1"]["site"], "fra");
    let said = source(&server).check().await.unwrap();
    assert!(said.contains("version v2.7") && said.contains("everything kept"), "{said}");
}

#[tokio::test]
async fn refusals_are_told_apart_and_never_tried_again() {
    for (part, word) in [("unauthorised", "unauthorized"), ("missing", "no such bucket"), ("failed", "mean")]
    {
        let server = Between::replay(&folder(part));
        let error = pull(&server, &mut Ingested::default()).await.unwrap_err();
        assert!(error.to_string().contains(word), "{part}: {error}");
        assert!(!error.is_retryable(), "{part}: {error}");
        assert_eq!(matches!(error, SourceError::Unauthorised { .. }), part == "unauthorised", "{error}");
    }
}

#[tokio::test]
async fn an_answer_cut_anywhere_is_an_error_or_the_rows_before_the_cut_and_never_a_panic() {
    let whole = recorded(&folder("good"), "query-cpu-mean");
    let head = whole.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    for cut in (head..whole.len()).step_by(97) {
        let part = whole[..cut].to_vec();
        let server = Between::start(move |_, _| Some(part.clone()));
        let error = pull(&server, &mut Ingested::default()).await.unwrap_err();
        assert!(error.is_retryable(), "cut at {cut}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_and_one_that_talks_nonsense_cost_a_moment_only() {
    let silent = Between::start(|_, _| None);
    let begin = Instant::now();
    let error = pull(&silent, &mut Ingested::default()).await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(4));

    let page = b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n<html>Please log in\r\n";
    let portal = Between::start(move |_, _| Some(page.to_vec()));
    let error = pull(&portal, &mut Ingested::default()).await.unwrap_err();
    assert!(matches!(error, SourceError::Nonsense { .. }), "{error}");

    let busy = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
    let busy = Between::start(move |_, _| Some(busy.to_vec()));
    let error = pull(&busy, &mut Ingested::default()).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("503"), "{error}");
}
