//! What a forest is fitted to: the loss, its derivatives, and where it begins.

/// What is fitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Objective {
    /// Labels 0 or 1; the margin is log-odds.
    Logistic,
    /// Labels are numbers; the margin is their mean.
    Squared,
}

impl Objective {
    /// The margin of a forest without trees: what fits the weighted mean of the labels.
    pub(super) fn base_margin(self, labels: &[f32], weights: &[f32]) -> f64 {
        let (mut sum, mut total) = (0f64, 0f64);
        for (row, &label) in labels.iter().enumerate() {
            let weight = f64::from(weights.get(row).copied().unwrap_or(1.0));
            sum += weight * f64::from(label);
            total += weight;
        }
        let mean = if total > 0.0 { sum / total } else { 0.0 };
        match self {
            Objective::Squared => mean,
            Objective::Logistic => {
                let p = mean.clamp(1e-6, 1.0 - 1e-6);
                (p / (1.0 - p)).ln()
            }
        }
    }

    /// First and second derivatives of the loss by the margin.
    pub(super) fn derive(self, margins: &[f32], labels: &[f32], weights: &[f32], out: &mut [[f32; 2]]) {
        for (row, slot) in out.iter_mut().enumerate() {
            let weight = weights.get(row).copied().unwrap_or(1.0);
            *slot = match self {
                Objective::Squared => [weight * (margins[row] - labels[row]), weight],
                Objective::Logistic => {
                    let p = 1.0 / (1.0 + (-margins[row]).exp());
                    [weight * (p - labels[row]), weight * (p * (1.0 - p)).max(1e-12)]
                }
            };
        }
    }

    /// The mean loss of a row.
    pub(super) fn loss(self, margins: &[f32], labels: &[f32]) -> f64 {
        let sum: f64 = margins
            .iter()
            .zip(labels)
            .map(|(&margin, &label)| {
                let (m, y) = (f64::from(margin), f64::from(label));
                match self {
                    Objective::Squared => (m - y).powi(2),
                    // ln(1 + e^m) − y m, safe for large m
                    Objective::Logistic => m.max(0.0) + (-m.abs()).exp().ln_1p() - y * m,
                }
            })
            .sum();
        sum / margins.len().max(1) as f64
    }
}
