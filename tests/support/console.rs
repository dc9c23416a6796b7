//! A recorded fleet for the console's tests and benches: 24 hosts, 60 partitions, something of
//! everything; a generator of large fleets; a console without a terminal.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::sync::Arc;

use foreshift::fleet::{
    Bytes, Generation, HealthScore, HostId, MigrationId, PartitionId, Phase, PredictionState, Probability,
    ProposalId, Revision, ServingState, Share, ShownState, Span, Timestamp, rng::Random,
};
use foreshift::protocol::*;

/// 2026-11-21 03:12:40 UTC.
pub const NOW: Timestamp = Timestamp(1_795_230_760_000);

pub fn p(v: f64) -> Probability {
    Probability::clamped(v).unwrap()
}

pub fn share(v: f64) -> Share {
    Share::clamped(v).unwrap()
}

fn gb(n: f64) -> Bytes {
    Bytes((n * 1e9) as u64)
}

fn ago(span: Span) -> Timestamp {
    NOW - span
}

/// A fleet of `sites` × `racks` × `hosts` with `per_host` partitions, all well.
fn well(random: &mut Random, sites: &[&str], racks: usize, hosts: usize, per_host: usize) -> Snapshot {
    let (mut host_views, mut partitions) = (Vec::new(), Vec::new());
    let mut rack_number = 0;
    for site in sites {
        for _ in 0..racks {
            rack_number += 1;
            for h in 0..hosts {
                let host = HostId::from(format!("{site}-r{rack_number}-{:02}", h * 2 + 1));
                let count = if per_host == 0 { 2 + (h + rack_number) % 2 } else { per_host };
                let mut indices = Vec::new();
                for part in 1..=count {
                    indices.push(partitions.len() as u32);
                    let health = random.between(86.0, 99.0);
                    let trend: Vec<f32> = (0..24).map(|_| (health + random.normal()) as f32).collect();
                    partitions.push(PartitionView {
                        id: PartitionId::of(&host, &format!("p{part}")),
                        host: host.clone(),
                        class: if rack_number % 3 == 0 { "postgres" } else { "redis" }.to_string(),
                        serving: ServingState::Active,
                        prediction: PredictionState::Healthy,
                        shown: ShownState::Active,
                        since: ago(Span::hours(90)),
                        seen: Some(ago(Span::seconds(4))),
                        health: HealthScore::clamped(health),
                        trend,
                        failure: vec![
                            p(random.between(0.0, 0.002)),
                            p(random.between(0.001, 0.01)),
                            p(random.between(0.005, 0.03)),
                        ],
                        calibration: "calibrated".to_string(),
                        because: "within its own normal".to_string(),
                        instability: Some(random.between(0.1, 1.4)),
                        workloads: 3 + random.below(3) as u32,
                        data: gb(random.between(8.0, 60.0)),
                    });
                }
                let load = random.between(0.3, 0.7);
                host_views.push(HostView {
                    id: host,
                    site: (*site).into(),
                    rack: format!("{site}-r{rack_number}").into(),
                    risk: Some(p(random.between(0.001, 0.01))),
                    confidence: random.between(0.8, 0.97),
                    sure: None,
                    load: Share::clamped(load),
                    partitions: indices,
                });
            }
        }
    }
    Snapshot {
        sequence: 4711,
        at: NOW,
        fleet_name: "prod-eu".to_string(),
        mode: Mode::Advise,
        leader: "eu-1".to_string(),
        next_cycle: NOW + Span::seconds(11),
        cycle_ms: 143.0,
        windows: vec![Span::minutes(15), Span::hours(1), Span::hours(24)],
        data: DataStatus {
            source: "influxdb http://metrics.prod-eu:8086 bucket telegraf".to_string(),
            newest: Some(ago(Span::seconds(4))),
            failing: None,
            taken: 48_211_904,
            dropped: vec![("duplicate".to_string(), 12_400), ("out of order".to_string(), 318)],
            sink_failing: None,
        },
        models: ModelStatus {
            runtime: "built-in kernels (no ONNX Runtime found)".to_string(),
            models: vec![
                "trees v12: trained 6 d ago on 212 failures, calibrated (Brier 0.041)".to_string(),
                "autoencoder redis v4: trained 6 d ago on 30 d of 41 partitions".to_string(),
                "forecast: exponential smoothing, chosen by backtest for 88 % of metrics; ARIMA else"
                    .to_string(),
            ],
            ..ModelStatus::default()
        },
        hosts: Arc::new(host_views),
        partitions: Arc::new(partitions),
        ..Snapshot::default()
    }
}

fn falling(from: f64, to: f64) -> Vec<f32> {
    (0..24).map(|i| (from + (to - from) * (f64::from(i) / 23.0).powi(2)) as f32).collect()
}

struct Trouble<'a> {
    id: &'a str,
    state: PredictionState,
    health: (f64, f64),
    chances: [f64; 3],
    because: &'a str,
    minutes: i64,
}

/// The fleet of the tests.
pub fn fleet() -> Snapshot {
    let mut random = Random::new(7);
    let mut s = well(&mut random, &["ams", "fra"], 3, 4, 0);
    let troubles = [
        Trouble {
            id: "fra-r6-07/p2",
            state: PredictionState::PredictiveFailure,
            health: (92.0, 31.0),
            chances: [0.12, 0.71, 0.98],
            because: "disk latency ×6, I/O errors",
            minutes: 21,
        },
        Trouble {
            id: "fra-r4-05/p1",
            state: PredictionState::Suspect,
            health: (88.0, 64.0),
            chances: [0.01, 0.09, 0.44],
            because: "memory: full in 5 h 20 (3 h–9 h)",
            minutes: 48,
        },
        Trouble {
            id: "ams-r2-03/p2",
            state: PredictionState::Suspect,
            health: (74.0, 70.0),
            chances: [0.01, 0.06, 0.18],
            because: "tail latency above its own week",
            minutes: 130,
        },
        Trouble {
            id: "ams-r1-01/p1",
            state: PredictionState::Evacuating,
            health: (90.0, 58.0),
            chances: [0.03, 0.22, 0.51],
            because: "temperature rising 0.4 °C a minute",
            minutes: 9,
        },
        Trouble {
            id: "ams-r3-05/p2",
            state: PredictionState::Evacuated,
            health: (55.0, 83.0),
            chances: [0.0, 0.01, 0.05],
            because: "emptied, under watch",
            minutes: 300,
        },
        Trouble {
            id: "fra-r5-03/p1",
            state: PredictionState::Probation,
            health: (70.0, 91.0),
            chances: [0.0, 0.02, 0.06],
            because: "well since 40 m",
            minutes: 40,
        },
    ];
    {
        let all = Arc::make_mut(&mut s.partitions);
        for t in &troubles {
            let view =
                all.iter_mut().find(|v| v.id.as_str() == t.id).unwrap_or_else(|| panic!("no {}", t.id));
            view.prediction = t.state;
            view.serving = if t.state == PredictionState::Evacuated {
                ServingState::Standby
            } else {
                ServingState::Active
            };
            view.shown = ShownState::of(view.serving, view.prediction);
            view.health = HealthScore::clamped(t.health.1);
            view.trend = falling(t.health.0, t.health.1);
            view.failure = t.chances.iter().map(|c| p(*c)).collect();
            view.because = t.because.to_string();
            view.since = ago(Span::minutes(t.minutes));
            view.instability = Some((100.0 - t.health.1) / 9.5);
        }
        let silent = all.iter_mut().find(|v| v.id.as_str() == "fra-r4-01/p2").unwrap();
        silent.prediction = PredictionState::Unknown;
        silent.shown = ShownState::Unknown;
        silent.seen = Some(ago(Span::seconds(190)));
        silent.health = None;
        silent.failure = Vec::new();
        silent.trend[20..].fill(f32::NAN);
        silent.instability = None;
    }
    workloads(&mut s, &mut random);
    s.proposals = Arc::new(proposals());
    s.migrations = Arc::new(migrations());
    s.alerts = Arc::new(alerts());
    s.audit = Arc::new(audit());
    risks(&mut s);
    s
}

fn risks(s: &mut Snapshot) {
    let partitions = Arc::clone(&s.partitions);
    for host in Arc::make_mut(&mut s.hosts) {
        let chance = host
            .partitions
            .iter()
            .filter_map(|i| partitions[*i as usize].failure.get(1))
            .map(|f| 1.0 - f.get());
        host.risk = Probability::clamped(1.0 - chance.product::<f64>());
        if host.id.as_str() == "fra-r4-03" {
            host.load = Share::clamped(0.86);
        }
    }
}

fn workloads(s: &mut Snapshot, random: &mut Random) {
    let applications = ["orders", "carts", "search", "billing", "sessions"];
    let mut all = Vec::new();
    let partitions = Arc::clone(&s.partitions);
    for (i, part) in partitions.iter().enumerate() {
        for w in 0..part.workloads as usize {
            let application = applications[(i + w) % applications.len()];
            let replica = &partitions[(i + partitions.len() / 2 + w) % partitions.len()];
            all.push(WorkloadView {
                id: format!("{application}-{:02}", all.len()).into(),
                application: application.into(),
                kind: if part.class == "redis" { "cache" } else { "oltp" }.to_string(),
                class: part.class.clone(),
                partition: part.id.clone(),
                replicas: vec![replica.id.clone()],
                size: gb(random.between(1.0, 20.0)),
                hps: part.health.and_then(|h| HealthScore::clamped(h.get() - random.between(0.0, 8.0))),
                disruption: random.between(1.0, 40.0),
                generation: Generation(3),
            });
        }
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    s.workloads = Arc::new(all);
}

fn one_move(workload: &str, from: &str, to: &str, because: &str, size: f64, disruption: f64) -> MoveView {
    MoveView {
        workload: workload.into(),
        source: from.into(),
        destination: to.into(),
        because: because.to_string(),
        data: gb(size),
        duration: Span::seconds((size * 9.0) as i64),
        blackout: Span::millis(45),
        disruption,
        in_time: Some(p(0.99)),
        way_back: "proved at cut".to_string(),
        commands: vec![
            format!("redis-cli -h {from} CLUSTER REPLICATE 5f1c…  # replica on {to}"),
            format!("redis-cli -h {to} CLUSTER FAILOVER"),
        ],
    }
}

fn proposals() -> Vec<ProposalView> {
    let evacuate = ProposalView {
        id: ProposalId(218),
        title: "evacuate fra-r6-07/p2 → r4-03, r5-01, r5-07".to_string(),
        trigger: "fra-r6-07/p2 is expected to fail: 71 % within 1 h, over the threshold of 50 % for 3 windows".to_string(),
        plan: "9f3ca1d07be24c55a0e1".to_string(),
        status: "waiting".to_string(),
        open: true,
        made: ago(Span::seconds(62)),
        expires: NOW + Span::seconds(14 * 60 + 20),
        moves: vec![
            one_move("carts-04", "fra-r6-07/p2", "fra-r4-03/p1", "lowest risk, other rack", 9.0, 3.0),
            one_move("orders-17", "fra-r6-07/p2", "fra-r5-01/p1", "keeps 2 racks between copies", 14.0, 7.0),
            one_move("orders-21", "fra-r6-07/p2", "fra-r5-07/p1", "r5-01 would pass 80 % memory", 18.0, 22.0),
        ],
        canary: vec![
            (share(0.05), Span::minutes(2)),
            (share(0.25), Span::minutes(2)),
            (share(0.5), Span::minutes(1)),
        ],
        canary_carries: "reads compared by value".to_string(),
        soak: Span::minutes(10),
        risk: (0.84, 0.02),
        loads: vec![
            (HostId::from("fra-r4-03"), 0.86, 0.88),
            (HostId::from("fra-r5-01"), 0.61, 0.69),
            (HostId::from("fra-r5-07"), 0.49, 0.63),
        ],
        if_nothing: "carts-04, orders-17, orders-21 unavailable for about 3 m 20 (replica promotion), 0.8 % of writes at risk".to_string(),
        way_back: "from any step; after the cut by switching back, about 50 ms; offered for 24 h".to_string(),
        rejected: vec![
            ("fra-r4-05".to_string(), "itself suspect, 9 % within 1 h".to_string()),
            ("ams-*".to_string(), "9 ms away, the class allows 2 ms".to_string()),
            ("fra-r6-*".to_string(), "same rack as the failing host".to_string()),
        ],
        risks: vec!["fra-r4-03 passes 85 % load for the time of the copy".to_string()],
        blocked: None,
        difference: Vec::new(),
        topology: Revision(812),
    };
    let mut rebalance = evacuate.clone();
    rebalance.id = ProposalId(219);
    rebalance.title = "rebalance ams-r2 (footprint 12 % off)".to_string();
    rebalance.trigger =
        "desired and current footprint of ams-r2 differ by 12 %, over the threshold of 10 %".to_string();
    rebalance.plan = "17b0c2ee41aa90fd".to_string();
    rebalance.moves.truncate(2);
    rebalance.moves.iter_mut().for_each(|m| {
        m.in_time = None;
        m.source = "ams-r2-03/p2".into();
        m.destination = "ams-r3-01/p1".into();
    });
    rebalance.expires = NOW + Span::minutes(52);
    rebalance.blocked = Some("2 of 2 concurrent moves are in use".to_string());
    rebalance.risks.clear();
    let mut decided = rebalance.clone();
    decided.id = ProposalId(216);
    decided.title = "evacuate ams-r1-01/p1 → r2-01".to_string();
    decided.status = "approved by operator@eu".to_string();
    decided.open = false;
    decided.blocked = None;
    vec![evacuate, rebalance, decided]
}

fn steps(list: &[(&str, StepState, &str)]) -> Vec<StepView> {
    list.iter()
        .map(|(name, state, evidence)| StepView {
            name: name.to_string(),
            state: *state,
            evidence: evidence.to_string(),
        })
        .collect()
}

fn migrations() -> Vec<MigrationView> {
    use StepState::{Ahead, Done, Running};
    let running = MigrationView {
        id: MigrationId(977),
        proposal: ProposalId(216),
        workload: "orders-17".into(),
        source: "ams-r1-01/p1".into(),
        destination: "ams-r2-01/p2".into(),
        phase: Phase::Canary,
        waiting: String::new(),
        by: "operator@eu".to_string(),
        plan: "77ab90cd12ef".to_string(),
        started: ago(Span::seconds(252)),
        ended: None,
        deadline: Some(NOW + Span::seconds(48)),
        left: Some(Span::seconds(110)),
        progress: Some(share(0.6)),
        steps: steps(&[
            ("prepare", Done, ""),
            ("copy", Done, "14.1 GB"),
            ("catch up", Done, "12 ms behind"),
            ("verify", Done, "2,113,904 keys equal"),
            ("way back", Done, "proved"),
            ("canary 5 %", Done, ""),
            ("canary 25 %", Running, "1 m 12 of 2 m"),
            ("canary 50 %", Ahead, ""),
            ("cut", Ahead, ""),
            ("redirect", Ahead, ""),
            ("watch", Ahead, "10 m"),
            ("retire", Ahead, ""),
        ]),
        canary: Some((2, 3)),
        canary_carries: "reads compared by value".to_string(),
        judge: vec![
            JudgeLine {
                what: "errors".into(),
                source: "0.00 %  (n 48,210)".into(),
                destination: "0.00 %  (n 16,044)".into(),
                verdict: "pass".into(),
            },
            JudgeLine {
                what: "latency p50 / p99".into(),
                source: "0.31 / 1.9 ms".into(),
                destination: "0.29 / 1.7 ms".into(),
                verdict: "pass (p 0.41, Δ −0.1 ms)".into(),
            },
            JudgeLine {
                what: "values compared".into(),
                source: String::new(),
                destination: "16,044 equal, 0 differ".into(),
                verdict: "pass".into(),
            },
        ],
        can: Abilities { resume: Some("it is not held".to_string()), ..Abilities::default() },
        way_back: "drop the replica, about 50 ms; the source has served all along".to_string(),
        log: vec![
            (ago(Span::seconds(29)), "canary step 2 started by policy".to_string()),
            (ago(Span::seconds(91)), "canary step 1 passed: 5 % for 2 m".to_string()),
            (ago(Span::seconds(120)), "verify: 16,384 slots of 16,384 hashed, equal".to_string()),
            (ago(Span::seconds(200)), "copy began".to_string()),
            (ago(Span::seconds(252)), "approved by operator@eu".to_string()),
        ],
    };
    let mut held = running.clone();
    held.id = MigrationId(978);
    held.workload = "carts-11".into();
    held.destination = "ams-r3-01/p1".into();
    held.phase = Phase::Hold;
    held.waiting = "window of the application opens at 04:00".to_string();
    held.judge.clear();
    held.canary = None;
    held.steps = steps(&[
        ("prepare", Done, ""),
        ("copy", Running, "2.2 of 6.0 GB"),
        ("verify", Ahead, ""),
        ("cut", Ahead, ""),
    ]);
    held.progress = Some(share(0.37));
    held.can = Abilities {
        step: Some("no canary step runs".to_string()),
        promote: Some("no canary step runs".to_string()),
        pause: Some("it is held already".to_string()),
        ..Abilities::default()
    };
    held.left = None;
    held.deadline = None;
    let mut done = running.clone();
    done.id = MigrationId(971);
    done.workload = "search-08".into();
    done.phase = Phase::Done;
    done.ended = Some(ago(Span::minutes(40)));
    done.started = ago(Span::minutes(46));
    done.steps.iter_mut().for_each(|s| s.state = Done);
    let mut undone = done.clone();
    undone.id = MigrationId(969);
    undone.workload = "billing-02".into();
    undone.phase = Phase::RolledBack;
    undone.started = ago(Span::hours(30));
    undone.ended = Some(ago(Span::hours(30)) + Span::minutes(3));
    vec![running, held, done, undone]
}

fn alerts() -> Vec<AlertView> {
    let alert = |at, severity, subject: &str, text: &str| AlertView {
        at,
        severity,
        subject: subject.to_string(),
        text: text.to_string(),
    };
    vec![
        alert(
            ago(Span::minutes(21)),
            Severity::Critical,
            "fra-r6-07/p2",
            "predictive failure: 71 % within 1 h",
        ),
        alert(ago(Span::minutes(3)), Severity::Warning, "fra-r4-01/p2", "silent for 190 s: state unknown"),
        alert(ago(Span::minutes(9)), Severity::Warning, "M-978", "held: window opens at 04:00"),
    ]
}

fn audit() -> Vec<AuditView> {
    let entry = |at, actor: &str, act: &str, outcome: &str| AuditView {
        at,
        actor: actor.to_string(),
        act: act.to_string(),
        outcome: outcome.to_string(),
    };
    vec![
        entry(ago(Span::seconds(252)), "operator@eu", "approve P-216, plan 77ab90cd", "M-977 began"),
        entry(ago(Span::minutes(9)), "automatic mode", "hold M-978", "done"),
        entry(
            ago(Span::minutes(31)),
            "viewer@desk",
            "stop everything",
            "refused: this needs the role operator",
        ),
        entry(ago(Span::hours(30)), "operator@eu", "roll back M-969", "rolled back in 51 ms"),
    ]
}

/// Everything about one partition.
pub fn detail(id: &PartitionId) -> PartitionDetail {
    let step = Span::seconds(30);
    let n: usize = 240;
    let start = NOW - Span(step.0 * n as i64);
    let mut random = Random::new(11).fork(id.as_str());
    let mut metric =
        |name: &str, label: &str, unit: &str, base: f64, noise: f64, rise: f64, deviation: f64| {
            let history: Vec<f32> = (0..n)
                .map(|i| {
                    let t = (i as f64 / n as f64 - 0.6).max(0.0) / 0.4;
                    (base + rise * t.powi(2) + noise * random.normal().abs()) as f32
                })
                .collect();
            MetricDetail {
                metric: name.to_string(),
                label: label.to_string(),
                unit: unit.to_string(),
                start,
                step,
                history,
                normal: Some((base as f32, (base + 2.0 * noise) as f32)),
                deviation: Some(deviation),
                forecast: None,
            }
        };
    let mut latency = metric("disk.write_latency_ms", "disk write latency p99", "ms", 6.0, 1.6, 40.0, 7.2);
    let steps = 60;
    let at =
        |i: usize, slope: f64, spread: f64| (47.0 + slope * i as f64 + spread * (i as f64).sqrt()) as f32;
    let series = |slope: f64, spread: f64| (0..steps).map(|i| at(i, slope, spread)).collect::<Vec<f32>>();
    latency.forecast = Some(ForecastView {
        start: NOW + Span::minutes(1),
        step: Span::minutes(1),
        median: series(0.6, 0.0),
        low50: series(0.6, -1.0),
        high50: series(0.6, 1.0),
        low90: series(0.6, -2.6),
        high90: series(0.6, 2.6),
        method: "damped trend".to_string(),
        crossing: Some((
            60.0,
            NOW + Span::minutes(22),
            NOW + Span::minutes(12),
            Some(NOW + Span::minutes(43)),
        )),
    });
    let mut gap = metric("net.rx_bytes", "net received", "MB/s", 40.0, 3.0, 0.0, 0.4);
    gap.history[100..130].fill(f32::NAN);
    let metrics = vec![
        latency,
        metric("log.errors", "error lines", "/min", 0.5, 0.5, 42.0, 9.1),
        metric("temp.disk", "disk temperature", "°C", 38.0, 0.4, 7.0, 3.6),
        metric("cpu.used", "cpu", "%", 34.0, 4.0, 3.0, 0.8),
        metric("mem.used", "memory", "%", 61.0, 0.3, 0.5, 0.2),
        gap,
        metric("disk.queue", "disk queue", "", 1.2, 0.4, 6.0, 4.4),
        metric("power.watts", "power", "W", 310.0, 4.0, 0.0, 0.1),
    ];
    let reason = |what: &str, amount: f64| Reason {
        what: what.to_string(),
        amount,
        words: format!("{what} is unlike its own past two weeks"),
    };
    PartitionDetail {
        id: id.clone(),
        at: NOW,
        metrics,
        why_health: vec![
            reason("disk write latency", 38.0),
            reason("I/O errors", 21.0),
            reason("past failures", 10.0),
        ],
        why_failure: vec![
            reason("disk write latency", 34.0),
            reason("I/O errors, 10 min", 21.0),
            reason("reallocated sectors", 11.0),
            reason("instability 7.2 σ", 8.0),
            reason("own history, 2 like it", 5.0),
            reason("all else", -9.0),
        ],
        failure_base: 1.0,
        why_others: vec![WindowReasons {
            within: Span::minutes(15),
            probability: p(0.12),
            base: 0.3,
            parts: vec![reason("disk write latency", 8.0), reason("I/O errors, 10 min", 4.6)],
        }],
        track_record: "of 41 calls between 60 and 80 %, 29 failed in time".to_string(),
        model: "trees v12, trained 6 d ago on 212 failures".to_string(),
        maturity: "30 days of its own history".to_string(),
        confidence: 0.83,
        sure: Some(Sure { known: 0.9, there: 1.0, calibrated: 1.0, inside: 0.92 }),
        workloads: vec!["carts-04".into(), "orders-17".into(), "orders-21".into()],
        events: vec![
            (ago(Span::minutes(21)), "predictive failure: 52 % within 1 h".to_string()),
            (ago(Span::minutes(33)), "suspect: disk latency 3.1 σ".to_string()),
            (ago(Span::hours(2)), "kernel: ata3 failed command READ FPDMA".to_string()),
        ],
    }
}

/// A fleet of at least `partitions` partitions, some of them in trouble.
pub fn large(partitions: usize) -> Snapshot {
    let mut random = Random::new(3);
    let sites = ["ams", "fra", "lon", "par", "mad"];
    let hosts = partitions.div_ceil(sites.len() * 8 * 10).max(1);
    let mut s = well(&mut random, &sites, 8, hosts, 10);
    for (i, view) in Arc::make_mut(&mut s.partitions).iter_mut().enumerate() {
        if i % 97 == 0 {
            view.prediction = PredictionState::Suspect;
            view.shown = ShownState::Suspect;
            view.failure[1] = p(random.between(0.1, 0.6));
        }
    }
    s.proposals = Arc::new(proposals());
    s.migrations = Arc::new(migrations());
    s
}

pub fn operator() -> Actor {
    Actor { name: "operator@eu".to_string(), role: Role::Admin }
}

/// No keys changed.
pub fn no_overrides() -> BTreeMap<String, Vec<String>> {
    BTreeMap::new()
}

/// A console without a terminal: keys in, pictures and effects out.
pub struct Console {
    pub model: foreshift::tui::model::Model,
    pub effects: Vec<foreshift::tui::update::Effect>,
    now: u64,
}

impl Console {
    pub fn new(snapshot: Snapshot, size: (u16, u16)) -> Self {
        Self::dressed(snapshot, size, "base16", foreshift::tui::theme::Depth::Sixteen)
    }

    pub fn dressed(
        snapshot: Snapshot,
        size: (u16, u16),
        theme: &str,
        depth: foreshift::tui::theme::Depth,
    ) -> Self {
        use foreshift::tui::theme::{GlyphSet, Look, Theme};
        let themes = Theme::built_in().unwrap();
        let looks: Vec<Look> = themes.iter().map(|t| Look::fit(t, depth, GlyphSet::Unicode)).collect();
        let worn = themes.iter().position(|t| t.name == theme).unwrap();
        let keymap = foreshift::tui::keymap::Keymap::build(&no_overrides()).unwrap();
        let mut model = foreshift::tui::model::Model::new(
            Arc::new(snapshot),
            size,
            Arc::new(looks),
            Arc::new(keymap),
            operator(),
        );
        model.look = worn;
        Self { model, effects: Vec::new(), now: 0 }
    }

    /// Half a second passes, then something happens.
    pub fn happens(&mut self, msg: foreshift::tui::update::Msg) {
        self.now += 500;
        let now = foreshift::tui::model::Moment(self.now);
        let effects = foreshift::tui::update::update(&mut self.model, msg, now);
        for effect in effects {
            // The engine of the tests knows every partition and answers at once.
            if let foreshift::tui::update::Effect::Look(Command::Inspect { partition }) = &effect {
                let said = Ok(Reply::Partition { detail: Box::new(detail(partition)) });
                let asked = Box::new(Command::Inspect { partition: partition.clone() });
                self.effects.push(effect);
                self.happens(foreshift::tui::update::Msg::Answer { asked, said: Box::new(said) });
            } else {
                self.effects.push(effect);
            }
        }
    }

    /// Presses the keys of a script such as `2jj/n3<enter>a`.
    pub fn run(&mut self, script: &str) -> &mut Self {
        for key in foreshift::tui::key::parse_script(script).unwrap() {
            self.press(key);
        }
        self.happens(foreshift::tui::update::Msg::Tick);
        self
    }

    pub fn press(&mut self, key: foreshift::tui::key::Key) {
        self.happens(foreshift::tui::update::Msg::Input(foreshift::tui::terminal::input::Input::Key(key)));
    }

    pub fn picture(&self) -> ratatui::buffer::Buffer {
        let (columns, rows) = self.model.size;
        let mut buffer = ratatui::buffer::Buffer::empty(ratatui::layout::Rect::new(0, 0, columns, rows));
        foreshift::tui::screens::draw(&self.model, &mut buffer);
        buffer
    }

    /// The picture's text, without blanks at the ends of lines.
    pub fn text(&self) -> String {
        text_of(&self.picture())
    }

    /// The commands that were sent for being carried out.
    pub fn performed(&self) -> Vec<Command> {
        self.effects
            .iter()
            .filter_map(|e| match e {
                foreshift::tui::update::Effect::Perform(confirmed) => Some(confirmed.command().clone()),
                _ => None,
            })
            .collect()
    }
}

pub fn text_of(buffer: &ratatui::buffer::Buffer) -> String {
    let width = buffer.area.width as usize;
    let lines = buffer.content.chunks(width.max(1)).map(|row| {
        let line: String = row.iter().map(|c| c.symbol()).collect();
        line.trim_end().to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}
