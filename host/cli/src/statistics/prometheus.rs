//! The counts in Prometheus' text format.

use std::fmt;

use endpoints::ErrorKind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::Counts;

pub(super) use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// Where a metric is one of `endpoints::adapters::metrics` too, it has the same name.
pub(super) fn text(counts: Counts) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("endpoints");
    registry.register_collector(Box::new(counts));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        const NOW: &str = "Connections that were accepted and have not ended";
        encoder.encode_descriptor("connections", NOW, None, MetricType::Gauge)?.encode_gauge(&self.now)?;
        let bytes = Some(&Unit::Bytes);
        let counters = [
            ("connections_accepted", "Connections that were accepted", None, self.total),
            ("connections_failed", "Connections that ended with an error", None, self.failed),
            ("received", "Bytes that came from accepted connections", bytes, self.bytes_in),
            ("sent", "Bytes that were sent to accepted connections", bytes, self.bytes_out),
        ];
        for (name, help, unit, count) in counters {
            add(encoder.encode_descriptor(name, help, unit, MetricType::Counter)?, count)?;
        }
        const ERRORS: &str = "Errors of connections and of the service, by kind";
        let mut errors = encoder.encode_descriptor("errors", ERRORS, None, MetricType::Counter)?;
        // Also those that there were none of: a counter that begins with its first error shows no increase by that.
        for kind in ErrorKind::ALL {
            let count = self.errors.get(kind.name()).copied().unwrap_or_default();
            add(errors.encode_family(&[("kind", kind.name())])?, count)?;
        }
        const HANDSHAKES: &str = "From accepting a connection to the end of its handshake, where it has one";
        let seconds = Some(&Unit::Seconds);
        let buckets: Vec<(f64, u64)> = self.handshakes.buckets().collect();
        encoder
            .encode_descriptor("handshake_duration", HANDSHAKES, seconds, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(self.handshakes.sum(), self.handshakes.count(), &buckets, None)?;
        encoder
            .encode_descriptor("uptime", "Time since the start", seconds, MetricType::Gauge)?
            .encode_gauge(&self.uptime.as_secs_f64())
    }
}

fn add(mut counter: MetricEncoder<'_>, count: u64) -> fmt::Result {
    counter.encode_counter::<NoLabelSet, u64, f64>(&count, None)
}
