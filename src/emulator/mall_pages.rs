//! The mall's pages and its webhook, mounted at `/mall` beside the service.
//! Never shows an order as paid before a webhook said so.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use leptos::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::control::own_pages_only;
use super::mall::{BuyError, Entry, Mall, SHELF};
use super::page::{self, Frame, Language};
use super::tablet;
use crate::domain::money::Fen;
use crate::runtime::clock::Clock;

/// Everything under `/mall`. `phone` is where a shopper without a phone finds one.
pub fn router(mall: Mall, phone: String) -> Router {
    let pages = Router::new()
        .route("/mall", get(shop))
        .route("/mall/buy", post(buy))
        .route("/mall/tablet", post(tablet::show))
        .route("/mall/style.css", get(page::style))
        .route("/mall/mall.js", get(script))
        .layer(middleware::from_fn(own_pages_only));
    Router::new()
        .merge(pages)
        .route("/mall/orders.json", get(orders))
        .route("/mall/webhook", post(webhook))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Shop { mall, phone })
}

#[derive(Clone)]
pub(super) struct Shop {
    pub(super) mall: Mall,
    phone: String,
}

#[derive(Deserialize)]
struct Bought {
    sku: String,
}

async fn shop(State(shop): State<Shop>, headers: HeaderMap) -> Response {
    let language = Language::of(&headers);
    let goods = SHELF.iter().map(|goods| {
        let buy = language.pick("购买", "Buy");
        let label = format!("{buy} {}", goods.title);
        let price = Fen::new(goods.price).unwrap_or_default().to_string();
        view! {
            <li class="goods">
                <span class="goods-title">{goods.title}</span>
                <span class="amount"><small>"¥"</small>{price}</span>
                <form method="post" action="/mall/buy">
                    <input type="hidden" name="sku" value=goods.sku />
                    <button class="primary" aria-label=label>{buy}</button>
                </form>
            </li>
        }
    });
    let entries = shop.mall.newest_first();
    let none = entries.is_empty().then(|| {
        view! { <li class="second">{language.pick("还没有订单", "No orders yet")}</li> }
    });
    let orders: Vec<_> = entries.into_iter().take(SHOWN).map(|entry| order(language, entry)).collect();
    let title = language.pick("示例商城", "Demo mall");
    let content = view! {
        <main class="card wide">
            <header class="mall-head">
                <h1>{title}</h1>
                <a href=shop.phone.clone() target="_blank" rel="noopener">
                    {language.pick("模拟手机", "The phone")}
                </a>
            </header>
            <h2>{language.pick("商品", "Goods")}</h2>
            <ul class="shelf">{goods.collect_view()}</ul>
            <h2>{language.pick("我的订单", "My orders")}</h2>
            <ul class="orders" id="orders" aria-live="polite">{none}{orders}</ul>
        </main>
    };
    let frame = Frame { language, title, class: "mall", root: "/mall/", script: Some("mall.js") };
    let mut page = frame.render(content).into_response();
    // Buying ends at the service, which may have another name than the one typed for the mall.
    let policy =
        page::POLICY.replace("form-action 'self'", &format!("form-action 'self' {}", shop.mall.service()));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    page
}

fn order(language: Language, entry: Entry) -> impl IntoView {
    let (class, state) = match entry.state.as_str() {
        "paid" => ("good", language.pick("已支付", "Paid")),
        "closed" => ("bad", language.pick("已关闭", "Closed")),
        _ => ("wait", language.pick("待付款", "To be paid")),
    };
    let pay = entry.checkout_url.filter(|_| entry.state == "pending").map(|url| {
        view! { <a href=url>{language.pick("去付款", "Pay")}</a> }
    });
    let tablet = (entry.state == "pending").then(|| {
        view! {
            <form method="post" action="/mall/tablet">
                <input type="hidden" name="order_type" value=entry.order_type.as_str() />
                <input type="hidden" name="order_number" value=entry.order_number.clone() />
                <button>{language.pick("在平板上收款", "On the tablet")}</button>
            </form>
        }
    });
    view! {
        <li data-order=entry.order_number.clone()>
            <span>{entry.title}<br /><small class="second">{entry.order_number.clone()}</small></span>
            <span class="amount"><small>"¥"</small>{entry.total_fee.to_string()}</span>
            <b class=class>{state}</b>
            {pay}
            {tablet}
        </li>
    }
}

async fn buy(State(shop): State<Shop>, headers: HeaderMap, Form(form): Form<Bought>) -> Response {
    let language = Language::of(&headers);
    match shop.mall.buy(&form.sku).await {
        Ok(checkout_url) => Redirect::to(&checkout_url).into_response(),
        Err(error) => not_done(language, &error),
    }
}

/// The page that says why something was not done.
pub(super) fn not_done(language: Language, error: &BuyError) -> Response {
    let status = match error {
        BuyError::NoSuchGoods => StatusCode::NOT_FOUND,
        BuyError::Refused(_) => StatusCode::BAD_GATEWAY,
        BuyError::Ledger(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let title = language.pick("没有完成", "Not done");
    let content = view! {
        <main class="card wide">
            <h1 class="bad">{title}</h1>
            <p>{error.to_string()}</p>
            <p><a href="/mall">{language.pick("返回商城", "Back to the mall")}</a></p>
        </main>
    };
    let frame = Frame { language, title, class: "mall", root: "/mall/", script: None };
    (status, frame.render(content)).into_response()
}

async fn orders(State(shop): State<Shop>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(json!({ "orders": shop.mall.newest_first() })))
        .into_response()
}

/// 2xx only once it is on disk; everything else makes the service come again.
async fn webhook(State(shop): State<Shop>, headers: HeaderMap, body: Bytes) -> Response {
    match shop.mall.hear(&headers, &body, Clock::real()).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(why)) => (StatusCode::BAD_REQUEST, format!("{why:?}\n")).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

async fn script() -> impl IntoResponse {
    let headers =
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, SCRIPT)
}

/// Looks again every second; replaces the list only where it changed.
const SCRIPT: &str = r#""use strict";
setInterval(async () => {
  try {
    const answer = await fetch(location.pathname, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("orders");
    const shown = document.getElementById("orders");
    if (fresh && shown.innerHTML !== fresh.innerHTML) shown.replaceChildren(...fresh.childNodes);
  } catch {
    // Not reachable for a moment: look again.
  }
}, 1000);
"#;

/// Orders on the page; `orders.json` has all.
const SHOWN: usize = 30;
/// contract.md 4.
const MAX_BODY: usize = 64 * 1024;
