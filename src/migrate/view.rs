//! What a screen shows of a migration: the line of steps, the judge's lines, what can be asked, the
//! way back. Plain data from the state, nothing else.

use super::event::OperatorCommand;
use super::operator::{Source, abilities, refused_now};
use super::state::{Reverse, State};
use crate::drivers::JobStatus;
use crate::fleet::{Phase, Share, Span, Timestamp};
use crate::protocol::{MigrationView, StepState, StepView};

/// What the journal says: the lines of the log, newest first, and what was seen of a step by its name.
pub type Said<'a> = (Vec<(Timestamp, String)>, &'a dyn Fn(&str) -> Option<&'a str>);

/// The view of a migration as of `now`.
pub fn view(
    state: &State,
    status: Option<&JobStatus>,
    source: Source,
    (log, seen): Said<'_>,
    now: Timestamp,
) -> MigrationView {
    let plan = &state.plan;
    let canary_steps = plan.canary.steps.len() as u32;
    let progress = progress(state, status, now);
    MigrationView {
        id: plan.id,
        proposal: plan.proposal,
        workload: plan.workload.clone(),
        source: plan.source.clone(),
        destination: plan.destination.clone(),
        phase: state.phase,
        waiting: state.waiting.clone(),
        by: plan.approved_by.clone(),
        plan: plan.hash.hex(),
        started: state.started,
        ended: state.ended,
        deadline: state.deadline,
        left: left(state, status, now),
        progress,
        steps: steps(state, status, seen),
        canary: (state.standing() == Phase::Canary)
            .then_some(((state.canary + 1).min(canary_steps), canary_steps)),
        canary_carries: plan.canary_carries().to_string(),
        judge: state.judgement.as_ref().map(|j| j.lines.clone()).unwrap_or_default(),
        can: abilities(state, source),
        way_back: way_back(state, source),
        log,
    }
}

/// The phases on the line, in order.
const LINE: [Phase; 11] = [
    Phase::Preparing,
    Phase::Copying,
    Phase::CatchingUp,
    Phase::Verifying,
    Phase::ReverseArmed,
    Phase::Canary,
    Phase::Fencing,
    Phase::Committing,
    Phase::Redirecting,
    Phase::Soaking,
    Phase::Retiring,
];

fn steps<'a>(
    state: &State,
    status: Option<&JobStatus>,
    journal: &dyn Fn(&str) -> Option<&'a str>,
) -> Vec<StepView> {
    let at = reached(state);
    let undoing = matches!(state.standing(), Phase::RollingBackPre | Phase::RollingBackPost);
    let mut line: Vec<StepView> = LINE
        .iter()
        .map(|phase| {
            let step = step_state(state, *phase, at, undoing);
            let evidence = match step {
                StepState::Ahead => String::new(),
                _ => evidence(state, status, *phase, journal),
            };
            StepView { name: name(state, *phase), state: step, evidence }
        })
        .collect();
    let word = match state.standing() {
        Phase::RollingBackPre | Phase::RollingBackPost => Some((StepState::Running, "undo")),
        Phase::Aborted | Phase::RolledBack => Some((StepState::Done, "undone")),
        _ => None,
    };
    if let Some((state_of, name)) = word {
        line.push(StepView { name: name.to_string(), state: state_of, evidence: state.cause.clone() });
    }
    line
}

/// How far it came on the line, also while it is undone: what the journal's flags say.
fn reached(state: &State) -> Phase {
    let phase = state.standing();
    if LINE.contains(&phase) || phase == Phase::Done {
        return phase;
    }
    match phase {
        Phase::RollingBackPost | Phase::RolledBack => Phase::Soaking,
        Phase::SourceLost => Phase::CatchingUp,
        Phase::RollingBackPre | Phase::Aborted if state.cuts > 0 => Phase::Fencing,
        Phase::RollingBackPre | Phase::Aborted if state.verified => Phase::Canary,
        Phase::RollingBackPre | Phase::Aborted if state.touched.prepare => Phase::Copying,
        _ => Phase::Admitted,
    }
}

fn step_state(state: &State, phase: Phase, at: Phase, undoing: bool) -> StepState {
    let skipped = match phase {
        Phase::Canary => !state.plan.has_canary(),
        Phase::Verifying => !state.plan.capabilities.digest,
        Phase::ReverseArmed => !state.plan.capabilities.reverse_proved_before_cut,
        _ => false,
    };
    let ended_early = matches!(state.phase, Phase::Aborted | Phase::RolledBack) || undoing;
    match phase.cmp(&at) {
        _ if skipped => StepState::Skipped,
        _ if state.phase == Phase::Done => StepState::Done,
        std::cmp::Ordering::Less => StepState::Done,
        std::cmp::Ordering::Equal if ended_early => StepState::Failed,
        std::cmp::Ordering::Equal => StepState::Running,
        std::cmp::Ordering::Greater if ended_early => StepState::Skipped,
        std::cmp::Ordering::Greater => StepState::Ahead,
    }
}

fn name(state: &State, phase: Phase) -> String {
    match (phase, state.plan.canary.steps.get(state.canary as usize)) {
        (Phase::Canary, Some(step)) if state.plan.has_canary() => format!("canary {}", step.share),
        (Phase::Soaking, _) => format!("watch {}", state.plan.soak),
        _ => phase.word().to_string(),
    }
}

fn evidence<'a>(
    state: &State,
    status: Option<&JobStatus>,
    phase: Phase,
    journal: &dyn Fn(&str) -> Option<&'a str>,
) -> String {
    let seen = |step: &str| {
        let newest = state.evidence.iter().rev().find(|(name, _)| **name == *step);
        let newest = newest.map(|(_, words)| words.to_string());
        newest.or_else(|| journal(&step.replace(' ', "_")).map(str::to_string))
    };
    let running = state.standing() == phase;
    match (phase, status) {
        (Phase::Copying, Some(s)) if running => format!("{} of {}", s.copied, s.total),
        (Phase::CatchingUp, Some(JobStatus { lag: Some(lag), .. })) => lag.to_string(),
        (Phase::Preparing, _) => seen("prepare").unwrap_or_default(),
        (Phase::Copying, _) => seen("replicate").unwrap_or_default(),
        (Phase::Verifying, _) => seen("verify").unwrap_or_default(),
        (Phase::ReverseArmed, _) => match state.reverse {
            Reverse::None => String::new(),
            Reverse::Armed => "made".to_string(),
            Reverse::Proved { .. } | Reverse::Enabled => "proved".to_string(),
        },
        (Phase::Fencing, _) => seen("verify at cut").unwrap_or_default(),
        (Phase::Committing, _) if state.switched => format!("{}", state.plan.next_generation()),
        (Phase::Redirecting, _) => seen("route 100").or_else(|| seen("open")).unwrap_or_default(),
        (Phase::Soaking, _) => {
            let compared = seen("verify again").map(|words| format!("compared again: {words}"));
            compared.or_else(|| seen("enable reverse")).unwrap_or_default()
        }
        (Phase::Retiring, _) => seen("retire").unwrap_or_default(),
        _ => String::new(),
    }
}

fn progress(state: &State, status: Option<&JobStatus>, now: Timestamp) -> Option<Share> {
    let of =
        |part: i64, whole: i64| (whole > 0).then(|| Share::clamped(part as f64 / whole as f64)).flatten();
    match (state.standing(), status) {
        (Phase::Copying, Some(s)) => of(s.copied.0 as i64, s.total.0 as i64),
        (Phase::Canary, _) => {
            let step = state.plan.canary.steps.get(state.canary as usize)?;
            of((now - state.watched_since?).0, step.duration.0)
        }
        (Phase::Soaking, _) => of((now - state.watched_since?).0, state.plan.soak.0),
        _ => None,
    }
}

/// What is left of the whole, as far as known: the rest of the copy by its own rate, the rest of
/// canary and soak by their durations.
fn left(state: &State, status: Option<&JobStatus>, now: Timestamp) -> Option<Span> {
    let plan = &state.plan;
    let standing = state.standing();
    if state.phase.is_end() || standing > Phase::Soaking {
        return None;
    }
    let elapsed = (now - state.since).0.max(0);
    let copying = match (standing, status) {
        (phase, _) if phase < Phase::Copying => plan.duration.0,
        (Phase::Copying, Some(s)) if s.copied.0 > 0 && s.total.0 > s.copied.0 => {
            (elapsed as f64 * (s.total.0 - s.copied.0) as f64 / s.copied.0 as f64) as i64
        }
        (Phase::Copying, _) => (plan.duration.0 - elapsed).max(0),
        _ => 0,
    };
    let watched = state.watched_since.map_or(0, |since| (now - since).0.max(0));
    let canary: i64 = match (plan.has_canary(), standing) {
        (true, phase) if phase <= Phase::Canary => {
            let from = if phase == Phase::Canary { state.canary as usize } else { 0 };
            let all: i64 = plan.canary.steps.iter().skip(from).map(|s| s.duration.0).sum();
            (all - if phase == Phase::Canary { watched } else { 0 }).max(0)
        }
        _ => 0,
    };
    let soak = (plan.soak.0 - if standing == Phase::Soaking { watched } else { 0 }).max(0);
    Some(Span(copying + canary + soak))
}

/// How it would be undone now; empty = it cannot.
fn way_back(state: &State, known: Source) -> String {
    let undoing = matches!(state.standing(), Phase::RollingBackPre | Phase::RollingBackPost);
    if !undoing && refused_now(state, OperatorCommand::RollBack, known).is_some() {
        return String::new();
    }
    let (source, workload) = (&state.plan.source, &state.plan.workload);
    let way = match (state.admitted, state.switched) {
        (false, _) => return "nothing was touched: it is withdrawn".to_string(),
        (_, true) if known == Source::Dead => return String::new(),
        (true, false) if known == Source::Dead => {
            return format!(
                "{source} does not answer: the copy is stopped and what was made is removed; {workload} stays \
                 there, and nobody serves it until {source} answers or its system lets a copy take over"
            );
        }
        (true, false) => {
            format!("{source} owns and serves all the time: the copy is stopped and what was made is removed")
        }
        (true, true) => {
            let proof = match state.reverse {
                Reverse::Proved { .. } | Reverse::Enabled => "the way back is proved",
                Reverse::None | Reverse::Armed => "the way back is proved first",
            };
            format!(
                "a mirrored move to {source}, nothing is lost; {proof}; writes are held for about {}",
                Span::millis(50)
            )
        }
    };
    match known {
        Source::Silent => format!("{way}; nothing is heard of {source} now, so it may not answer"),
        Source::Failing if state.switched => format!("{way}; {source} is expected to fail"),
        Source::Failing | Source::Answers | Source::Dead => way,
    }
}
