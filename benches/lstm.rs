//! LSTM: rebuilding windows of 32 × 16 with 32 cells in batches of 64 (≥ 40,000 windows/s by the
//! built-in kernels, ≥ 60,000 by ONNX Runtime wanted), and training a predictor on 24,000 × 38 (≤ 5 s).

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foreshift::fleet::rng::Random;
use foreshift::predict::models::lstm::autoencoder::train_autoencoder;
use foreshift::predict::models::lstm::train::{Training, train_predictor};
use foreshift::predict::models::onnx::{self, Model};
use foreshift::predict::models::runtime::{Runtime, Tensor, kernels::Kernels, locate, native::Native};

fn normals(count: usize) -> Vec<f32> {
    let mut random = Random::new(1);
    (0..count).map(|_| random.normal() as f32).collect()
}

fn lstm(c: &mut Criterion) {
    let training = Training { epochs: 0, ..Training::default() };
    let windows = normals(64 * 32 * 16);
    let model = train_autoencoder(&windows, 16, &training, &mut |_, _, _| {});
    let bytes = onnx::encode(&Model::Autoencoder(model));
    let input = [Tensor::new([32, 64, 16], windows)];
    let mut group = c.benchmark_group("lstm");
    group.sample_size(20);
    group.throughput(Throughput::Elements(64));
    let mut ours = Kernels.load(&bytes, "ae").expect("our own file");
    group.bench_function("autoencoder, built-in kernels, batch 64", |b| b.iter(|| ours.run(&input)));
    if let Some(native) = locate::find(None).and_then(|path| Native::open(&path).ok()) {
        let mut theirs = native.load(&bytes, "ae").expect("our own file");
        group.bench_function("autoencoder, ONNX Runtime, batch 64", |b| b.iter(|| theirs.run(&input)));
    }
    group.sample_size(10);
    group.throughput(Throughput::Elements(24_000));
    let rows = normals(24_000 * 38);
    let training = Training { epochs: 10, ..Training::default() };
    group.bench_function("train a predictor, 24000 x 38, 10 epochs", |b| {
        b.iter(|| train_predictor(&rows, 38, &training, &mut |_, _, _| {}));
    });
    group.finish();
}

criterion_group!(benches, lstm);
criterion_main!(benches);
