//! Measures of stated probabilities: are they sharp, and can they be taken at their word?

/// Mean squared difference between the stated probability and what happened.
pub fn brier(probability: &[f64], truth: &[bool]) -> f64 {
    let sum: f64 = probability.iter().zip(truth).map(|(p, &t)| (p - f64::from(u8::from(t))).powi(2)).sum();
    sum / probability.len().max(1) as f64
}

/// 1 − Brier / Brier of always stating the base rate; 1 = perfect, 0 = knows no more than the base rate.
pub fn brier_skill(probability: &[f64], truth: &[bool]) -> f64 {
    let base = truth.iter().filter(|&&t| t).count() as f64 / truth.len().max(1) as f64;
    let reference = base * (1.0 - base);
    if reference == 0.0 { 0.0 } else { 1.0 - brier(probability, truth) / reference }
}

/// Expected calibration error over `bins` bins of equal count (quantiles of the stated probability):
/// Σ share × |mean stated − share that happened|.
pub fn expected_calibration_error(probability: &[f64], truth: &[bool], bins: usize) -> f64 {
    let n = probability.len();
    if n == 0 || bins == 0 {
        return 0.0;
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| probability[a].total_cmp(&probability[b]));
    (0..bins)
        .map(|b| &order[b * n / bins..(b + 1) * n / bins])
        .map(|rows| {
            let stated: f64 = rows.iter().map(|&i| probability[i]).sum();
            let happened = rows.iter().filter(|&&i| truth[i]).count() as f64;
            (stated - happened).abs() / n as f64
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_that_come_true_have_no_calibration_error() {
        let p: Vec<f64> = (0..1000).map(|i| if i % 2 == 0 { 0.0 } else { 1.0 }).collect();
        let truth: Vec<bool> = (0..1000).map(|i| i % 2 == 1).collect();
        assert_eq!(brier(&p, &truth), 0.0);
        assert_eq!(brier_skill(&p, &truth), 1.0);
        assert!(expected_calibration_error(&p, &truth, 10) < 1e-12);
        let constant = vec![0.5; 1000];
        assert_eq!(brier_skill(&constant, &truth), 0.0);
    }
}
