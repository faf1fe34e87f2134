//! Metric families that are made at the moment of a scrape.

use std::collections::HashMap;

use prometheus::core::Desc;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// Name, meaning and labels of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
}

/// How its values behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Definition {
    /// For the registry's check of names.
    pub(super) fn desc(&self) -> prometheus::Result<Desc> {
        let labels = self.labels.iter().map(ToString::to_string).collect();
        Desc::new(self.name.to_owned(), self.help.to_owned(), labels, HashMap::new())
    }
}

/// A family with its samples.
#[derive(Debug)]
pub(super) struct Family {
    definition: &'static Definition,
    metrics: Vec<Metric>,
}

impl Family {
    /// A family without samples.
    pub(super) const fn new(definition: &'static Definition) -> Self {
        Self { definition, metrics: Vec::new() }
    }

    /// Adds a sample; `labels` in the definition's order.
    pub(super) fn sample(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.metric(labels);
        match self.definition.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Kind::Histogram => unreachable!("histograms have `distribution`"),
        }
        self.metrics.push(metric);
    }

    /// Adds a histogram of small whole numbers: `counts[n]` times `n` was seen.
    pub(super) fn distribution(&mut self, counts: &[u64]) {
        let mut metric = self.metric(&[]);
        let mut seen: u64 = 0;
        let mut sum = 0.0;
        let mut buckets = Vec::new();
        for (size, count) in (0_u32..).zip(counts) {
            seen = seen.saturating_add(*count);
            sum += f64::from(size) * float(*count);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(f64::from(size));
            bucket.set_cumulative_count(seen);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(seen);
        histogram.set_sample_sum(sum);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    fn metric(&self, labels: &[&str]) -> Metric {
        debug_assert_eq!(labels.len(), self.definition.labels.len(), "{}", self.definition.name);
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        Metric::from_label(self.definition.labels.iter().zip(labels).map(pair).collect())
    }

    /// The family for the registry; none without samples, which the text format can't say.
    pub(super) fn finish(self) -> Option<MetricFamily> {
        if self.metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.definition.name.to_owned());
        family.set_help(self.definition.help.to_owned());
        family.set_field_type(match self.definition.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(self.metrics);
        Some(family)
    }
}

/// The format knows floating point numbers only: exact up to 2^53, which no counter here reaches.
#[allow(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
pub(super) const fn float(value: u64) -> f64 {
    value as f64
}
