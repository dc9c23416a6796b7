//! A second attempt: what a person is shown of its steps was seen in it, not in the first; and what a first one
//! leaves behind for the next.

#[path = "support/ready.rs"]
mod ready;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foreshift::drivers::{Action, DriverError, Retry};
use foreshift::fleet::{Clock, MigrationId, Phase, ProposalId};
use foreshift::migrate::{Approval, Authority, Runner};
use foreshift::plan::Proposal;
use foreshift::protocol::{Actor, Mode, Role, StepState, StepView};
use ready::{Drive, ID, engine};

fn step(runner: &Runner, phase: Phase) -> StepView {
    let view = &runner.views()[0];
    view.steps.iter().find(|step| step.name == phase.word()).expect("a step of that name").clone()
}

/// Submits one more proposal, as approved by an operator.
async fn submit(drive: &mut Drive, proposal: &Proposal) -> Vec<MigrationId> {
    let actor = Actor { name: "operator".into(), role: Role::Operator };
    let authority = Authority::of(Mode::Advise).unwrap();
    let now = drive.clock.now();
    let hash = proposal.hash().hex();
    let approval = Approval::confirm(&authority, proposal, &hash, &actor, now).unwrap();
    drive.runner.submit(proposal, &approval, now).await.unwrap()
}

#[tokio::test]
async fn a_move_that_failed_cools_nothing_down() {
    let mut drive = Drive::begin().await;
    let broken = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&broken);
    *drive.mover.says.lock().unwrap() = Some(Box::new(move |_, action| {
        let fails = *action == Action::Prepare && still.load(Ordering::SeqCst);
        fails.then(|| Err(DriverError::new(Retry::Permanent, "ready", "preparing", "no room")))
    }));
    drive.until_in(Phase::Aborted).await;
    broken.store(false, Ordering::SeqCst);
    submit(&mut drive, &Proposal { id: ProposalId(2), ..ready::proposal() }).await;
    let second = |runner: &Runner| runner.state(MigrationId(2)).unwrap().phase;
    drive.until("moved", |runner| second(runner) == Phase::Done).await;
}

#[tokio::test]
async fn a_source_that_was_to_stay_as_a_copy_is_not_removed_because_the_configuration_changed_meanwhile() {
    let mut drive = Drive::begin().await;
    drive.until_in(Phase::Soaking).await;
    drive.mover.drops.store(true, Ordering::SeqCst);
    let refused =
        |runner: &Runner| runner.views()[0].log.iter().any(|(_, line)| line.contains("leaves a copy there"));
    drive.until("refused", refused).await;
    let retired =
        |drive: &Drive| drive.mover.asked.lock().unwrap().iter().any(|(action, _)| *action == "retire");
    assert!(!retired(&drive) && drive.runner.state(ID).unwrap().phase == Phase::Retiring);
    drive.mover.drops.store(false, Ordering::SeqCst);
    drive.until_in(Phase::Done).await;
    assert!(retired(&drive));
    // Approved with it, it is part of what was approved.
    let proposal = ready::proposal();
    let mut dropping = proposal.clone();
    dropping.moves[0].capabilities.drops_source = true;
    assert_ne!(proposal.hash().hex(), dropping.hash().hex());
}

#[tokio::test]
async fn a_move_that_waits_for_its_turn_behind_another_of_its_proposal_does_not_expire_with_it() {
    let mut drive = Drive::begin().await;
    let mut proposal = ready::proposal();
    proposal.id = ProposalId(2);
    let mut second = proposal.moves[0].clone();
    second.workload = "other".into();
    proposal.moves.push(second);
    let ids = submit(&mut drive, &proposal).await;
    let expires: Vec<_> = ids.iter().map(|id| drive.runner.state(*id).unwrap().plan.expires).collect();
    let one = proposal.moves[0].duration + proposal.soak;
    assert!(expires[0] == proposal.expires && expires[1] > proposal.expires + one, "{expires:?}");
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
