//! Real HAProxy instances are steered by the router: every one confirms, traffic follows, a reload
//! is mended, and an old leader is refused.

#[path = "support/haproxy.rs"]
mod haproxy;
mod support;

use std::io::{Read, Write};

use foreshift::drivers::haproxy::{HaproxyOptions, HaproxyRouter};
use foreshift::drivers::{Permit, Retry, Router, ServerState, Weight};
use foreshift::fleet::{Epoch, PartitionId, Share, WorkloadId};
use haproxy::Haproxies;

fn cart() -> WorkloadId {
    WorkloadId::from("cart")
}

fn permit(epoch: u64) -> Permit {
    Permit::mint_for_runner(Epoch(epoch), "test")
}

fn weight(partition: &str, share: f64, state: ServerState) -> Weight {
    let partition = PartitionId::from(partition);
    Weight { partition, share: Share::new(share).unwrap(), state, sessions: None }
}

fn shares(first: f64) -> Vec<Weight> {
    vec![weight("h1/p", first, ServerState::Ready), weight("h2/p", 1.0 - first, ServerState::Ready)]
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_follows_the_shares_on_every_instance() {
    let Some(haproxies) = Haproxies::start("roundrobin") else { return };
    let router = HaproxyRouter::new(HaproxyOptions::new(haproxies.sockets()));
    for share in [0.99, 0.75, 0.5, 0.0, 1.0] {
        router.set(&cart(), &shares(share), &permit(1)).await.unwrap();
        router.set(&cart(), &shares(share), &permit(1)).await.unwrap();
        let read = router.weights(&cart()).await.unwrap();
        assert_eq!(read[0].partition.as_str(), "h1/p");
        assert!((read[0].share.get() - share).abs() < 0.005, "{read:?}");
        assert!(read.iter().all(|w| w.sessions.is_some()));
        for instance in &haproxies.instances {
            let (first, second) = instance.ask(100);
            assert_eq!(first + second, 100);
            assert!((first as f64 - share * 100.0).abs() <= 3.0, "{share}: {first} of 100");
        }
    }
    let drained = [weight("h1/p", 0.0, ServerState::Drain), weight("h2/p", 1.0, ServerState::Ready)];
    router.set(&cart(), &drained, &permit(1)).await.unwrap();
    assert_eq!(router.weights(&cart()).await.unwrap()[0].state, ServerState::Drain);
    assert_eq!(haproxies.instances[0].ask(20), (0, 20));
    let out = [weight("h1/p", 0.0, ServerState::Maintenance), weight("h2/p", 1.0, ServerState::Ready)];
    router.set(&cart(), &out, &permit(1)).await.unwrap();
    assert_eq!(router.weights(&cart()).await.unwrap()[0].state, ServerState::Maintenance);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_named_gets_nothing_of_the_workloads_traffic() {
    let Some(haproxies) = Haproxies::start("roundrobin") else { return };
    let router = HaproxyRouter::new(HaproxyOptions::new(haproxies.sockets()));
    assert_ne!(haproxies.instances[0].ask(20).0, 0, "both servers have their share at first");
    router.set(&cart(), &[weight("h2/p", 1.0, ServerState::Ready)], &permit(1)).await.unwrap();
    let read = router.weights(&cart()).await.unwrap();
    assert_eq!((read[0].share.get(), read[0].state), (0.0, ServerState::Drain), "{read:?}");
    for instance in &haproxies.instances {
        assert_eq!(instance.ask(40), (0, 40));
    }
    // Who says sorry when nobody else can is left as it was.
    for socket in haproxies.sockets() {
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.write_all(b"show servers state cart\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        let sorry: Vec<&str> =
            said.lines().find(|l| l.contains(" sorry ")).unwrap().split_ascii_whitespace().collect();
        assert_eq!((sorry[6], sorry[7]), ("0", "1"), "administrative state and weight: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_forgot_at_a_reload_is_noticed_and_brought_back() {
    let Some(mut haproxies) = Haproxies::start("roundrobin") else { return };
    let router = HaproxyRouter::new(HaproxyOptions::new(haproxies.sockets()));
    router.set(&cart(), &shares(0.25), &permit(1)).await.unwrap();
    haproxies.instances[1].stop();
    let error = router.set(&cart(), &shares(0.5), &permit(1)).await.unwrap_err();
    assert_eq!(error.retry, Retry::Unknown, "{error}");
    assert!(error.to_string().contains(&haproxies.sockets()[1]), "the error names which: {error}");
    assert!(error.to_string().contains("1 of 2"), "{error}");
    assert!(router.weights(&cart()).await.is_err());
    haproxies.instances[1].start();
    let error = router.weights(&cart()).await.unwrap_err();
    assert!(error.to_string().contains("disagrees"), "{error}");
    router.set(&cart(), &shares(0.5), &permit(1)).await.unwrap();
    assert!((router.weights(&cart()).await.unwrap()[0].share.get() - 0.5).abs() < 0.005);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_is_refused() {
    let Some(haproxies) = Haproxies::start("roundrobin") else { return };
    let mut options = HaproxyOptions::new(haproxies.sockets());
    options.epochs = Some(haproxies.epochs.display().to_string());
    let router = HaproxyRouter::new(options);
    router.set(&cart(), &shares(0.25), &permit(7)).await.unwrap();
    router.set(&cart(), &shares(0.5), &permit(8)).await.unwrap();
    let error = router.set(&cart(), &shares(0.9), &permit(7)).await.unwrap_err();
    assert_eq!(error.retry, Retry::Permanent, "{error}");
    assert!((router.weights(&cart()).await.unwrap()[0].share.get() - 0.5).abs() < 0.005);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_with_a_way_out() {
    let Some(haproxies) = Haproxies::start("static-rr") else { return };
    let router = HaproxyRouter::new(HaproxyOptions::new(haproxies.sockets()));
    let error = router.set(&cart(), &shares(0.25), &permit(1)).await.unwrap_err();
    assert!(error.retry == Retry::Permanent && error.detail.contains("dynamic"), "{error}");
    let unknown = [weight("h9/p", 1.0, ServerState::Ready)];
    let error = router.set(&cart(), &unknown, &permit(1)).await.unwrap_err();
    assert!(error.retry == Retry::Permanent && error.detail.contains("h1_p, h2_p"), "{error}");
    let nobody = [weight("h1/p", 0.0, ServerState::Drain), weight("h2/p", 0.0, ServerState::Drain)];
    assert!(router.set(&cart(), &nobody, &permit(1)).await.is_err());
    let error = router.weights(&WorkloadId::from("absent")).await.unwrap_err();
    assert!(error.detail.contains("absent") || error.detail.contains("backend"), "{error}");
}
