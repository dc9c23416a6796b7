//! A source that dies while it is being moved, where the policy allows to lose a little: what stands in for it was
//! found equal, and nothing found otherwise since.

#[path = "support/ready.rs"]
mod ready;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use foreshift::drivers::{Action, Answer, DriverError, Evidence, Retry};
use foreshift::fleet::{Phase, Span};
use ready::{Drive, ID, Ready, endless};

/// The first cut is given up and both sides are compared anew, with that result; while data are copied or compared
/// after that the source dies.
async fn dies_after(second: Option<bool>) -> Drive {
    let mover = Ready { may_lose: Some(Span::seconds(1)), ..Ready::default() };
    let dead = Arc::clone(&mover.dead);
    let (mut fences, mut compared, mut copies) = (0, 0, 0);
    *mover.says.lock().unwrap() = Some(Box::new(move |job, action| match action {
        _ if job.source.as_str() != "a" => None,
        Action::Fence { .. } => {
            fences += 1;
            let failed = || DriverError::new(Retry::Permanent, "ready", "fencing", "it cannot be fenced now");
            (fences == 1).then(|| Err(failed()))
        }
        Action::Verify => {
            compared += 1;
            match (compared, second) {
                (1, _) => None,
                (_, Some(equal)) => {
                    Some(Ok(Answer::Done(Evidence { equal: Some(equal), ..Evidence::default() })))
                }
                (_, None) => {
                    dead.store(true, Ordering::SeqCst);
                    endless()
                }
            }
        }
        Action::Replicate => {
            copies += 1;
            if copies == 1 {
                return None;
            }
            dead.store(true, Ordering::SeqCst);
            endless()
        }
        _ => None,
    }));
    let mut drive = Drive::with(mover).await;
    drive.until("ends", |runner| runner.state(ID).unwrap().phase.is_end()).await;
    assert!(drive.mover.dead.load(Ordering::SeqCst), "{:?}", drive.runner.views());
    drive
}

#[tokio::test]
async fn a_copy_that_was_found_equal_stands_in_for_it() {
    let drive = dies_after(None).await;
    assert_eq!((drive.runner.state(ID).unwrap().phase, drive.owner().await.as_str()), (Phase::Done, "b"));
}

#[tokio::test]
async fn a_copy_that_was_found_to_differ_since_does_not() {
    let drive = dies_after(Some(false)).await;
    assert_eq!((drive.runner.state(ID).unwrap().phase, drive.owner().await.as_str()), (Phase::Aborted, "a"));
    let why = "the source is lost; undone: both sides were not found equal";
    assert!(drive.told.iter().any(|told| told.contains(why)), "{:?}", drive.told);
}
