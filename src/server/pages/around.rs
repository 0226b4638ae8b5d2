//! What happens around the card, for `ui/around.js`: the tab's icon, the way back to the mall by itself, and
//! who may be told of it. Never names an origin that the merchant has not, or anything that is secret.

use leptos::prelude::*;

use super::shell::Assets;
use crate::server::assets;
use crate::ui::i18n::Label;
use crate::ui::view::{CheckoutView, PageState};

/// The tab's icon has a badge when there is news; `ui/around.js` reads which state has which.
pub fn icon(state: Option<PageState>) -> impl IntoView + use<> {
    let badge = state.map_or("", PageState::badge);
    let href = if badge.is_empty() { "/favicon.svg".to_owned() } else { format!("/favicon-{badge}.svg") };
    let with = |badge: &str| {
        let states = PageState::ALL.iter().filter(|state| state.badge() == badge);
        state.map(|_| states.map(|state| state.as_str()).collect::<Vec<_>>().join(" "))
    };
    view! {
        <link
            rel="icon"
            href=href
            r#type="image/svg+xml"
            data-paid=with("paid")
            data-attention=with("attention")
        />
    }
}

/// What happens around the card: the icon, the way back by itself, and what a page around this one hears.
pub fn around(view: &CheckoutView, assets: &Assets) -> impl IntoView + use<> {
    let origins = (!view.embed_origins.is_empty()).then(|| view.embed_origins.join(" "));
    let (order, nonce) = (view.card.order_number.clone(), assets.nonce.clone());
    assets::url("around.js").map(|script| {
        view! { <script defer src=script data-order=order data-origins=origins nonce=nonce></script> }
    })
}

/// Counts down once the order is paid, where there is script; the link is always there.
pub fn returning(view: &CheckoutView) -> impl IntoView + use<> {
    // Money on its way back is followed here.
    let returns = view.return_after_s.filter(|_| view.exit.is_some() && view.refunding.is_none());
    returns.map(|seconds| {
        view! {
            <p
                class="note returning"
                hidden
                data-return=seconds.to_string()
                data-words=view.card.locale.label(Label::Returning)
            >
                <span class="digits"></span>
                <button class="plain" type="button">
                    {view.card.locale.label(Label::Stay)}
                </button>
            </p>
        }
    })
}
