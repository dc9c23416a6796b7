//! Measures of a ranking: how far the scores of true rows stand above those of the others, whatever the
//! threshold. Ties are one step, as in scikit-learn.

/// Cumulative counts at every distinct score, from the highest down: (true positives, predicted).
fn steps(score: &[f64], truth: &[bool]) -> Vec<(f64, f64)> {
    debug_assert_eq!(score.len(), truth.len());
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_unstable_by(|&a, &b| score[b].total_cmp(&score[a]));
    let mut out = Vec::new();
    let mut hits = 0.0;
    for (k, &i) in order.iter().enumerate() {
        if truth[i] {
            hits += 1.0;
        }
        let last = k + 1 == order.len() || score[order[k + 1]].total_cmp(&score[i]).is_ne();
        if last {
            out.push((hits, (k + 1) as f64));
        }
    }
    out
}

/// Area under the precision–recall curve as average precision, Σ (Rₙ − Rₙ₋₁) Pₙ over the distinct scores.
/// 0 where no row is true.
pub fn auc_pr(score: &[f64], truth: &[bool]) -> f64 {
    let positives = truth.iter().filter(|&&t| t).count() as f64;
    if positives == 0.0 {
        return 0.0;
    }
    let mut area = 0.0;
    let mut before = 0.0;
    for (hits, predicted) in steps(score, truth) {
        area += (hits - before) / positives * hits / predicted;
        before = hits;
    }
    area
}

/// Area under the receiver operating characteristic; ties count half. 0.5 where only one class is there.
pub fn auc_roc(score: &[f64], truth: &[bool]) -> f64 {
    let positives = truth.iter().filter(|&&t| t).count() as f64;
    let negatives = truth.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return 0.5;
    }
    let mut area = 0.0;
    let (mut tp0, mut fp0) = (0.0, 0.0);
    for (tp, predicted) in steps(score, truth) {
        let fp = predicted - tp;
        area += (fp - fp0) * (tp + tp0) / 2.0;
        (tp0, fp0) = (tp, fp);
    }
    area / (positives * negatives)
}

/// The best point F1 over all thresholds: an oracle figure, for comparison alone. The 1e-5 in the
/// denominator is TSB-AD's.
pub fn best_f1(score: &[f64], truth: &[bool]) -> f64 {
    let positives = truth.iter().filter(|&&t| t).count() as f64;
    if positives == 0.0 {
        return 0.0;
    }
    steps(score, truth)
        .into_iter()
        .map(|(hits, predicted)| {
            let (p, r) = (hits / predicted, hits / positives);
            2.0 * p * r / (p + r + 1e-5)
        })
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_ranking_is_one_and_a_tie_is_the_base_rate() {
        let truth = [false, false, true, true];
        assert_eq!(auc_pr(&[0.1, 0.2, 0.8, 0.9], &truth), 1.0);
        assert_eq!(auc_roc(&[0.1, 0.2, 0.8, 0.9], &truth), 1.0);
        assert_eq!(auc_pr(&[0.5; 4], &truth), 0.5);
        assert_eq!(auc_roc(&[0.5; 4], &truth), 0.5);
    }
}
