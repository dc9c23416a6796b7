//! What the network learns, where it is chosen, and where it keeps silent.

use std::sync::LazyLock;

use super::candidate::{Method, Seasons};
use super::network::{Network, Shape};
use super::outlook::{before_backtest, outlook};
use super::short::{Effort, short};
use crate::fleet::rng::Random;
use crate::predict::models::lstm::train::Training;

/// A heap that fills at a rate that differs from time to time and is emptied when it is full: whether the
/// next value rises or falls depends on the level, which no linear recursion can say.
fn heap(rows: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let (mut level, mut rate) = (random.between(5.0, 95.0), random.between(3.0, 8.0));
    (0..rows)
        .map(|_| {
            level += rate;
            if level >= 100.0 {
                (level, rate) = (5.0, random.between(3.0, 8.0));
            }
            (level + 0.3 * random.normal()) as f32
        })
        .collect()
}

const SHAPE: Shape = Shape { ahead: 6, ..Shape::PLAIN };

fn trained(seed: u64) -> Network {
    let all: Vec<Vec<f32>> = (0..40).map(|k| heap(400, 100 + k)).collect();
    let all: Vec<&[f32]> = all.iter().map(Vec::as_slice).collect();
    let training = Training { hidden: 16, epochs: 8, batch: 32, rate: 1e-2, seed, ..Training::default() };
    Network::train(&all, SHAPE, &training, 50, &mut |_, _, _| {}).expect("series are long enough")
}

/// The one that most tests look at.
fn network() -> &'static Network {
    static ONE: LazyLock<Network> = LazyLock::new(|| trained(0));
    &ONE
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

fn error(said: &[f64], truth: &[f64]) -> f64 {
    said.iter().zip(truth).map(|(a, b)| (a - b).abs()).sum::<f64>() / truth.len() as f64
}

#[test]
fn what_no_linear_method_can_say_is_learnt_and_chosen_for_it() {
    let network = network();
    let (mut chosen, mut ours, mut linear) = (0, 0.0, 0.0);
    for seed in 0..20 {
        // A series that it never saw.
        let x = wide(&heap(206, seed));
        let (past, future) = x.split_at(200);
        let with = outlook(past, Seasons::default(), 6, &Method::PLAIN, Some(network)).expect("forecast");
        let without = outlook(past, Seasons::default(), 6, &Method::PLAIN, None).expect("forecast");
        chosen += usize::from(with.method.contains("LSTM (16 cells)"));
        ours += error(&with.median, future);
        linear += error(&without.median, future);
        assert!(!without.method.contains("LSTM"));
    }
    assert!(chosen >= 16, "chosen for {chosen} of 20");
    assert!(ours < 0.7 * linear, "{} and {}", ours / 20.0, linear / 20.0);
}

#[test]
fn it_is_not_chosen_where_it_does_not_help() {
    let network = network();
    let mut random = Random::new(3);
    // A straight line with noise: nothing of a heap.
    let line: Vec<f64> = (0..200).map(|t| 20.0 + 0.2 * t as f64 + 0.05 * random.normal()).collect();
    let seen = outlook(&line, Seasons::default(), 6, &Method::PLAIN, Some(network)).expect("forecast");
    assert!(!seen.method.contains("LSTM"), "{}", seen.method);
    let without = outlook(&line, Seasons::default(), 6, &Method::PLAIN, None).expect("forecast");
    assert_eq!(seen, without, "and then nothing of the forecast is its");
}

#[test]
fn a_series_too_short_for_its_backtest_is_left_to_the_others() {
    let network = network();
    let enough = (1..).find(|&n| before_backtest(n, 6) >= SHAPE.reach()).expect("some length");
    let all = wide(&heap(400, 7));
    for n in [1, 2, 8, 20, SHAPE.reach(), enough - 1] {
        let with = outlook(&all[..n], Seasons::default(), 6, &Method::PLAIN, Some(network));
        assert_eq!(with, outlook(&all[..n], Seasons::default(), 6, &Method::PLAIN, None), "{n} values");
    }
    assert!(network.say(&all, &[SHAPE.reach() - 1], 6).is_none());
    assert!(network.say(&all, &[SHAPE.reach()], 6).is_some());
    assert!(network.say(&all, &[all.len() + 1], 6).is_none(), "an origin that is not there");
}

#[test]
fn what_the_future_holds_changes_nothing_of_the_choice() {
    // The method is the same whatever comes after the history, and so is what the network said then.
    let network = network();
    let mut x = wide(&heap(230, 5));
    let then = network.say(&x, &[180], 6);
    x[180..].iter_mut().for_each(|v| *v = 1e6);
    assert_eq!(network.say(&x, &[180], 6), then);
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_does_not() {
    let quick = |seed| {
        let series = heap(400, 1);
        let training = Training { hidden: 8, epochs: 2, batch: 16, seed, ..Training::default() };
        Network::train(&[&series], SHAPE, &training, 10, &mut |_, _, _| {}).expect("long enough")
    };
    let (one, again, other) = (quick(1), quick(1), quick(2));
    assert_eq!(one, again);
    assert_ne!(one, other);
    let x = wide(&heap(100, 9));
    let bits = |n: &Network| -> Vec<u64> {
        n.say(&x, &[100], 17).expect("said").remove(0).iter().map(|v| v.to_bits()).collect()
    };
    assert_eq!(bits(&one), bits(&again));
    assert_eq!(bits(&one).len(), 17, "longer than it says at once: block by block");
}

#[test]
fn gaps_constants_and_nothing_neither_panic_nor_make_it_speak() {
    let network = network();
    let nan = f32::NAN;
    for history in [
        vec![],
        vec![1.0],
        vec![nan; 120],
        vec![7.0; 120],
        vec![0.0; 120],
        [vec![1.0], vec![nan; 119]].concat(),
        vec![f32::INFINITY; 120],
        vec![f32::MAX; 120],
    ] {
        let seen = short(&history, 6, Seasons::default(), Effort::Quick, Some(network));
        assert!(seen.is_none_or(|s| !s.method.contains("LSTM")), "{history:?}");
    }
    assert!(network.say(&[f64::NAN; 100], &[100], 6).is_none());
    assert!(network.say(&[5.0; 100], &[100], 6).is_none());
    assert!(network.say(&[], &[0], 6).is_none());
    // Gaps within a series that it can read are bridged before it reads them.
    let mut gaps = heap(200, 11);
    gaps.iter_mut().skip(3).step_by(9).for_each(|v| *v = nan);
    let seen = short(&gaps, 6, Seasons::default(), Effort::Quick, Some(network)).expect("forecast");
    assert!(seen.median.iter().all(|v| v.is_finite()));
    // Wild numbers stay within the series' bounds.
    let mut wild = wide(&heap(200, 12));
    wild[150] = 1e30;
    let seen = outlook(&wild, Seasons::default(), 6, &Method::PLAIN, Some(network)).expect("forecast");
    assert!(seen.median.iter().all(|v| v.is_finite()));
}

#[test]
fn training_bears_what_histories_hold() {
    let training = Training { hidden: 4, epochs: 1, ..Training::default() };
    let train = |series: &[&[f32]]| Network::train(series, SHAPE, &training, 2, &mut |_, _, _| {});
    assert!(train(&[]).is_none());
    assert!(train(&[&[1.0]]).is_none(), "no window fits");
    let mut gaps = heap(300, 1);
    gaps.iter_mut().step_by(50).for_each(|v| *v = f32::NAN);
    for series in [vec![f32::NAN; 100], vec![1.0; 100], vec![f32::MAX; 100], gaps] {
        let network = train(&[&series]).expect("long enough");
        let (model, x) = (network.model(), wide(&heap(100, 2)));
        assert!(model.layer.w.iter().chain(&model.head.weights).all(|w| w.is_finite()));
        assert!(network.say(&x, &[100], 6).is_some());
    }
    assert!(!Shape { patch: 0, ..SHAPE }.is_sound() && !Shape { long: 1, ..SHAPE }.is_sound());
}
