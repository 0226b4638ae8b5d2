//! The mall's `push_order`, kept to the letter (contract.md 4): the code of the live attempt, signed.
//! Never places a second attempt while one is live.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::auth::{Caller, pusher};
use super::ok;
use crate::domain::id::{OrderKey, OrderNumber, OrderType, Scene};
use crate::domain::order::Order;
use crate::gateway::Stamp;
use crate::runtime::clock::Clock;
use crate::runtime::random;
use crate::server::checkout::{Checkout, CheckoutError, Pushed};
use crate::server::error::ApiError;
use crate::server::json::{self, read_body};
use crate::server::merchants::Member;
use crate::server::store::Find;

/// Fields that the mall's front ends send besides these are ignored.
#[derive(Deserialize)]
struct PushOrder {
    order_type: String,
    order_number: String,
    r#type: String,
}

/// The nine strings of the seed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WxPushed {
    time_stamp: String,
    code_url: String,
    package: String,
    pay_sign: String,
    total_fee: String,
    app_id: String,
    sign_type: String,
    title: String,
    nonce_str: String,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum AliPushed {
    QrCode(String),
    OrderString(String),
}

/// `POST /rest/wx/push_order`.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn wx(State(checkout): State<Checkout>, request: Request) -> Result<Response, ApiError> {
    let (member, pushed) = push(&checkout, request, &[Scene::Native]).await?;
    Ok(ok(StatusCode::OK, sign(&member, &pushed)?))
}

/// `POST /rest/ali/push_order`.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn ali(State(checkout): State<Checkout>, request: Request) -> Result<Response, ApiError> {
    let (_, pushed) = push(&checkout, request, &[Scene::QrCode, Scene::App]).await?;
    let content = pushed.code.content;
    let data = match pushed.attempt.scene {
        Scene::App => AliPushed::OrderString(content),
        Scene::QrCode | Scene::Native | Scene::Jsapi | Scene::Mweb | Scene::Wap | Scene::Page => {
            AliPushed::QrCode(content)
        }
    };
    Ok(ok(StatusCode::OK, data))
}

async fn push(
    checkout: &Checkout,
    request: Request,
    scenes: &[Scene],
) -> Result<(std::sync::Arc<Member>, Pushed), ApiError> {
    let caller = pusher(checkout, request.headers(), request.extensions().get()).await?;
    let wanted: PushOrder = json::parse(&read_body(request.into_body()).await?)?;
    let order_type: OrderType =
        wanted.order_type.parse().map_err(|error| ApiError::invalid("order_type", error))?;
    let number =
        OrderNumber::new(wanted.order_number).map_err(|error| ApiError::invalid("order_number", error))?;
    let scene = scenes.iter().find(|scene| scene.as_str() == wanted.r#type).copied();
    let scene = scene.ok_or_else(|| ApiError::not_allowed("type", words(scenes)))?;
    let member = caller.member().clone();
    let key = OrderKey { merchant: member.config.id.clone(), order_type, number };
    let order = find(checkout, &caller, key).await?;
    Ok((member, checkout.push(&order, scene).await?))
}

async fn find(
    checkout: &Checkout,
    caller: &Caller,
    key: OrderKey,
) -> Result<std::sync::Arc<Order>, ApiError> {
    caller.may_touch(&key)?;
    Ok(checkout.find(Find::Key(key)).await?.ok_or(CheckoutError::NotFound)?)
}

/// `paySign` verifies over appId, nonceStr, package, signType and timeStamp with the merchant's key.
fn sign(member: &Member, pushed: &Pushed) -> Result<WxPushed, ApiError> {
    let not_configured = || CheckoutError::NotConfigured(pushed.attempt.scene.channel());
    let half = member.wx.as_ref().ok_or_else(not_configured)?;
    let nonce = random::base62(32).map_err(|error| CheckoutError::Internal(error.to_string()))?;
    let prepay_id = pushed.code.prepay_id.as_deref().unwrap_or_default();
    let params = half.pay_sign(prepay_id, &Stamp { now: Clock::real(), nonce });
    Ok(WxPushed {
        time_stamp: params.time_stamp,
        code_url: pushed.code.content.clone(),
        package: params.package,
        pay_sign: params.pay_sign,
        total_fee: pushed.order.terms.total.get().to_string(),
        app_id: params.app_id,
        sign_type: params.sign_type,
        title: pushed.order.terms.title.to_string(),
        nonce_str: params.nonce_str,
    })
}

fn words(scenes: &[Scene]) -> String {
    scenes.iter().map(|scene| scene.as_str()).collect::<Vec<_>>().join(", ")
}
