//! The LSTM among the candidates: one network for many series (global, as in Salinas et al. 2020, "DeepAR",
//! and Smyl 2020, the winner of M4), each scaled by itself. It reads the last stretch of a series in standard
//! deviations of that stretch, a patch of values a step, where there is a longer season with what stood one
//! such season before the patch to come; and says, all at once, how the next values differ from what was one
//! season ago, or from the last value where there is no season. Longer horizons are said block by block.
//!
//! It is trained elsewhere, on what lies before the window in which it is judged: where it is tried
//! ([`super::outlook`]) its past forecasts are as blind as those of all others.

use crate::predict::models::lstm::Forecaster;
use crate::predict::models::lstm::forecaster::{ForecasterRun, train_forecaster};
use crate::predict::models::lstm::train::{Progress, Training};

/// Deviations at which what it reads and learns is cut.
const CLIP: f64 = 10.0;
/// A stretch that moves less than this share of its level is constant.
const STILL: f64 = 1e-9;
/// Draws of a window in training before a batch goes on without one.
const DRAWS: usize = 20;

/// What a network reads and says, in values of the series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Values of one step.
    pub patch: usize,
    /// Steps read.
    pub steps: usize,
    /// What is said is the difference from so many values before; 0 = from the last value.
    pub season: usize,
    /// A longer season, of which each step also reads what followed it then; 0 = none.
    pub long: usize,
    /// Values said at once.
    pub ahead: usize,
}

impl Shape {
    /// Hourly data: the last week by days, beside each day what followed it a week before; a day ahead.
    pub const HOURLY: Shape = Shape { patch: 24, steps: 7, season: 24, long: 168, ahead: 24 };

    /// Windows without a season: the last 36 values by threes, 30 ahead.
    pub const PLAIN: Shape = Shape { patch: 3, steps: 12, season: 0, long: 0, ahead: 30 };

    /// Values before the first one that is said.
    pub fn reach(&self) -> usize {
        self.patch * self.steps + self.long.saturating_sub(self.patch)
    }

    /// Numbers of one step.
    pub fn inputs(&self) -> usize {
        if self.long > 0 { 2 * self.patch } else { self.patch }
    }

    /// Whether something can be said behind `past`: it is long enough, finite, and not constant.
    pub fn can_read(&self, past: &[f32]) -> bool {
        self.known(past).is_some_and(|known| self.read(&known.levels, &mut Vec::new()).is_some())
    }

    /// Whether its parts fit one another.
    pub fn is_sound(&self) -> bool {
        let least = self.patch.min(self.steps).min(self.ahead) >= 1;
        let most = self.patch.max(self.steps).max(self.ahead).max(self.season).max(self.long) <= 1 << 12;
        least && most && self.season <= self.patch * self.steps && (self.long == 0 || self.long >= self.patch)
    }
}

/// A trained network, ready to say.
#[derive(Clone, PartialEq, Debug)]
pub struct Network {
    shape: Shape,
    run: ForecasterRun,
}

/// What is known of a series before an origin, and after it what was said: on the logarithm where all of what
/// is read is positive, else as it is.
struct Known {
    levels: Vec<f64>,
    on_log: bool,
}

impl Known {
    fn level(&self, value: f64) -> f64 {
        if self.on_log { value.ln() } else { value }
    }

    fn value(&self, level: f64) -> f64 {
        if self.on_log { level.exp() } else { level }
    }
}

impl Network {
    /// Of a file's weights; `None` where they are not of that shape.
    pub fn new(shape: Shape, model: &Forecaster) -> Option<Network> {
        let same = (model.steps, model.inputs(), model.ahead()) == (shape.steps, shape.inputs(), shape.ahead);
        (shape.is_sound() && same).then(|| Network { shape, run: ForecasterRun::new(model) })
    }

    /// What it reads and says.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Its weights, as they stand in a file.
    pub fn model(&self) -> Forecaster {
        self.run.forecaster()
    }

    /// As it is shown: `LSTM (32 cells)`.
    pub fn name(&self) -> String {
        format!("LSTM ({} cells)", self.run.cells())
    }

    /// Trains on windows drawn from all of `series` alike (NaN = missing: such a window is not read, such a
    /// target counts nothing). `batches` batches an epoch, whatever the series' length, so that its time is
    /// bounded. `None` where no series is long enough for one window.
    pub fn train(
        series: &[&[f32]],
        shape: Shape,
        training: &Training,
        batches: usize,
        progress: Progress<'_>,
    ) -> Option<Network> {
        let whole = shape.reach() + shape.ahead;
        let long_enough: Vec<&[f32]> = series.iter().copied().filter(|s| s.len() >= whole).collect();
        if long_enough.is_empty() || !shape.is_sound() {
            return None;
        }
        let training = Training { steps: shape.steps, ..*training };
        let model = train_forecaster(
            (shape.inputs(), shape.ahead),
            &training,
            batches,
            &mut |random, windows, targets| {
                for _ in 0..DRAWS {
                    let one = long_enough[random.below(long_enough.len())];
                    let origin = shape.reach() + random.below(one.len() - whole + 1);
                    let Some(known) = shape.known(&one[..origin]) else { continue };
                    let Some(spread) = shape.read(&known.levels, windows) else { continue };
                    targets.extend((0..shape.ahead).map(|h| {
                        let off = known.level(f64::from(one[origin + h])) - shape.base(&known.levels, h);
                        if off.is_finite() { (off / spread).clamp(-CLIP, CLIP) as f32 } else { f32::NAN }
                    }));
                    return;
                }
                windows.resize(windows.len() + shape.steps * shape.inputs(), 0.0);
                targets.resize(targets.len() + shape.ahead, f32::NAN);
            },
            progress,
        );
        Network::new(shape, &model)
    }

    /// `horizon` values after each of `origins`, as they were known then. `None` where one of them has less
    /// before it than is read, or a stretch that is constant or not finite: of such a series nothing is said.
    pub fn say(&self, x: &[f64], origins: &[usize], horizon: usize) -> Option<Vec<Vec<f64>>> {
        let shape = &self.shape;
        let reach = shape.reach();
        let mut known: Vec<Known> =
            origins.iter().map(|&o| shape.known(x.get(..o)?)).collect::<Option<_>>()?;
        let mut windows = Vec::with_capacity(known.len() * shape.steps * shape.inputs());
        for _ in 0..horizon.div_ceil(shape.ahead) {
            windows.clear();
            let spreads: Vec<f64> =
                known.iter().map(|k| shape.read(&k.levels, &mut windows)).collect::<Option<_>>()?;
            let said = self.run.ahead_of(&windows);
            for ((known, spread), said) in known.iter_mut().zip(spreads).zip(said.chunks_exact(shape.ahead)) {
                let levels = &known.levels;
                let next: Vec<f64> = said
                    .iter()
                    .enumerate()
                    .map(|(h, z)| shape.base(levels, h) + spread * f64::from(*z))
                    .collect();
                known.levels.extend(next);
            }
        }
        let told: Vec<Vec<f64>> = known
            .iter()
            .map(|k| k.levels[reach..reach + horizon].iter().map(|&level| k.value(level)).collect())
            .collect();
        told.iter().flatten().all(|v| v.is_finite()).then_some(told)
    }

    /// Mean absolute error on the first window of each of `series` that has one, in deviations of what was
    /// read, and that of its base (the last season or value); with them how many windows. What is missing
    /// counts nothing.
    pub fn errors(&self, series: &[&[f32]]) -> (f64, f64, usize) {
        let shape = &self.shape;
        let (mut ours, mut theirs, mut values, mut count) = (0.0, 0.0, 0usize, 0usize);
        let mut window = Vec::new();
        for one in series.iter().filter(|s| s.len() >= shape.reach() + shape.ahead) {
            window.clear();
            let (past, future) = one.split_at(shape.reach());
            let Some(known) = shape.known(past) else { continue };
            let Some(spread) = shape.read(&known.levels, &mut window) else { continue };
            count += 1;
            for (h, (z, y)) in self.run.ahead_of(&window).iter().zip(future).enumerate() {
                let off = (known.level(f64::from(*y)) - shape.base(&known.levels, h)) / spread;
                if off.is_finite() {
                    theirs += off.abs();
                    ours += (off - f64::from(*z)).abs();
                    values += 1;
                }
            }
        }
        let values = values.max(1) as f64;
        (ours / values, theirs / values, count)
    }
}

impl Shape {
    /// What is read of a series that ends with `past`; `None` where that is too short or not finite.
    fn known<T: Copy + Into<f64>>(&self, past: &[T]) -> Option<Known> {
        let from = past.len().checked_sub(self.reach())?;
        let mut levels: Vec<f64> = past[from..].iter().map(|&v| v.into()).collect();
        let on_log = levels.iter().all(|&v| v > 0.0);
        if on_log {
            levels.iter_mut().for_each(|v| *v = v.ln());
        }
        levels.iter().all(|v| v.is_finite()).then_some(Known { levels, on_log })
    }

    /// Appends the window that ends with `levels` in deviations and gives how much one is; `None`, and nothing
    /// appended, where it is constant.
    fn read(&self, levels: &[f64], out: &mut Vec<f32>) -> Option<f64> {
        let recent = &levels[levels.len() - self.patch * self.steps..];
        let count = recent.len() as f64;
        let centre = recent.iter().sum::<f64>() / count;
        let spread = (recent.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / count).sqrt();
        if !spread.is_finite() || spread <= STILL * (1.0 + centre.abs()) {
            return None;
        }
        let z = |v: &f64| ((v - centre) / spread).clamp(-CLIP, CLIP) as f32;
        for k in 0..self.steps {
            let start = levels.len() - (self.steps - k) * self.patch;
            out.extend(levels[start..start + self.patch].iter().map(z));
            if self.long > 0 {
                let then = start + self.patch - self.long;
                out.extend(levels[then..then + self.patch].iter().map(z));
            }
        }
        Some(spread)
    }

    /// From what the level `h` steps after the next is said as a difference.
    fn base(&self, levels: &[f64], h: usize) -> f64 {
        let back = if self.season > 0 { self.season - h % self.season } else { 1 };
        levels[levels.len() - back]
    }
}
