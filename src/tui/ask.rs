//! The confirmations: for each action that changes something, what will happen, in sentences, and
//! how much stands in between.

use super::action::Action;
use super::confirm::{Confirm, Then, Tier};
use super::model::{Engine, Model};
use super::screens::migration::is_switched;
use super::text::coarse;
use crate::fleet::{Bytes, Span};
use crate::protocol::failure::Label;
use crate::protocol::{Command, MigrationView, Mode, ProposalView, StepState};

/// The confirmation of `action` on what is chosen; `None` where nothing is.
pub(super) fn confirmation(model: &Model, action: Action) -> Option<Confirm> {
    let confirm = match action {
        Action::Approve => approve(model, model.chosen_proposal()?),
        Action::Reject => reject(model, model.chosen_proposal()?),
        Action::NextStep | Action::Promote | Action::Hold | Action::Resume | Action::Undo => {
            migration(model, action, model.chosen_migration()?)
        }
        Action::Evacuate => evacuate(model)?,
        Action::Stop => stop(model),
        Action::ChangeMode => mode(model),
        Action::RevertModels => models(model)?,
        Action::Veto
        | Action::ReleaseVeto
        | Action::Decommission
        | Action::Recommission
        | Action::RecordFailure => about_subject(model, action)?,
        _ => return None,
    };
    Some(confirm)
}

fn ask(model: &Model, title: impl Into<String>, verb: &str, tier: Tier, command: Command) -> Confirm {
    Confirm::new(title, verb, tier, Then::Ask(command), model.moment)
}

fn plural(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

fn approve(model: &Model, p: &ProposalView) -> Confirm {
    let data: Bytes = p.moves.iter().map(|m| m.data).sum();
    let longest = p.moves.iter().map(|m| m.blackout).max().unwrap_or_default();
    let total: i64 = p.moves.iter().map(|m| m.duration.0).sum();
    let command = Command::Approve { proposal: p.id, plan: p.plan.clone(), reason: String::new() };
    let mut hosts: Vec<_> = p.moves.iter().map(|m| m.source.host()).collect();
    hosts.sort();
    hosts.dedup();
    // A plan that takes work off several hosts at once: one key too many must not do that.
    let tier = if hosts.len() > 1 { Tier::Accounted(p.id.to_string()) } else { Tier::Weighed };
    let mut c = ask(model, format!("approve {}", p.id), "approve", tier, command).say(p.title.clone());
    for m in p.moves.iter().take(4) {
        c = c.say(format!("{} moves from {} to {}", m.workload, m.source, m.destination));
    }
    if p.moves.len() > 4 {
        c = c.say(format!("and {} more", p.moves.len() - 4));
    }
    c = c.say(format!(
        "{}, {data} copied, about {}; writes held for at most {longest} each",
        plural(p.moves.len(), "move"),
        Span::millis(total),
    ));
    c = c.say(format!(
        "expected loss {:.2} → {:.2} workloads; way back: {}",
        p.risk.0,
        p.risk.1,
        if p.way_back.is_empty() { "none" } else { &p.way_back }
    ));
    if let Some(risk) = p.risks.first() {
        c = c.say(format!("risk: {risk}"));
    }
    let short: String = p.plan.chars().take(12).collect();
    c.say(format!("sent as {}, plan {short}; another plan is refused", model.actor.name))
}

fn reject(model: &Model, p: &ProposalView) -> Confirm {
    let command = Command::Reject { proposal: p.id, reason: String::new() };
    ask(model, format!("reject {}", p.id), "reject", Tier::Light, command)
        .say(p.title.clone())
        .say("Nothing moves. If nothing is done: ".to_string() + or_nothing(&p.if_nothing))
        .with_reason()
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "nothing is expected to happen" } else { text }
}

fn migration(model: &Model, action: Action, m: &MigrationView) -> Confirm {
    let id = m.id;
    let route = format!("{}: {} → {}", m.workload, m.source, m.destination);
    let way_back = if m.way_back.is_empty() { "none from here on".to_string() } else { m.way_back.clone() };
    let c = |verb: &str, tier, command| {
        ask(model, format!("{verb} {id}"), verb, tier, command).say(route.clone())
    };
    match action {
        Action::NextStep => {
            let next = m.steps.iter().find(|s| s.state == StepState::Ahead);
            let next = next.map_or("the next step".to_string(), |s| s.name.clone());
            c("step", Tier::Light, Command::NextStep { migration: id })
                .say(format!("The present step ends now; {next} begins."))
                .say(format!("Way back: {way_back}"))
        }
        Action::Promote if is_switched(m) => c("keep", Tier::Weighed, Command::Promote { migration: id })
            .say(format!("It stays at {}, which serves; {} is let go.", m.destination, m.source))
            .say("Way back from then on: a new migration."),
        Action::Promote => c("promote", Tier::Weighed, Command::Promote { migration: id })
            .say("What is left of the canary is skipped; the cut follows.")
            .say(format!("Way back: {way_back}")),
        Action::Hold => c("hold", Tier::Light, Command::Pause { migration: id })
            .say("It stands still at the next safe point until it is resumed; traffic stays as it is."),
        Action::Resume => c("resume", Tier::Light, Command::Resume { migration: id })
            .say(if m.waiting.is_empty() {
                "It goes on.".to_string()
            } else {
                format!("It waits: {}", m.waiting)
            })
            .say("It goes on from where it stands."),
        _ => {
            let after_cut = is_switched(m);
            let tier = if after_cut { Tier::Typed(id.to_string()) } else { Tier::Weighed };
            let what = if after_cut {
                "Ownership goes back to the source by a mirrored move at the next generation."
            } else {
                "The source keeps its workload; what was made at the destination is removed."
            };
            c("undo", tier, Command::RollBack { migration: id }).say(what).say(format!("How: {way_back}"))
        }
    }
}

fn evacuate(model: &Model) -> Option<Confirm> {
    let host = model.chosen_host()?;
    let then = match model.snapshot.mode {
        Mode::Auto => {
            "Nothing moves yet: what a person asks for waits for an approval in automatic mode, too."
        }
        _ => "Nothing moves yet: the proposal waits for an approval.",
    };
    let here: Vec<_> = model.snapshot.partitions.iter().filter(|p| p.host == host).collect();
    let workloads: usize = here.iter().map(|p| p.workloads as usize).sum();
    let data: Bytes = here.iter().map(|p| p.data).sum();
    Some(
        ask(
            model,
            format!("evacuate {host}"),
            "propose",
            Tier::Light,
            Command::Evacuate { host: host.clone() },
        )
        .say(format!("A proposal is made to move {}, {data}, off {host}.", plural(workloads, "workload")))
        .say(then),
    )
}

fn stop(model: &Model) -> Confirm {
    match &model.snapshot.stopped {
        None => ask(model, "stop everything", "stop", Tier::Light, Command::StopEverything)
            .say(format!(
                "No new step of anything begins: {} stands at the next safe point.",
                plural(model.running(), "running migration")
            ))
            .say("Nothing is undone. Any operator can release it with the same key."),
        Some((by, since)) => ask(model, "release the stop", "release", Tier::Weighed, Command::ReleaseStop)
            .say(format!("{by} stopped everything {} ago.", coarse(since.age(model.now()))))
            .say(format!("{} may go on at once.", plural(model.running(), "migration"))),
    }
}

fn mode(model: &Model) -> Confirm {
    if model.snapshot.mode == Mode::Auto {
        ask(model, "mode ADVISE", "change", Tier::Light, Command::SetMode { mode: Mode::Advise })
            .say("Proposals wait for a person again. What runs goes on.")
    } else {
        let name = if model.snapshot.fleet_name.is_empty() { "AUTO" } else { &model.snapshot.fleet_name };
        let command = Command::SetMode { mode: Mode::Auto };
        ask(model, "mode AUTO", "change", Tier::Typed(name.to_string()), command)
            .say("The engine approves and performs proposals itself, within the limits of its configuration.")
            .say(format!("{} now; the next is decided without you.", plural(model.waiting(), "proposal")))
            .say("A hold, a veto or a stop by an operator wins at once.")
    }
}

fn models(model: &Model) -> Option<Confirm> {
    let before = model.snapshot.models.way_back.as_ref()?;
    Some(
        ask(model, "models back", "go back", Tier::Weighed, Command::RevertModels)
            .say(format!("From the next cycle on, the chances of failure are said by {before}."))
            .say("What speaks now is kept, and out of use; proposals that wait are judged anew."),
    )
}

fn about_subject(model: &Model, action: Action) -> Option<Confirm> {
    let subject = super::update::subject(model)?;
    let s = subject.clone();
    Some(match action {
        Action::Veto => {
            ask(model, format!("veto {s}"), "veto", Tier::Light, Command::Veto { subject, until: None })
                .say("No automatic act touches it until the veto is released.")
        }
        Action::ReleaseVeto => ask(
            model,
            format!("release veto of {s}"),
            "release",
            Tier::Light,
            Command::ReleaseVeto { subject },
        )
        .say("Automatic acts may touch it again, where there was a veto."),
        Action::Decommission => {
            let command = Command::Decommission { subject, reason: String::new() };
            ask(model, format!("decommission {s}"), "decommission", Tier::Light, command)
                .say("It is out of service for good: nothing is moved there, and its silence is no alert.")
                .say(format!(
                    "`:recommission` on it, or `foreshift decommission {s} --undo`, takes that back."
                ))
                .with_reason()
        }
        Action::Recommission => {
            let command = Command::Recommission { subject };
            ask(model, format!("recommission {s}"), "take back", Tier::Light, command)
                .say("It is watched again, and work may be moved there.")
        }
        _ => {
            let command = Command::RecordFailure {
                subject,
                at: model.now(),
                cause: String::new(),
                label: Label::Failed,
                imported: false,
            };
            ask(model, format!("record a failure of {s}"), "record", Tier::Light, command)
                .say("It goes into the failure history as of now, and the models learn from it.")
                .with_reason()
        }
    })
}

/// The question before leaving while something moves.
pub(super) fn quit(model: &Model) -> Confirm {
    let running = plural(model.running(), "migration");
    Confirm::new("quit", "quit", Tier::Weighed, Then::Quit, model.moment)
        .say(format!("{running} under way, and the engine runs in this process."))
        .say("It stands still at a safe point and goes on, or undoes it, at the next start.")
}

/// The question before suspending an engine.
pub(super) fn suspend(model: &Model) -> Option<Confirm> {
    (model.engine == Engine::Embedded && model.running() > 0).then(|| {
        Confirm::new("suspend", "suspend", Tier::Weighed, Then::Suspend, model.moment)
            .say(format!(
                "The engine in this process is suspended too, with {}.",
                plural(model.running(), "migration")
            ))
            .say("Its leases run out; what was under way waits at a safe point until `fg`.")
    })
}
