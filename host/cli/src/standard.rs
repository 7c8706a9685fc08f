//! Descriptions that name the standard streams of this very process.

use endpoints::{Error, ErrorKind, Explanation};

/// Whether the connections of an endpoint are standard input or output.
pub(crate) fn are_standard_streams(endpoint: &Explanation) -> bool {
    let own =
        endpoint.facts.iter().any(|(name, value)| name == "descriptor" && matches!(&**value, "0" | "1"));
    own || endpoint.inner.iter().any(|(_, inner)| are_standard_streams(inner))
}

/// Refuses an endpoint whose connections would be joined to themselves.
pub(crate) fn refuse_standard_streams(endpoint: &Explanation, instead: &str) -> Result<(), Error> {
    if !are_standard_streams(endpoint) {
        return Ok(());
    }
    let message = format!(
        "the description names standard input and output, which this command joins to the connection; {instead}"
    );
    Err(Error::new(ErrorKind::InvalidArgument, message))
}
