//! What runs in the browser: islands, view types and server functions; rendered on the server first.
//! Never touches a store or a gateway; `crate::server` is named inside `#[server]` bodies only.
