//! Learning from a failure at once: what a partition looked like before it failed is remembered, and
//! whoever looks alike afterwards gets a higher margin, until the model is trained anew with it.

use serde::{Deserialize, Serialize};

use super::features::FeatureSpec;

/// How a partition looked before it failed: its short means, one a metric.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Signature {
    /// For people: `db-17, 3 May 14:02`.
    pub name: String,
    /// z of each metric's short mean; missing = 0.
    pub look: Vec<f32>,
    /// The kind of workload that it hosted.
    pub kind: Option<String>,
    /// How often failures looked like this.
    pub count: f32,
}

/// The failures that are remembered.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SignatureMemory {
    signatures: Vec<Signature>,
}

/// A partition that looks exactly like a remembered failure has its odds raised by this (log-odds).
const FULL_RAISE: f64 = 2.5;
/// Looks of less than this (root of the sum of squares, in robust deviations) say nothing.
const LEAST_LENGTH: f64 = 3.0;
/// Failures kept; the oldest is forgotten first.
const MOST: usize = 256;
/// Two failures closer than this (cosine) are one signature.
const ALIKE: f64 = 0.95;

impl SignatureMemory {
    /// Remembers a failure by the rows of features that were seen before it, one a partition that it
    /// struck. A row with nothing unusual in it is not remembered: everybody looks like that. Partitions
    /// that looked alike count as one failure.
    pub fn remember<'r>(
        &mut self,
        name: &str,
        spec: &FeatureSpec,
        rows: impl IntoIterator<Item = &'r [f32]>,
    ) {
        let mut counted = Vec::new();
        for row in rows {
            let look = look(spec, row);
            if length(&look) < LEAST_LENGTH {
                continue;
            }
            let kind = hosted_kind(spec, row);
            let alike = |s: &Signature| s.kind == kind && cosine(&s.look, &look) > ALIKE;
            let Some(at) = self.signatures.iter().position(alike) else {
                counted.push(self.signatures.len());
                self.signatures.push(Signature { name: name.into(), look, kind, count: 1.0 });
                continue;
            };
            if counted.contains(&at) {
                continue;
            }
            counted.push(at);
            let known = &mut self.signatures[at];
            known.count += 1.0;
            for (k, l) in known.look.iter_mut().zip(&look) {
                *k += (l - *k) / known.count;
            }
        }
        let beyond = self.signatures.len().saturating_sub(MOST);
        self.signatures.drain(..beyond);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.signatures.clear();
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.signatures.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.signatures.is_empty()
    }

    /// What is added to the margin of `row`, and the number of the signature it is most like. 0 where
    /// it is like none.
    pub fn raise(&self, spec: &FeatureSpec, row: &[f32]) -> (f64, Option<usize>) {
        if self.signatures.is_empty() {
            return (0.0, None);
        }
        let look = look(spec, row);
        let own = length(&look);
        if own < LEAST_LENGTH / 3.0 {
            return (0.0, None);
        }
        let kind = hosted_kind(spec, row);
        let mut best = (0.0, None);
        for (at, s) in self.signatures.iter().enumerate() {
            // Direction says what is wrong, length how far it has come.
            let direction = ((cosine(&s.look, &look) - 0.6) / 0.4).clamp(0.0, 1.0);
            let progress = (own / length(&s.look)).min(1.0);
            let hosted = if s.kind == kind { 1.0 } else { 0.5 };
            let often = 1.0 + 0.3 * f64::from(s.count).ln();
            let raise = FULL_RAISE * direction * progress * hosted * often;
            if raise > best.0 {
                best = (raise, Some(at));
            }
        }
        best
    }

    /// The name of a signature, from [`SignatureMemory::raise`].
    pub fn name(&self, signature: usize) -> Option<&str> {
        self.signatures.get(signature).map(|s| s.name.as_str())
    }
}

fn look(spec: &FeatureSpec, row: &[f32]) -> Vec<f32> {
    (0..spec.metrics.len())
        .map(|m| row.get(spec.mean10(m)).copied().filter(|z| z.is_finite()).unwrap_or(0.0))
        .collect()
}

fn hosted_kind(spec: &FeatureSpec, row: &[f32]) -> Option<String> {
    let first = spec.width() - spec.kinds.len();
    spec.kinds.iter().zip(&row[first..]).find(|(_, x)| **x > 0.5).map(|(kind, _)| kind.clone())
}

fn length(look: &[f32]) -> f64 {
    look.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    product / (length(a) * length(b)).max(1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(spec: &FeatureSpec, looks: &[f32]) -> Vec<f32> {
        let mut row = vec![0.0; spec.width()];
        for (m, &z) in looks.iter().enumerate() {
            row[spec.mean10(m)] = z;
        }
        row
    }

    #[test]
    fn whoever_looks_like_a_failure_is_raised_and_nobody_else() {
        let spec = FeatureSpec { metrics: vec!["a".into(), "b".into(), "c".into()], ..Default::default() };
        let mut memory = SignatureMemory::default();
        memory.remember("calm", &spec, [row(&spec, &[0.4, 0.1, -0.3]).as_slice()]);
        assert!(memory.is_empty(), "nothing unusual is nobody's signature");
        let (one, alike) = (row(&spec, &[6.0, 3.0, 0.0]), row(&spec, &[6.1, 3.2, 0.1]));
        memory.remember("h1", &spec, [one.as_slice(), &alike]);
        assert_eq!((memory.len(), memory.signatures[0].count), (1, 1.0), "one failure, whatever it struck");
        let raise = |looks: &[f32]| memory.raise(&spec, &row(&spec, looks)).0;
        assert!(raise(&[5.5, 3.1, 0.2]) > 2.0);
        assert!(raise(&[2.0, 1.0, 0.0]) < raise(&[4.0, 2.0, 0.0]));
        assert_eq!(raise(&[0.0, 0.0, 6.0]), 0.0);
        assert_eq!(raise(&[-6.0, -3.0, 0.0]), 0.0);
        assert_eq!(raise(&[f32::NAN, 0.1, 0.1]), 0.0);
    }
}
