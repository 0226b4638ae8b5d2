//! The tablet in the shop: pairing it, and which order it shows. Who has no cookie of a pad of this merchant
//! sees the pairing form and nothing else. Changes no order; what staff can do here is about the screen.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{HeaderMap, HeaderValue, Method, header};

use super::calls::{code_of, known_code};
use super::live::{live_of, live_view};
use super::look::{browser_locale, cookie_value, is_https, is_shopper};
use super::pad_lock::{self, Refusal};
use super::ways::Seen;
use super::{pad_live, pad_screen, shell};
use crate::domain::id::{Channel, MerchantId, UnixMillis};
use crate::domain::order::{Order, State as OrderState};
use crate::domain::pad::{Pad, PairingCode};
use crate::domain::time::spaced;
use crate::server::checkout::{Checkout, CheckoutError};
use crate::server::error::{ApiError, Kind};
use crate::server::json::read_body;
use crate::server::limits::{Limits, Rule, Wait};
use crate::server::merchants::Member;
use crate::ui::i18n::Locale;
use crate::ui::pad::{Guessed, PadOrder, PadResult, PadScreen, PadView, Receipt, Staff, Strip};
use crate::ui::view::{CardView, CodeView, LiveView, tail};

/// What staff sees of the pad's past.
const RESULTS: u32 = 5;

/// What the address asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// `?lang=`.
    lang: Option<Locale>,
    /// `?part=screen`: only what the script swaps.
    part: bool,
    /// `?view=staff`: with what staff needs.
    staff: bool,
    /// `?view=receipt`: the last receipt, to be printed.
    receipt: bool,
}

impl Wish {
    fn of(query: &[u8]) -> Self {
        let mut wish = Self::default();
        for (name, value) in url::form_urlencoded::parse(query) {
            match (&*name, &*value) {
                ("lang", word) => wish.lang = word.parse().ok(),
                ("part", "screen") => wish.part = true,
                ("view", "staff") => wish.staff = true,
                ("view", "receipt") => wish.receipt = true,
                _ => {}
            }
        }
        wish
    }

    /// The language of the page: the address decides, then the order, then the browser, then the merchant.
    fn locale(self, order: Option<&Order>, headers: &HeaderMap, member: &Member) -> Locale {
        let of_order = order.and_then(|order| order.terms.locale.as_deref()?.parse().ok());
        let of_merchant = || member.config.locale.parse().ok();
        let wished = self.lang.or(of_order).or_else(|| browser_locale(headers));
        wished.or_else(of_merchant).unwrap_or(Locale::Zh)
    }
}

/// `GET`, `HEAD /pad/{merchant}`.
pub async fn show(
    State(checkout): State<Checkout>,
    merchant: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let wish = Wish::of(query.unwrap_or_default().as_bytes());
    let Some(member) = member_of(&checkout, merchant) else {
        return ApiError::unknown_route().into_response();
    };
    let view = view_of(&checkout, &member, wish, &headers, is_shopper(&method, &headers)).await;
    match (view, wish.part) {
        (Ok(view), true) => {
            let fixed = [(header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
            (fixed, Html(pad_screen::part(&view))).into_response()
        }
        (Ok(view), false) => {
            // Each visit makes it last a year more.
            let secret =
                cookie(&checkout, &headers).filter(|_| !matches!(view.screen, PadScreen::Pairing(_)));
            with_cookie(page(&view), secret.and_then(|secret| set_cookie(&checkout, secret)))
        }
        (Err(error), true) => ApiError::from(error).into_response(),
        (Err(error), false) => {
            let screen = PadScreen::Broken;
            let broken = bare(&member, wish, wish.locale(None, &headers, &member), screen);
            (ApiError::from(error).status(), page(&broken)).into_response()
        }
    }
}

/// `POST /pad/{merchant}`, the forms of the page: `do=pair`, `choose`, and for staff `unlock`, `lock`,
/// `refresh` (a new code) and `clear` (the order is taken off the screen). Answers 303 to the page.
///
/// # Errors
/// An unknown `do`, a body that is too large, the store.
pub async fn act(
    State(checkout): State<Checkout>,
    State(limits): State<Arc<Limits>>,
    merchant: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let member = member_of(&checkout, merchant).ok_or_else(ApiError::unknown_route)?;
    let (head, body) = request.into_parts();
    let form = read_body(body).await?;
    let field = |wanted: &str| {
        let found = url::form_urlencoded::parse(&form).find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let wish = Wish { lang: field("lang").parse().ok(), ..Wish::default() };
    let what = field("do");
    if what == "pair" {
        let headers = head.headers.clone();
        let allowed = limits.guess(Rule::PairingCode, &Request::from_parts(head, Body::empty()));
        return match pair(&checkout, &member, &field("code"), allowed).await? {
            Ok(secret) => {
                let found = Redirect::to(&address(&path(&member), wish.lang, "")).into_response();
                Ok(with_cookie(found, set_cookie(&checkout, &secret)))
            }
            Err(refused) => Ok(pairing(&member, wish, &headers, refused)),
        };
    }
    let seen = field("seen").parse().ok();
    let back = |view| Redirect::to(&address(&path(&member), wish.lang, view)).into_response();
    // Unpaired meanwhile: the page says so.
    let Some(pad) = pad_of(&checkout, &member, &head.headers).await? else { return Ok(back("")) };
    let staff_only = matches!(&*what, "clear" | "refresh");
    if staff_only && !pad_lock::is_open(&checkout, &member, &pad, &head.headers) {
        let refused = Refusal { guessed: Guessed::Nothing, error: ApiError::new(Kind::PadLocked) };
        return Ok(locked(&checkout, &member, wish, &head.headers, refused).await?);
    }
    match &*what {
        "unlock" => {
            let opened = pad_lock::unlock(&checkout, &limits, &member, &pad, &field("pin"));
            return Ok(match opened {
                Ok(cookie) => with_cookie(back("staff"), Some(cookie)),
                Err(refused) => locked(&checkout, &member, wish, &head.headers, refused).await?,
            });
        }
        "lock" => return Ok(with_cookie(back(""), pad_lock::lock(&checkout))),
        "clear" => drop(checkout.clear_pad(&pad.merchant, &pad.id, seen).await?),
        "choose" => {
            let channel = field("channel").parse().map_err(|error| ApiError::invalid("channel", error))?;
            checkout.choose_on_pad(&pad, channel, seen).await?;
        }
        "refresh" => {
            if let Some(order) = order_on(&checkout, &pad).await? {
                scan_code(&checkout, order, channel_of(&pad, &member)).await;
            }
        }
        _ => return Err(ApiError::not_allowed("do", "pair, choose, unlock, lock, refresh, clear")),
    }
    Ok(back(""))
}

fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

async fn pair(
    checkout: &Checkout,
    member: &Member,
    typed: &str,
    allowed: Result<(), Wait>,
) -> Result<Result<String, Refusal>, ApiError> {
    if let Err(wait) = allowed {
        return Ok(Err(Refusal { guessed: Guessed::TooOften, error: wait.into() }));
    }
    let secret = match PairingCode::read(typed) {
        Some(code) => checkout.pair_pad(&member.config.id, &code).await?,
        None => None,
    };
    let wrong = || Refusal { guessed: Guessed::Wrong, error: CheckoutError::NoSuchPad.into() };
    Ok(secret.ok_or_else(wrong))
}

/// The pairing form again, with what was wrong.
fn pairing(member: &Member, wish: Wish, headers: &HeaderMap, refused: Refusal) -> Response {
    let locale = wish.locale(None, headers, member);
    refusing(&bare(member, wish, locale, PadScreen::Pairing(refused.guessed)), refused.error)
}

/// The tablet's page, which asks staff for the PIN.
async fn locked(
    checkout: &Checkout,
    member: &Member,
    wish: Wish,
    headers: &HeaderMap,
    refused: Refusal,
) -> Result<Response, CheckoutError> {
    let view = view_of(checkout, member, wish, headers, true).await?;
    Ok(refusing(&PadView { strip: Some(Strip::Locked(refused.guessed)), ..view }, refused.error))
}

/// A page with the status of a refusal.
fn refusing(view: &PadView, error: ApiError) -> Response {
    let mut response = (error.status(), page(view)).into_response();
    if let Some(seconds) = error.into_response().headers_mut().remove(header::RETRY_AFTER) {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

fn page(view: &PadView) -> Response {
    shell::page(pad_screen::document(view), view.locale, &[])
}

async fn view_of(
    checkout: &Checkout,
    member: &Member,
    wish: Wish,
    headers: &HeaderMap,
    somebody: bool,
) -> Result<PadView, CheckoutError> {
    let Some(pad) = pad_of(checkout, member, headers).await? else {
        let locale = wish.locale(None, headers, member);
        return Ok(bare(member, wish, locale, PadScreen::Pairing(Guessed::Nothing)));
    };
    let order = order_on(checkout, &pad).await?;
    let locale = wish.locale(order.as_deref(), headers, member);
    let (screen, key) = match order {
        Some(order) => {
            let (order, screen) = order_screen(checkout, member, &pad, order, locale, somebody).await?;
            (PadScreen::Order(Box::new(screen)), pad_live::key(checkout, &pad, Some(&order)))
        }
        None => (PadScreen::Idle, pad_live::key(checkout, &pad, None)),
    };
    if somebody {
        let ended = matches!(&screen, PadScreen::Order(order) if order.result_ms.is_some());
        checkout.pad_seen(&pad, ended);
    }
    let strip = if !(wish.staff || wish.receipt) {
        None
    } else if pad_lock::is_open(checkout, member, &pad, headers) {
        Some(Strip::Open(staff(checkout, &pad).await?))
    } else {
        Some(Strip::Locked(Guessed::Nothing))
    };
    let paper = wish.receipt && matches!(strip, Some(Strip::Open(_)));
    let locks = member.config.pad_pin.is_some();
    Ok(PadView { key, version: pad.version, strip, paper, locks, ..bare(member, wish, locale, screen) })
}

fn bare(member: &Member, wish: Wish, locale: Locale, screen: PadScreen) -> PadView {
    let key = if matches!(screen, PadScreen::Broken) { "broken" } else { pad_live::UNPAIRED };
    PadView {
        path: path(member),
        payee: member.config.name.clone(),
        locale,
        lang: wish.lang,
        key: key.to_owned(),
        version: 0,
        screen,
        strip: None,
        locks: false,
        paper: false,
    }
}

async fn order_screen(
    checkout: &Checkout,
    member: &Member,
    pad: &Pad,
    order: Arc<Order>,
    locale: Locale,
    somebody: bool,
) -> Result<(Arc<Order>, PadOrder), CheckoutError> {
    let channel = channel_of(pad, member);
    let (order, code) = if somebody {
        let (order, code) = scan_code(checkout, order, channel).await;
        // A page without script refreshes itself.
        checkout.seen(&order);
        (order, code)
    } else {
        let code = known_code(checkout, &order, channel, &Seen::SCREEN).shown();
        (order, code)
    };
    let now = checkout.now();
    let result_ms = pad.result_left(&order, now).map(|left| u32::try_from(left.max(0)).unwrap_or(u32::MAX));
    let card = CardView {
        // No capability leaves the server here.
        page: String::new(),
        locale,
        order_number: order.key.number.to_string(),
        amount: order.terms.total.to_string(),
        channel,
        asked: false,
        live: LiveView { code: Some(code), ..live_of(checkout, &order) },
    };
    Ok((order, PadOrder { card, methods: member.channels(), result_ms }))
}

/// The code that a shopper's phone scans off the tablet, whatever else the order was pushed for.
async fn scan_code(checkout: &Checkout, order: Arc<Order>, channel: Channel) -> (Arc<Order>, CodeView) {
    code_of(checkout, order, channel, &Seen::SCREEN).await
}

/// What was chosen on the pad, else what the merchant offers first.
fn channel_of(pad: &Pad, member: &Member) -> Channel {
    let offered = member.channels();
    let chosen = pad.channel.filter(|channel| offered.contains(channel));
    chosen.or_else(|| offered.first().copied()).unwrap_or(Channel::Wx)
}

async fn staff(checkout: &Checkout, pad: &Pad) -> Result<Staff, CheckoutError> {
    let (orders, now) = (checkout.pad_orders(pad, RESULTS).await?, checkout.now());
    let receipt = orders.iter().find_map(receipt);
    Ok(Staff { results: orders.iter().map(|order| result(order, now)).collect(), receipt })
}

fn result(order: &Order, now: UnixMillis) -> PadResult {
    let at = match &order.state {
        OrderState::Pending | OrderState::Closing { .. } => None,
        OrderState::Paid { payment } => Some(payment.paid_at),
        OrderState::Closed { at, .. } => Some(*at),
    };
    PadResult {
        tail: tail(order.key.number.as_str()).to_owned(),
        amount: order.terms.total.to_string(),
        state: live_view(order, now).state,
        at: at.map(spaced),
    }
}

fn receipt(order: &Order) -> Option<Receipt> {
    let payment = order.payment()?;
    Some(Receipt {
        title: order.terms.title.to_string(),
        order_number: order.key.number.to_string(),
        amount: payment.fee.to_string(),
        channel: payment.trade.channel,
        paid_at: spaced(payment.paid_at),
    })
}

/// The order that is on the screen now.
async fn order_on(checkout: &Checkout, pad: &Pad) -> Result<Option<Arc<Order>>, CheckoutError> {
    let Some(id) = pad.order else { return Ok(None) };
    let order = checkout.reread(id).await?;
    Ok(Some(order).filter(|order| pad.shows(order, checkout.now())))
}

/// The merchant's pad that this tablet is.
pub async fn pad_of(
    checkout: &Checkout,
    member: &Member,
    headers: &HeaderMap,
) -> Result<Option<Pad>, CheckoutError> {
    match cookie(checkout, headers) {
        Some(secret) => checkout.pad_by_cookie(&member.config.id, secret).await,
        None => Ok(None),
    }
}

/// The merchant that the address names.
pub fn member_of(checkout: &Checkout, path: Result<Path<String>, PathRejection>) -> Option<Arc<Member>> {
    let Path(name) = path.ok()?;
    checkout.merchants().get(&MerchantId::new(name).ok()?).cloned()
}

fn path(member: &Member) -> String {
    format!("/pad/{}", member.config.id)
}

/// The page's address, in a language that was asked for, with a view of its own if one is named.
pub fn address(path: &str, lang: Option<Locale>, view: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if let Some(lang) = lang {
        query.append_pair("lang", lang.as_str());
    }
    if !view.is_empty() {
        query.append_pair("view", view);
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// The secret in the tablet's cookie.
pub fn cookie<'a>(checkout: &Checkout, headers: &'a HeaderMap) -> Option<&'a str> {
    cookie_value(headers, cookie_name(checkout.public_base_url()))
}

fn set_cookie(checkout: &Checkout, secret: &str) -> Option<HeaderValue> {
    let base = checkout.public_base_url();
    let (name, secure) = (cookie_name(base), if is_https(base) { "; Secure" } else { "" });
    format!("{name}={secret}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax{secure}").parse().ok()
}

fn cookie_name(public_base_url: &str) -> &'static str {
    if is_https(public_base_url) { "__Host-shouyin_pad" } else { "shouyin_pad" }
}
