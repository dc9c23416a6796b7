//! What a console would have done with the probabilities: act where they stay over the threshold in
//! three of four rows, once an episode. Judged by what became of the unit.

/// One unit's rows in order of time: probability, and how long it had left (`None` = it was not seen
/// to fail, and lived at least `seen` longer).
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// One a row.
    pub probabilities: Vec<f64>,
    /// Rows left until it failed, one a row, where it failed or its end is known.
    pub left: Vec<Option<usize>>,
    /// Rows that it is known to have lived on from each row, where it was not seen to fail.
    pub seen: Vec<usize>,
    /// Rows at the beginning that are looked back at and not acted on.
    pub run_in: usize,
}

/// Rows that are looked at before acting: three of them must be over the threshold.
pub const WATCHED: usize = 4;

/// What acting did.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Actions {
    /// Units that failed within the horizon of a row that was seen.
    pub units: usize,
    /// Of them, acted on before they failed.
    pub units_caught: usize,
    /// All actions.
    pub actions: usize,
    /// Actions with no failure within two horizons; where fewer of them were seen, on a unit that lived one
    /// horizon at the least and was not seen to fail.
    pub false_actions: usize,
    /// Actions on a unit that was lost sight of before a horizon had passed.
    pub unknown_actions: usize,
    /// Actions between one and two horizons before the failure.
    pub early_actions: usize,
    /// Rows from the first action to the failure, one a caught unit.
    pub leads: Vec<f64>,
}

impl Actions {
    /// The lead below which a share of the caught units lies (nearest rank); NaN where none was caught.
    pub fn lead_quantile(&self, share: f64) -> f64 {
        let mut leads = self.leads.clone();
        leads.sort_by(f64::total_cmp);
        if leads.is_empty() {
            return f64::NAN;
        }
        let at = share * (leads.len() - 1) as f64;
        let (low, high) = (leads[at.floor() as usize], leads[at.ceil() as usize]);
        low + (high - low) * at.fract()
    }
}

/// Acts on all tracks at one threshold.
pub fn act(tracks: &[Track], threshold: f64, horizon: usize) -> Actions {
    let mut out = Actions::default();
    for track in tracks {
        let judged = track.run_in.min(track.left.len());
        let failing = track.left[judged..].iter().any(|left| left.is_some_and(|l| l <= horizon));
        out.units += usize::from(failing);
        let mut caught = false;
        let mut armed = true;
        for row in judged..track.probabilities.len() {
            let last = &track.probabilities[(row + 1).saturating_sub(WATCHED)..=row];
            let over = last.iter().filter(|&&p| p >= threshold).count();
            if armed && over >= 3 {
                armed = false;
                out.actions += 1;
                match track.left[row] {
                    Some(left) => {
                        out.false_actions += usize::from(left > 2 * horizon);
                        out.early_actions += usize::from(left > horizon && left <= 2 * horizon);
                        if failing && !caught && left <= 2 * horizon {
                            caught = true;
                            out.leads.push(left as f64);
                        }
                    }
                    None if track.seen[row] >= horizon => out.false_actions += 1,
                    None => out.unknown_actions += 1,
                }
            } else if !armed && last.iter().all(|&p| p < threshold / 2.0) {
                armed = true;
            }
        }
        out.units_caught += usize::from(caught);
    }
    out
}

/// The threshold that costs least on validation units, where a missed failure costs ten moves, a move
/// in vain two, a move made early a tenth of one, and a lead cut short up to three tenths.
pub fn choose(tracks: &[Track], horizon: usize) -> f64 {
    let mut best = (f64::INFINITY, 0.5);
    for step in 1..=19 {
        let threshold = f64::from(step) * 0.05;
        let done = act(tracks, threshold, horizon);
        let missed = (done.units - done.units_caught) as f64;
        let short = done.leads.iter().map(|lead| (1.0 - lead / horizon as f64).max(0.0)).sum::<f64>();
        let cost = 10.0 * missed
            + 2.0 * done.false_actions as f64
            + 0.1 * done.early_actions as f64
            + done.actions as f64 * 0.01
            + 0.3 * short;
        if cost < best.0 {
            best = (cost, threshold);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_acted_on_once_and_judged_by_what_came() {
        let track = |from: usize, to: usize, end: usize| Track {
            probabilities: (0..end).map(|t| if (from..to).contains(&t) { 0.9 } else { 0.0 }).collect(),
            left: (0..end).map(|t| Some(end - t)).collect(),
            seen: vec![0; end],
            run_in: 0,
        };
        let done = act(&[track(180, 200, 200)], 0.5, 30);
        assert_eq!((done.units, done.units_caught, done.actions, done.false_actions), (1, 1, 1, 0));
        assert_eq!(done.leads, [18.0]);
        let blip = act(&[track(20, 22, 200)], 0.5, 30);
        assert_eq!((blip.actions, blip.units_caught), (0, 0), "two rows are no episode");
        let wrong = act(&[track(20, 40, 200)], 0.5, 30);
        assert_eq!((wrong.actions, wrong.false_actions, wrong.units_caught), (1, 1, 0));
        let early = act(&[track(150, 200, 200)], 0.5, 30);
        assert_eq!((early.early_actions, early.units_caught, early.lead_quantile(0.5)), (1, 1, 48.0));
    }

    #[test]
    fn a_unit_that_was_not_seen_to_fail_is_false_where_it_lived_and_unknown_where_it_left() {
        let lived = |seen: usize| Track {
            probabilities: vec![0.9; 4],
            left: vec![None; 4],
            seen: (0..4).rev().map(|t| seen + t).collect(),
            run_in: 0,
        };
        let done = act(&[lived(29), lived(28)], 0.5, 30);
        assert_eq!((done.actions, done.false_actions, done.unknown_actions), (2, 1, 1));
    }

    #[test]
    fn rows_of_the_run_in_are_looked_back_at_and_not_acted_on() {
        let track = |run_in: usize| Track {
            probabilities: vec![0.9; 4],
            left: vec![Some(4), Some(3), Some(2), Some(1)],
            seen: vec![0; 4],
            run_in,
        };
        assert_eq!(act(&[track(0)], 0.5, 7).leads, [2.0]);
        assert_eq!(act(&[track(3)], 0.5, 7).leads, [1.0]);
        assert_eq!(act(&[track(4)], 0.5, 7), Actions::default());
    }
}
