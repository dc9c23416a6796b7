//! What a person forbids to touch while it waits for its turn does not begin.

#[path = "support/ready.rs"]
mod ready;

use std::collections::BTreeMap;
use std::sync::Arc;

use foreshift::fleet::{Phase, Span};
use foreshift::migrate::World;
use foreshift::migrate::runner::Forbidden;
use ready::{Drive, ID, topology};

fn world(drive: &Drive, forbidden: Forbidden) -> World {
    World {
        at: foreshift::fleet::Clock::now(&*drive.clock),
        topology: Arc::new(topology()),
        forbidden: Arc::new(forbidden),
        ..World::default()
    }
}

#[tokio::test]
async fn an_approved_move_waits_while_its_workload_or_destination_is_forbidden_and_says_so() {
    let words = "eve has forbidden to touch it".to_string();
    let of_workload =
        Forbidden { workloads: BTreeMap::from([("w".into(), words.clone())]), ..Forbidden::default() };
    let of_place = Forbidden { partitions: BTreeMap::from([("b".into(), words)]), ..Forbidden::default() };
    for forbidden in [of_workload, of_place] {
        let mut drive = Drive::begin().await;
        for _ in 0..40 {
            drive.clock.advance(Span::seconds(1));
            drive.runner.observe(world(&drive, forbidden.clone()));
            drive.runner.tick(foreshift::fleet::Clock::now(&*drive.clock)).await.unwrap();
        }
        let state = drive.runner.state(ID).unwrap();
        assert!(state.phase < Phase::Preparing, "{}", state.phase.word());
        let view = &drive.runner.views()[0];
        assert!(view.waiting.contains("eve has forbidden to touch it; release the veto"), "{}", view.waiting);
        drive.runner.observe(world(&drive, Forbidden::default()));
        drive.until_in(Phase::Done).await;
    }
}
