//! One action of one direction.

use super::FORM;
use super::bytes::{Reader, Unreadable, Writer};
use crate::drivers::Action;
use crate::migrate::act::{Act, Deed, Side};

/// Added to the number of an action that goes back.
const BACK: u8 = 64;

/// The bytes of one action alone; a hash of them stands in the journal for its arguments.
pub(in crate::migrate) fn alone(act: &Act) -> Vec<u8> {
    let mut to = Writer::new(FORM, 64);
    put(&mut to, act);
    to.done()
}

pub(super) fn put(to: &mut Writer, act: &Act) {
    let side = match act.side {
        Side::Forward => 0,
        Side::Back => BACK,
    };
    let number = match &act.deed {
        Deed::Mover { action } => match action {
            Action::Announce => 0,
            Action::Prepare => 1,
            Action::Replicate => 2,
            Action::StopReplication => 3,
            Action::Verify => 4,
            Action::ArmReverse => 5,
            Action::ProbeReverse => 6,
            Action::CanaryShare { .. } => 7,
            Action::Fence { .. } => 8,
            Action::Unfence => 9,
            Action::VerifyAtCut => 10,
            Action::Commit => 11,
            Action::Open => 12,
            Action::EnableReverse => 13,
            Action::Retire => 14,
            Action::Cleanup { .. } => 15,
        },
        Deed::Route { .. } => 16,
    };
    to.byte(number + side);
    match &act.deed {
        Deed::Mover { action: Action::CanaryShare { share } } | Deed::Route { share } => {
            to.share(*share);
        }
        Deed::Mover { action: Action::Fence { deadline } } => {
            to.time(*deadline);
        }
        Deed::Mover { action: Action::Cleanup { artifact } } => {
            to.artifact(artifact);
        }
        Deed::Mover { .. } => {}
    }
}

pub(super) fn take(from: &mut Reader<'_>) -> Result<Act, Unreadable> {
    let what = "an action";
    let byte = from.byte(what)?;
    let (number, side) = match byte.checked_sub(BACK) {
        Some(number) => (number, Side::Back),
        None => (byte, Side::Forward),
    };
    let action = match number {
        0 => Action::Announce,
        1 => Action::Prepare,
        2 => Action::Replicate,
        3 => Action::StopReplication,
        4 => Action::Verify,
        5 => Action::ArmReverse,
        6 => Action::ProbeReverse,
        7 => Action::CanaryShare { share: from.share()? },
        8 => Action::Fence { deadline: from.time("a deadline")? },
        9 => Action::Unfence,
        10 => Action::VerifyAtCut,
        11 => Action::Commit,
        12 => Action::Open,
        13 => Action::EnableReverse,
        14 => Action::Retire,
        15 => Action::Cleanup { artifact: from.artifact()? },
        16 => return Ok(Act { deed: Deed::Route { share: from.share()? }, side }),
        _ => return Err(Unreadable::Odd { what, got: u64::from(byte) }),
    };
    Ok(Act { deed: Deed::Mover { action }, side })
}
