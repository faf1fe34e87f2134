//! Rounds, figures and ratios.
//!
//! Law: a ratio is made of rounds that ran beside each other, always so that more than 1 is better
//! for us, and it is refused where its own spread makes it meaningless.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::{index, real_len};

/// A ratio whose quartiles lie further apart than this part of its median says nothing.
pub(crate) const MEANINGLESS_SPREAD: f64 = 0.15;

/// Fewer rounds than this have no spread worth the name.
pub(crate) const FEWEST_ROUNDS: usize = 3;

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// Rates.
    Higher,
    /// Costs.
    Lower,
}

/// What the rounds of one rig came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The best round: what the code can do when nothing disturbs it.
    pub(crate) best: f64,
    /// The round in the middle.
    pub(crate) median: f64,
    /// First quartile.
    pub(crate) low: f64,
    /// Third quartile.
    pub(crate) high: f64,
}

/// How much better we are than another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ratio {
    /// Median of the ratios of the rounds, with quartiles.
    Shown {
        /// Median.
        median: f64,
        /// First quartile.
        low: f64,
        /// Third quartile.
        high: f64,
    },
    /// The spread is too wide to say.
    Refused {
        /// Distance of the quartiles as a part of the median; none for want of rounds.
        spread: Option<f64>,
    },
}

/// The figure of some rounds; none without any.
pub(crate) fn figure(better: Better, rounds: &[f64]) -> Option<Figure> {
    let sorted = sorted(rounds);
    let best = match better {
        Better::Higher => sorted.last(),
        Better::Lower => sorted.first(),
    };
    let at = |part| quantile(&sorted, part);
    Some(Figure { best: *best?, median: at(0.5)?, low: at(0.25)?, high: at(0.75)? })
}

/// Our rounds over theirs, pair by pair.
pub(crate) fn ratio(
    better: Better,
    ours: &BTreeMap<u32, f64>,
    theirs: &BTreeMap<u32, f64>,
) -> Ratio {
    let pairs: Vec<f64> = ours
        .iter()
        .filter_map(|(round, our)| Some(gain(better, *our, *theirs.get(round)?)))
        .filter(|gain| gain.is_finite() && *gain > 0.0)
        .collect();
    if pairs.len() < FEWEST_ROUNDS {
        return Ratio::Refused { spread: None };
    }
    let Some(shown) = figure(Better::Higher, &pairs) else {
        return Ratio::Refused { spread: None };
    };
    if shown.spread() > MEANINGLESS_SPREAD {
        return Ratio::Refused { spread: Some(shown.spread()) };
    }
    Ratio::Shown { median: shown.median, low: shown.low, high: shown.high }
}

/// The value below which `part` of the sorted values lie, between neighbours by proportion.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = real_len(last) * part.clamp(0.0, 1.0);
    let below = index(place.floor()).min(last);
    let above = index(place.ceil()).min(last);
    let (low, high) = (sorted.get(below)?, sorted.get(above)?);
    Some(low + (high - low) * (place - place.floor()))
}

impl Figure {
    /// Distance of the quartiles as a part of the median.
    pub(crate) fn spread(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.high - self.low) / self.median.abs() }
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn gain(better: Better, ours: f64, theirs: f64) -> f64 {
    match better {
        Better::Higher => ours / theirs,
        Better::Lower => theirs / ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> BTreeMap<u32, f64> {
        (0..).zip(values.iter().copied()).collect()
    }

    #[test]
    fn a_figure_has_the_best_in_the_right_direction() {
        let values = [3.0, 1.0, 2.0];
        let best = |better| figure(better, &values).map(|f| (f.best, f.median));
        assert_eq!(best(Better::Higher), Some((3.0, 2.0)));
        assert_eq!(best(Better::Lower), Some((1.0, 2.0)));
        assert_eq!(figure(Better::Lower, &[]), None);
    }

    #[test]
    fn a_ratio_above_one_is_better_for_rates_and_for_costs() {
        let (ours, theirs) = (rounds(&[2.0; 5]), rounds(&[1.0; 5]));
        let rate = Ratio::Shown { median: 2.0, low: 2.0, high: 2.0 };
        let cost = Ratio::Shown { median: 0.5, low: 0.5, high: 0.5 };
        assert_eq!(ratio(Better::Higher, &ours, &theirs), rate);
        assert_eq!(ratio(Better::Lower, &ours, &theirs), cost);
    }

    #[test]
    fn drift_that_both_sides_share_does_not_spread_a_ratio() {
        let ours = rounds(&[100.0, 50.0, 25.0, 200.0]);
        let theirs = rounds(&[50.0, 25.0, 12.5, 100.0]);
        let shown = Ratio::Shown { median: 2.0, low: 2.0, high: 2.0 };
        assert_eq!(ratio(Better::Higher, &ours, &theirs), shown);
    }

    #[test]
    fn a_wide_ratio_is_refused() {
        let ours = rounds(&[100.0, 150.0, 220.0, 90.0]);
        let theirs = rounds(&[100.0; 4]);
        assert!(matches!(
            ratio(Better::Higher, &ours, &theirs),
            Ratio::Refused { spread: Some(spread) } if spread > MEANINGLESS_SPREAD
        ));
    }

    #[test]
    fn rounds_without_a_partner_do_not_count() {
        let ours = BTreeMap::from([(0, 1.0), (1, 1.0), (5, 1.0)]);
        let theirs = BTreeMap::from([(0, 1.0), (1, 1.0), (4, 1.0)]);
        assert_eq!(ratio(Better::Higher, &ours, &theirs), Ratio::Refused { spread: None });
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&sorted, 0.5), Some(2.5));
        assert_eq!(quantile(&sorted, 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
