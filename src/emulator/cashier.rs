//! Alipay's cashier in a browser (`wap.pay`, `page.pay`): the page a signed link leads to, and the way back.
//! Works without scripts. Never a trade before the shopper enters (gateways.md 4.4), and nothing in the forms
//! but the link itself: its signature is checked at every step.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use axum::Form;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware;
use axum::response::Html;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use leptos::prelude::*;
use qrcode::{Color, EcLevel, QrCode};
use serde::Deserialize;

use super::Emulator;
use super::browser::{found, no, sorry, whole};
use super::control::{Denied, own_pages_only};
use super::gateways::Signer;
use super::log::Entry;
use super::page::{Frame, Language};
use super::phone::{bill, wallet};
use super::trades::{Key, Trade};
use crate::domain::id::{Channel, OutTradeNo, Scene, UnixMillis};
use crate::gateway::{
    Answer, Call, Counterpart as _, Objection, Received, Refusal, Stamp, Terms, TradeState,
};
use crate::runtime::clock::Clock;

pub(super) fn router() -> Router<Emulator> {
    Router::new()
        .route("/cashier/enter", post(enter))
        .route("/cashier/pay", post(pay))
        .route("/cashier/cancel", post(cancel))
        .route_layer(middleware::from_fn(own_pages_only))
        .layer(DefaultBodyLimit::max(FORM_MAX))
}

/// The links behind the QR codes that pages show: too long to be scanned themselves. In memory: a page that
/// is loaded again shows the same code and makes it known again.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<HashMap<String, String>>);

impl Links {
    pub(super) fn code(&self, link: &str) -> String {
        let hash = hex::encode(digest::digest(&digest::SHA256, link.as_bytes()));
        let code = format!("https://qr.alipay.com/upx{}", hash.get(..24).unwrap_or_default());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= LINKS_KEPT {
            known.clear();
        }
        known.insert(code.clone(), link.to_owned());
        code
    }

    fn link(&self, code: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(code).cloned()
    }
}

#[derive(Deserialize)]
struct Carried {
    link: String,
}

/// What a link asks for.
struct Wanted<'a> {
    link: &'a str,
    received: &'a Received,
    out_trade_no: &'a OutTradeNo,
    terms: &'a Terms,
}

impl<'a> Wanted<'a> {
    fn of(link: &'a str, received: &'a Received) -> Option<Self> {
        match &received.call {
            Call::Create { out_trade_no, terms } if matches!(terms.scene, Scene::Wap | Scene::Page) => {
                Some(Self { link, received, out_trade_no, terms })
            }
            _ => None,
        }
    }

    fn key(&self) -> Key {
        Key { channel: Channel::Ali, out_trade_no: self.out_trade_no.clone() }
    }

    /// Where the browser goes when the shopper gives up.
    fn quit_url(&self) -> Option<&str> {
        let quit = self.received.echo.iter().find(|(name, _)| name == "quit_url");
        quit.map(|(_, url)| url.as_str()).or(self.terms.visit.return_url.as_deref())
    }
}

/// Whether a call was made by a browser, which wants a page.
pub(super) fn is_for_browsers(received: &Received) -> bool {
    Wanted::of("", received).is_some()
}

async fn enter(State(at): State<Emulator>, headers: HeaderMap, Form(form): Form<Carried>) -> Response<Body> {
    match at.step(&form.link) {
        Ok(_) => match at.wallet_scan(&address(&form.link)).await {
            Ok(_) => found(&address(&form.link)),
            Err(denied) if denied.is("already_paid") => found(&address(&form.link)),
            Err(denied) => at.stopped(&headers, &denied),
        },
        Err(refusal) => at.refused_page(&refusal),
    }
}

async fn pay(State(at): State<Emulator>, headers: HeaderMap, Form(form): Form<Carried>) -> Response<Body> {
    match at.step(&form.link) {
        Ok(received) => match at.wallet_pay(&address(&form.link), 1).await {
            Ok(trade) => at.back(&headers, &trade, &received),
            Err(denied) if denied.is("already_paid") => found(&address(&form.link)),
            Err(denied) => at.stopped(&headers, &denied),
        },
        Err(refusal) => at.refused_page(&refusal),
    }
}

/// The trade stays as it is: the shopper may come back.
async fn cancel(State(at): State<Emulator>, headers: HeaderMap, Form(form): Form<Carried>) -> Response<Body> {
    match at.step(&form.link) {
        Ok(received) => {
            match Wanted::of(&form.link, &received).and_then(|wanted| wanted.quit_url().map(found)) {
                Some(quit) => quit,
                None => sorry(&headers, TITLE, "已取消支付"),
            }
        }
        Err(refusal) => at.refused_page(&refusal),
    }
}

impl Emulator {
    /// The link inside a code: a link itself, or what a page's QR code stands for.
    pub(super) fn link_in(&self, code: &str) -> Option<String> {
        let of_gateway = code.split_once("/gateway.do?").map(|(_, link)| link.to_owned());
        of_gateway.or_else(|| self.inner.links.link(code))
    }

    /// Reads a link as the request it is.
    pub(super) fn decode_link(&self, link: &str, now: UnixMillis) -> Result<Received, Refusal> {
        let request = Request::get(address(link)).body(Bytes::new());
        let request =
            request.map_err(|_| no("isv.invalid-parameter", "参数无效", "the link is not a URL"))?;
        let received = self.inner.gateways.alipay().decode_call(&request, now)?;
        if is_for_browsers(&received) {
            return Ok(received);
        }
        Err(no(
            "isv.invalid-method",
            "不存在的方法名",
            format!("{} is not opened by browsers", received.method),
        ))
    }

    /// The answer to a call that a browser made: the cashier, as far as the shopper has come.
    pub(super) async fn cashier(&self, request: &Request<Bytes>, received: &Received) -> Response<Body> {
        let headers = request.headers();
        let link = match self.inner.gateways.alipay().link(request) {
            Ok(link) => link,
            Err(refusal) => return self.refused_page(&refusal),
        };
        // What was posted becomes a link, so that the page can be loaded again.
        if request.method() == Method::POST {
            return found(&address(&link));
        }
        let busy = sorry(headers, TITLE, "系统繁忙，请稍后再试");
        let (at, headers, asked) = (self.clone(), headers.clone(), received.clone());
        let answer = async move {
            match Wanted::of(&link, &asked) {
                Some(wanted) => at.show(&headers, &wanted),
                None => sorry(&headers, TITLE, "系统繁忙，请稍后再试"),
            }
        };
        self.bent(Channel::Ali, &[&received.method], busy, answer).await
    }

    fn show(&self, headers: &HeaderMap, wanted: &Wanted<'_>) -> Response<Body> {
        let known = self.trade(&wanted.key());
        if known.as_ref().is_some_and(|trade| trade.fingerprint != wanted.received.fingerprint) {
            let gateway = self.inner.gateways.of(Channel::Ali, Signer::Gateway);
            return self.refused_page(&gateway.refuse(wanted.received, Objection::OtherTerms));
        }
        let number = Some(wanted.out_trade_no.to_string());
        self.inner.log.push(Entry::ok(self.inner.clock.now(), Channel::Ali, &wanted.received.method, number));
        match &known {
            Some(trade) if trade.state == TradeState::Success => self.back(headers, trade, wanted.received),
            Some(trade) if trade.state == TradeState::Closed => sorry(headers, TITLE, "交易已经关闭"),
            _ => {
                let ends = [wanted.terms.visit.return_url.as_deref(), wanted.quit_url()];
                let ends: Vec<&str> = ends.into_iter().flatten().collect();
                let mut page =
                    whole(self.cashier_page(Language::of(headers), wanted, known.is_some()), &ends);
                if wanted.terms.scene == Scene::Page {
                    // Whoever pays by phone sees it here without doing anything.
                    page.headers_mut().insert(header::REFRESH, HeaderValue::from_static("3"));
                }
                page
            }
        }
    }

    fn cashier_page(&self, language: Language, wanted: &Wanted<'_>, entered: bool) -> Html<String> {
        let form = |action: &'static str, class: &'static str, label: &'static str| {
            view! {
                <form method="post" action=format!("/cashier/{action}")>
                    <input type="hidden" name="link" value=wanted.link.to_owned() />
                    <button class=class>{label}</button>
                </form>
            }
        };
        let (said, first) = if entered {
            (
                language.pick("请确认付款", "Confirm the payment"),
                form("pay", "primary", language.pick("确认付款", "Pay")),
            )
        } else {
            let label = language.pick("登录并继续", "Log in and continue");
            (
                language.pick("登录支付宝账户付款", "Pay with your Alipay account"),
                form("enter", "primary", label),
            )
        };
        let scanned = (wanted.terms.scene == Scene::Page).then(|| {
            let code = self.inner.links.code(wanted.link);
            view! {
                <p class="second">{language.pick("或用支付宝扫一扫付款", "Or scan with Alipay")}</p>
                {picture(&code, language.pick("支付宝二维码", "QR code for Alipay"))}
            }
        });
        let content = view! {
            <main class="phone">
                {bill(language, &self.inner.payee, wanted.terms, wanted.out_trade_no)}
                <div role="status"><h1 class="wait">{said}</h1></div>
                <div class="actions">{first} {form("cancel", "quiet", language.pick("取消", "Cancel"))}</div>
                {scanned}
            </main>
        };
        let title = wallet(language, Channel::Ali);
        Frame { class: "emulator handheld", ..Frame::new(language, title) }.render(content)
    }

    /// Reads the link that a form carried.
    fn step(&self, link: &str) -> Result<Received, Refusal> {
        self.decode_link(link, self.inner.clock.now())
    }

    /// Paid: back to the shop, with what Alipay says about it.
    fn back(&self, headers: &HeaderMap, trade: &Trade, received: &Received) -> Response<Body> {
        let return_url = match &received.call {
            Call::Create { terms, .. } => terms.visit.return_url.as_deref(),
            _ => None,
        };
        let standing = self.book().standing(trade, self.inner.clock.now());
        let alipay = self.inner.gateways.alipay();
        match return_url.and_then(|url| alipay.encode_return(&standing, url, Clock::real())) {
            Some(url) => found(&url),
            None => sorry(headers, TITLE, "支付成功"),
        }
    }

    fn stopped(&self, headers: &HeaderMap, denied: &Denied) -> Response<Body> {
        self.log_refusal(Channel::Ali, "cashier", None, &no("cashier", &denied.message, ""));
        sorry(headers, TITLE, &denied.message)
    }

    fn refused_page(&self, refusal: &Refusal) -> Response<Body> {
        self.log_refusal(Channel::Ali, "GET /gateway.do", None, refusal);
        let echo = [("method".to_owned(), "alipay.trade.page.pay".to_owned())];
        let stamp = Stamp { now: Clock::real(), nonce: String::new() };
        let alipay = self.inner.gateways.alipay();
        alipay.encode_answer(&Answer::Refused(refusal.clone()), &echo, &stamp).map(Body::from)
    }
}

/// A QR code as one path, black on white with four quiet modules around.
fn picture(content: &str, alt: &'static str) -> Option<impl IntoView + use<>> {
    let code = QrCode::with_error_correction_level(content, EcLevel::M).ok()?;
    let width = code.width();
    let colors = code.into_colors();
    let dark = colors.iter().enumerate().filter(|(_, color)| **color == Color::Dark);
    let path = dark.fold(String::new(), |mut path, (at, _)| {
        // Writing to a string cannot fail.
        let _ = write!(path, "M{} {}h1v1h-1z", at % width + 4, at / width + 4);
        path
    });
    let box_of = format!("0 0 {0} {0}", width + 8);
    Some(view! {
        <svg
            class="qr"
            xmlns="http://www.w3.org/2000/svg"
            viewBox=box_of
            shape-rendering="crispEdges"
            role="img"
            aria-label=alt
        >
            <rect width="100%" height="100%" fill="#fff"></rect>
            <path d=path fill="#000"></path>
        </svg>
    })
}

fn address(link: &str) -> String {
    format!("/gateway.do?{link}")
}

const TITLE: &str = "支付宝";
/// A link in a form: at most 64 KiB, each byte written with three.
const FORM_MAX: usize = 200 * 1024;
const LINKS_KEPT: usize = 10_000;
