//! Metrics of the name service.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::DURATION_BUCKETS_S;
use crate::dns::service::Source;

/// The response codes that have a label of their own.
const CODES: [(ResponseCode, &str); 6] = [
    (ResponseCode::NoError, "noerror"),
    (ResponseCode::NXDomain, "nxdomain"),
    (ResponseCode::ServFail, "servfail"),
    (ResponseCode::Refused, "refused"),
    (ResponseCode::FormErr, "formerr"),
    (ResponseCode::NotImp, "notimp"),
];
const OTHER: &str = "other";

/// Counters that are looked up once, not for each query. Clones share them.
#[derive(Clone)]
pub struct NameMetrics {
    sources: Arc<[OfSource; Source::ALL.len()]>,
}

struct OfSource {
    by_code: [IntCounter; CODES.len()],
    other: IntCounter,
    duration: Histogram,
}

impl NameMetrics {
    /// Registers them.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let queries = IntCounterVec::new(
            Opts::new(
                "netd_dns_queries_total",
                "Name queries answered, by source and response code.",
            ),
            &["source", "rcode"],
        )?;
        let help = "Time from a name query to its answer, by source.";
        let options = HistogramOpts::new("netd_dns_query_duration_seconds", help)
            .buckets([&[0.000_01, 0.000_05][..], &DURATION_BUCKETS_S].concat());
        let durations = HistogramVec::new(options, &["source"])?;
        registry.register(Box::new(queries.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        let of_source = |source: Source| OfSource {
            by_code: CODES.map(|(_, code)| queries.with_label_values(&[source.name(), code])),
            other: queries.with_label_values(&[source.name(), OTHER]),
            duration: durations.with_label_values(&[source.name()]),
        };
        Ok(Self { sources: Arc::new(Source::ALL.map(of_source)) })
    }

    /// A query was answered.
    pub fn answered(&self, source: Source, code: ResponseCode, took: Duration) {
        let position = Source::ALL.iter().position(|known| *known == source);
        let Some(counters) = position.map(|position| &self.sources[position]) else { return };
        match CODES.iter().position(|(known, _)| *known == code) {
            Some(position) => counters.by_code[position].inc(),
            None => counters.other.inc(),
        }
        counters.duration.observe(took.as_secs_f64());
    }
}
