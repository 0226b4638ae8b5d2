//! What runs in the browser: the island, view types and server functions; rendered on the server first.
//! Never touches a store or a gateway; `crate::server` is named inside `#[server]` bodies only.
//! Read `view` first (all a payer may see), then `card` (the island), then what the card is made of.
//!
//! What the shopper downloads is bounded (120 kB), and each closure in a view costs about half a kB of
//! it. So forms and labels are rendered by the server alone and shown or hidden by the stylesheet, which
//! reads the attributes that `session` keeps on `<html>`; the island renders only what it must change.

pub mod api;
pub mod card;
pub mod countdown;
pub mod i18n;
pub mod method;
pub mod pad;
pub mod panel;
pub mod qr;
pub mod session;
pub mod status;
pub mod view;
