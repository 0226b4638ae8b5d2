//! The islands' calls under `/api/`: verbs of the one use case that `/rest/*/push_order` is a face of too.
//! Public endpoints: they take the page's capability, answer view types, and leave the rest to the server.

use leptos::prelude::*;

use super::view::LiveView;
use crate::domain::id::Channel;

/// Places the order at the channel's gateway, signed, or finds its live code again.
///
/// # Errors
/// Unknown capability, or the server cannot be reached.
#[server(prefix = "/api", endpoint = "push_order")]
pub async fn push_order(
    /// The capability in the page's address.
    page: String,
    /// Which gateway.
    channel: Channel,
) -> Result<LiveView, ServerFnError> {
    crate::server::pages::calls::push_order(page, channel).await
}

/// Asks the gateways whether money came in: the shopper says "I have paid".
///
/// # Errors
/// Unknown capability, or the server cannot be reached.
#[server(prefix = "/api", endpoint = "confirm_payment")]
pub async fn confirm_payment(
    /// The capability in the page's address.
    page: String,
) -> Result<LiveView, ServerFnError> {
    crate::server::pages::calls::confirm_payment(page).await
}
