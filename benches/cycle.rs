//! One cycle of the assessor over whole fleets, on one thread: cost per partition must stay flat.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use foreshift::cli::bench::Subject;

fn cycle(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    let mut group = c.benchmark_group("cycle");
    group.sample_size(10);
    for partitions in [1_000usize, 10_000] {
        let mut subject = Subject::new(partitions, 16).expect("the shipped models run");
        group.throughput(Throughput::Elements((partitions * 16) as u64));
        group.bench_function(BenchmarkId::from_parameter(partitions), |b| {
            b.iter(|| pool.install(|| subject.cycle()));
        });
    }
    group.finish();
}

criterion_group!(benches, cycle);
criterion_main!(benches);
