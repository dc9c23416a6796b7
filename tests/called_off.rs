//! A system that takes a while to change the owner, and can be stopped before anything has happened: what a person
//! wishes is done at once, and whatever came of the vote is believed.

#[path = "support/ready.rs"]
mod ready;

use foreshift::drivers::{Action, Answer, DriverError, Job, Retry};
use foreshift::fleet::{PartitionId, Phase};
use foreshift::migrate::OperatorCommand;
use ready::{Drive, ID, Ready, Says};

/// A vote that does not end by itself; let go, the system's word is `word`.
fn voting(word: &'static str) -> (Says, std::sync::Arc<std::sync::Mutex<Option<PartitionId>>>) {
    let let_go = std::sync::Arc::new(std::sync::Mutex::new(None));
    let said = let_go.clone();
    let says = Box::new(move |job: &Job, action: &Action| match action {
        Action::Commit if job.source.as_str() == "a" && said.lock().unwrap().is_none() => {
            Some(Ok(Answer::Working { waiting_for: "the vote".to_string() }))
        }
        Action::Unfence if job.source.as_str() == "a" => {
            *said.lock().unwrap() = Some(PartitionId::from(word));
            None
        }
        _ => None,
    });
    (says, let_go)
}

/// A migration whose system votes and which a person wants undone; let go, the system's word is `word`.
async fn undone_while_it_votes(word: &'static str) -> Drive {
    let mut drive = Drive::with(Ready { votes: true, ..Ready::default() }).await;
    let (says, let_go) = voting(word);
    *drive.mover.says.lock().unwrap() = Some(says);
    drive.until("votes", |runner| runner.state(ID).unwrap().waiting.contains("the vote")).await;
    assert_eq!(drive.runner.state(ID).unwrap().phase, Phase::Committing);
    drive.runner.command(ID, OperatorCommand::RollBack, "operator").unwrap();
    drive.until("is let go", |_| let_go.lock().unwrap().is_some()).await;
    *drive.mover.word.lock().unwrap() = let_go.lock().unwrap().clone();
    drive
}

fn asked(drive: &Drive, action: &str) -> usize {
    drive.mover.asked.lock().unwrap().iter().filter(|(name, _)| *name == action).count()
}

#[tokio::test]
async fn what_a_person_calls_off_is_let_go_at_once_and_undone_at_the_source() {
    let mut drive = undone_while_it_votes("a").await;
    drive.until("has ended", |runner| runner.state(ID).unwrap().phase.is_end()).await;
    let state = drive.runner.state(ID).unwrap();
    assert_eq!((state.phase, drive.owner().await.as_str()), (Phase::Aborted, "a"));
    assert!(state.cause.contains("operator"), "{}", state.cause);
    assert_eq!((asked(&drive, "unfence"), asked(&drive, "open")), (1, 0), "{:?}", drive.mover.asked);
}

#[tokio::test]
async fn a_vote_that_came_through_all_the_same_is_believed_and_then_undone_by_the_way_back() {
    let mut drive = undone_while_it_votes("b").await;
    drive.until("is undone", |runner| runner.state(ID).unwrap().phase == Phase::RollingBackPost).await;
    assert_eq!(drive.owner().await, "b", "the system's word is the truth");
    *drive.mover.word.lock().unwrap() = Some("a".into());
    drive.until_in(Phase::RolledBack).await;
    assert_eq!(drive.owner().await, "a");
}

#[tokio::test]
async fn a_person_who_only_wants_to_stand_waits_for_the_vote() {
    let mut drive = Drive::with(Ready { votes: true, ..Ready::default() }).await;
    *drive.mover.says.lock().unwrap() = Some(voting("a").0);
    drive.until("votes", |runner| runner.state(ID).unwrap().waiting.contains("the vote")).await;
    drive.runner.command(ID, OperatorCommand::Pause, "operator").unwrap();
    for _ in 0..20 {
        drive.until("ticks", |_| true).await;
        drive.clock.advance(drive.step);
    }
    assert_eq!((asked(&drive, "unfence"), drive.runner.state(ID).unwrap().phase), (0, Phase::Committing));
    *drive.mover.says.lock().unwrap() = None;
    *drive.mover.word.lock().unwrap() = Some("b".into());
    drive.until_in(Phase::Hold).await;
    assert_eq!(drive.owner().await, "b");
}

#[tokio::test]
async fn one_that_the_system_gave_to_a_third_ends_and_says_so() {
    let mut drive = Drive::with(Ready { votes: true, ..Ready::default() }).await;
    *drive.mover.says.lock().unwrap() = Some(Box::new(|_, action| {
        let refused = || DriverError::new(Retry::Permanent, "ready", "voting", "it is with c");
        (*action == Action::Commit).then(|| Err(refused()))
    }));
    *drive.mover.word.lock().unwrap() = Some("c".into());
    drive.until("has ended", |runner| runner.state(ID).unwrap().phase.is_end()).await;
    let state = drive.runner.state(ID).unwrap();
    assert_eq!(state.phase, Phase::Aborted);
    assert!(state.cause.contains("gave it to c"), "{}", state.cause);
    assert!(drive.told.iter().any(|text| text.contains("gave it to c")), "{:?}", drive.told);
    assert_eq!(asked(&drive, "open"), 0);
}
