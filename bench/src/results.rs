//! What was measured: cases, each with the rounds of every rig.
//!
//! Law: rounds are kept as they were; figures and ratios are computed from them and from nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::rig::NETD;
use crate::statistics::{Better, Figure, Ratio, figure, ratio};

/// The values of one rig, by round.
pub(crate) type Rounds = BTreeMap<u32, f64>;

/// The part of the report that a case belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Section {
    /// Cost of a packet.
    Packets,
    /// Requests and streams.
    Traffic,
    /// Against the number of published ports and endpoints.
    Scaling,
    /// Operations of the daemon.
    Control,
    /// CPU and memory.
    Resources,
    /// Name queries.
    Names,
}

/// One thing measured on several rigs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Case {
    /// Where it is reported.
    pub(crate) section: Section,
    /// Cases with one group and different scales make one plot.
    pub(crate) group: String,
    /// What of the group.
    pub(crate) title: String,
    /// Unit.
    pub(crate) unit: String,
    /// Which way is good.
    pub(crate) better: Better,
    /// How large, where the group is a plot over size.
    pub(crate) scale: Option<u64>,
    /// Rounds by rig.
    pub(crate) rigs: BTreeMap<String, Rounds>,
}

/// What the verifier and a test run say of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Program {
    /// Name.
    pub(crate) name: String,
    /// Instructions that the verifier walked.
    pub(crate) verified_instructions: u32,
    /// Nanoseconds of a run, on packets it sees most; none where a test run is not possible.
    pub(crate) run_ns: Option<f64>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Where and how it was measured.
    pub(crate) environment: Environment,
    /// What the rigs are.
    pub(crate) rigs: BTreeMap<String, String>,
    /// In order of measuring.
    pub(crate) cases: Vec<Case>,
    /// The programs of the kernel object.
    pub(crate) programs: Vec<Program>,
    /// What could not be measured and why.
    pub(crate) problems: Vec<String>,
}

impl Case {
    /// A case without rounds.
    pub(crate) fn new(
        section: Section,
        group: &str,
        title: &str,
        unit: &str,
        better: Better,
    ) -> Self {
        Self {
            section,
            group: group.to_owned(),
            title: title.to_owned(),
            unit: unit.to_owned(),
            better,
            scale: None,
            rigs: BTreeMap::new(),
        }
    }

    /// The same at a size.
    pub(crate) fn at(mut self, scale: u64) -> Self {
        self.scale = Some(scale);
        self
    }

    /// The figure of a rig.
    pub(crate) fn figure(&self, rig: &str) -> Option<Figure> {
        let rounds: Vec<f64> = self.rigs.get(rig)?.values().copied().collect();
        figure(self.better, &rounds)
    }

    /// How much better we are than a rig; none where either was not measured, or it is ourselves.
    pub(crate) fn ratio(&self, rig: &str) -> Option<Ratio> {
        if rig == NETD {
            return None;
        }
        Some(ratio(self.better, self.rigs.get(NETD)?, self.rigs.get(rig)?))
    }
}
