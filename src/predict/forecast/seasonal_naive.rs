//! The seasonal naive forecast: what was there one season ago.

/// The last full season repeated; the last value where the history is shorter than a season.
pub fn seasonal_naive(history: &[f64], season: usize, horizon: usize) -> Vec<f64> {
    let n = history.len();
    let Some(&last) = history.last() else { return vec![0.0; horizon] };
    if season == 0 || n < season {
        return vec![last; horizon];
    }
    (0..horizon).map(|h| history[n - season + h % season]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_season_is_repeated() {
        assert_eq!(seasonal_naive(&[9.0, 1.0, 2.0, 3.0], 3, 5), [1.0, 2.0, 3.0, 1.0, 2.0]);
        assert_eq!(seasonal_naive(&[7.0], 3, 2), [7.0, 7.0]);
    }
}
