//! Boosted trees: growing 50,000 × 76 (≤ 5 s wanted), the flat walk (≥ 500,000 rows/s wanted), and a
//! failure model over 10,000 partitions.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foreshift::fleet::rng::Random;
use foreshift::predict::failure::{FeatureSpec, PartitionContext, compute};
use foreshift::predict::models::FeatureMatrix;
use foreshift::predict::models::trees::{Explainer, FlatForest, Growth, grow};

fn table(rows: usize, width: usize) -> (FeatureMatrix, Vec<f32>) {
    let mut random = Random::new(1);
    let values = (0..rows * width).map(|_| random.normal() as f32).collect();
    let table = FeatureMatrix::from_values(width, values);
    let labels = (0..rows)
        .map(|r| {
            let x = table.row(r);
            let margin = x[0] + x[1] * x[2] - x[3].abs() + 0.5 * x[4] - 1.5;
            f32::from(random.chance(1.0 / (1.0 + f64::from(-2.0 * margin).exp())))
        })
        .collect();
    (table, labels)
}

fn trees(c: &mut Criterion) {
    let (rows, labels) = table(50_000, 76);
    let growth = Growth { trees: 200, leaves: 31, ..Growth::default() };
    let mut group = c.benchmark_group("trees");
    group.sample_size(10);
    group.bench_function("grow 200 trees on 50000 x 76", |b| {
        b.iter(|| grow(&rows, &labels, &[], None, &growth));
    });
    let forest = grow(&rows, &labels, &[], None, &growth);
    let flat = FlatForest::new(&forest);
    group.throughput(Throughput::Elements(50_000));
    group.bench_function("walk 200 trees of 31 leaves", |b| b.iter(|| flat.margins(&rows)));
    let small = grow(&rows, &labels, &[], None, &Growth { trees: 100, leaves: 12, depth: 5, ..growth });
    let explainer = Explainer::new(&small);
    group.throughput(Throughput::Elements(1000));
    group.bench_function("explain 100 trees of 12 leaves", |b| {
        b.iter(|| {
            let mut out = vec![0.0; 76];
            (0..1000).for_each(|r| explainer.explain(&small, rows.row(r), &mut out));
            out
        });
    });
    group.finish();
}

fn features(c: &mut Criterion) {
    let spec = FeatureSpec::canonical(vec!["oltp".into(), "cache".into()]);
    let mut random = Random::new(2);
    let values: Vec<f32> = (0..10_000 * 16 * 248).map(|_| random.unit() as f32 * 10.0).collect();
    let (location, scale) = ([1.0f32; 16], [1.0f32; 16]);
    let mut group = c.benchmark_group("features");
    group.sample_size(10);
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10000 partitions x 16 metrics x 248 slots", |b| {
        b.iter(|| {
            compute(
                &spec,
                10_000,
                |_| PartitionContext { location: &location, scale: &scale, extras: &[1.0, 90.0], kind: None },
                |p, m| {
                    let start = (p * 16 + m) * 248;
                    (&values[start..start + 100], &values[start + 100..start + 248])
                },
            )
        });
    });
    group.finish();
}

criterion_group!(benches, trees, features);
criterion_main!(benches);
