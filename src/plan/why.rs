//! Why a workload does not move, in words: the one constraint that blocks, since or until when, and
//! the nearest change that would let it go.

use super::input::{PlanInput, PlanOutput};
use super::world::World;
use crate::fleet::{PredictionState, WorkloadId};

/// The answer to `why does it (not) move?`, one to three sentences.
pub fn why(workload: &WorkloadId, input: &PlanInput, output: &PlanOutput) -> Vec<String> {
    let world = World::new(input);
    let Some(found) = input.topology.workload(workload) else {
        return vec![format!("there is no workload {workload}")];
    };
    if let Some(running) = input.running.iter().find(|r| &r.workload == workload) {
        return vec![format!(
            "{workload} is being moved now: {} to {}",
            running.migration, running.destination
        )];
    }
    let proposals = output.proposals.iter().chain(input.open);
    for proposal in proposals {
        if let Some(m) = proposal.moves.iter().find(|m| &m.workload == workload) {
            let mut said = vec![format!(
                "{workload} is proposed to move to {} ({}): {}",
                m.destination, proposal.id, m.because
            )];
            if let Some(blocked) = &proposal.blocked {
                said.push(format!("the proposal is blocked: {blocked}"));
            }
            return said;
        }
    }
    if let Some(hold) = output.holds.iter().find(|h| &h.workload == workload) {
        let mut said =
            vec![format!("{workload} should leave {} and does not: {}", hold.partition, hold.reason)];
        if let Some(until) = hold.until {
            said.push(format!("until in {}", until - input.now));
        }
        said.push(format!("what would help: {}", hold.relax));
        return said;
    }
    match world.state(&found.partition) {
        PredictionState::Unknown => vec![
            format!("nothing is known of {} now, and the unknown moves nothing", found.partition),
            "what would help: mend its data, or evacuate the host by hand".to_string(),
        ],
        PredictionState::Healthy => {
            let p = world
                .probability(&found.partition)
                .map_or_else(String::new, |p| format!(" ({p} within {})", input.options.window.as_window()));
            vec![format!("{workload} stays: {} is well{p}", found.partition)]
        }
        PredictionState::Suspect => vec![
            format!(
                "{workload} stays: {} is suspect, and not over a threshold for long enough",
                found.partition
            ),
            "what would help: lower the threshold, or evacuate the host by hand".to_string(),
        ],
        state => vec![format!("{workload} stays: {} is {state:?}", found.partition)],
    }
}
