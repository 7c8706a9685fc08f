//! The counts as JSON.

use serde_json::json;

use super::Counts;

/// One document and a newline.
pub(super) fn text(counts: &Counts) -> String {
    let Counts { now, total, failed, bytes_in, bytes_out, handshakes, errors, uptime } = counts;
    let document = json!({
        "connections": { "now": now, "total": total, "failed": failed },
        "bytes": { "in": bytes_in, "out": bytes_out },
        "handshakes": {
            "count": handshakes.count(),
            "sum_seconds": handshakes.sum(),
            "median_seconds": handshakes.quantile(0.5),
            "p99_seconds": handshakes.quantile(0.99),
        },
        "errors": errors,
        "uptime_seconds": uptime.as_secs_f64(),
    });
    format!("{document}\n")
}
