//! Anomaly detection: fit one partition, score its history, stream its rows.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foreshift::predict::anomaly::{AnomalyModel, FitOptions, univariate};

/// `metrics` waves with noise, `[metric][time]`.
fn columns(metrics: usize, rows: usize) -> Vec<Vec<f32>> {
    let mut seed = 1u64;
    let mut noise = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..metrics)
        .map(|m| (0..rows).map(|t| (t as f32 / (30.0 + m as f32)).sin() + noise()).collect())
        .collect()
}

fn anomaly(c: &mut Criterion) {
    let data = columns(38, 24_000);
    let views: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
    let Ok((model, _)) = AnomalyModel::fit(&views, &FitOptions::default()) else { return };
    let mut group = c.benchmark_group("anomaly");
    group.sample_size(10);
    group.bench_function("fit 24,000 x 38", |b| {
        b.iter(|| AnomalyModel::fit(black_box(&views), &FitOptions::default()));
    });
    group.throughput(Throughput::Elements(38 * 24_000));
    group.bench_function("score and alarm, points", |b| {
        b.iter(|| model.read_columns(black_box(&views)));
    });
    group.throughput(Throughput::Elements(38 * 1_000));
    group.bench_function("stream with contributions, points", |b| {
        let mut parts = [0.0; 38];
        b.iter(|| {
            let mut state = model.state();
            for t in 0..1_000 {
                let row: Vec<f32> = data.iter().map(|c| c[t]).collect();
                black_box(model.score_row(&mut state, &row, &mut parts));
            }
        });
    });
    group.throughput(Throughput::Elements(24_000));
    group.bench_function("rank tail, points", |b| b.iter(|| univariate::score_series(black_box(&data[0]))));
    group.finish();
}

criterion_group!(benches, anomaly);
criterion_main!(benches);
