//! The progress of a migration: what every one has, then what this one has, each behind its number, and a zero.
//! What stands as it stood when the plan was approved is left out.

use std::sync::Arc;

use super::bytes::{Reader, Unreadable, Writer};
use super::{FORM, acts, read};
use crate::fleet::Epoch;
use crate::migrate::journal::Head;
use crate::migrate::judge::{Judgement, Ruling};
use crate::migrate::ledger::Ledger;
use crate::migrate::state::{Again, BackStage, Hold, HoldReason, Progress, Reverse, Todo, Touched, Wish};
use crate::protocol::JudgeLine;

pub(super) const TODOS: [Todo; 10] = [
    Todo::Go,
    Todo::Admit,
    Todo::Perform,
    Todo::Probe,
    Todo::Poll,
    Todo::Watch,
    Todo::Gate,
    Todo::Commit,
    Todo::Person,
    Todo::Nothing,
];
pub(super) const STAGES: [BackStage; 4] =
    [BackStage::Fencing, BackStage::Committing, BackStage::Redirecting, BackStage::Unfencing];
pub(super) const AGAIN: [Again; 3] = [Again::No, Again::Retry, Again::Elsewhere];
pub(super) const RULINGS: [Ruling; 3] = [Ruling::Pass, Ruling::Inconclusive, Ruling::Fail];
pub(super) const REASONS: [HoldReason; 5] = [
    HoldReason::Operator,
    HoldReason::Inconclusive,
    HoldReason::Deadline,
    HoldReason::Failed,
    HoldReason::NoWayBack,
];

/// The bytes of a progress that are stored.
pub(in crate::migrate) fn put(progress: &Progress) -> Vec<u8> {
    // Whatever is added must be written, too.
    let Progress {
        phase,
        since,
        deadline,
        epoch,
        todo,
        due,
        queue,
        waiting,
        tries,
        probes,
        attempt,
        cuts,
        mismatches,
        unfencing,
        at_gate,
        verified,
        compared,
        reverse,
        canary,
        watched_since,
        looks,
        judgement,
        lag_ok,
        dead,
        back,
        back_cuts,
        refused,
        hold,
        wish,
        touched,
        ledger,
        evidence: _,
        cause,
        again,
        admitted,
        switched,
        started,
        ended,
        journal,
    } = progress;
    let mut to = Writer::new(FORM, 256);
    to.number(journal.next).hash(journal.hash).phase(*phase).time(*since).number(epoch.0);
    to.byte(*todo as u8).time(*due).time(*started);
    for (field, at) in [(1, deadline), (2, compared), (3, watched_since), (4, ended)] {
        if let Some(at) = at {
            to.byte(field).time(*at);
        }
    }
    let counts = [
        (5, tries),
        (6, probes),
        (7, cuts),
        (8, mismatches),
        (9, canary),
        (10, looks),
        (11, lag_ok),
        (12, dead),
        (13, back_cuts),
    ];
    for (field, count) in counts.into_iter().filter(|(_, count)| **count != 0) {
        to.byte(field).number(*count);
    }
    if *attempt != 1 {
        to.byte(14).number(*attempt);
    }
    let flags = [(15, unfencing), (16, at_gate), (17, verified), (18, admitted), (19, switched)];
    flags.into_iter().filter(|(_, set)| **set).for_each(|(field, _)| {
        to.byte(field);
    });
    for (field, words) in [(20, waiting), (21, refused), (22, cause)] {
        if !words.is_empty() {
            to.byte(field).text(words);
        }
    }
    if !queue.is_empty() {
        to.byte(23).number(queue.len() as u64);
        queue.iter().for_each(|act| acts::put(&mut to, act));
    }
    if *back != BackStage::default() {
        to.byte(24).byte(*back as u8);
    }
    if *again != Again::default() {
        to.byte(25).byte(*again as u8);
    }
    match reverse {
        Reverse::None => {}
        Reverse::Armed => {
            to.byte(26);
        }
        Reverse::Proved { at } => {
            to.byte(27).time(*at);
        }
        Reverse::Enabled => {
            to.byte(28);
        }
    }
    if *touched != Touched::default() {
        let Touched { prepare, replicate, canary, fence } = *touched;
        to.byte(29).flags([prepare, replicate, canary, fence]);
    }
    if let Some(Hold { reason, from, todo }) = hold {
        to.byte(30).byte(*reason as u8).phase(*from).byte(*todo as u8);
    }
    match wish {
        None => {}
        Some(Wish::Pause { actor }) => {
            to.byte(31).text(actor);
        }
        Some(Wish::RollBack { actor }) => {
            to.byte(32).text(actor);
        }
    }
    if !ledger.is_empty() {
        to.byte(33);
        ledger.holds().counts().into_iter().for_each(|n| {
            to.number(n);
        });
    }
    if let Some(judgement) = judgement {
        to.byte(34);
        put_judgement(&mut to, judgement);
    }
    to.byte(0);
    to.done()
}

fn put_judgement(to: &mut Writer, judgement: &Judgement) {
    let Judgement { ruling, critical, why, lines } = judgement;
    to.byte(*ruling as u8).byte(u8::from(*critical)).text(why).number(lines.len() as u64);
    for JudgeLine { what, source, destination, verdict } in lines {
        to.text(what).text(source).text(destination).text(verdict);
    }
}

/// A progress from what is stored of it, in this form or as JSON.
///
/// # Errors
/// What is wrong with it.
pub(in crate::migrate) fn take(bytes: &[u8]) -> Result<Progress, Unreadable> {
    read(bytes, take_parts)
}

fn take_parts(from: &mut Reader<'_>) -> Result<Progress, Unreadable> {
    let journal = Head { next: from.number("how many records there are")?, hash: from.hash()? };
    let (phase, since) = (from.phase()?, from.time("since when")?);
    let mut all = Progress::fresh(phase, Epoch(from.number("an epoch")?), since);
    all.journal = journal;
    all.todo = from.one_of(&TODOS, "what comes next")?;
    (all.due, all.started) = (from.time("when it is due")?, from.time("when it began")?);
    loop {
        let count = "how often";
        let what = "a part of a progress";
        match from.byte(what)? {
            0 => return Ok(all),
            1 => all.deadline = Some(from.time("a deadline")?),
            2 => all.compared = Some(from.time("when both sides were equal")?),
            3 => all.watched_since = Some(from.time("since when it is watched")?),
            4 => all.ended = Some(from.time("when it ended")?),
            5 => all.tries = from.small(count)?,
            6 => all.probes = from.small(count)?,
            7 => all.cuts = from.small(count)?,
            8 => all.mismatches = from.small(count)?,
            9 => all.canary = from.small("a canary step")?,
            10 => all.looks = from.small(count)?,
            11 => all.lag_ok = from.small(count)?,
            12 => all.dead = from.small(count)?,
            13 => all.back_cuts = from.small(count)?,
            14 => all.attempt = from.small("which attempt")?,
            15 => all.unfencing = true,
            16 => all.at_gate = true,
            17 => all.verified = true,
            18 => all.admitted = true,
            19 => all.switched = true,
            20 => all.waiting = from.text("why it waits")?.to_string(),
            21 => all.refused = from.text("why a cut was given up")?.to_string(),
            22 => all.cause = from.text("why it is undone")?.to_string(),
            23 => {
                for _ in 0..from.number("how many actions")? {
                    all.queue.push_back(acts::take(from)?);
                }
            }
            24 => all.back = from.one_of(&STAGES, "a part of a way back")?,
            25 => all.again = from.one_of(&AGAIN, "what follows")?,
            26 => all.reverse = Reverse::Armed,
            27 => all.reverse = Reverse::Proved { at: from.time("when the way back was proved")? },
            28 => all.reverse = Reverse::Enabled,
            29 => {
                let [prepare, replicate, canary, fence] = from.flags("what was asked for")?;
                all.touched = Touched { prepare, replicate, canary, fence };
            }
            30 => {
                let (reason, from, todo) = (
                    from.one_of(&REASONS, "why it stands")?,
                    from.phase()?,
                    from.one_of(&TODOS, "what was to come")?,
                );
                all.hold = Some(Hold { reason, from, todo });
            }
            31 => all.wish = Some(Wish::Pause { actor: from.text("who")?.to_string() }),
            32 => all.wish = Some(Wish::RollBack { actor: from.text("who")?.to_string() }),
            33 => {
                let mut count = || from.number("how much the ledger holds");
                all.ledger = Ledger::named([count()?, count()?, count()?]);
            }
            34 => all.judgement = Some(Arc::new(take_judgement(from)?)),
            got => return Err(Unreadable::Odd { what, got: u64::from(got) }),
        }
    }
}

fn take_judgement(from: &mut Reader<'_>) -> Result<Judgement, Unreadable> {
    let ruling = from.one_of(&RULINGS, "a ruling")?;
    let critical = from.one_of(&[false, true], "whether it is critical")?;
    let why = from.text("why")?.to_string();
    let mut lines = Vec::new();
    for _ in 0..from.number("how many lines")? {
        let mut text = || from.text("what was measured").map(str::to_string);
        let (what, source, destination, verdict) = (text()?, text()?, text()?, text()?);
        lines.push(JudgeLine { what, source, destination, verdict });
    }
    Ok(Judgement { ruling, critical, why, lines })
}
