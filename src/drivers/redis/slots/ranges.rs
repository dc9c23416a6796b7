//! Ranges of slots, as a person writes them, and the workloads that they are.

use super::super::counts::counts;
use super::super::nodes::Nodes;
use super::super::view::{Node, SLOTS, SlotRange};
use crate::fleet::{Bytes, WorkloadId};

/// Reads ranges as `["0-5460/8", "9000"]`: a range, or a range in so many parts of about the same size.
/// Sorted.
///
/// # Errors
/// What cannot be read, in words that name the text.
pub(super) fn parse(texts: &[String]) -> Result<Vec<SlotRange>, String> {
    let mut ranges = Vec::new();
    for text in texts {
        let refuse = |why: &str| {
            format!(
                "{text:?}: {why}; expected slots below {SLOTS} like \"0-5460\", or \"0-5460/8\" for eight parts"
            )
        };
        let number = |text: &str| text.trim().parse::<u16>().ok();
        let (range, parts) = text.split_once('/').unwrap_or((text, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Some(first), Some(last), Some(parts)) = (number(first), number(last), number(parts)) else {
            return Err(refuse("it is no range of slots"));
        };
        if last >= SLOTS || first > last {
            return Err(refuse("it goes beyond the last slot, or backwards"));
        }
        let all = u32::from(last - first) + 1;
        if parts == 0 || u32::from(parts) > all {
            return Err(refuse("it has not so many parts"));
        }
        let cut = |part: u32| first + (all * part / u32::from(parts)) as u16;
        ranges.extend((0..u32::from(parts)).map(|part| SlotRange {
            first: cut(part),
            last: if part + 1 == u32::from(parts) { last } else { cut(part + 1) - 1 },
        }));
    }
    ranges.sort();
    match ranges.windows(2).find(|pair| pair[0].last >= pair[1].first) {
        Some(pair) => Err(format!(
            "slot {} stands in two ranges; each slot belongs to one workload at the most",
            pair[1].first
        )),
        None => Ok(ranges),
    }
}

/// The workload that a range is: `cart-0-682`.
pub(super) fn workload_of(cluster: &str, range: SlotRange) -> WorkloadId {
    WorkloadId::new(format!("{cluster}-{}-{}", range.first, range.last))
}

/// The range that a workload is.
pub(super) fn range_of(cluster: &str, workload: &WorkloadId) -> Option<SlotRange> {
    let (first, last) = workload.as_str().strip_prefix(cluster)?.strip_prefix('-')?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < SLOTS).then_some(SlotRange { first, last })
}

/// How many slots a range has.
pub(super) fn count(range: SlotRange) -> u32 {
    u32::from(range.last - range.first) + 1
}

/// Which share of a node's slots a range is, 1 at the most.
fn share_of_slots(range: SlotRange, node: &Node) -> f64 {
    (f64::from(count(range)) / f64::from(node.slot_count().max(1))).min(1.0)
}

/// Which share of what a node holds and does a range is: that of its keys, of which the node has `all`; where it does
/// not say how many, that of its slots, as if all held the same.
pub(super) async fn share(nodes: &Nodes, range: SlotRange, node: &Node, all: Option<u64>) -> f64 {
    // Who did not say how many keys it has is not asked again.
    let Some(all) = all.filter(|&all| all > 0) else { return share_of_slots(range, node) };
    let slots = (range.first..=range.last).filter(|&slot| node.owns(slot));
    let counted = counts(nodes, &node.address, slots).await;
    let keys = counted.ok().and_then(|c| c.into_iter().sum::<Option<i64>>());
    keys.map_or_else(|| share_of_slots(range, node), |keys| (keys.max(0) as f64 / all as f64).min(1.0))
}

/// That share of all.
pub(super) fn part(all: Bytes, share: f64) -> Bytes {
    Bytes((all.0 as f64 * share) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<Vec<(u16, u16)>, String> {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        parse(&texts).map(|ranges| ranges.into_iter().map(|r| (r.first, r.last)).collect())
    }

    #[test]
    fn a_range_in_parts_is_whole_and_its_parts_are_of_about_the_same_size() {
        assert_eq!(parsed(&["9000", "0-9/3"]), Ok(vec![(0, 2), (3, 5), (6, 9), (9000, 9000)]));
        let ranges = parsed(&["10923-16383/7", "0-10922/16"]).unwrap();
        assert_eq!(ranges.len(), 23);
        assert_eq!((ranges[0].0, ranges[22].1), (0, 16_383));
        assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "no slot is left out: {ranges:?}");
        assert!(ranges.iter().all(|(first, last)| (682..=781).contains(&(last - first + 1))), "{ranges:?}");
    }

    #[test]
    fn nonsense_is_refused_with_its_text() {
        for (texts, words) in [
            (&["16384"][..], "\"16384\""),
            (&["9-3"], "backwards"),
            (&["0-3/5"], "parts"),
            (&["0-3/0"], "parts"),
            (&["a-b"], "no range"),
            (&[""], "no range"),
            (&["0-99", "99-100"], "slot 99 stands in two"),
        ] {
            let error = parsed(texts).unwrap_err();
            assert!(error.contains(words), "{texts:?}: {error}");
        }
    }

    #[test]
    fn a_workload_names_its_range() {
        let range = SlotRange { first: 3, last: 682 };
        assert_eq!(range_of("cart-1", &workload_of("cart-1", range)), Some(range));
        for odd in ["cart-1-5", "cart-1-9-5", "cart-1-0-20000", "users-0-5", "cart-1-0-5-7"] {
            assert_eq!(range_of("cart-1", &WorkloadId::from(odd)), None, "{odd}");
        }
    }
}
