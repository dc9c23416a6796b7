//! From a key press to the bytes for the terminal, with ten thousand partitions, at 200×60: update,
//! draw, encode. The target is a 99th percentile under 16 ms.

#[path = "../tests/support/console.rs"]
mod console;

use std::sync::Arc;
use std::time::Instant;

use console::{Console, large};
use criterion::{Criterion, criterion_group, criterion_main};
use foreshift::tui::terminal::FrugalBackend;
use foreshift::tui::update::Msg;

const SIZE: (u16, u16) = (200, 60);

fn key_to_bytes(criterion: &mut Criterion) {
    let snapshot = large(10_000);
    for (name, to, keys) in [
        ("pulse", "", ["j", "k"]),
        ("table", "3", ["j", "k"]),
        ("page", "3", ["<pgdn>", "<pgup>"]),
        ("sort", "3", ["s", "o"]),
    ] {
        let mut c = Console::new(snapshot.clone(), SIZE);
        let mut backend = FrugalBackend::new();
        c.run(to);
        backend.frame(&c.picture());
        let mut turn = 0;
        let mut worst = Vec::new();
        criterion.bench_function(&format!("key to bytes, 10,000 partitions, {name}"), |b| {
            b.iter(|| {
                let began = Instant::now();
                c.run(keys[turn % 2]);
                turn += 1;
                let bytes = backend.frame(&c.picture()).len();
                worst.push(began.elapsed());
                bytes
            });
        });
        worst.sort();
        let p99 = worst.get(worst.len() * 99 / 100).copied().unwrap_or_default();
        println!("{name}: p99 {p99:?} of {} keys", worst.len());
    }
}

fn snapshot_to_bytes(criterion: &mut Criterion) {
    let snapshot = large(10_000);
    let mut c = Console::new(snapshot.clone(), SIZE);
    let mut backend = FrugalBackend::new();
    c.run("3");
    let mut sequence = 0;
    criterion.bench_function("snapshot to bytes, 10,000 partitions, sorted table", |b| {
        b.iter(|| {
            sequence += 1;
            let mut next = snapshot.clone();
            next.sequence = sequence;
            c.happens(Msg::Snapshot(Arc::new(next)));
            backend.frame(&c.picture()).len()
        });
    });
}

fn first_picture(criterion: &mut Criterion) {
    let snapshot = large(10_000);
    criterion.bench_function("first picture, 10,000 partitions", |b| {
        b.iter(|| {
            let c = Console::new(snapshot.clone(), SIZE);
            FrugalBackend::new().frame(&c.picture()).len()
        });
    });
}

criterion_group!(benches, key_to_bytes, snapshot_to_bytes, first_picture);
criterion_main!(benches);
