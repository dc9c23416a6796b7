//! One drive: find out what the state wants, do it, take what came of it into the state, make that
//! durable. Every path ends in a machine that can be driven again.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::task::AbortOnDropHandle;

use super::context::{Context, Driven, Driver, Planted, Routing};
use super::machine::{Conditions, Machine, Saved};
use super::turns::{DRIVES, must_go_on};
use crate::drivers::{Action, Answer, DriverError, Evidence, Job, Probe, Retry, ServerState, Weight};
use crate::fleet::{Share, Span, Timestamp};
use crate::migrate::act::{Act, Deed, Side};
use crate::migrate::effect::Effect;
use crate::migrate::event::{Event, EventKind, OperatorCommand};
use crate::migrate::limits;
use crate::migrate::owner::{Owner, OwnerMode, owner_key};
use crate::migrate::plan::Plan;
use crate::migrate::state::State;
use crate::migrate::step::step;
use crate::state::{Compare, Op, StoreError, claims, read_stored, stored};

/// Between two looks at what a cut waits for, at the least.
const GATE: Span = Span::millis(200);

/// A machine under way; at the end it comes back, and with it why nothing may go on.
pub(super) type Drive = Pin<Box<dyn Future<Output = Landed> + Send>>;
type Landed = (Box<Machine>, Result<(), StoreError>);

/// Drives a machine that is due. Dropped, it ends where it waits.
pub(super) fn start(context: Arc<Context>, machine: Box<Machine>) -> Drive {
    if context.options.driven == Driven::InTicks {
        return Box::pin(drive(context, machine));
    }
    let task = AbortOnDropHandle::new(tokio::spawn(drive_through(context, machine)));
    Box::pin(async {
        match task.await {
            Ok(driven) => driven,
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            // The runtime is ending, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        }
    })
}

/// Drives a machine by one effect, and, while it is between fence and redirect, by all that are due:
/// writes wait for nobody else's turn.
async fn drive_through(context: Arc<Context>, mut machine: Box<Machine>) -> Landed {
    for _ in 0..DRIVES {
        let (driven, result) = drive(Arc::clone(&context), machine).await;
        machine = driven;
        let due = machine.due().is_some_and(|due| due <= context.now());
        if result.is_err() || context.is_deposed() || !due || !must_go_on(machine.state.phase) {
            return (machine, result);
        }
        context.under_way.show(&machine.state);
    }
    (machine, Ok(()))
}

/// Drives a machine by one effect, and makes what came of it durable.
async fn drive(context: Arc<Context>, mut machine: Box<Machine>) -> Landed {
    let result = drive_once(&context, &mut machine).await;
    let result = match result {
        Err(StoreError::Unavailable { .. } | StoreError::Ambiguous { .. }) => {
            // A read failed; nothing was decided.
            machine.retry_at = context.now() + context.options.store_wait;
            Ok(())
        }
        other => other,
    };
    (machine, result)
}

async fn drive_once(context: &Context, machine: &mut Machine) -> Result<(), StoreError> {
    if machine.unsaved.is_some() {
        return machine.save(context).await.map(|_| ());
    }
    machine.retry_at = Timestamp(i64::MIN);
    if let Some((command, actor)) = machine.commands.pop_front() {
        if context.options.planted == Planted::DeafToRollBack && command == OperatorCommand::RollBack {
            return Ok(());
        }
        return apply(context, machine, EventKind::Operator { command, actor }).await;
    }
    let state = Arc::clone(&machine.state);
    let now = context.now();
    let effect = Effect::of(&state, now).filter(|_| now >= state.due);
    let plan = &state.plan;
    let kind = match effect {
        None | Some(Effect::Tell) => EventKind::Time,
        Some(Effect::Admit) => return super::admit::admit(context, machine).await,
        Some(Effect::ChangeOwner(side)) => return change_owner(context, machine, side).await,
        Some(Effect::Perform(act)) => perform(context, machine, &act).await,
        Some(Effect::Probe(act)) => EventKind::Probed { answer: probe(context, &state, &act).await },
        Some(Effect::Status(side)) => {
            let job = job_of(plan, side);
            let status = match mover(context, plan) {
                Ok(mover) => in_time(context, mover.status(&state, &job)).await,
                Err(error) => Err(error.to_string()),
            };
            if let Ok(status) = &status {
                machine.status = Some(status.clone());
            }
            EventKind::Status { status }
        }
        Some(Effect::Sample(since)) => {
            let samples = match mover(context, plan) {
                Ok(mover) => {
                    let job = job_of(plan, Side::Forward);
                    in_time(context, mover.samples(&state, &job, context.wall(since))).await
                }
                Err(error) => Err(error.to_string()),
            };
            EventKind::Samples { samples, source_lost: context.is_lost(&plan.source) }
        }
        Some(Effect::Gate) => gate(context, &state).await,
    };
    apply(context, machine, kind).await
}

/// Takes an event in and makes what came of it durable.
pub(super) async fn apply(
    context: &Context,
    machine: &mut Machine,
    kind: EventKind,
) -> Result<(), StoreError> {
    let at = context.now();
    let next = step(&machine.state, &Event { at, kind });
    machine.decided(context, next, at, Conditions::default());
    machine.save(context).await.map(|_| ())
}

/// A small record as it is stored.
pub(super) fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    stored(value, 256).expect("plain data serialises")
}

fn job_of(plan: &Plan, side: Side) -> Job {
    match side {
        Side::Forward => plan.job(),
        Side::Back => plan.back_job(),
    }
}

fn mover<'a>(context: &'a Context, plan: &Plan) -> Result<Driver<'a>, DriverError> {
    context.mover(&plan.class).ok_or_else(|| {
        DriverError::new(
            Retry::Permanent,
            "configuration",
            format!("moving a workload of class {}", plan.class),
            format!("no mover of class {} is set up: add one to the configuration", plan.class),
        )
    })
}

fn router<'a>(context: &'a Context, plan: &Plan) -> Result<Routing<'a>, DriverError> {
    context.router(&plan.class).ok_or_else(|| {
        DriverError::new(
            Retry::Permanent,
            "configuration",
            format!("routing a workload of class {}", plan.class),
            format!("no router for class {} is set up: add one to the configuration", plan.class),
        )
    })
}

async fn perform(context: &Context, machine: &mut Machine, act: &Act) -> EventKind {
    let state = Arc::clone(&machine.state);
    let plan = &state.plan;
    let answer = match limited(context, perform_call(context, &state, act)).await {
        Some(answer) => answer,
        None => Err(DriverError::new(
            Retry::Unknown,
            plan.class.clone(),
            act.words(),
            "no answer in time; it will be probed",
        )),
    };
    match answer {
        Ok(Answer::Done(mut evidence)) => {
            if context.options.planted == Planted::IgnoreDifference && evidence.equal == Some(false) {
                evidence.equal = Some(true);
            }
            EventKind::Done { evidence }
        }
        Ok(Answer::Working { waiting_for }) => {
            let status = match mover(context, plan) {
                Ok(mover) => in_time(context, mover.status(&state, &job_of(plan, act.side))).await.ok(),
                Err(_) => None,
            };
            if status.is_some() {
                machine.status = status.clone();
            }
            EventKind::Working { waiting_for, status }
        }
        Err(error) => EventKind::Failed { retry: error.retry, detail: error.to_string() },
    }
}

async fn perform_call(context: &Context, state: &State, act: &Act) -> Result<Answer, DriverError> {
    let plan = &state.plan;
    if context.options.planted == Planted::NoSeal
        && let Deed::Mover { action: Action::Fence { deadline } } = &act.deed
        && *deadline == crate::migrate::states::fencing::SEALED
    {
        return Ok(Answer::Done(Evidence::default()));
    }
    match &act.deed {
        Deed::Mover { action } => {
            let action = match action {
                // Systems have clocks of their own.
                Action::Fence { deadline } => Action::Fence { deadline: context.wall(*deadline) },
                action => action.clone(),
            };
            let mover = mover(context, plan)?;
            if action == Action::Retire
                && mover.capabilities().drops_source
                && !plan.capabilities.drops_source
            {
                return Err(DriverError::new(
                    Retry::Permanent,
                    "configuration",
                    format!("letting {} go", plan.source),
                    "the plan that was approved leaves a copy there, and the configuration would remove it now; set \
                     migration.after back to \"standby\" until this move has ended",
                ));
            }
            mover.perform(state, act, (&job_of(plan, act.side), &action)).await
        }
        Deed::Route { share } => {
            router(context, plan)?.set(state, &weights(plan, *share)).await?;
            let summary = format!("{share} of the traffic goes to {}", plan.destination);
            Ok(Answer::Done(Evidence { summary, ..Evidence::default() }))
        }
    }
}

async fn limited<T>(context: &Context, call: impl Future<Output = T>) -> Option<T> {
    match context.options.call_limit {
        Some(limit) => tokio::time::timeout(limit.to_std(), call).await.ok(),
        None => Some(call.await),
    }
}

/// A look at a system within the call limit; in words what is wrong where there is no answer.
async fn in_time<T>(
    context: &Context,
    look: impl Future<Output = Result<T, DriverError>>,
) -> Result<T, String> {
    match limited(context, look).await {
        Some(found) => found.map_err(|error| error.to_string()),
        None => Err("no answer in time; it will be asked again".to_string()),
    }
}

pub(super) fn weights(plan: &Plan, share: Share) -> Vec<Weight> {
    let weight = |partition: &crate::fleet::PartitionId, share: f64| Weight {
        partition: partition.clone(),
        share: Share::clamped(share).unwrap_or(Share::MIN),
        state: if share > 0.0 { ServerState::Ready } else { ServerState::Drain },
        sessions: None,
    };
    vec![weight(&plan.source, 1.0 - share.get()), weight(&plan.destination, share.get())]
}

async fn probe(context: &Context, state: &State, act: &Act) -> Probe {
    let plan = &state.plan;
    if context.options.planted == Planted::RepeatWithoutProbe {
        return Probe::NotStarted;
    }
    let call = async {
        match &act.deed {
            Deed::Mover { action } => match mover(context, plan) {
                Ok(mover) => mover.probe(state, act, (&job_of(plan, act.side), action)).await,
                Err(error) => Probe::Unknown { reason: error.to_string() },
            },
            Deed::Route { share } => match router(context, plan) {
                Ok(router) => match router.weights(state).await {
                    Ok(found) => routed(&found, &weights(plan, *share)),
                    Err(error) => Probe::Unknown { reason: error.to_string() },
                },
                Err(error) => Probe::Unknown { reason: error.to_string() },
            },
        }
    };
    let late = || Probe::Unknown { reason: "no answer in time".to_string() };
    limited(context, call).await.unwrap_or_else(late)
}

/// Whether the routers send what they should.
pub(super) fn routed(found: &[Weight], wanted: &[Weight]) -> Probe {
    let as_wanted = wanted.iter().all(|w| {
        found
            .iter()
            .find(|f| f.partition == w.partition)
            .map_or(w.share.get() == 0.0, |f| (f.share.get() - w.share.get()).abs() < 0.01)
    });
    match as_wanted {
        true => {
            Probe::Applied { evidence: Evidence { summary: "read back".to_string(), ..Evidence::default() } }
        }
        false => Probe::NotStarted,
    }
}

/// Whether the cut may begin: windows, the destination's own health, and what the system has to wait
/// for, which is better waited for while nothing is held.
async fn gate(context: &Context, state: &State) -> EventKind {
    let (plan, now) = (&state.plan, context.now());
    if let Some((left, reason)) = limits::shut(&context.options.limits, plan, context.wall(now)) {
        return EventKind::GateShut { reason, again: now + left };
    }
    let failing = context
        .world()
        .is_some_and(|w| w.failing.contains(&plan.destination) && !w.failing.contains(&plan.source));
    if failing {
        let reason = format!("the destination {} is now expected to fail itself", plan.destination);
        return EventKind::GateShut { reason, again: now + Span::seconds(5) };
    }
    if let Ok(mover) = mover(context, plan)
        && let Ok(Some(reason)) = in_time(context, mover.cut_waits_for(state, &plan.job())).await
    {
        return EventKind::GateShut { reason, again: context.now() + plan.policy.poll.max(GATE) };
    }
    EventKind::GateOpen
}

/// The one transaction that changes the owner.
async fn change_owner(context: &Context, machine: &mut Machine, side: Side) -> Result<(), StoreError> {
    let state = Arc::clone(&machine.state);
    let plan = &state.plan;
    let job = job_of(plan, side);
    let key = owner_key(&plan.workload);
    let entry = context.get(&key).await?;
    let owner = entry.as_ref().and_then(|e| read_stored::<Owner>(&e.value).ok());
    let expected = owner.as_ref().is_some_and(|o| {
        o.owner == job.source && o.generation.0 + 1 == job.generation.0 && o.migration == Some(plan.id)
    });
    let (Some(entry), true) = (entry, expected || context.options.planted == Planted::BlindCommit) else {
        return apply(context, machine, EventKind::OwnerIs { owner }).await;
    };
    let claim = context.get(&claims::claim_key(&plan.workload)).await?;
    let at = context.now();
    let to = match side {
        Side::Forward => &plan.destination_place.host,
        Side::Back => &plan.source_place.host,
    };
    let (claim_compare, claim_op) =
        claims::transfer_within(&plan.workload, claim.as_ref(), to, job.generation, at);
    let new = Owner {
        owner: job.destination.clone(),
        generation: job.generation,
        mode: OwnerMode::Migrating,
        migration: Some(plan.id),
    };
    let mut compares = vec![Compare::Modified(key.clone(), entry.modified), claim_compare];
    if context.options.planted == Planted::BlindCommit {
        compares.clear();
    }
    let with = Conditions {
        compares,
        ops: vec![Op::Put(key, json(&new)), claim_op],
        conditional: true,
        ..Conditions::default()
    };
    let next = step(&state, &Event { at, kind: EventKind::OwnerChanged });
    machine.decided(context, next, at, with);
    match machine.save(context).await? {
        Saved::Yes | Saved::Later => {}
        // Decided anew from what the record says now.
        Saved::Dropped => {
            if !context.deposed.load(Ordering::Acquire) {
                machine.retry_at = context.now();
            }
        }
    }
    Ok(())
}
