//! A second attempt: what a person is shown of its steps was seen in it, not in the first.

#[path = "support/ready.rs"]
mod ready;

use foreshift::drivers::{Action, DriverError, Retry};
use foreshift::fleet::Phase;
use foreshift::migrate::Runner;
use foreshift::protocol::{StepState, StepView};
use ready::{Drive, ID, engine};

fn step(runner: &Runner, phase: Phase) -> StepView {
    let view = &runner.views()[0];
    view.steps.iter().find(|step| step.name == phase.word()).expect("a step of that name").clone()
}

/// Nothing is said of a comparison that is still ahead.
fn nothing_seen(runner: &Runner) {
    let compared = step(runner, Phase::Verifying);
    assert_eq!((compared.state, compared.evidence.as_str()), (StepState::Ahead, ""));
}

#[tokio::test]
async fn what_the_first_attempt_saw_is_not_shown_of_the_second() {
    let mut drive = Drive::begin().await;
    let mut cuts = 0;
    *drive.mover.says.lock().unwrap() = Some(Box::new(move |job, action| {
        let here = *action == Action::VerifyAtCut && job.source.as_str() == "a" && cuts < 3;
        cuts += u32::from(here);
        here.then(|| Err(DriverError::new(Retry::Permanent, "ready", "comparing", "not now")))
    }));
    drive.until_in(Phase::Fencing).await;
    assert!(step(&drive.runner, Phase::Verifying).evidence.contains("7 parts"));
    drive.until("begins again", |runner| runner.state(ID).unwrap().attempt == 2).await;
    nothing_seen(&drive.runner);
    drive.until_in(Phase::Copying).await;
    nothing_seen(&drive.runner);
    // The next engine reads it in the journal, where the first attempt stands, too.
    drive.runner = engine(&drive.store, &drive.mover, &drive.clock).await;
    nothing_seen(&drive.runner);
    drive.until_in(Phase::Done).await;
    let compared = step(&drive.runner, Phase::Verifying);
    assert!(compared.state == StepState::Done && compared.evidence.contains("7 parts"), "{compared:?}");
}
