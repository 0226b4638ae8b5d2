//! The island's call under `/api/`: the use case that `/rest/*/push_order` is a face of too. A public
//! endpoint: it takes the page's capability, answers a view type, and leaves the rest to the server.

use leptos::prelude::*;

use super::view::{LiveView, Way};
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
    /// How the shopper would like to get there; the answer says how it is.
    way: Way,
) -> Result<LiveView, ServerFnError> {
    crate::server::pages::calls::push_order(page, channel, way).await
}
