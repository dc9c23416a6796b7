//! Routers forget what they were told when they are reloaded: before the source is let go all of them confirm
//! once more, and after the end the engine looks after them.

#[path = "support/ready.rs"]
mod ready;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use foreshift::drivers::Action;
use foreshift::fleet::{Clock, Phase, Span};
use foreshift::migrate::runner::Keeping;
use ready::{Drive, ID, Ready, Roads};

/// A move whose traffic a router sends, watched at the destination.
async fn watched() -> (Drive, Arc<Roads>) {
    let roads = Arc::new(Roads::default());
    let mut drive = Drive::with(Ready { router: Some(roads.clone()), ..Ready::default() }).await;
    drive.until_in(Phase::Soaking).await;
    assert_eq!(roads.to(), "b");
    (drive, roads)
}

fn retired(drive: &Drive) -> bool {
    let retire = drive.mover.asked.lock().unwrap();
    retire.iter().any(|(name, _)| *name == Action::Retire.name())
}

#[tokio::test]
async fn a_router_that_forgot_while_it_was_watched_is_told_again_before_the_source_is_let_go() {
    let (mut drive, roads) = watched().await;
    *roads.sent.lock().unwrap() = None;
    drive.until_in(Phase::Done).await;
    assert_eq!((roads.to().as_str(), retired(&drive)), ("b", true));
}

#[tokio::test]
async fn while_a_router_does_not_answer_the_source_stays_and_it_is_said_which() {
    let (mut drive, roads) = watched().await;
    roads.away.store(true, Ordering::SeqCst);
    *roads.sent.lock().unwrap() = None;
    drive.until_in(Phase::Retiring).await;
    drive.until("waits for it", |r| r.state(ID).unwrap().waiting.contains("roads 2")).await;
    drive.step = Span::seconds(20);
    for _ in 0..100 {
        drive.clock.advance(drive.step);
        drive.runner.tick(drive.clock.now()).await.unwrap();
        tokio::time::timeout(std::time::Duration::from_millis(5), drive.runner.ready()).await.ok();
        drive.told.extend(drive.runner.take_alerts().into_iter().map(|(_, alert)| alert.text));
    }
    let state = drive.runner.state(ID).unwrap();
    assert_eq!((state.phase, retired(&drive)), (Phase::Retiring, false), "{}", state.waiting);
    assert!(drive.told.iter().any(|text| text.contains("roads 2")), "{:?}", drive.told);
    roads.away.store(false, Ordering::SeqCst);
    drive.until_in(Phase::Done).await;
    assert_eq!(roads.to(), "b");
}

#[tokio::test]
async fn a_router_that_forgets_after_the_end_is_put_right_and_one_that_is_away_is_named() {
    let (mut drive, roads) = watched().await;
    assert!(drive.runner.routes().is_empty(), "the migration looks after it itself");
    drive.until_in(Phase::Done).await;
    let kept = drive.runner.routes();
    let told = *roads.told.lock().unwrap();
    assert_eq!((kept.len(), kept[0].keep().await), (1, Keeping::Stands));
    assert_eq!(*roads.told.lock().unwrap(), told, "nothing is said to one that sends as it should");
    *roads.sent.lock().unwrap() = None;
    assert!(matches!(kept[0].keep().await, Keeping::PutRight(found) if found.contains("to a")));
    assert_eq!(roads.to(), "b");
    roads.away.store(true, Ordering::SeqCst);
    assert!(matches!(kept[0].keep().await, Keeping::Not(why) if why.contains("roads 2")));
}
