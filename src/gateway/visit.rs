//! The browser that pays, where the shopper pays in the very one that shows the page.
//! Never of use for a code: any phone may scan it.

use serde::{Deserialize, Serialize};

use crate::domain::id::Payer;

/// What a gateway wants to know of the browser that pays; nothing for a code that any phone scans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Visit {
    /// WeChat's JSAPI: who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openid: Option<Payer>,
    /// Where the gateway sends the browser afterwards, whatever came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// WeChat's MWEB: the shop's address and name, which are compared with what the merchant has registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shop: Option<Shop>,
}

/// A shop on the web.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shop {
    /// Absolute.
    pub url: String,
    /// For people.
    pub name: String,
}

impl Visit {
    /// Nothing is known or needed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
