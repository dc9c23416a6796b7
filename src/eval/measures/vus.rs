//! Volume under the surface (Paparrizos et al., VLDB 2022) in TSB-AD's version `opt`: range-aware AUCs,
//! averaged over buffer widths 0..=W around each labelled range, at 250 thresholds taken evenly by rank.
//! TSB-AD walks every row for every width and threshold; here each row's threshold is looked up once and
//! the rows of the buffers alone are walked per width, so a series of 24,000 rows takes milliseconds.

/// Both volumes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Vus {
    /// Under the precision–recall surface.
    pub pr: f64,
    /// Under the receiver operating surface.
    pub roc: f64,
}

/// Ranges `(first, last)`, both inclusive, of consecutive true rows.
fn ranges(truth: &[bool]) -> Vec<(usize, usize)> {
    super::events_of(truth).into_iter().map(|(a, b)| (a, b - 1)).collect()
}

/// Ranges widened by `half` on both sides; neighbours that then touch are one.
fn widened(seq: &[(usize, usize)], half: usize, rows: usize) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::with_capacity(seq.len());
    let mut start = seq[0].0.saturating_sub(half);
    for pair in seq.windows(2) {
        if pair[0].1 + half + half < pair[1].0 {
            out.push((start, pair[0].1 + half));
            start = pair[1].0 - half;
        }
    }
    out.push((start, (seq[seq.len() - 1].1 + half).min(rows - 1)));
    out
}

/// VUS-PR and VUS-ROC of one score per row (higher = more anomalous) against the labels, buffer widths
/// `0..=window` rows, `thresholds` thresholds (TSB-AD: 250). Both are 0 where nothing is labelled.
pub fn vus(score: &[f64], truth: &[bool], window: usize, thresholds: usize) -> Vus {
    let n = score.len();
    let seq = ranges(truth);
    if seq.is_empty() || n < 2 || thresholds < 2 {
        return Vus { pr: 0.0, roc: 0.0 };
    }
    let mut sorted = score.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let step = (n - 1) as f64 / (thresholds - 1) as f64;
    let cuts: Vec<f64> = (0..thresholds)
        .map(|k| if k + 1 == thresholds { sorted[n - 1] } else { sorted[(k as f64 * step) as usize] })
        .collect();
    // the first threshold at which a row is predicted
    let level: Vec<u32> = score.iter().map(|&s| cuts.partition_point(|&c| c > s) as u32).collect();
    let mut predicted = vec![0.0; thresholds];
    let mut inside = vec![0.0; thresholds];
    for i in 0..n {
        if (level[i] as usize) < thresholds {
            predicted[level[i] as usize] += 1.0;
            if truth[i] {
                inside[level[i] as usize] += 1.0;
            }
        }
    }
    for k in 1..thresholds {
        predicted[k] += predicted[k - 1];
        inside[k] += inside[k - 1];
    }
    let positives: f64 = truth.iter().filter(|&&t| t).count() as f64;
    let mut extended = vec![0.0f64; n];
    let (mut pr, mut roc) = (0.0, 0.0);
    for width in 0..=window {
        let (area_pr, area_roc) =
            one_width(width, &seq, &level, &predicted, &inside, positives, truth, &mut extended);
        pr += area_pr;
        roc += area_roc;
    }
    let widths = (window + 1) as f64;
    Vus { pr: pr / widths, roc: roc / widths }
}

#[allow(clippy::too_many_arguments)]
fn one_width(
    width: usize,
    seq: &[(usize, usize)],
    level: &[u32],
    predicted: &[f64],
    inside: &[f64],
    positives: f64,
    truth: &[bool],
    extended: &mut [f64],
) -> (f64, f64) {
    let (n, thresholds, half) = (level.len(), predicted.len(), width / 2);
    let around = |s: usize, e: usize| (s.saturating_sub(half)..s).chain(e + 1..(e + half + 1).min(n));
    for &(s, e) in seq {
        for i in around(s, e) {
            let distance = if i < s { s - i } else { i - e };
            extended[i] += (1.0 - distance as f64 / width as f64).sqrt();
        }
    }
    let mut buffer = vec![0.0; thresholds];
    for &(s, e) in seq {
        for i in around(s, e) {
            if !truth[i] && (level[i] as usize) < thresholds {
                buffer[level[i] as usize] += extended[i].min(1.0);
            }
            extended[i] = 0.0; // each row counts once, and the buffer is clean for the next width
        }
    }
    let segments = widened(seq, half, n);
    let mut exist = vec![0.0; thresholds];
    for &(a, b) in &segments {
        let first = level[a..=b].iter().copied().min().unwrap_or(u32::MAX) as usize;
        if first < thresholds {
            exist[first] += 1.0;
        }
    }
    let (mut area_pr, mut area_roc) = (0.0, 0.0);
    let (mut tpr0, mut fpr0) = (0.0, 0.0);
    let (mut extra, mut found) = (0.0, 0.0);
    for k in 0..thresholds {
        extra += buffer[k];
        found += exist[k];
        let tp = inside[k] + extra;
        let p_new = (positives + positives + extra) / 2.0;
        let tpr = (tp / p_new).min(1.0) * found / segments.len() as f64;
        let fpr = (predicted[k] - tp) / (n as f64 - p_new);
        area_pr += (tpr - tpr0) * tp / predicted[k];
        area_roc += (fpr - fpr0) * (tpr + tpr0) / 2.0;
        (tpr0, fpr0) = (tpr, fpr);
    }
    area_roc += (1.0 - fpr0) * (1.0 + tpr0) / 2.0;
    (area_pr, area_roc)
}

/// TSB-AD's window of a series (`find_length_rank`, rank 1): the lag of the highest local maximum of the
/// autocorrelation at lags 3..400 over the first 20,000 rows; 125 where there is none within 6..=303.
pub fn autocorrelation_length(metric: &[f32]) -> usize {
    const BASE: usize = 3;
    const LAGS: usize = 400;
    let x: Vec<f64> = metric
        .iter()
        .take(20_000)
        .map(|&v| f64::from(v))
        .map(|v| if v.is_finite() { v } else { 0.0 })
        .collect();
    let n = x.len();
    if n < BASE + 3 {
        return 125;
    }
    let mean = x.iter().sum::<f64>() / n as f64;
    let centred: Vec<f64> = x.iter().map(|v| v - mean).collect();
    let variance: f64 = centred.iter().map(|v| v * v).sum();
    if variance <= 0.0 {
        return 125;
    }
    let last = LAGS.min(n - 1);
    let acf: Vec<f64> = (BASE..=last)
        .map(|lag| centred[lag..].iter().zip(&centred).map(|(a, b)| a * b).sum::<f64>() / variance)
        .collect();
    let best = (1..acf.len().saturating_sub(1))
        .filter(|&i| acf[i] > acf[i - 1] && acf[i] > acf[i + 1])
        .max_by(|&a, &b| acf[a].total_cmp(&acf[b]));
    match best {
        Some(i) if (3..=300).contains(&i) => i + BASE,
        _ => 125,
    }
}
