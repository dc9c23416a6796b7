//! Histories as they come: fine grids, gaps, infinities, constants. Everything above works on finite f64.

/// The history with gaps closed: linearly between neighbours, or by the value one season before where the
/// gap is longer than `season` / 4 and that value is known; ends are held. `None` where no value is finite.
pub fn without_gaps(history: &[f32], season: Option<usize>) -> Option<Vec<f64>> {
    let first = history.iter().position(|v| v.is_finite())?;
    let mut out: Vec<f64> = Vec::with_capacity(history.len() - first);
    let mut t = first;
    while t < history.len() {
        if history[t].is_finite() {
            out.push(f64::from(history[t]));
            t += 1;
            continue;
        }
        let end = (t..history.len()).find(|&k| history[k].is_finite()).unwrap_or(history.len());
        let before = out[out.len() - 1];
        let after = history.get(end).map_or(before, |v| f64::from(*v));
        let width = (end - t + 1) as f64;
        for k in t..end {
            let seasonal = season.filter(|&s| end - t > s / 4 && out.len() >= s).map(|s| out[out.len() - s]);
            out.push(seasonal.unwrap_or(before + (after - before) * (k - t + 1) as f64 / width));
        }
        t = end;
    }
    Some(out)
}

/// A row averaged over `slots` slots each, oldest first, the newest slots complete.
pub fn coarse(row: (&[f32], &[f32]), slots: usize) -> Vec<f32> {
    let all: Vec<f32> = row.0.iter().chain(row.1).copied().collect();
    all[all.len() % slots..]
        .chunks_exact(slots)
        .map(|chunk| {
            let (sum, n) = chunk.iter().filter(|v| !v.is_nan()).fold((0.0, 0u32), |(s, n), v| (s + v, n + 1));
            if n == 0 { f32::NAN } else { sum / n as f32 }
        })
        .collect()
}

/// What a forecast may reach: the range of the history, widened by half of it on both sides; never below
/// zero where the history never is. A recursion that runs away cannot leave this.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    low: f64,
    high: f64,
}

impl Bounds {
    /// Of a history.
    pub fn around(history: &[f64]) -> Bounds {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for &v in history {
            low = if v < low { v } else { low };
            high = if v > high { v } else { high };
        }
        let margin = (high - low) / 2.0;
        Bounds { low: if low >= 0.0 { (low - margin).max(0.0) } else { low - margin }, high: high + margin }
    }

    /// Cuts a forecast to the bounds; what is not finite becomes `last`.
    pub fn clip(self, forecast: &mut [f64], last: f64) {
        if self.low > self.high {
            return;
        }
        for value in forecast {
            *value = if value.is_finite() { value.clamp(self.low, self.high) } else { last };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_averaged_from_its_newest_end() {
        let row = ([9.0, 1.0, 3.0], [5.0, f32::NAN]);
        assert_eq!(coarse((&row.0, &row.1), 2), vec![2.0, 5.0]);
    }

    #[test]
    fn short_gaps_are_bridged_and_long_ones_repeat_the_season() {
        let nan = f32::NAN;
        assert_eq!(without_gaps(&[nan, 1.0, nan, 3.0, nan], None), Some(vec![1.0, 2.0, 3.0, 3.0]));
        let seasonal = without_gaps(&[1.0, 5.0, 1.0, 5.0, nan, nan, 1.0], Some(2));
        assert_eq!(seasonal, Some(vec![1.0, 5.0, 1.0, 5.0, 1.0, 5.0, 1.0]));
        assert_eq!(without_gaps(&[nan, f32::INFINITY], None), None);
    }
}
