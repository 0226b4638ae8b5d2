//! WeChat's page for phones' browsers (MWEB, H5): who may open it, and the wallet behind it. Works without
//! scripts. Never lets in what the real page turns away: no shop before it, another address, too late, or
//! WeChat's own browser (gateways.md 1.2, 3.4).

use std::net::IpAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::Html;
use axum::routing::{get, post};
use http::{HeaderMap, Response, header};
use http_body_util::{BodyExt as _, Limited};
use leptos::prelude::*;
use url::{Url, form_urlencoded};

use super::Emulator;
use super::browser::{found, in_wechat, no, plain, sorry, text, whole};
use super::control::{Denied, own_pages_only};
use super::page::{Frame, Language};
use super::phone::{bill, wallet};
use super::trades::Trade;
use crate::domain::id::{Channel, Scene};
use crate::gateway::{Refusal, TradeState};
use crate::runtime::listen::PeerAddr;

pub(super) fn router() -> Router<Emulator> {
    Router::new()
        .route(PATH, get(open))
        .route("/cgi-bin/mmpayweb-bin/pay", post(pay))
        .route("/cgi-bin/mmpayweb-bin/cancel", post(cancel))
        .route_layer(middleware::from_fn(own_pages_only))
}

/// The link as the merchant got it: what stands behind it is the shop's own addition (gateways.md 1.2).
pub(super) fn without_way_back(code: &str) -> &str {
    code.split("&redirect_url=").next().unwrap_or(code)
}

/// What stands in the link, and in the forms of the page.
#[derive(Clone, Debug, Default)]
struct Link {
    prepay_id: String,
    package: String,
    redirect_url: Option<String>,
}

impl Link {
    fn of(form: &[u8]) -> Self {
        let mut link = Self::default();
        for (name, value) in form_urlencoded::parse(form) {
            match name.as_ref() {
                "prepay_id" => link.prepay_id = value.into_owned(),
                "package" => link.package = value.into_owned(),
                "redirect_url" => link.redirect_url = Some(value.into_owned()),
                _ => {}
            }
        }
        link
    }
}

async fn open(State(emulator): State<Emulator>, request: Request) -> Response<Body> {
    let (headers, peer) = visitor(&request);
    let link = Link::of(request.uri().query().unwrap_or_default().as_bytes());
    let busy = sorry(&headers, TITLE, "系统繁忙，请稍后再试");
    let at = emulator.clone();
    let answer = async move {
        let let_in = at.comes_from_the_shop(&headers).and_then(|()| at.let_in(&headers, peer, &link));
        match let_in {
            Ok(_) => at.opened(&headers, &link).await,
            Err(refusal) => at.turned_away(&headers, &refusal),
        }
    };
    emulator.bent(Channel::Wx, &[POINT], busy, answer).await
}

async fn pay(State(emulator): State<Emulator>, request: Request) -> Response<Body> {
    let (headers, peer) = visitor(&request);
    let Some(link) = posted(request).await else { return sorry(&headers, TITLE, WRONG) };
    if let Err(refusal) = emulator.let_in(&headers, peer, &link) {
        return emulator.turned_away(&headers, &refusal);
    }
    match emulator.wallet_pay(&link.prepay_id, 1).await {
        Ok(trade) => match &link.redirect_url {
            Some(url) => found(url),
            None => whole(emulator.wallet_page(&headers, &trade, &link), &[]),
        },
        Err(denied) => emulator.turned_away(&headers, &stopped(&denied)),
    }
}

/// The trade stays as it is: the shopper may come back.
async fn cancel(State(emulator): State<Emulator>, request: Request) -> Response<Body> {
    let (headers, peer) = visitor(&request);
    let Some(link) = posted(request).await else { return sorry(&headers, TITLE, WRONG) };
    match (emulator.let_in(&headers, peer, &link), &link.redirect_url) {
        (Ok(_), Some(url)) => found(url),
        (Ok(_), None) => sorry(&headers, TITLE, "已取消支付"),
        (Err(refusal), _) => emulator.turned_away(&headers, &refusal),
    }
}

impl Emulator {
    /// The page is entered from the merchant's own, by a link or a form that tells where it comes from.
    fn comes_from_the_shop(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(referer) = text(headers, header::REFERER) else {
            let why =
                "no Referer: the page with the link must not keep it back (Referrer-Policy: strict-origin)";
            return Err(no("referer", "商家参数格式有误，请联系商家解决", why));
        };
        if Url::parse(referer).is_ok_and(|url| self.is_registered(&url)) {
            return Ok(());
        }
        let why =
            format!("the Referer {referer} is neither on this machine nor the registered domain (--domain)");
        Err(no("referer", "商家存在未配置的参数，请联系商家解决", why))
    }

    /// Everything but where the browser comes from.
    fn let_in(&self, headers: &HeaderMap, peer: Option<IpAddr>, link: &Link) -> Result<Trade, Refusal> {
        if in_wechat(headers) {
            let why = "inside WeChat JSAPI is the way to pay";
            return Err(no("in-wechat", "请在微信外打开订单，进行支付", why));
        }
        let trade = self.book().of_code(&link.prepay_id).cloned();
        let known = trade.filter(|trade| trade.terms.scene == Scene::Mweb && trade.has_link(&link.package));
        let trade = known.ok_or_else(|| no("link", WRONG, "no mweb_url has this prepay_id and package"))?;
        let registered = |url: &String| Url::parse(url).is_ok_and(|url| self.is_registered(&url));
        if !link.redirect_url.as_ref().is_none_or(registered) {
            let why = "redirect_url is neither on this machine nor at the registered domain (--domain)";
            return Err(no("redirect_url", "商家存在未配置的参数，请联系商家解决", why));
        }
        let told = trade.terms.client_ip.parse::<IpAddr>().ok().map(plain);
        if peer.is_none_or(|peer| Some(plain(peer)) != told) {
            let why = format!(
                "this browser's address is not the spbill_create_ip that {} was placed with",
                trade.key.out_trade_no
            );
            return Err(no("address", "网络环境未能通过安全验证，请稍后再试", why));
        }
        Ok(trade)
    }

    async fn opened(&self, headers: &HeaderMap, link: &Link) -> Response<Body> {
        match self.wallet_scan(&link.prepay_id).await {
            Ok(trade) => {
                let back = link.redirect_url.as_deref();
                whole(self.wallet_page(headers, &trade, link), &back.into_iter().collect::<Vec<_>>())
            }
            Err(denied) => self.turned_away(headers, &stopped(&denied)),
        }
    }

    fn wallet_page(&self, headers: &HeaderMap, trade: &Trade, link: &Link) -> Html<String> {
        let language = Language::of(headers);
        let (class, said) = match trade.state {
            TradeState::Success => ("good", language.pick("支付成功", "Paid")),
            TradeState::NotPay | TradeState::Closed => {
                ("wait", language.pick("请确认付款", "Confirm the payment"))
            }
        };
        let form = |action: &'static str, class: &'static str, label: &'static str| {
            let back = link.redirect_url.clone();
            view! {
                <form method="post" action=format!("/cgi-bin/mmpayweb-bin/{action}")>
                    <input type="hidden" name="prepay_id" value=link.prepay_id.clone() />
                    <input type="hidden" name="package" value=link.package.clone() />
                    {back.map(|url| view! { <input type="hidden" name="redirect_url" value=url /> })}
                    <button class=class>{label}</button>
                </form>
            }
        };
        let buttons = (trade.state == TradeState::NotPay).then(|| {
            view! {
                {form("pay", "primary", language.pick("确认付款", "Pay"))}
                {form("cancel", "quiet", language.pick("取消", "Cancel"))}
            }
        });
        let content = view! {
            <main class="phone">
                {bill(language, &self.inner.payee, &trade.terms, &trade.key.out_trade_no)}
                <div role="status"><h1 class=class>{said}</h1></div>
                <div class="actions">{buttons}</div>
            </main>
        };
        let title = wallet(language, Channel::Wx);
        Frame { class: "emulator handheld", ..Frame::new(language, title) }.render(content)
    }

    fn turned_away(&self, headers: &HeaderMap, refusal: &Refusal) -> Response<Body> {
        self.log_refusal(Channel::Wx, POINT, None, refusal);
        sorry(headers, TITLE, &refusal.message)
    }
}

/// In the real page's words, where they are known.
fn stopped(denied: &Denied) -> Refusal {
    if denied.is("expired") {
        let why = "mweb_url works for five minutes, and not longer than its trade";
        return no("expired", "支付请求已失效，请重新发起支付", why);
    }
    no("trade", &denied.message, "the trade does not allow it")
}

fn visitor(request: &Request) -> (HeaderMap, Option<IpAddr>) {
    let peer = request.extensions().get::<PeerAddr>().map(|PeerAddr(peer)| peer.ip());
    (request.headers().clone(), peer)
}

async fn posted(request: Request) -> Option<Link> {
    let body = Limited::new(request.into_body(), FORM_MAX).collect().await.ok()?;
    Some(Link::of(&body.to_bytes()))
}

const PATH: &str = "/cgi-bin/mmpayweb-bin/checkmweb";
/// The name under which faults reach the page.
const POINT: &str = "wx.checkmweb";
const TITLE: &str = "微信支付";
const WRONG: &str = "参数错误，请联系商家解决";
const FORM_MAX: usize = 16 * 1024;
