//! A page shaped like a phone: paste or pick a code, see payee and amount, pay, cancel, fail.
//! Never needs a script: forms that post, then redirect to what is now true.

use axum::Form;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http::HeaderMap;
use leptos::prelude::*;
use serde::Deserialize;

use super::Emulator;
use super::control::Denied;
use super::ledger_page::given_back;
use super::page::{Frame, Language};
use super::trades::{Key, Trade};
use crate::domain::id::{Channel, OutTradeNo};
use crate::domain::time;
use crate::gateway::{Terms, TradeState};

pub(super) fn router() -> Router<Emulator> {
    Router::new()
        .route("/phone", get(show))
        .route("/phone/scan", post(scan))
        .route("/phone/pay", post(pay))
        .route("/phone/cancel", post(cancel))
        .route("/phone/fail", post(fail))
}

#[derive(Deserialize)]
struct Shown {
    trade: Option<String>,
    outcome: Option<String>,
}

#[derive(Deserialize)]
struct Scanned {
    code: String,
}

#[derive(Deserialize)]
struct Opened {
    trade: String,
}

async fn show(State(emulator): State<Emulator>, headers: HeaderMap, Query(shown): Query<Shown>) -> Response {
    let language = Language::of(&headers);
    let Some(name) = shown.trade else { return camera(&emulator, language, None).into_response() };
    let opened = key(&name).and_then(|key| emulator.known(&key));
    match opened {
        Ok(trade) => cashier(&emulator, language, &trade, shown.outcome.as_deref()).into_response(),
        Err(why) => camera(&emulator, language, Some(why)).into_response(),
    }
}

async fn scan(State(emulator): State<Emulator>, headers: HeaderMap, Form(form): Form<Scanned>) -> Response {
    match emulator.wallet_scan(&form.code).await {
        Ok(trade) => to_trade(&name(&trade.key), None),
        Err(why) => camera(&emulator, Language::of(&headers), Some(why)).into_response(),
    }
}

async fn pay(State(emulator): State<Emulator>, headers: HeaderMap, Form(form): Form<Opened>) -> Response {
    let paid = match key(&form.trade) {
        Ok(key) => emulator.wallet_pay_opened(&key).await,
        Err(why) => Err(why),
    };
    match paid {
        Ok(_) => to_trade(&form.trade, None),
        Err(why) => camera(&emulator, Language::of(&headers), Some(why)).into_response(),
    }
}

/// Both gateways leave the trade as it is: the shopper may try again.
async fn cancel(Form(form): Form<Opened>) -> Response {
    to_trade(&form.trade, Some("cancelled"))
}

/// The bank said no; to both gateways the trade is still unpaid (gateways.md 7, "FAILED attempt").
async fn fail(Form(form): Form<Opened>) -> Response {
    to_trade(&form.trade, Some("failed"))
}

fn camera(emulator: &Emulator, language: Language, why: Option<Denied>) -> Html<String> {
    let now = emulator.inner.clock.now();
    let open: Vec<_> = {
        let book = emulator.book();
        let newest = book.open(now).take(20);
        newest.map(|(trade, code)| (trade.clone(), code.to_owned())).collect()
    };
    let nothing = open.is_empty().then(|| {
        view! { <li class="second">{language.pick("还没有待付款的订单", "Nothing waits to be paid")}</li> }
    });
    let rows = open.into_iter().map(|(trade, code)| {
        let channel = trade.key.channel;
        view! {
            <li>
                <form method="post" action="/phone/scan">
                    <input type="hidden" name="code" value=code />
                    <button class="pick">
                        {disc(channel)}
                        <span>
                            {trade.terms.title}<br />
                            <small class="second">{trade.key.out_trade_no.to_string()}</small>
                        </span>
                        <b class="amount">"¥ "{trade.terms.total.to_string()}</b>
                    </button>
                </form>
            </li>
        }
    });
    let title = language.pick("扫一扫", "Scan");
    let content = view! {
        <main class="phone">
            <h1>{title}</h1>
            {why.map(|why| view! { <p class="bad" role="alert">{why.message}</p> })}
            <form method="post" action="/phone/scan" class="paste">
                <label for="code">{language.pick("粘贴二维码内容", "Paste what the QR code says")}</label>
                <textarea id="code" name="code" rows="3" required autocomplete="off" spellcheck="false" />
                <button class="primary">{language.pick("打开", "Open")}</button>
            </form>
            <h2>{language.pick("或选择一个待付款的订单", "Or pick one that waits")}</h2>
            <ul class="picks">{nothing}{rows.collect_view()}</ul>
            <p><a href="/phone">{language.pick("刷新", "Refresh")}</a></p>
        </main>
    };
    Frame { class: "emulator handheld", ..Frame::new(language, title) }.render(content)
}

fn cashier(emulator: &Emulator, language: Language, trade: &Trade, outcome: Option<&str>) -> Html<String> {
    let (class, said) = match (trade.state, outcome) {
        (TradeState::Success, _) => ("good", language.pick("支付成功", "Paid")),
        (TradeState::Closed, _) => ("bad", language.pick("订单已关闭", "Closed")),
        (TradeState::NotPay, Some("cancelled")) => ("wait", language.pick("已取消支付", "Cancelled")),
        (TradeState::NotPay, Some("failed")) => {
            ("bad", language.pick("支付失败：余额不足", "Failed: not enough money"))
        }
        (TradeState::NotPay, _) => ("wait", language.pick("请确认付款", "Confirm the payment")),
    };
    let buttons = (trade.state == TradeState::NotPay).then(|| {
        let button = |action: &'static str, class: &'static str, label: &'static str| {
            view! {
                <form method="post" action=format!("/phone/{action}")>
                    <input type="hidden" name="trade" value=name(&trade.key) />
                    <button class=class>{label}</button>
                </form>
            }
        };
        view! {
            {button("pay", "primary", language.pick("确认付款", "Pay"))}
            {button("cancel", "quiet", language.pick("取消", "Cancel"))}
            {button("fail", "quiet", language.pick("付款失败", "Fail"))}
        }
    });
    let wallet = wallet(language, trade.key.channel);
    let paid_at = trade.paid_at.map(|at| view! { <p class="second">{time::spaced(at)}</p> });
    let now = emulator.inner.clock.now();
    let refunds: Vec<_> = emulator.book().refunds().of(&trade.key).cloned().collect();
    let refunds = refunds.iter().map(|refund| given_back(language, refund, now)).collect_view();
    let number = trade.transaction_id.as_ref().map(|number| {
        view! {
            <p class="second">{language.pick("交易单号 ", "Transaction ")}<code>{number.to_string()}</code></p>
        }
    });
    let content = view! {
        <main class="phone">
            {bill(language, &emulator.inner.payee, &trade.terms, &trade.key.out_trade_no)}
            <div role="status"><h1 class=class>{said}</h1></div>
            {paid_at}
            {number}
            {refunds}
            <div class="actions">{buttons}</div>
            <p><a href="/phone">{language.pick("再扫一个", "Scan another")}</a></p>
        </main>
    };
    Frame { class: "emulator handheld", ..Frame::new(language, wallet) }.render(content)
}

/// Whose wallet it is.
pub(super) const fn wallet(language: Language, channel: Channel) -> &'static str {
    match channel {
        Channel::Wx => language.pick("微信支付", "WeChat Pay"),
        Channel::Ali => language.pick("支付宝", "Alipay"),
    }
}

/// What a wallet shows of a trade, known to its gateway yet or not.
pub(super) fn bill(
    language: Language,
    payee: &str,
    terms: &Terms,
    out_trade_no: &OutTradeNo,
) -> impl IntoView + use<> {
    let channel = terms.scene.channel();
    view! {
        <p class="wallet">{disc(channel)}<b>{wallet(language, channel)}</b></p>
        <p class="second">{language.pick("付款给 ", "To ")}{payee.to_owned()}</p>
        <p class="amount"><small>"¥"</small>{terms.total.to_string()}</p>
        <p>{terms.title.clone()}</p>
        <p class="second">{language.pick("商户订单号 ", "Order ")}<code>{out_trade_no.to_string()}</code></p>
    }
}

/// The wallets' logos are not ours to ship: a coloured disc with one character stands in.
pub(super) fn disc(channel: Channel) -> impl IntoView {
    let (class, letter) = match channel {
        Channel::Wx => ("disc wx", "微"),
        Channel::Ali => ("disc ali", "支"),
    };
    view! { <span class=class aria-hidden="true">{letter}</span> }
}

/// `wx:12346`.
fn name(key: &Key) -> String {
    format!("{}:{}", key.channel, key.out_trade_no)
}

fn key(name: &str) -> Result<Key, Denied> {
    let parsed = name.split_once(':').and_then(|(channel, number)| {
        let out_trade_no = OutTradeNo::new(number).ok()?;
        Some(Key { channel: channel.parse().ok()?, out_trade_no })
    });
    parsed.ok_or_else(|| super::trades::Stopped::from(super::trades::Unpayable::Unknown).into())
}

fn to_trade(name: &str, outcome: Option<&str>) -> Response {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("trade", name);
    if let Some(outcome) = outcome {
        query.append_pair("outcome", outcome);
    }
    Redirect::to(&format!("/phone?{}", query.finish())).into_response()
}
