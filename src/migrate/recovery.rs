//! After a crash or a change of leader: the new epoch adopts the migration. What was asked for and
//! not answered is probed before anything is repeated; between fence and commit the owner record
//! decides.

use super::draft::Draft;
use super::journal::Note;
use super::owner::Owner;
use super::state::Todo;
use super::states;
use crate::fleet::{Epoch, Phase, Timestamp};
use crate::protocol::Severity;

/// Takes the migration over for `epoch`.
pub(super) fn adopt(draft: &mut Draft, epoch: Epoch, owner: Option<&Owner>) {
    draft.s.epoch = epoch;
    let generation = draft.s.plan.next_generation();
    draft.note(Note::Fence { leader: epoch, generation });
    // Times are taken anew: this process's clock may stand elsewhere than that of the one before.
    if draft.s.phase != Phase::Approved && draft.s.deadline.is_some() {
        draft.set_deadline();
    }
    draft.s.watched_since = draft.s.watched_since.map(|since| since.min(draft.at));
    let unanswered = matches!(draft.s.todo, Todo::Perform | Todo::Probe);
    draft.s.probes = 0;
    // Nothing is changed on the strength of a comparison that another process made.
    draft.s.compared = draft.s.compared.map(|_| Timestamp(0));
    if !matches!(draft.s.todo, Todo::Person | Todo::Nothing) {
        draft.s.due = draft.at;
    }
    if matches!(draft.s.phase, Phase::Hold | Phase::Stuck) {
        // The engine before may have died before it told anybody.
        let (id, from, why) = (draft.s.plan.id, draft.s.standing().word(), draft.s.waiting.clone());
        draft.alert(Severity::Warning, format!("{id} stands in {from}: {why}"));
    }
    match draft.s.phase {
        Phase::Fencing if !draft.s.unfencing => {
            states::fencing::give_up(draft, "the engine restarted during the cut");
        }
        Phase::Committing if !draft.s.unfencing => states::committing::recover(draft, owner),
        _ if unanswered => draft.s.todo = Todo::Probe,
        _ => {}
    }
}
