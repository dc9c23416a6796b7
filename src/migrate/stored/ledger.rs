//! The ledger of a migration.

use std::sync::Arc;

use super::bytes::{Unreadable, Writer};
use super::{FORM, read};
use crate::migrate::act::Side;
use crate::migrate::ledger::{Foreseen, Ledger, Line};

pub(super) const SIDES: [Side; 2] = [Side::Forward, Side::Back];

/// The bytes of a ledger that are stored.
pub(in crate::migrate) fn put(ledger: &Ledger) -> Vec<u8> {
    let mut to = Writer::new(FORM, 512);
    to.number(ledger.foreseen.len() as u64);
    for Foreseen { step, side, artifact, policy } in ledger.foreseen.iter() {
        to.text(step).byte(*side as u8).artifact(artifact).policy(*policy);
    }
    to.number(ledger.lines.len() as u64);
    for Line { artifact, policy, done } in ledger.lines.iter() {
        to.artifact(artifact).policy(*policy).byte(u8::from(*done));
    }
    to.done()
}

/// A ledger from what is stored of it, in this form or as JSON.
///
/// # Errors
/// What is wrong with it.
pub(in crate::migrate) fn take(bytes: &[u8]) -> Result<Ledger, Unreadable> {
    read(bytes, |from| {
        let (mut foreseen, mut lines) = (Vec::new(), Vec::new());
        for _ in 0..from.number("how many artifacts are foreseen")? {
            let step = from.text("the name of an action")?.to_string();
            let side = from.one_of(&SIDES, "which way")?;
            foreseen.push(Foreseen { step, side, artifact: from.artifact()?, policy: from.policy()? });
        }
        for _ in 0..from.number("how many lines")? {
            let (artifact, policy) = (from.artifact()?, from.policy()?);
            lines.push(Line { artifact, policy, done: from.one_of(&[false, true], "whether it is gone")? });
        }
        let mut ledger = Ledger::default();
        (ledger.foreseen, ledger.lines) = (Arc::new(foreseen), Arc::new(lines));
        Ok(ledger)
    })
}
