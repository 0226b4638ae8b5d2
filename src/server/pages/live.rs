//! The state of an order for its page: once as JSON, or as a stream of events. Never asks a gateway:
//! a thousand open tabs cost it nothing.

use core::convert::Infallible;
use core::time::Duration;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Json, Response};
use futures_util::stream;
use http::header;
use serde_json::json;
use tokio::sync::watch;

use crate::domain::id::UnixMillis;
use crate::domain::money::Fen;
use crate::domain::order::{AnomalyKind, CloseCause, Order, Payment, State as OrderState};
use crate::domain::refund::RefundState;
use crate::domain::time::spaced;
use crate::server::checkout::{Checkout, CheckoutError};
use crate::server::error::ApiError;
use crate::ui::view::{Extra, LiveView, PageState};

/// How often the stream speaks when nothing changes: proxies cut what is silent for a minute, and the
/// page takes 25 s of silence for a dead stream.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// The order's last minute.
const EXPIRING_MS: i64 = 60_000;

/// What may be seen of the order now.
pub fn live_view(order: &Order, now: UnixMillis) -> LiveView {
    let state = page_state(order, now);
    let left = order.terms.expires_at.filter(|_| state.is_payable()).map(|at| at.since(now).max(0));
    LiveView {
        state,
        version: order.version,
        remaining_ms: left.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX)),
        paid_at: order.payment().map(|payment| spaced(payment.paid_at)),
        paid_with: order.payment().map(|payment| payment.trade.channel),
        extra: extra(order),
        code: None,
    }
}

/// The same, with what the gateways are known to have seen besides.
pub fn live_of(checkout: &Checkout, order: &Order) -> LiveView {
    let live = live_view(order, checkout.now());
    if live.state == PageState::Pending && checkout.is_scanned(order) {
        return LiveView { state: PageState::Scanned, ..live };
    }
    live
}

/// Where the money stands that did not pay the order; of several, the one that needs a person most.
fn extra(order: &Order) -> Extra {
    let paid = order.payment();
    let others = order.money().filter(|money| paid.is_none_or(|payment| !same_money(money, payment)));
    let fates = others.map(|money| {
        let newest = order.refunds.iter().rev().find(|refund| refund.is_of(money));
        match newest.map(|refund| &refund.state) {
            _ if order.refunded(money) == money.fee => Extra::Returned,
            Some(RefundState::Asked | RefundState::Processing) => Extra::Returning,
            Some(RefundState::Failed { .. }) => Extra::Stuck,
            Some(RefundState::Succeeded { .. }) | None => Extra::Held,
        }
    });
    let urgency = |fate: &Extra| match fate {
        Extra::None => 0,
        Extra::Returned => 1,
        Extra::Returning => 2,
        Extra::Held => 3,
        Extra::Stuck => 4,
    };
    fates.max_by_key(urgency).unwrap_or(Extra::None)
}

/// What of the payment is on its way back, and what is back, in yuan.
pub fn refunds(order: &Order) -> (Option<String>, Option<String>) {
    let Some(payment) = order.payment() else { return (None, None) };
    let back = order.refunded(payment);
    let on_its_way = order.given_back(payment).checked_sub(back).unwrap_or(Fen::ZERO);
    let shown = |fen: Fen| (fen != Fen::ZERO).then(|| fen.to_string());
    (shown(on_its_way), shown(back))
}

fn page_state(order: &Order, now: UnixMillis) -> PageState {
    let has = |kind| order.anomalies.iter().any(|anomaly| anomaly.kind == kind);
    match &order.state {
        // A notice that first told the payment's own transaction with a wrong amount is no second payment.
        OrderState::Paid { payment } if order.anomalies.iter().all(|a| same_money(&a.payment, payment)) => {
            PageState::Paid
        }
        OrderState::Paid { .. } => PageState::PaidTwice,
        OrderState::Closed { .. } if has(AnomalyKind::Late) => PageState::PaidLate,
        _ if has(AnomalyKind::Mismatch) => PageState::AmountMismatch,
        OrderState::Closed { cause: CloseCause::Expired, .. } => PageState::Expired,
        OrderState::Closed { cause: CloseCause::Merchant, .. } => PageState::Closed,
        // The gateways are being asked whether money came in.
        OrderState::Closing { .. } => PageState::Confirming,
        OrderState::Pending => match order.terms.expires_at.map(|at| at.since(now)) {
            Some(..=0) => PageState::Confirming,
            Some(..EXPIRING_MS) => PageState::Expiring,
            _ => PageState::Pending,
        },
    }
}

fn same_money(left: &Payment, right: &Payment) -> bool {
    left.trade.channel == right.trade.channel && left.transaction_id == right.transaction_id
}

/// `GET /pay/{page}/status`.
///
/// # Errors
/// Unknown page, or the store is unavailable.
pub async fn status(
    State(checkout): State<Checkout>,
    Path(page): Path<String>,
) -> Result<Response, ApiError> {
    let order = checkout.order_by_page(&page).await?.ok_or(CheckoutError::NotFound)?;
    checkout.seen(&order);
    let data = live_of(&checkout, &order);
    let body = Json(json!({ "status_code": 0, "data": data }));
    Ok(([(header::CACHE_CONTROL, "no-store")], body).into_response())
}

/// `GET /pay/{page}/events`: the state now, after each change, and every ten seconds.
///
/// # Errors
/// Unknown page, or the store is unavailable.
pub async fn events(
    State(checkout): State<Checkout>,
    Path(page): Path<String>,
) -> Result<Response, ApiError> {
    let order = checkout.order_by_page(&page).await?.ok_or(CheckoutError::NotFound)?;
    let mut orders = checkout.watch(order).await?;
    orders.mark_changed();
    let body = stream::unfold((checkout, orders), next);
    // A proxy that buffers would keep the news to itself.
    let headers =
        [(header::CACHE_CONTROL, "no-store"), (header::HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, Sse::new(body)).into_response())
}

type Watching = (Checkout, watch::Receiver<Arc<Order>>);

/// The next event: at once when the order changed, else when it is time to show that the stream lives.
/// `None` ends the stream: the server stops.
async fn next((checkout, mut orders): Watching) -> Option<(Result<Event, Infallible>, Watching)> {
    tokio::select! {
        biased;
        () = checkout.stopping().cancelled() => return None,
        changed = orders.changed() => changed.ok()?,
        () = tokio::time::sleep(HEARTBEAT) => {}
    }
    let order = orders.borrow_and_update().clone();
    let live = live_of(&checkout, &order);
    let text = serde_json::to_string(&live).unwrap_or_default();
    let event = Event::default().id(live.version.to_string()).retry(Duration::from_secs(2)).data(text);
    Some((Ok(event), (checkout, orders)))
}
