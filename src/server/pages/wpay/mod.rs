//! `GET /app/payment/wpay/{order_number}`: paying inside WeChat. Who looks at the page is asked of WeChat
//! (OAuth), an attempt is placed for them, and `page` shows what calls the wallet. `browser` keeps the way
//! there and back in cookies. Never pays or shows anything because of a word in the address; never says an
//! `openid`. The number can be guessed, so it leads to page rights only.

mod browser;
mod page;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::timeout;
use url::form_urlencoded;

use super::calls::PATIENCE;
use super::live::live_view;
use super::look::{Look, browser_locale, device, is_shopper};
use super::shell;
use crate::domain::id::{Channel, OrderKey, OrderNumber, OrderType, Payer};
use crate::domain::order::Order;
use crate::gateway::Stamp;
use crate::gateway::wechat_oauth::{Exchanged, WechatOauth};
use crate::runtime::clock::Clock;
use crate::runtime::listen::PeerAddr;
use crate::runtime::random;
use crate::server::checkout::{Checkout, CheckoutError, Placing, Pushed};
use crate::server::error::{ApiError, Kind};
use crate::server::limits::{Limits, Rule, misses};
use crate::server::merchants::Member;
use crate::server::router::App;
use crate::server::store::Find;
use crate::ui::i18n::Locale;
use crate::ui::view::Device;

use browser::{Browser, Used};
use page::{Frame, Screen, WalletCall};

/// No code of WeChat's is longer.
const CODE_MAX: usize = 512;

/// The route. WeChat wants the page, and the address that it sends browsers back to, below the directory
/// that the merchant has registered.
pub fn routes(app: &App) -> Router<App> {
    let numbers = from_fn_with_state((Arc::clone(&app.limits), Rule::UnknownNumber), misses);
    let used = Extension(Arc::new(Used::default()));
    Router::new().route("/app/payment/wpay/{order_number}", get(show).layer(used).layer(numbers))
}

/// What the address says. A word about the payment's result has no place in it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    order_type: Option<String>,
    lang: Option<Locale>,
    /// Ask WeChat anew who this is.
    anew: bool,
    code: Option<String>,
    state: Option<String>,
}

impl Asked {
    fn of(query: &str) -> Self {
        let mut asked = Self { lang: Look::of(query.as_bytes()).lang, ..Self::default() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "order_type" => &mut asked.order_type,
                "code" => &mut asked.code,
                "state" => &mut asked.state,
                "anew" => {
                    asked.anew = true;
                    continue;
                }
                _ => continue,
            };
            place.get_or_insert_with(|| value.into_owned());
        }
        asked
    }
}

/// A visit to an order's page inside WeChat.
struct Visit<'a> {
    checkout: &'a Checkout,
    limits: &'a Limits,
    member: &'a Member,
    oauth: &'a WechatOauth,
    order: Arc<Order>,
    browser: Browser<'a>,
    asked: &'a Asked,
    /// Scheme and host under which the merchant is found.
    origin: String,
    locale: Locale,
    client_ip: IpAddr,
}

async fn show(
    State(app): State<App>,
    Extension(used): Extension<Arc<Used>>,
    number: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let checkout = &app.checkout;
    let (method, headers) = (request.method(), request.headers());
    let asked = Asked::of(request.uri().query().unwrap_or_default());
    let order_type: OrderType = asked
        .order_type
        .as_deref()
        .map_or(Ok(OrderType::Order), str::parse)
        .map_err(|error| ApiError::invalid("order_type", error))?;
    let Ok(Path(number)) = number else { return Err(ApiError::unknown_route()) };
    let number = OrderNumber::new(number).map_err(|error| ApiError::invalid("order_number", error))?;
    let host = host(headers);
    let member = checkout.merchants().by_host(host).cloned().ok_or(CheckoutError::NotFound)?;
    let key = OrderKey { merchant: member.config.id.clone(), order_type, number };
    let order = checkout.find(Find::Key(key)).await?.ok_or(CheckoutError::NotFound)?;
    let payable = live_view(&order, checkout.now()).state.is_payable();
    let Some(oauth) = way_in(&member, method, headers).filter(|_| payable) else {
        return Ok(found(&with_lang(checkout.checkout_url(&order.key), asked.lang), []));
    };
    let peer = request.extensions().get::<PeerAddr>().copied();
    let base = checkout.public_base_url();
    let visit = Visit {
        checkout,
        limits: &app.limits,
        member: &member,
        oauth,
        browser: Browser::new(headers, checkout.sealing(), base, checkout.now()),
        asked: &asked,
        origin: origin(member.names(host), host, base),
        locale: locale(&order, &member, asked.lang, headers),
        client_ip: app.limits.address(peer, headers).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        order,
    };
    Ok(visit.answer(&used).await)
}

/// For the checkout page: where an order opened inside WeChat is paid instead. `None`: there.
pub async fn instead(
    checkout: &Checkout,
    page: &str,
    look: Look,
    method: &Method,
    headers: &HeaderMap,
) -> Option<Response> {
    // "I have paid" is answered where it was said.
    if look.channel == Some(Channel::Ali) || look.asked > 0 || device(headers) != Device::InWechat {
        return None;
    }
    let order = checkout.order_by_page(page).await.ok()??;
    let member = checkout.member(&order.key.merchant).ok()?;
    way_in(&member, method, headers)?;
    if !live_view(&order, checkout.now()).state.is_payable() {
        return None;
    }
    let here = checkout
        .merchants()
        .by_host(host(headers))
        .is_some_and(|known| known.config.id == order.key.merchant);
    let origin = match member.config.hosts.is_empty() {
        _ if here => String::new(),
        false => member.origin(checkout.public_base_url()),
        // The number alone would not say whose it is.
        true => return None,
    };
    Some(found(&format!("{origin}{}", clean(&order.key, look.lang)), []))
}

impl Visit<'_> {
    async fn answer(&self, used: &Used) -> Response {
        if self.asked.code.is_some() || self.asked.state.is_some() {
            return self.came_back(used).await;
        }
        match self.browser.payer(&self.oauth.app_id).filter(|_| !self.asked.anew) {
            None => self.send_off(),
            Some(openid) => self.place(openid).await,
        }
    }

    /// To WeChat, which sends the browser back with a code.
    fn send_off(&self) -> Response {
        match self.browser.send_off(&self.order.key) {
            Some((state, cookies)) => {
                let back = format!("{}{}", self.origin, self.clean());
                found(&self.oauth.authorize_url(&back, &state), cookies)
            }
            None => ApiError::new(Kind::Internal).into_response(),
        }
    }

    /// Back from WeChat. Only a browser that was sent there for this very order is asked about, once, and
    /// whoever is known already needs no code: so reloading this address does no harm.
    async fn came_back(&self, used: &Used) -> Response {
        let Asked { code, state, .. } = self.asked;
        let state = state.as_deref().unwrap_or_default();
        let Some(done) = self.browser.came_back(state, &self.order.key, used) else {
            if self.browser.payer(&self.oauth.app_id).is_some() {
                return found(&self.clean(), []);
            }
            return self.screen(&Screen::Stale, Some(Kind::CrossSite), []);
        };
        let code = code.as_deref().filter(|code| !code.is_empty() && code.len() <= CODE_MAX);
        let Some(code) = code else { return self.screen(&Screen::Stale, Some(Kind::CrossSite), [done]) };
        let order = &self.order.key;
        if self.limits.spend(Rule::OpenidCode, Some(self.client_ip)).is_err() {
            return self.screen(&Screen::Unavailable, Some(Kind::RateLimited), [done]);
        }
        match self.member.openid(code).await {
            Exchanged::Openid(openid) => {
                let Some(known) = self.browser.remember(&self.oauth.app_id, &openid) else {
                    return ApiError::new(Kind::Internal).into_response();
                };
                found(&self.clean(), [done, known])
            }
            Exchanged::Preview => self.screen(&Screen::Preview, None, [done]),
            Exchanged::Spent { code } => {
                tracing::info!(%order, errcode = code, "a code of WeChat's was good no longer");
                self.screen(&Screen::Stale, Some(Kind::CrossSite), [done])
            }
            Exchanged::Refused { code } => {
                tracing::error!(%order, errcode = code, "WeChat does not take the app's id or secret");
                self.screen(&Screen::Refused(format!("WX-{code}")), Some(Kind::GatewayRefused), [done])
            }
            Exchanged::Unknown(reason) => {
                tracing::warn!(%order, %reason, "WeChat did not say who looks at the page");
                self.screen(&Screen::Unavailable, Some(Kind::GatewayUnavailable), [done])
            }
        }
    }

    /// Places the order for this person, or finds it placed.
    async fn place(&self, openid: Payer) -> Response {
        self.checkout.seen(&self.order);
        let placing = Placing::in_wechat(openid, self.client_ip);
        match timeout(PATIENCE, self.checkout.push(&self.order, placing)).await {
            Ok(Ok(pushed)) => match self.wallet_call(&pushed) {
                Some(call) => self.screen(&Screen::Pay(call), None, []),
                None => ApiError::new(Kind::Internal).into_response(),
            },
            Ok(Err(CheckoutError::AlreadyPaid | CheckoutError::AlreadyClosed)) => {
                found(&with_lang(self.checkout.checkout_url(&self.order.key), self.asked.lang), [])
            }
            Ok(Err(CheckoutError::GatewayRefused { code, .. })) => {
                self.screen(&Screen::Refused(code), None, [])
            }
            Ok(Err(error)) => {
                tracing::warn!(order = %self.order.key, %error, "not placed inside WeChat");
                self.screen(&Screen::Unavailable, None, [])
            }
            Err(_) => self.screen(&Screen::Preparing, None, []),
        }
    }

    /// Signed anew for each view; what it is about stays the same.
    fn wallet_call(&self, pushed: &Pushed) -> Option<WalletCall> {
        let prepay_id = pushed.code.prepay_id.as_deref()?;
        let stamp = Stamp { now: Clock::real(), nonce: random::base62(32).ok()? };
        let params = self.member.wx.as_ref()?.pay_sign(prepay_id, &stamp);
        let life_ms = pushed.attempt.expires_at.since(self.checkout.now()).max(0);
        Some(WalletCall { params, life_ms })
    }

    fn clean(&self) -> String {
        clean(&self.order.key, self.asked.lang)
    }

    fn screen(
        &self,
        screen: &Screen,
        status: Option<Kind>,
        cookies: impl IntoIterator<Item = HeaderValue>,
    ) -> Response {
        let frame = Frame {
            order: &self.order,
            member: self.member,
            page: self.checkout.page_capability(&self.order.key),
            locale: self.locale,
            clean: self.clean(),
            other: clean(&self.order.key, Some(self.locale.other())),
            live: live_view(&self.order, self.checkout.now()),
        };
        // Inside WeChat there is nobody to frame it.
        let mut response = shell::page(page::draw(&frame, screen), self.locale, &[]);
        if let Some(kind) = status {
            *response.status_mut() = kind.status();
        }
        with_cookies(response, cookies)
    }
}

/// The merchant's app at WeChat, if a shopper is inside WeChat and the merchant can be paid there.
fn way_in<'a>(member: &'a Member, method: &Method, headers: &HeaderMap) -> Option<&'a WechatOauth> {
    let shopper = device(headers) == Device::InWechat && is_shopper(method, headers);
    member.oauth.as_ref().filter(|_| shopper && member.wx.is_some())
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// Where the merchant's pages inside WeChat are: under the host that the configuration names for it
/// (`named`), else under ours. A host that is not named is nobody's word.
fn origin(named: bool, host: &str, public_base_url: &str) -> String {
    let ours = || public_base_url.to_owned();
    let Ok(base) = url::Url::parse(public_base_url) else { return ours() };
    match url::Url::parse(&format!("{}://{host}", base.scheme())) {
        Ok(url) if named && url.host() != base.host() => url.origin().ascii_serialization(),
        Ok(_) | Err(_) => ours(),
    }
}

/// The page's address with nothing in it but which order, and the language if one was chosen.
fn clean(order: &OrderKey, lang: Option<Locale>) -> String {
    let path = format!("/app/payment/wpay/{}?order_type={}", order.number, order.order_type);
    with_lang(path, lang)
}

fn with_lang(address: String, lang: Option<Locale>) -> String {
    match lang {
        None => address,
        Some(lang) => {
            let sign = if address.contains('?') { '&' } else { '?' };
            format!("{address}{sign}lang={lang}")
        }
    }
}

/// The language that was chosen, else the order's, the browser's, the merchant's.
fn locale(order: &Order, member: &Member, chosen: Option<Locale>, headers: &HeaderMap) -> Locale {
    chosen
        .or_else(|| order.terms.locale.as_deref().and_then(|word| word.parse().ok()))
        .or_else(|| browser_locale(headers))
        .or_else(|| member.config.locale.parse().ok())
        .unwrap_or(Locale::Zh)
}

fn found(location: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    let Ok(location) = HeaderValue::from_str(location) else {
        return ApiError::new(Kind::Internal).into_response();
    };
    let headers =
        [(header::LOCATION, location), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    with_cookies((StatusCode::FOUND, headers).into_response(), cookies)
}

fn with_cookies(mut response: Response, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_address_says() {
        let asked = Asked::of("order_type=Wallet&lang=en&code=c&state=s&code=other&result=success&paid=1");
        let some = |text: &str| Some(text.to_owned());
        let expected = Asked {
            order_type: some("Wallet"),
            lang: Some(Locale::En),
            anew: false,
            code: some("c"),
            state: some("s"),
        };
        assert_eq!(asked, expected);
        assert!(Asked::of("anew=1").anew);
        assert_eq!(Asked::of(""), Asked::default());
    }

    #[test]
    fn where_wechat_sends_the_browser_back_to() {
        let base = "https://pay.example:8443";
        for (named, host, expected) in [
            (true, "one.example", "https://one.example"),
            (true, "One.example:9443", "https://one.example:9443"),
            // A proxy in front may leave the port out.
            (true, "pay.example", base),
            (false, "evil.example", base),
            (true, "a b", base),
            (true, "one.example/path?query", "https://one.example"),
            (false, "", base),
        ] {
            assert_eq!(origin(named, host, base), expected, "{host}");
        }
    }

    #[test]
    fn who_is_inside_wechat() {
        // Also on a desktop, in a mini program, and in WeChat's app for companies (gateways.md 3.3).
        let tail = "AppleWebKit/605.1.15 Mobile/15E148 MicroMessenger/8.0.47(0x18002f2c) NetType/WIFI";
        for (agent, inside) in [
            (format!("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) {tail}"), true),
            (format!("Mozilla/5.0 (Linux; Android 14) {tail} miniProgram/wx1"), true),
            ("Mozilla/5.0 micromessenger/6.8.0 WindowsWechat".to_owned(), true),
            ("Mozilla/5.0 wxwork/4.1.0 MicroMessenger/7.0.1".to_owned(), true),
            ("Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0 Safari/537.36".to_owned(), false),
            (String::new(), false),
        ] {
            let headers = HeaderMap::from_iter([(header::USER_AGENT, agent.parse().unwrap())]);
            assert_eq!(device(&headers) == Device::InWechat, inside, "{agent}");
        }
    }
}
