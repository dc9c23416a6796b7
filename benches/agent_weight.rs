//! What the agent weighs: processor time and memory over a minute of its life with the usual
//! intervals (collect every 5 s, send every 30 s), sending to nobody, so that all goes to the spool.
//!
//! `cargo bench --bench agent_weight`; prints one JSON object. The figures to keep: `cpu_percent` of
//! one core under 1, `rss_mb` under 20.

use std::time::{Duration, Instant};

use foreshift::agent::{Roots, run};
use foreshift::config::Config;
use foreshift::fleet::SystemClock;

fn main() {
    let seconds = std::env::var("SECONDS_TO_RUN").ok().and_then(|s| s.parse().ok()).unwrap_or(65);
    let folder = std::env::temp_dir().join(format!("foreshift-weight-{}", std::process::id()));
    let mut config = Config::default();
    config.agent.spool_dir = folder.join("spool");
    config.agent.peers = vec!["127.0.0.1:1".into()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let begin = Instant::now();
    let summary = runtime.block_on(async {
        let (say, stop) = tokio::sync::mpsc::channel(2);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let _ = say.send(()).await;
            // Nobody takes the last words: do not wait for them.
            let _ = say.send(()).await;
        });
        run(&config, Roots::default(), &SystemClock, stop).await.expect("the agent starts")
    });
    let _ = std::fs::remove_dir_all(&folder);
    let stat = std::fs::read_to_string("/proc/self/stat").expect("our own times");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_ascii_whitespace().collect();
    let ticks: f64 = [11, 12].iter().map(|i| fields[*i].parse::<f64>().expect("ticks")).sum();
    let status = std::fs::read_to_string("/proc/self/status").expect("our own memory");
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key)).expect("a line");
        line.split_ascii_whitespace().next().and_then(|n| n.parse::<f64>().ok()).expect("a number")
    };
    println!(
        "{}",
        serde_json::json!({
            "seconds": begin.elapsed().as_secs_f64(), "collections": summary.collections,
            "messages": summary.messages, "cpu_percent": ticks / begin.elapsed().as_secs_f64(),
            "rss_mb": kilobytes("VmHWM:") / 1000.0,
        })
    );
}
