//! All of both sides is compared once more when the new owner has been watched, before the source is let go.

#[path = "support/ready.rs"]
mod ready;

use foreshift::drivers::{Action, Answer, DriverError, Evidence, Retry};
use foreshift::fleet::{Clock, Phase, Span};
use foreshift::migrate::OperatorCommand;
use ready::{Drive, ID, Says, endless, engine, says_back};

/// Says that where it is to compare all of it after the cut; `None` = it compares.
fn comparing(says: impl FnMut() -> Option<Result<Answer, DriverError>> + Send + 'static) -> Says {
    says_back(Action::Verify, says)
}

async fn moved(says: Says) -> Drive {
    let drive = Drive::begin().await;
    *drive.mover.says.lock().unwrap() = Some(says);
    drive
}

fn differs(mut times: u32) -> Says {
    comparing(move || {
        times = times.checked_sub(1)?;
        let differences = vec!["orders.items (id=17): its content differs".to_string()];
        Some(Ok(Answer::Done(Evidence { equal: Some(false), differences, ..Evidence::default() })))
    })
}

#[tokio::test]
async fn equal_sides_end_the_watch_and_the_evidence_is_shown() {
    let mut drive = moved(comparing(|| None)).await;
    drive.until_in(Phase::Done).await;
    assert_eq!((drive.asked("verify"), drive.owner().await.as_str()), (1, "b"));
    // After the watch and before the source is let go.
    let asked = drive.mover.asked.lock().unwrap().clone();
    let place =
        |name: &str, at: &str| asked.iter().position(|(n, source)| *n == name && source == at).unwrap();
    assert!(
        place("enable_reverse", "a") < place("verify", "b") && place("verify", "b") < place("retire", "a")
    );
    let view = &drive.runner.views()[0];
    let watch = view.steps.iter().find(|step| step.name.starts_with("watch")).unwrap();
    assert_eq!(watch.evidence, "compared again: verify of 7 parts");
}

#[tokio::test]
async fn two_sides_that_differ_stand_and_a_person_may_keep_it_there() {
    let mut drive = moved(differs(9)).await;
    drive.until_in(Phase::Hold).await;
    assert!(drive.told.iter().any(|text| text.contains("id=17")), "{:?}", drive.told);
    assert_eq!(drive.mover.asked.lock().unwrap().iter().filter(|(name, _)| *name == "retire").count(), 0);
    let view = &drive.runner.views()[0];
    assert!(view.waiting.contains("id=17") && view.can.promote.is_none(), "{view:?}");
    drive.runner.command(ID, OperatorCommand::Promote, "operator").unwrap();
    drive.until_in(Phase::Done).await;
    assert_eq!((drive.asked("verify"), drive.owner().await.as_str()), (1, "b"));
}

#[tokio::test]
async fn resumed_it_is_watched_and_compared_anew() {
    let mut drive = moved(differs(1)).await;
    drive.until_in(Phase::Hold).await;
    let held = drive.clock.now();
    drive.runner.command(ID, OperatorCommand::Resume, "operator").unwrap();
    drive.until_in(Phase::Done).await;
    assert_eq!(drive.asked("verify"), 2);
    assert!(drive.clock.now() - held >= Span::seconds(1), "the soak's second was watched again");
}

#[tokio::test]
async fn a_comparison_that_cannot_be_made_is_left_out_and_said() {
    let dead = || {
        Some(Err(DriverError::new(Retry::Retryable, "ready", "comparing", "the old host does not answer")))
    };
    let mut drive = moved(comparing(dead)).await;
    drive.until_in(Phase::Done).await;
    assert_eq!((drive.asked("verify"), drive.owner().await.as_str()), (5, "b"));
    let said = "not compared again after the cut";
    assert!(
        drive.told.iter().any(|text| text.contains(said) && text.contains("the old host does not answer")),
        "{:?}",
        drive.told
    );
}

#[tokio::test]
async fn one_that_does_not_end_is_left_out_when_its_time_is_over() {
    let mut drive = moved(comparing(endless)).await;
    drive.until("compares", |runner| runner.state(ID).unwrap().waiting.contains("the comparison")).await;
    let began = drive.clock.now();
    drive.until_in(Phase::Done).await;
    let took = drive.clock.now() - began;
    assert!(took >= Span::seconds(58) && took <= Span::seconds(75), "a minute is allowed, it took {took}");
    assert!(drive.told.iter().any(|text| text.contains("it took too long")), "{:?}", drive.told);
}

#[tokio::test]
async fn after_a_pause_the_comparison_is_asked_for_at_once() {
    let mut drive = moved(comparing(endless)).await;
    drive.until("compares", |runner| runner.state(ID).unwrap().waiting.contains("the comparison")).await;
    *drive.mover.says.lock().unwrap() = None;
    drive.runner.command(ID, OperatorCommand::Pause, "operator").unwrap();
    drive.until_in(Phase::Hold).await;
    let asked = drive.asked("verify");
    drive.runner.command(ID, OperatorCommand::Resume, "operator").unwrap();
    drive.until("goes on", |runner| runner.state(ID).unwrap().phase != Phase::Hold).await;
    // Whoever pauses again right away comes too late to keep it from comparing.
    drive.runner.command(ID, OperatorCommand::Pause, "operator").unwrap();
    drive.until_in(Phase::Hold).await;
    assert_eq!(drive.asked("verify"), asked + 1);
    assert_eq!(drive.runner.state(ID).unwrap().hold.as_ref().unwrap().from, Phase::Retiring);
}

#[tokio::test]
async fn a_person_may_go_back_while_it_compares() {
    let mut drive = moved(comparing(endless)).await;
    drive.until("compares", |runner| runner.state(ID).unwrap().waiting.contains("the comparison")).await;
    drive.runner.command(ID, OperatorCommand::RollBack, "operator").unwrap();
    drive.until_in(Phase::RolledBack).await;
    assert_eq!(drive.owner().await, "a");
}

#[tokio::test]
async fn a_person_who_goes_back_while_nobody_can_tell_what_came_of_it_is_heard() {
    let lost = || Some(Err(DriverError::new(Retry::Unknown, "ready", "comparing", "the answer was lost")));
    let mut drive = moved(comparing(lost)).await;
    *drive.mover.untold.lock().unwrap() = Some(Action::Verify);
    drive.until("is asked what came of it", |runner| runner.state(ID).unwrap().probes > 0).await;
    drive.runner.command(ID, OperatorCommand::RollBack, "operator").unwrap();
    drive.until("ends", |runner| runner.state(ID).unwrap().phase.is_end()).await;
    assert_eq!(
        (drive.runner.state(ID).unwrap().phase, drive.owner().await.as_str()),
        (Phase::RolledBack, "a")
    );
}

#[tokio::test]
async fn the_next_engine_compares_where_one_died_comparing() {
    let mut slow = 1;
    let mut drive = moved(comparing(move || {
        slow -= 1;
        if slow >= 0 { endless() } else { None }
    }))
    .await;
    drive.until("compares", |runner| runner.state(ID).unwrap().waiting.contains("the comparison")).await;
    drive.runner = engine(&drive.store, &drive.mover, &drive.clock).await;
    drive.until_in(Phase::Done).await;
    assert_eq!((drive.asked("verify"), drive.owner().await.as_str()), (2, "b"));
}
