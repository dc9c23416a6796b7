//! Admission: the plan is checked bit for bit against what was approved and against the fleet as it
//! is; then lock, tokens and generation are taken in one transaction.

use std::sync::Arc;

use super::context::{Context, Planted};
use super::drive::{apply, json};
use super::machine::{Conditions, Machine};
use crate::drivers::{Action, CleanupPolicy};
use crate::fleet::{MigrationId, ProposalId, ServingState, Share, Span, Timestamp};
use crate::migrate::act::Side;
use crate::migrate::event::{Event, EventKind};
use crate::migrate::ledger::Foreseen;
use crate::migrate::limits::{self, GUARD_KEY, Token, Tokens};
use crate::migrate::owner::{Owner, OwnerMode, owner_key};
use crate::migrate::plan::Plan;
use crate::migrate::step::step;
use crate::state::{Compare, Entry, Op, StoreError, claims, read_stored};

/// The key of the bytes that were approved.
pub(super) fn approved_key(proposal: ProposalId) -> String {
    format!("/proposals/{proposal}/approved")
}

/// Tries to admit a migration.
pub(super) async fn admit(context: &Context, machine: &mut Machine) -> Result<(), StoreError> {
    let state = Arc::clone(&machine.state);
    let plan = &state.plan;
    let now = context.now();
    if let Some((reason, again)) = blocked(context, plan, now) {
        return apply(context, machine, EventKind::NotAdmitted { reason, again }).await;
    }
    let approved = context.get(&approved_key(plan.proposal)).await?;
    let key = owner_key(&plan.workload);
    let entry = context.get(&key).await?;
    let owner = entry.as_ref().and_then(|e| read_stored::<Owner>(&e.value).ok());
    if let Some(other) = owner.as_ref().and_then(|o| o.migration).filter(|m| *m != plan.id) {
        let reason = format!("{other} works on {}", plan.workload);
        let again = now + Span::seconds(1);
        return apply(context, machine, EventKind::NotAdmitted { reason, again }).await;
    }
    let differences = differences(context, plan, approved.as_ref(), owner.as_ref());
    if !differences.is_empty() && context.options.planted != Planted::OtherPlan {
        return apply(context, machine, EventKind::Changed { differences }).await;
    }
    let pace = context.pace();
    let refused = |tokens: &Tokens| {
        limits::refuse(&context.options.limits, tokens, pace.as_ref(), plan, now)
            .filter(|_| context.options.planted != Planted::NoLimits)
            .map(|limits::NotNow { reason, again }| EventKind::NotAdmitted { reason, again })
    };
    // Most have to wait: for them nothing more is read.
    let waits = refused(&*context.tokens.lock().await);
    if let Some(waits) = waits {
        return apply(context, machine, waits).await;
    }
    let claim = context.get(&claims::claim_key(&plan.workload)).await?;
    let guard = context.get(GUARD_KEY).await?;
    let mut tokens = context.tokens.lock().await;
    if let Some(waits) = refused(&tokens) {
        drop(tokens);
        return apply(context, machine, waits).await;
    }
    let token = Token::of(plan, now).paced(pace.as_ref(), &tokens, plan.data);
    let mut with = Conditions { conditional: true, takes: Some(token.clone()), ..Conditions::default() };
    take_owner(&mut with, plan, key, entry.as_ref());
    take_claim(&mut with, plan, claim.as_ref(), now);
    take_tokens(context, &mut with, &token, guard.as_ref(), &mut tokens.recent, now);
    // Counted from now on, also while it is not yet known whether it is durable.
    tokens.held.insert(plan.id, token);
    drop(tokens);
    let foreseen = match context.options.planted {
        Planted::NoLedger => Vec::new(),
        _ => foreseen(context, plan),
    };
    let next = step(&state, &Event { at: now, kind: EventKind::Admitted { foreseen: Arc::new(foreseen) } });
    machine.decided(context, next, now, with);
    machine.save(context).await.map(|_| ())
}

/// Why it may not begin now, before limits are looked at.
pub(super) fn blocked(context: &Context, plan: &Plan, now: Timestamp) -> Option<(String, Timestamp)> {
    let again = now + Span::seconds(1);
    let Some(world) = context.world() else {
        return Some(("the fleet has not been seen yet".to_string(), again));
    };
    let age = context.wall(now) - world.at;
    if age > context.options.world_age {
        return Some((format!("the fleet was last seen {age} ago"), again));
    }
    let forbidden = world.forbidden.workloads.get(&plan.workload);
    if let Some(veto) = forbidden.or_else(|| world.forbidden.partitions.get(&plan.destination)) {
        return Some((format!("{veto}; release the veto, or undo this"), again));
    }
    let planted = context.options.planted;
    if plan.predicted && world.unknown.contains(&plan.source) && planted != Planted::BlindToUnknown {
        let reason = format!("nothing is known of {} now: its data is too old", plan.source);
        return Some((reason, again));
    }
    if let Some(frozen) = world.frozen.as_ref().filter(|_| plan.predicted) {
        return Some((format!("automatic mode is frozen: {frozen}"), again));
    }
    if let Some((left, reason)) = limits::shut(&context.options.limits, plan, context.wall(now)) {
        return Some((reason, now + left));
    }
    if planted == Planted::NoQuorum {
        return None;
    }
    limits::quorum(&world.topology, plan, |p| world.failing.contains(p)).map(|reason| (reason, again))
}

/// What differs between what was approved, the plan, and the fleet as it is.
fn differences(
    context: &Context,
    plan: &Plan,
    approved: Option<&Entry>,
    owner: Option<&Owner>,
) -> Vec<String> {
    let mut found = Vec::new();
    match approved {
        Some(entry) => {
            let approved = context.approved(&entry.value);
            if approved.hash != plan.hash {
                found.push("the approved bytes do not have the approved hash".to_string());
            } else if !plan.is_move_of(&approved) {
                found.push("the move is not the one that was approved".to_string());
            }
        }
        None => found.push("the approved bytes are not there".to_string()),
    }
    if let Some(owner) = owner
        && (owner.owner != plan.source || owner.generation != plan.generation)
    {
        found.push(format!(
            "{} is owned by {} at {}, planned was {} at {}",
            plan.workload, owner.owner, owner.generation, plan.source, plan.generation
        ));
    }
    let Some(world) = context.world() else { return found };
    match world.topology.workload(&plan.workload) {
        None => found.push(format!("{} is not there any more", plan.workload)),
        Some(w) if w.partition != plan.source => {
            found.push(format!("{} runs on {}, planned was {}", plan.workload, w.partition, plan.source));
        }
        Some(_) => {}
    }
    match world.topology.partition(&plan.destination) {
        None => found.push(format!("the destination {} is not there any more", plan.destination)),
        Some(p) if matches!(p.serving, ServingState::Fenced | ServingState::Decommissioned) => {
            found.push(format!("the destination {} is out of service", plan.destination));
        }
        Some(_) if world.failing.contains(&plan.destination) => {
            found.push(format!("the destination {} is now expected to fail itself", plan.destination));
        }
        Some(_) => {}
    }
    found
}

fn take_owner(with: &mut Conditions, plan: &Plan, key: String, entry: Option<&Entry>) {
    with.compares.push(match entry {
        Some(entry) => Compare::Modified(key.clone(), entry.modified),
        None => Compare::Absent(key.clone()),
    });
    let owner = Owner {
        owner: plan.source.clone(),
        generation: plan.generation,
        mode: OwnerMode::Migrating,
        migration: Some(plan.id),
    };
    with.ops.push(Op::Put(key, json(&owner)));
}

/// The source's host gets the claim, if nobody wrote down yet that it has it.
fn take_claim(with: &mut Conditions, plan: &Plan, claim: Option<&Entry>, now: Timestamp) {
    if claim.is_none() {
        let (compare, op) =
            claims::transfer_within(&plan.workload, None, &plan.source_place.host, plan.generation, now);
        with.compares.push(compare);
        with.ops.push(op);
    }
}

fn take_tokens(
    context: &Context,
    with: &mut Conditions,
    token: &Token,
    guard: Option<&Entry>,
    recent: &mut std::collections::BTreeMap<MigrationId, Token>,
    now: Timestamp,
) {
    with.compares.push(match guard {
        Some(entry) => Compare::Modified(GUARD_KEY.to_string(), entry.modified),
        None => Compare::Absent(GUARD_KEY.to_string()),
    });
    with.ops.push(Op::Put(GUARD_KEY.to_string(), token.migration.to_string().into_bytes()));
    with.ops.push(Op::Put(Token::key(token.migration), json(token)));
    with.ops.push(Op::Delete(Token::recent_key(token.migration)));
    let kept = Span(context.options.limits.cool_down.0.max(Span::hours(1).0));
    recent.retain(|migration, token| {
        let claims = token.copies_until.is_some_and(|until| until > now);
        let keep = claims || token.given_back.is_none_or(|at| at + kept >= now);
        if !keep {
            with.ops.push(Op::Delete(Token::recent_key(*migration)));
        }
        keep
    });
}

/// Everything that the actions of this job, forward and back, may make.
fn foreseen(context: &Context, plan: &Plan) -> Vec<Foreseen> {
    let Some(mover) = context.mover(&plan.class) else { return Vec::new() };
    let makers = [
        Action::Announce,
        Action::Prepare,
        Action::Replicate,
        Action::ArmReverse,
        Action::ProbeReverse,
        Action::CanaryShare { share: Share::MAX },
        Action::Fence { deadline: now_zero() },
        Action::VerifyAtCut,
        Action::Commit,
        Action::Open,
        Action::EnableReverse,
    ];
    let mut all = Vec::new();
    for (side, job) in [(Side::Forward, plan.job()), (Side::Back, plan.back_job())] {
        for action in &makers {
            for artifact in mover.artifacts(&job, action) {
                let policy: CleanupPolicy = mover.cleanup_policy(&artifact);
                all.push(Foreseen { step: action.name().to_string(), side, artifact, policy });
            }
        }
    }
    all
}

fn now_zero() -> Timestamp {
    Timestamp(0)
}
