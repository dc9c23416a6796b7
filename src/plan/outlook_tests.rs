//! What a proposal says of the risk: of every source its own, and of today.

use super::test_scene::Scene;
use super::{Move, Proposal, look_again};
use crate::fleet::{PartitionId, PredictionState, ServingState, Span};

/// A proposal that takes a workload off each of so many partitions, which fail with these probabilities.
fn emptied(chances: &[f64]) -> (Scene, Proposal, Vec<PartitionId>) {
    let mut scene = Scene::new(3, 3);
    scene.fail(0);
    let mut proposal = scene.propose().proposals.remove(0);
    let first = proposal.moves[0].clone();
    let sources: Vec<PartitionId> =
        scene.topology.partitions.iter().take(chances.len()).map(|p| p.id.clone()).collect();
    proposal.moves = sources.iter().map(|source| Move { source: source.clone(), ..first.clone() }).collect();
    for (source, chance) in sources.iter().zip(chances) {
        scene.set(source, *chance, PredictionState::PredictiveFailure);
    }
    look_again(std::slice::from_mut(&mut proposal), &scene.input());
    (scene, proposal, sources)
}

#[test]
fn every_source_says_its_own_chance_and_the_worst_comes_first() {
    let (_, proposal, _) = emptied(&[0.03, 0.28, 0.11]);
    let says = &proposal.outlook.if_nothing;
    let at = |words: &str| says.find(words).unwrap_or_else(|| panic!("{words}: {says}"));
    assert!(at("with 28 % (") < at("11 % (") && at("11 % (") < at("3 % ("), "{says}");
    let (_, proposal, sources) = emptied(&[0.03, 0.28, 0.11, 0.05]);
    let (worst, least) = (&sources[1], &sources[0]);
    let words = format!("with 28 % ({worst}) down to 3 % ({least}) within 1 h, 4 partitions: ");
    assert!(proposal.outlook.if_nothing.starts_with(&words), "{}", proposal.outlook.if_nothing);
}

#[test]
fn a_proposal_that_waits_says_what_is_known_today_and_stays_the_same_plan() {
    let (mut scene, mut proposal, sources) = emptied(&[0.11]);
    let (hash, before) = (proposal.hash(), proposal.moves[0].in_time.unwrap());
    scene.set(&sources[0], 0.9, PredictionState::PredictiveFailure);
    for _ in 0..2 {
        look_again(std::slice::from_mut(&mut proposal), &scene.input());
    }
    assert!(proposal.outlook.if_nothing.starts_with("with 90 % within 1 h"), "{:?}", proposal.outlook);
    assert!(proposal.moves[0].in_time.unwrap() < before);
    let late = proposal.risks.iter().filter(|r| r.contains("off before the failure")).count();
    assert!(late <= 1, "said once: {:?}", proposal.risks);
    assert_eq!(proposal.hash(), hash);
    let source = scene.topology.partitions.iter_mut().find(|p| p.id == sources[0]).unwrap();
    source.serving = ServingState::Fenced;
    look_again(std::slice::from_mut(&mut proposal), &scene.input());
    let says = &proposal.outlook.if_nothing;
    assert!(says.starts_with(&format!("out of service already ({})", sources[0])), "{says}");
    assert_eq!(proposal.hash(), hash);
}

#[test]
fn the_watch_over_those_before_it_counts_towards_being_off_in_time() {
    let last = |soak: Span| {
        let mut scene = Scene::new(3, 4);
        let source = scene.fail(0);
        for i in 0..3 {
            let w = scene.workload(&format!("w{i:02}"));
            w.partition = source.clone();
            w.replicas.clear();
        }
        scene.options.soak = soak;
        scene.options.limits.host = 1;
        let proposal = scene.propose().proposals.remove(0);
        assert_eq!(proposal.moves.len(), 3, "{:?}", proposal.title);
        (proposal.moves[0].in_time.unwrap(), proposal.moves[2].in_time.unwrap())
    };
    let (short, long) = (last(Span::ZERO), last(Span::minutes(20)));
    assert_eq!(short.0, long.0, "nobody is watched before the first");
    assert!(long.1 < short.1, "{long:?} {short:?}");
}
