//! One attempt to connect, to the first of several endpoints that can be.

use std::time::Duration;

use crate::connection::Connection;
use crate::endpoint::{ClientEndpoint, ConnectContext};
use crate::error::Error;

/// In which order several endpoints are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// As they were given: the first one whenever it can be.
    #[default]
    Given,
    /// In another order every time, so that many clients spread over them.
    Random,
}

impl Order {
    /// The order of so many endpoints in the next attempt; `last` is the one to be tried last.
    pub(super) fn of(self, count: usize, last: Option<usize>) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        if self == Self::Random {
            fastrand::shuffle(&mut order);
        }
        if let Some(last) = last {
            order.retain(|index| *index != last);
            order.push(last);
        }
        order
    }
}

/// Connects the first of `endpoints` that can be, and tells which one that was; each with its own number.
pub(super) async fn connect(
    endpoints: Vec<(usize, ClientEndpoint)>,
    timeout: Option<Duration>,
) -> Result<(usize, Connection), Error> {
    let mut failed: Vec<Error> = Vec::new();
    for (number, endpoint) in &endpoints {
        let mut context = ConnectContext::new();
        if let Some(limit) = timeout {
            context = context.with_timeout(limit);
        }
        match endpoint.connect_with(context).await {
            Ok(connection) => return Ok((*number, connection)),
            Err(error) => {
                tracing::debug!(%endpoint, %error, "an endpoint cannot be connected");
                failed.push(error);
            }
        }
    }
    Err(all_failed(&endpoints, failed))
}

/// One error for all of them, of the first one's kind.
fn all_failed(endpoints: &[(usize, ClientEndpoint)], mut failed: Vec<Error>) -> Error {
    if failed.len() == 1 {
        return failed.remove(0);
    }
    let each = endpoints.iter().zip(&failed).map(|((_, endpoint), error)| format!("{endpoint}: {error}"));
    let message = format!(
        "none of {} endpoints could be connected: {}",
        failed.len(),
        each.collect::<Vec<_>>().join("; ")
    );
    Error::new(failed[0].kind(), message).retryable(failed.iter().any(Error::is_retryable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_given_order_is_kept_but_for_the_last_one() {
        assert_eq!(Order::Given.of(3, None), [0, 1, 2]);
        assert_eq!(Order::Given.of(3, Some(0)), [1, 2, 0]);
        assert_eq!(Order::Given.of(1, Some(0)), [0]);
    }

    #[test]
    fn it_may_go_better_another_time_where_one_of_them_may() {
        let endpoint = crate::client("unix:/nowhere").unwrap();
        let endpoints = [(0, endpoint.clone()), (1, endpoint)];
        for (retryable, expected) in [([false, true], true), ([true, false], true), ([false, false], false)] {
            let failed =
                retryable.map(|retryable| Error::new(ErrorKind::Other, "it failed").retryable(retryable));
            assert_eq!(all_failed(&endpoints, failed.into()).is_retryable(), expected);
        }
    }

    #[test]
    fn a_random_order_has_all_and_differs() {
        let orders: Vec<Vec<usize>> = (0..100).map(|_| Order::Random.of(4, Some(2))).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
            assert_eq!(order[3], 2);
        }
        assert!(orders.iter().any(|order| *order != orders[0]));
    }
}
