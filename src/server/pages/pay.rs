//! The checkout page: which order, in which language, with which method and code. Loads everything before
//! it renders. Never shows a result that is not stored, and never follows a word of the address about money.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, Method};
use url::Url;

use super::calls::{CONFIRM_PATIENCE, PATIENCE, code_of, confirm, known_code};
use super::live::{live_of, live_view, refunds};
use super::look::{Look, browser_locale, device, is_shopper, remember, remembered};
use super::ways::Seen;
use super::{shell, wpay};
use crate::domain::id::Channel;
use crate::domain::order::Order;
use crate::runtime::listen::PeerAddr;
use crate::server::checkout::{Checkout, CheckoutError};
use crate::server::error::ApiError;
use crate::server::json::read_body;
use crate::server::limits::Limits;
use crate::server::merchants::Member;
use crate::ui::i18n::Locale;
use crate::ui::view::{CardView, CheckoutView, Device, LiveView, Way, page_path};

/// `GET`, `HEAD /pay/{page}`.
pub async fn show(
    State(checkout): State<Checkout>,
    State(limits): State<Arc<Limits>>,
    page: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    peer: Option<Extension<PeerAddr>>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let look = Look::of(query.unwrap_or_default().as_bytes());
    let page = page.map_or_else(|_| String::new(), |Path(page)| page);
    if let Some(wpay) = wpay::instead(&checkout, &page, look, &method, &headers).await {
        return remember(wpay, look.channel, checkout.public_base_url());
    }
    let seen = seen(&limits, look, peer, &headers);
    match page_of(&checkout, page, look, seen, &method, &headers).await {
        Ok(view) => {
            let response = shell::page(shell::checkout(&view), view.card.locale, &view.embed_origins);
            remember(response, look.channel, checkout.public_base_url())
        }
        Err(error) => trouble(error, look, &headers),
    }
}

/// `POST /pay/{page}`, the forms of the page: `do=confirm` ("I have paid") and `do=refresh` (a new code).
/// Answers 303 to the page, so that reloading sends nothing twice.
///
/// # Errors
/// An unknown `do`, a body that is too large.
pub async fn act(
    State(checkout): State<Checkout>,
    State(limits): State<Arc<Limits>>,
    Path(page): Path<String>,
    peer: Option<Extension<PeerAddr>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let form = read_body(body).await?;
    let look = Look { asked: 0, ..Look::of(&form) };
    let seen = seen(&limits, look, peer, &headers);
    let found = checkout.order_by_page(&page).await;
    let order = match found.and_then(|found| found.ok_or(CheckoutError::NotFound)) {
        Ok(order) => order,
        Err(error) => return Ok(trouble(error, look, &headers)),
    };
    let what = url::form_urlencoded::parse(&form).find(|(name, _)| name == "do").map(|(_, what)| what);
    let asked = match what.as_deref() {
        Some("confirm") => {
            let order = confirm(&checkout, order, CONFIRM_PATIENCE).await;
            u8::from(live_view(&order, checkout.now()).state.is_payable())
        }
        Some("refresh") => {
            let member = checkout.member(&order.key.merchant)?;
            let channel = channel_of(&checkout, &member, look, &headers);
            // Where the page leads to WeChat's own wallet, there is no code to place.
            if wpay::instead(&checkout, &page, look, &Method::GET, &headers).await.is_none() {
                code_of(&checkout, order, channel, &seen).await;
            }
            0
        }
        Some(_) | None => return Err(ApiError::not_allowed("do", "confirm, refresh")),
    };
    let address = address(&page, Look { asked, ..look });
    Ok(remember(Redirect::to(&address).into_response(), look.channel, checkout.public_base_url()))
}

/// Who sees the page.
fn seen(limits: &Limits, look: Look, peer: Option<Extension<PeerAddr>>, headers: &HeaderMap) -> Seen {
    let address = limits.address(peer.map(|Extension(peer)| peer), headers);
    Seen { device: device(headers), way: look.way, address }
}

/// The page's address with what was wished for.
pub fn address(page: &str, look: Look) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if let Some(channel) = look.channel {
        query.append_pair("channel", channel.as_str());
    }
    if let Some(way) = look.way {
        query.append_pair("way", way.as_str());
    }
    if let Some(lang) = look.lang {
        query.append_pair("lang", lang.as_str());
    }
    if look.asked > 0 {
        query.append_pair("asked", &look.asked.to_string());
    }
    let query = query.finish();
    if query.is_empty() { page_path(page) } else { format!("{}?{query}", page_path(page)) }
}

async fn page_of(
    checkout: &Checkout,
    page: String,
    look: Look,
    seen: Seen,
    method: &Method,
    headers: &HeaderMap,
) -> Result<CheckoutView, CheckoutError> {
    let mut order = checkout.order_by_page(&page).await?.ok_or(CheckoutError::NotFound)?;
    let member = checkout.member(&order.key.merchant)?;
    let channel = channel_of(checkout, &member, look, headers);
    let asked = look.asked;
    let shopper = is_shopper(method, headers);
    if shopper && asked > 0 && live_view(&order, checkout.now()).state.is_payable() {
        // Back from a wallet, often before its notice; or "I have paid" on a page without script.
        order = confirm(checkout, order, PATIENCE).await;
    }
    let (order, code) = if shopper && asked == 0 {
        let (order, code) = code_of(checkout, order, channel, &seen).await;
        // A page without script refreshes itself.
        checkout.seen(&order);
        (order, code)
    } else {
        if shopper {
            checkout.seen(&order);
        }
        let code = known_code(checkout, &order, channel, &seen).shown();
        (order, code)
    };
    let live = LiveView { code: Some(code), ..live_of(checkout, &order) };
    let wished = look.lang.or_else(|| order.terms.locale.as_deref().and_then(|word| word.parse().ok()));
    let locale = wished
        .or_else(|| browser_locale(headers))
        .or_else(|| member.config.locale.parse().ok())
        .unwrap_or(Locale::Zh);
    let methods = offered(&member, channel, seen.device);
    let checkout_url = checkout.checkout_url(&order.key);
    let shown = Shown { page, locale, channel, methods, asked, seen, checkout_url };
    Ok(view_of(&order, &member, shown, live))
}

/// What was decided about how the page is shown.
struct Shown {
    page: String,
    locale: Locale,
    channel: Channel,
    methods: Vec<Channel>,
    asked: u8,
    seen: Seen,
    checkout_url: String,
}

/// What the device can be paid with. What it cannot is there only where somebody came for it.
fn offered(member: &Member, channel: Channel, device: Device) -> Vec<Channel> {
    let mut methods = member.channels();
    methods.retain(|method| match device {
        Device::InWechat => *method == Channel::Wx || *method == channel,
        Device::InAlipay => *method == Channel::Ali || *method == channel,
        Device::Desktop | Device::Tablet | Device::Phone => true,
    });
    methods
}

fn view_of(order: &Order, member: &Member, shown: Shown, live: LiveView) -> CheckoutView {
    let Shown { page, locale, channel, methods, asked, seen, checkout_url } = shown;
    let others = methods.iter().flat_map(|method| seen.others(*method).map(|way| (*method, way)));
    // One code for all wallets makes sense only where there are several.
    let several = methods.len() > 1;
    let any = live.code.as_ref().is_some_and(|code| code.way == Way::Any);
    // Where that code is shown, the switch leads to each method's own.
    let ways = others.filter(|(_, way)| if any { *way != Way::Scan } else { several || *way != Way::Any });
    let ways = ways.collect();
    let (refunding, refunded) = refunds(order);
    CheckoutView {
        payee: member.config.name.clone(),
        support: member.config.support.clone(),
        title: order.terms.title.to_string(),
        exit: order.terms.return_url.as_deref().and_then(|url| exit(url, order)),
        methods,
        channel,
        device: seen.device,
        ways,
        address: format!("{checkout_url}?channel={channel}"),
        asked: if live.state.is_payable() { asked } else { 0 },
        refunding,
        refunded,
        return_after_s: member.config.return_after_s,
        embed_origins: member.config.embed_origins.clone(),
        card: CardView {
            page,
            locale,
            order_number: order.key.number.to_string(),
            amount: order.terms.total.to_string(),
            channel,
            asked: asked > 0 && live.state.is_payable(),
            live,
        },
    }
}

/// Back to the mall: with type and number of the order, never with a result (contract.md 5).
pub fn exit(return_url: &str, order: &Order) -> Option<String> {
    let mut url = Url::parse(return_url).ok()?;
    url.query_pairs_mut()
        .append_pair("order_type", order.key.order_type.as_str())
        .append_pair("order_number", order.key.number.as_str());
    Some(url.into())
}

/// The address decides, then the app the page is opened in, then what this device used last, then the
/// merchant's first.
fn channel_of(checkout: &Checkout, member: &Member, look: Look, headers: &HeaderMap) -> Channel {
    let inside = match device(headers) {
        Device::InWechat => Some(Channel::Wx),
        Device::InAlipay => Some(Channel::Ali),
        Device::Desktop | Device::Tablet | Device::Phone => None,
    };
    let offered = member.channels();
    let wishes = [look.channel, inside, remembered(headers, checkout.public_base_url())];
    let wish = wishes.into_iter().flatten().find(|channel| offered.contains(channel));
    wish.or_else(|| offered.first().copied()).unwrap_or(Channel::Wx)
}

/// The page that is shown when the order cannot be: it says nothing about whether there is one.
fn trouble(error: CheckoutError, look: Look, headers: &HeaderMap) -> Response {
    let locale = look.lang.or_else(|| browser_locale(headers)).unwrap_or(Locale::Zh);
    let gone = error == CheckoutError::NotFound;
    let status = ApiError::from(error).status();
    let html = move |assets: &shell::Assets| shell::trouble(locale, gone, assets);
    (status, shell::page(html, locale, &[])).into_response()
}
