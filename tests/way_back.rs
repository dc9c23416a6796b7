//! The way back after the cut, when it does not go smoothly: it is tried again by itself, writes are never held
//! longer than a cut may hold them, and what a person wants while it waits is done.

#[path = "support/ready.rs"]
mod ready;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use foreshift::drivers::{Action, Answer, DriverError, Evidence, Retry};
use foreshift::fleet::{Clock, Phase, ServingState, Span};
use foreshift::migrate::{OperatorCommand, Runner, World};
use ready::{Drive, ID, Says, endless, engine, says_back, topology, until};

/// A migration whose new owner is watched.
async fn soaking() -> Drive {
    let mut drive = Drive::begin().await;
    until(&mut drive.runner, &drive.clock, Phase::Soaking).await;
    drive
}

/// A migration that is SOAKING and was asked to go back, on a system that says this from then on.
async fn back(says: Says) -> Drive {
    let mut drive = soaking().await;
    *drive.mover.says.lock().unwrap() = Some(says);
    drive.mover.asked.lock().unwrap().clear();
    drive.runner.command(ID, OperatorCommand::RollBack, "operator").unwrap();
    drive
}

fn waits(runner: &Runner) -> bool {
    runner.state(ID).unwrap().waiting.contains("the next in")
}

/// Says that where it is to compare at the cut back; `None` = it compares.
fn comparing(says: impl FnMut() -> Option<Result<Answer, DriverError>> + Send + 'static) -> Says {
    says_back(Action::VerifyAtCut, says)
}

/// Refuses so many cuts back.
fn refuses(mut times: u32) -> Says {
    comparing(move || {
        times = times.checked_sub(1)?;
        Some(Err(DriverError::new(
            Retry::Permanent,
            "ready",
            "comparing",
            "it is elsewhere with its thoughts",
        )))
    })
}

#[tokio::test]
async fn a_cut_back_that_is_refused_is_tried_again_by_itself_while_the_destination_serves() {
    let mut back = back(refuses(2)).await;
    back.until("waits for its second try", waits).await;
    let first = back.clock.now();
    assert_eq!((back.asked("unfence"), back.owner().await.as_str()), (1, "b"));
    let view = &back.runner.views()[0];
    assert!(
        view.waiting.contains("1 of 3 tries") && view.waiting.contains("its thoughts"),
        "{}",
        view.waiting
    );
    back.until("tries again", |runner| !waits(runner)).await;
    assert!(back.clock.now() - first >= Span::seconds(29), "it waits before it tries again");
    back.until_in(Phase::RolledBack).await;
    assert_eq!((back.asked("unfence"), back.owner().await.as_str()), (2, "a"));
    let state = back.runner.state(ID).unwrap();
    assert!(
        state.cause.contains("asked for by operator"),
        "why it was undone is not forgotten: {}",
        state.cause
    );
    let told = back.told.iter().filter(|text| text.contains("could not be switched back")).count();
    assert_eq!(told, 2, "{:?}", back.told);
}

#[tokio::test]
async fn after_three_refusals_a_person_is_asked_and_has_three_more_tries() {
    let mut back = back(refuses(4)).await;
    back.until_in(Phase::Hold).await;
    assert_eq!((back.asked("unfence"), back.owner().await.as_str()), (3, "b"));
    assert!(back.told.last().unwrap().contains("stands in"), "{:?}", back.told);
    back.runner.command(ID, OperatorCommand::Resume, "operator").unwrap();
    back.until_in(Phase::RolledBack).await;
    assert_eq!((back.asked("unfence"), back.owner().await.as_str()), (4, "a"));
}

#[tokio::test]
async fn two_sides_that_differ_are_not_cut_back_again_before_a_person_has_looked() {
    let differs = || Some(Ok(Answer::Done(Evidence { equal: Some(false), ..Evidence::default() })));
    let mut back = back(comparing(differs)).await;
    back.until_in(Phase::Hold).await;
    assert_eq!((back.asked("unfence"), back.asked("verify_at_cut")), (1, 1));
    assert!(back.told.iter().any(|text| text.contains("the cut back was refused")), "{:?}", back.told);
    back.runner.command(ID, OperatorCommand::Promote, "operator").unwrap();
    back.until_in(Phase::Done).await;
    assert_eq!(back.owner().await, "b");
}

#[tokio::test]
async fn between_two_tries_a_person_may_leave_it_where_it_serves() {
    let mut back = back(refuses(9)).await;
    back.until("waits for its second try", waits).await;
    let before = back.runner.state(ID).unwrap().clone();
    assert_eq!(before.phase, Phase::RollingBackPost);
    assert!(back.runner.views()[0].can.promote.is_none(), "{:?}", back.runner.views()[0].can);
    back.runner.command(ID, OperatorCommand::Promote, "operator").unwrap();
    back.until_in(Phase::Done).await;
    assert_eq!((back.asked("unfence"), back.owner().await.as_str()), (1, "b"));
}

#[tokio::test]
async fn the_next_engine_tries_again_where_one_died_between_two_tries() {
    let mut back = back(refuses(1)).await;
    back.until("waits for its second try", waits).await;
    back.runner = engine(&back.store, &back.mover, &back.clock).await;
    back.until_in(Phase::RolledBack).await;
    assert_eq!((back.asked("unfence"), back.owner().await.as_str()), (1, "a"));
}

#[tokio::test]
async fn a_comparison_that_does_not_end_holds_writes_no_longer_than_a_cut_may() {
    let mut back = back(comparing(endless)).await;
    back.step = Span::millis(20);
    back.until("holds writes", |runner| {
        runner.state(ID).unwrap().queue.front().is_some_and(|act| act.name().contains("verify_at_cut"))
    })
    .await;
    let held = back.clock.now();
    back.until("lets go", |runner| runner.state(ID).unwrap().refused.contains("took too long")).await;
    let took = back.clock.now() - held;
    assert!(took <= Span::millis(2_500), "two seconds are allowed, writes were held for {took}");
}

/// The fleet is looked at, and the source is found to be so.
fn source_is(drive: &Drive, serving: ServingState) {
    let mut topology = topology();
    topology.partitions.iter_mut().filter(|p| p.id.as_str() == "a").for_each(|p| p.serving = serving);
    drive.runner.observe(World { at: drive.clock.now(), topology: Arc::new(topology), ..World::default() });
}

#[tokio::test]
async fn nobody_is_promised_a_way_back_to_a_source_that_does_not_answer() {
    let mut drive = soaking().await;
    assert!(drive.runner.views()[0].way_back.contains("nothing is lost"), "{:?}", drive.runner.views());
    source_is(&drive, ServingState::Fenced);
    let view = &drive.runner.views()[0];
    assert_eq!(view.way_back, "");
    let why = "a does not answer: there is no way back now; b serves w";
    assert_eq!(view.can.roll_back.as_deref(), Some(why));
    drive.mover.asked.lock().unwrap().clear();
    let refused = drive.runner.command(ID, OperatorCommand::RollBack, "operator").unwrap_err();
    assert!(refused.to_string().contains(why), "{refused}");
    drive.until_in(Phase::Done).await;
    assert_eq!((drive.asked("fence"), drive.owner().await.as_str()), (0, "b"), "no write was held");
}

#[tokio::test]
async fn what_does_worse_after_the_cut_is_not_cut_back_to_a_dead_source_until_it_answers() {
    let mut drive = soaking().await;
    source_is(&drive, ServingState::Fenced);
    drive.mover.asked.lock().unwrap().clear();
    drive.mover.slow.store(true, Ordering::SeqCst);
    drive.until_in(Phase::Hold).await;
    let why = "a does not answer: there is no way back now; b serves w";
    let waiting = drive.runner.views()[0].waiting.clone();
    assert!(waiting.contains("worse") && waiting.contains(why), "{waiting}");
    assert!(
        drive.told.iter().any(|text| text.contains("not undone") && text.contains(why)),
        "{:?}",
        drive.told
    );
    let (stands, told) = (drive.clock.now(), drive.told.len());
    let clock = Arc::clone(&drive.clock);
    drive.until("stands for a while", move |_| clock.now() - stands > Span::minutes(2)).await;
    assert_eq!((drive.asked("fence"), drive.owner().await.as_str()), (0, "b"), "no write was held");
    assert_eq!(drive.told.len(), told, "people are told once: {:?}", drive.told);
    source_is(&drive, ServingState::Passive);
    drive.until_in(Phase::RolledBack).await;
    assert_eq!(drive.owner().await, "a");
}

#[tokio::test]
async fn who_had_it_stand_is_told_once_that_it_does_worse_and_cannot_go_back() {
    let mut drive = soaking().await;
    drive.runner.command(ID, OperatorCommand::Pause, "operator").unwrap();
    drive.until_in(Phase::Hold).await;
    source_is(&drive, ServingState::Fenced);
    drive.mover.slow.store(true, Ordering::SeqCst);
    drive.until("says so", |runner| runner.views()[0].waiting.contains("worse")).await;
    let (stands, clock) = (drive.clock.now(), Arc::clone(&drive.clock));
    drive.until("stands for a while", move |_| clock.now() - stands > Span::minutes(2)).await;
    let told = drive.told.iter().filter(|text| text.contains("not undone: a does not answer")).count();
    assert_eq!(told, 1, "{:?}", drive.told);
    source_is(&drive, ServingState::Passive);
    drive.until_in(Phase::RolledBack).await;
    assert_eq!(drive.owner().await, "a");
}

#[tokio::test]
async fn what_does_worse_after_the_cut_goes_back_by_itself() {
    let mut drive = soaking().await;
    drive.mover.slow.store(true, Ordering::SeqCst);
    drive.until_in(Phase::RolledBack).await;
    assert_eq!(drive.owner().await, "a");
}

#[tokio::test]
async fn a_source_that_answers_again_can_be_gone_back_to() {
    let mut drive = soaking().await;
    source_is(&drive, ServingState::Fenced);
    source_is(&drive, ServingState::Passive);
    drive.runner.command(ID, OperatorCommand::RollBack, "operator").unwrap();
    drive.until_in(Phase::RolledBack).await;
    assert_eq!(drive.owner().await, "a");
}

#[tokio::test]
async fn what_stands_after_a_cut_back_is_not_resumed_towards_a_dead_source() {
    let mut back = back(refuses(9)).await;
    back.until_in(Phase::Hold).await;
    source_is(&back, ServingState::Fenced);
    for command in [OperatorCommand::Resume, OperatorCommand::RollBack] {
        let refused = back.runner.command(ID, command, "operator").unwrap_err();
        assert!(refused.to_string().contains("a does not answer"), "{refused}");
    }
    back.runner.command(ID, OperatorCommand::Promote, "operator").unwrap();
    back.until_in(Phase::Done).await;
    assert_eq!(back.owner().await, "b");
}

#[tokio::test]
async fn before_the_cut_undoing_says_that_a_dead_source_serves_nobody() {
    let mut drive = Drive::begin().await;
    until(&mut drive.runner, &drive.clock, Phase::Copying).await;
    source_is(&drive, ServingState::Fenced);
    let view = &drive.runner.views()[0];
    assert!(
        view.way_back.contains("a does not answer") && view.way_back.contains("w stays there"),
        "{view:?}"
    );
    assert_eq!(view.can.roll_back, None);
}
