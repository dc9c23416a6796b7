//! Forecasts: fit and 48 steps of the default set, of automatic ARIMA, and the engine's short forecast.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foreshift::predict::forecast::{Effort, Fitted, Method, Network, Seasons, Shape, outlook, short};
use foreshift::predict::train::stretches::TRAINING;

fn hourly(rows: usize) -> Vec<f64> {
    let mut seed = 1u64;
    (0..rows)
        .map(|t| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let noise = (seed >> 40) as f64 / (1u64 << 24) as f64;
            let day = (t as f64 / 24.0 * std::f64::consts::TAU).sin();
            let week = (t as f64 / 168.0 * std::f64::consts::TAU).cos();
            500.0 + 100.0 * day + 40.0 * week + 20.0 * noise
        })
        .collect()
}

fn forecast(c: &mut Criterion) {
    let x = hourly(700);
    let window: Vec<f32> = x[..360].iter().map(|&v| v as f32).collect();
    let mut group = c.benchmark_group("forecast");
    group.sample_size(10);
    group.throughput(Throughput::Elements(700));
    group.bench_function("default, fit and 48 steps, points", |b| {
        b.iter(|| outlook(black_box(&x), Seasons::HOURLY, 48, &Method::SEASONAL, None));
    });
    group.bench_function("automatic ARIMA, fit and 48 steps, points", |b| {
        b.iter(|| Fitted::fit(Method::Arima, black_box(&x), Seasons::HOURLY).map(|f| f.forecast(&x, 48)));
    });
    group.throughput(Throughput::Elements(360));
    group.bench_function("short, no season, 60 steps, points", |b| {
        b.iter(|| short(black_box(&window), 60, Seasons::default(), Effort::Quick, None));
    });
    // What a network costs is the same whatever it has learnt.
    let series: Vec<f32> = x.iter().map(|&v| v as f32).collect();
    let network = Network::train(&[&series], Shape::PLAIN, &TRAINING, 1, &mut |_, _, _| {});
    group.throughput(Throughput::Elements(60));
    for (name, network) in [("without", None), ("with", network.as_ref())] {
        group.bench_function(format!("the engine's, 60 values, 30 steps, {name} a network, points"), |b| {
            b.iter(|| short(black_box(&window[..60]), 30, Seasons::default(), Effort::Quick, network));
        });
    }
    group.finish();
}

criterion_group!(benches, forecast);
criterion_main!(benches);
