//! Who said the chance of failure that stands first: which head of which model, or the mapping that stands in where no
//! model has a say.

use super::assess::Assessor;
use super::train::card::Card;
use crate::fleet::Span;
use crate::telemetry::PartitionIx;

/// What the heads of a model say of themselves, by window.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Vec<(Span, String)>);

impl Lines {
    /// Of the cards of a model's heads.
    pub(super) fn of(cards: &[Card]) -> Self {
        Self(cards.iter().filter_map(|card| Some((card.within()?, card.line()))).collect())
    }

    /// That of one head; of a model without cards no more than its window.
    fn head(&self, within: Span) -> String {
        let line = self.0.iter().find(|(of, _)| *of == within).map(|(_, line)| line.clone());
        line.unwrap_or_else(|| format!("a model of failure within {}", within.as_window()))
    }
}

impl Assessor {
    /// Who said the chance of failure of the middle window of a partition in the last cycle, with what it was trained
    /// on and how it is calibrated; `None` where nothing was said.
    pub fn who_spoke(&self, partition: PartitionIx) -> Option<String> {
        let said = self.assessments().get(partition.0 as usize).filter(|said| !said.failure.is_empty())?;
        let Some(within) = said.given_by else {
            return Some("no model has a say here: a mapping of instability, not calibrated".to_string());
        };
        let line = match self.own_speaker(partition) {
            Some(own) => format!("{}, version {}: {}", own.application, own.version, own.lines.head(within)),
            None => self.lines.head(within),
        };
        let middle = self.options().windows.get(self.options().middle()).copied().unwrap_or(within);
        Some(match within == middle {
            true => line,
            false => format!(
                "as likely as within {}, for a longer window is never less likely: {line}",
                within.as_window()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Probability;
    use crate::predict::Calibration;
    use crate::predict::failure::open;
    use crate::predict::models::runtime::kernels::Kernels;
    use crate::predict::test_fleet::{Fleet, as_it_is, metric, warmed};

    /// Two partitions of which models speak, and one that is too young for them.
    fn with_a_young_one() -> (Fleet, Assessor) {
        let (mut fleet, mut assessor) = warmed(2);
        assessor.use_models(&Kernels, open(None).unwrap()).unwrap();
        fleet.ids.push("young/p1".into());
        fleet.run(Span::minutes(3), as_it_is);
        (fleet, assessor)
    }

    #[test]
    fn each_partition_names_who_spoke_of_it_and_is_as_sure_as_that_is_calibrated() {
        let (fleet, mut assessor) = with_a_young_one();
        let all = fleet.assess(&mut assessor);
        let spoke = |p: u32| assessor.who_spoke(PartitionIx(p)).unwrap();
        assert_eq!((all[0].given_by, all[2].given_by), (Some(Span::hours(1)), None), "{:?}", all[0].failure);
        assert!(spoke(0).contains("within 1 h") && spoke(0).contains("on other fleets"), "{}", spoke(0));
        assert!(spoke(2).contains("not calibrated") && !spoke(2).contains("within"), "{}", spoke(2));
        assert_eq!(all[0].confidence.calibrated, Calibration::Shipped.trust());
        assert_eq!(all[2].confidence.calibrated, Calibration::Uncalibrated.trust());
        let mut before = (all[0].confidence.value(), all[2].confidence.value());
        assert!(before.0 > before.1);
        // Nothing was read since: the other windows are explained, each to its chance.
        let others = assessor.detail(&fleet.windows, PartitionIx(0)).unwrap().others;
        let within: Vec<Span> = others.iter().map(|why| why.within).collect();
        assert_eq!(within, [Span::minutes(15), Span::hours(24)]);
        for why in &others {
            let sum = why.base + why.parts.iter().map(|c| c.amount).sum::<f64>();
            assert!((sum - 100.0 * why.probability.get()).abs() < 1e-6, "{sum} {why:?}");
            assert_eq!(Some(why.probability), all[0].failure_within(why.within));
        }
        assert!(assessor.detail(&fleet.windows, PartitionIx(2)).unwrap().others.is_empty());
        // The same model calibrated on this fleet is to be relied on more; of the young one nothing changes.
        let mut opened = open(None).unwrap();
        opened.model.heads.iter_mut().for_each(|head| head.calibration = Calibration::Calibrated);
        assessor.use_models(&Kernels, opened).unwrap();
        let all = fleet.assess(&mut assessor);
        assert!(all[0].confidence.value() > before.0, "{} {before:?}", all[0].confidence.value());
        before.0 = all[0].confidence.value();
        assert_eq!((all[0].confidence.value(), all[2].confidence.value()), before);
    }

    #[test]
    fn who_said_more_of_a_shorter_window_is_named_and_explains_it() {
        let (mut fleet, mut assessor) = with_a_young_one();
        let mut opened = open(None).unwrap();
        // The head of an hour says next to nothing whatever it reads.
        opened.model.heads[1].calibrator =
            crate::predict::calibrate::Calibrator::Platt { slope: 1.0, offset: -30.0 };
        assessor.use_models(&Kernels, opened).unwrap();
        let latency = metric("disk.write_latency");
        fleet.run(Span::minutes(15), |p, m, v| if p == 0 && m == latency { v * 9.0 } else { v });
        let all = fleet.assess(&mut assessor);
        let a = &all[0];
        let chance = |w: usize| a.failure[w].probability;
        assert!(chance(0) == chance(1) && chance(0) > Probability::clamped(1e-6).unwrap(), "{:?}", a.failure);
        assert_eq!(a.given_by, Some(Span::minutes(15)));
        let sum = a.failure_base + a.why_failure.iter().map(|c| c.amount).sum::<f64>();
        assert!((sum - 100.0 * chance(1).get()).abs() < 1e-6, "{sum} {:?}", a.why_failure);
        let spoke = assessor.who_spoke(PartitionIx(0)).unwrap();
        assert!(
            spoke.starts_with("as likely as within 15 m") && spoke.contains("failure within 15 m"),
            "{spoke}"
        );
    }
}
