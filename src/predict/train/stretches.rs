//! Stretches of history that a network for forecasts is trained on: of each series cut into pieces of one
//! window and what follows it, so many are kept, drawn evenly from all that came by (reservoir sampling,
//! Vitter 1985, algorithm R), that their memory is bounded however many series an application has.

use crate::fleet::rng::Random;
use crate::predict::forecast::clean::without_gaps;
use crate::predict::forecast::{Network, Shape};
use crate::predict::models::lstm::train::Training;

/// Most stretches that are learnt from, and that are held back: 1.2 MB together at 66 values each.
const MOST: [usize; 2] = [4_000, 500];
/// Fewest from which a network is trained, and by which it is judged.
const FEWEST: [usize; 2] = [1_000, 100];
/// The newest share of every series is held back.
const HELD_BACK: f64 = 0.2;
/// Most values that may be missing of what is read: a tenth.
const MOST_MISSING: usize = 10;

/// Batches of an epoch, however few stretches there are.
const LEAST_BATCHES: usize = 40;

/// How a network is trained: about 2 s of a core.
pub const TRAINING: Training = Training { hidden: 16, epochs: 12, batch: 64, steps: 0, rate: 1e-2, seed: 0 };

/// Stretches of one application.
#[derive(Clone, Debug)]
pub struct Stretches {
    shape: Shape,
    /// To learn from, and held back.
    parts: [Vec<Vec<f32>>; 2],
    seen: [usize; 2],
    /// Series that were cut.
    series: usize,
}

/// What a training gave.
#[derive(Clone, Debug)]
pub struct Learnt {
    /// The network.
    pub network: Network,
    /// Its mean absolute error on stretches held back, in deviations of what was read …
    pub error: f64,
    /// … and that of the last season or value.
    pub base_error: f64,
    /// Stretches learnt from, and held back.
    pub stretches: [usize; 2],
}

impl Stretches {
    /// None yet.
    pub fn new(shape: Shape) -> Self {
        Self { shape, parts: Default::default(), seen: [0; 2], series: 0 }
    }

    /// Cuts one series (oldest first, NaN = missing); its newest fifth is held back.
    pub fn add(&mut self, series: &[f32], random: &mut Random) {
        let size = self.shape.reach() + self.shape.ahead;
        let border = (series.len() as f64 * (1.0 - HELD_BACK)) as usize;
        let (older, newer) = series.split_at(border);
        for (part, values) in [older, newer].into_iter().enumerate() {
            // Not always at the same times of day.
            let from = random.below(values.len() % size + 1);
            for piece in values[from..].chunks_exact(size) {
                if let Some(stretch) = self.readable(piece) {
                    self.keep(part, stretch, random);
                }
            }
        }
        self.series += 1;
    }

    /// With gaps in what is read closed; `None` where too much of it is missing or it is constant.
    fn readable(&self, piece: &[f32]) -> Option<Vec<f32>> {
        let (past, future) = piece.split_at(self.shape.reach());
        let missing = past.iter().filter(|v| !v.is_finite()).count();
        let known = future.iter().any(|v| v.is_finite());
        if !past[0].is_finite() || missing * MOST_MISSING > past.len() || !known {
            return None;
        }
        let mut out: Vec<f32> = without_gaps(past, None)?.into_iter().map(|v| v as f32).collect();
        if !self.shape.can_read(&out) {
            return None;
        }
        out.extend(future.iter().map(|v| if v.is_finite() { *v } else { f32::NAN }));
        Some(out)
    }

    fn keep(&mut self, part: usize, stretch: Vec<f32>, random: &mut Random) {
        self.seen[part] += 1;
        let kept = &mut self.parts[part];
        if kept.len() < MOST[part] {
            kept.push(stretch);
        } else if let Some(place) = kept.get_mut(random.below(self.seen[part])) {
            *place = stretch;
        }
    }

    /// Series that were cut.
    pub fn series(&self) -> usize {
        self.series
    }

    /// Whether there are enough to train from.
    pub fn suffice(&self) -> bool {
        (0..2).all(|part| self.parts[part].len() >= FEWEST[part])
    }

    /// Whether more of them would change little.
    pub fn are_plenty(&self) -> bool {
        (0..2).all(|part| self.seen[part] >= 2 * MOST[part])
    }

    /// Trains a network on them, deterministic by seed, and looks at those held back. `None` where there are
    /// too few.
    pub fn train(&self, training: &Training) -> Option<Learnt> {
        if !self.suffice() {
            return None;
        }
        let views = |part: usize| -> Vec<&[f32]> { self.parts[part].iter().map(Vec::as_slice).collect() };
        let learnt = views(0);
        let batches = learnt.len().div_ceil(training.batch.max(1)).max(LEAST_BATCHES);
        let network = Network::train(&learnt, self.shape, training, batches, &mut |_, _, _| {})?;
        let (error, base_error, held) = network.errors(&views(1));
        Some(Learnt { network, error, base_error, stretches: [learnt.len(), held] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_newest_part_is_held_back() {
        let mut all = Stretches::new(Shape::PLAIN);
        let mut random = Random::new(1);
        // Each value is its place, so that a stretch tells where it is from.
        let series: Vec<f32> = (0..10_000).map(|t| t as f32).collect();
        for _ in 0..80 {
            all.add(&series, &mut random);
        }
        assert_eq!([all.parts[0].len(), all.parts[1].len()], MOST);
        assert!(all.are_plenty() && all.series() == 80);
        assert!(all.parts[0].iter().flatten().all(|&v| v < 8_000.0));
        assert!(all.parts[1].iter().flatten().all(|&v| v >= 8_000.0));
        let early = all.parts[0].iter().filter(|s| s[0] < 4_000.0).count();
        assert!((1_700..2_300).contains(&early), "{early} of 4,000 are from the first half");
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let mut all = Stretches::new(Shape::PLAIN);
        let mut random = Random::new(1);
        all.add(&[], &mut random);
        all.add(&[1.0], &mut random);
        all.add(&[f32::NAN; 2_000], &mut random);
        all.add(&[5.0; 2_000], &mut random);
        assert_eq!(all.seen, [0, 0]);
        assert!(!all.suffice() && all.train(&TRAINING).is_none());
        let gaps: Vec<f32> = (0..2_000).map(|t| if t % 25 == 3 { f32::NAN } else { t as f32 }).collect();
        all.add(&gaps, &mut random);
        let reach = Shape::PLAIN.reach();
        assert!(all.seen[0] > 0);
        assert!(all.parts[0].iter().all(|s| s[..reach].iter().all(|v| v.is_finite())));
    }
}
