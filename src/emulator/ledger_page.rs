//! The books as a page for people: the newest trades, what went back of each, and whether it was told.
//! Never the truth for programs: they ask for `GET /ledger` as JSON (`statement`).

use axum::response::Html;
use leptos::prelude::*;

use super::Emulator;
use super::notices::Notice;
use super::page::{Frame, Language};
use super::phone::disc;
use super::refunds::Refund;
use super::trades::Trade;
use crate::domain::id::UnixMillis;
use crate::domain::time;
use crate::gateway::{GatewayRefundState, TradeState};

/// A refund with its notice.
pub(super) type Told = (Refund, Option<Notice>);

pub(super) fn render(emulator: &Emulator, language: Language) -> Html<String> {
    let now = emulator.inner.clock.now();
    let newest: Vec<_> = {
        let book = emulator.book();
        let lines = book.newest().take(SHOWN).map(|trade| {
            let refunds = book.refunds().of(&trade.key);
            let refunds: Vec<Told> =
                refunds.map(|refund| (refund.clone(), book.refund_notice(refund).cloned())).collect();
            (trade.clone(), book.paid_notice(&trade.key).cloned(), refunds)
        });
        lines.collect()
    };
    let nothing = newest.is_empty().then(|| {
        view! { <li class="second">{language.pick("还没有交易", "No trades yet")}</li> }
    });
    let rows = newest.into_iter().map(|(trade, notice, refunds)| {
        let refunds = refunds.into_iter().map(|(refund, notice)| {
            view! {
                {given_back(language, &refund, now)}
                {notice.map(|notice| delivery(language, &notice))}
            }
        });
        view! {
            <li class="log-entry">
                <p>
                    {disc(trade.key.channel)}" "<b>{trade.key.out_trade_no.to_string()}</b>" "
                    <span class="amount">"¥ "{trade.terms.total.to_string()}</span>" "
                    {standing(language, &trade)}
                </p>
                <p class="second">{time::spaced(trade.created_at)}" "{trade.terms.title}</p>
                {notice.map(|notice| delivery(language, &notice))}
                {refunds.collect_view()}
            </li>
        }
    });
    let title = language.pick("账本", "Ledger");
    let content = view! {
        <main class="card wide">
            <h1>{title}</h1>
            <p class="second">
                {language.pick(
                    "最近的交易。程序请求此地址（不带 Accept: text/html）得到完整的 JSON。",
                    "The newest trades. A program (no Accept: text/html) gets all of them here as JSON.",
                )}
            </p>
            <ul class="log">{nothing}{rows.collect_view()}</ul>
            <p><a href="./">{language.pick("返回", "Back")}</a></p>
        </main>
    };
    Frame::new(language, title).render(content)
}

/// One line for one refund; the phone shows it, too.
pub(super) fn given_back(language: Language, refund: &Refund, now: UnixMillis) -> impl IntoView + use<> {
    let (class, said) = match refund.state_at(now) {
        GatewayRefundState::Success => ("good", language.pick("已退款", "Refunded")),
        GatewayRefundState::Processing => ("wait", language.pick("退款中", "Being refunded")),
        GatewayRefundState::Closed => ("bad", language.pick("退款关闭", "Refund closed")),
    };
    view! {
        <p>
            <span class=class>{said}</span>" "
            <span class="amount">"¥ "{refund.amount.to_string()}</span>" "
            <code>{refund.out_refund_no.to_string()}</code>" "
            <span class="second">{refund.reason.clone()}</span>
        </p>
    }
}

fn standing(language: Language, trade: &Trade) -> impl IntoView + use<> {
    let (class, said) = match trade.state {
        TradeState::Success => ("good", language.pick("已支付", "paid")),
        TradeState::NotPay => ("wait", language.pick("待付款", "waits to be paid")),
        TradeState::Closed => ("bad", language.pick("已关闭", "closed")),
    };
    view! { <span class=class>{said}</span> }
}

fn delivery(language: Language, notice: &Notice) -> impl IntoView + use<> {
    let accepted = notice.deliveries.iter().any(|one| one.accepted);
    let said = match (accepted, notice.deliveries.is_empty(), notice.next_at.is_some()) {
        (true, _, _) => language.pick("通知已被接收", "notice accepted"),
        (false, true, _) => language.pick("通知尚未发送", "notice not sent yet"),
        (false, false, true) => language.pick("通知未被接收，将重发", "notice not accepted, comes again"),
        (false, false, false) => language.pick("通知未被接收，已放弃", "notice not accepted, given up"),
    };
    let tries = notice.deliveries.len();
    view! { <p class="second">{said}" ("{tries}") "{notice.notify_url.clone()}</p> }
}

/// More than anybody reads; the rest is in the JSON.
const SHOWN: usize = 100;
