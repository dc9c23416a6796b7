//! Why the model says what it says: the parts of one probability, by feature and by metric.

use rayon::prelude::*;

use super::features::FeatureSpec;
use super::model::FailureModel;
use crate::predict::models::matrix::FeatureMatrix;

/// Why one probability is what it is, as probabilities: `base + Σ parts = probability`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Explanation {
    /// What is said where nothing is known.
    pub base: f64,
    /// The probability that is explained.
    pub probability: f64,
    /// The head that gave it: that of its window, or of a shorter one that says more.
    pub head: usize,
    /// Of each feature, in the spec's order.
    pub features: Vec<f64>,
    /// Of being like a failure that was recorded since the training, and which one.
    pub signature: (f64, Option<String>),
}

impl Explanation {
    /// Parts by group of [`FeatureSpec::groups`]: a metric with all its features, an extra, the kind.
    pub fn by_group(&self, spec: &FeatureSpec) -> Vec<(String, f64)> {
        let (names, of) = spec.groups();
        let mut sums = vec![0.0; names.len()];
        for (feature, &group) in of.iter().enumerate() {
            sums[group] += self.features.get(feature).copied().unwrap_or(0.0);
        }
        let mut parts: Vec<(String, f64)> = names.into_iter().zip(sums).collect();
        if self.signature.0 != 0.0 {
            parts.push(("signature".into(), self.signature.0));
        }
        parts.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        parts
    }
}

impl FailureModel {
    /// Why the rows of these numbers have their probability in head `head`, on all cores. The parts
    /// and the base sum to what [`FailureModel::predict`] says, to rounding.
    pub fn explain(&self, rows: &FeatureMatrix, wanted: &[usize], head: usize) -> Vec<Explanation> {
        if head >= self.heads.len() {
            return Vec::new();
        }
        wanted
            .par_iter()
            .with_min_len(16)
            .filter_map(|&row| {
                let one = rows.select(&[row]);
                let said = self.predict(&one);
                self.explain_said(one.row(0), usize::from(said.givers(0)[head]), said.row(0)[head])
            })
            .collect()
    }

    /// Why one row of features has the `probability` that head `head` gave it ([`super::Predictions::givers`]). The
    /// parts and the base sum to it, to rounding.
    pub fn explain_said(&self, row: &[f32], head: usize, probability: f64) -> Option<Explanation> {
        let giver = self.heads.get(head)?;
        let mut features = vec![0.0; row.len()];
        let expected = giver.scorer.explain(row, &mut features);
        let (raise, signature) = self.signatures.raise(&self.spec, row);
        let base = giver.calibrator.probability(expected);
        // The margin's parts, brought to probabilities by the one factor that keeps their sum.
        let sum = features.iter().sum::<f64>() + raise;
        let factor = if sum.abs() > 1e-12 { (probability - base) / sum } else { 0.0 };
        features.iter_mut().for_each(|part| *part *= factor);
        let base = if sum.abs() > 1e-12 { base } else { probability };
        let name = signature.and_then(|s| self.signatures.name(s)).map(String::from);
        Some(Explanation { base, probability, head, features, signature: (raise * factor, name) })
    }

    /// The probability that head `head` gives where nothing is known: the base of its explanations.
    pub fn base(&self, head: usize) -> Option<f64> {
        self.heads.get(head).map(|h| h.calibrator.probability(h.scorer.expected()))
    }
}
