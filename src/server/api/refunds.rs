//! `/rest/orders/{type}/{number}/refunds`: money given back (contract.md 5). Taken on here and made by a
//! worker, so the first answer says `processing`. Asking again with the same number never gives back twice.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::auth::merchant;
use super::ok;
use super::orders::{self, TOTAL_MAX};
use crate::domain::id::{Channel, OutRefundNo, RefundNumber, TransactionId};
use crate::domain::money::Fen;
use crate::domain::refund::{Refund, RefundState, RefundWanted};
use crate::domain::snapshot::RefundSnapshot;
use crate::domain::time::rfc3339;
use crate::server::checkout::{Checkout, CheckoutError};
use crate::server::error::{ApiError, Kind};
use crate::server::json::{self, read_body};
use crate::server::store::Find;

/// The longest `reason`, in bytes: WeChat's `refund_desc` (gateways.md 1.5).
const REASON_MAX: usize = 80;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRefund {
    refund_number: String,
    amount: i64,
    reason: Option<String>,
    transaction_id: Option<String>,
}

/// A refund as the mall sees it.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    refund: RefundSnapshot,
    reason: Option<&'a str>,
    /// Which money goes back.
    channel: Channel,
    transaction_id: &'a TransactionId,
    /// Its number at the gateway.
    out_refund_no: &'a OutRefundNo,
    created_at: String,
    succeeded_at: Option<String>,
    /// The gateway's own code.
    failed_code: Option<&'a str>,
}

/// `POST /rest/orders/{type}/{number}/refunds`: 201, or 200 if the same refund exists.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn create(
    State(checkout): State<Checkout>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let member = merchant(&checkout, request.headers()).await?;
    let key = orders::key_in(path, member.config.id.clone())?;
    let wanted = wanted(json::parse(&read_body(request.into_body()).await?)?)?;
    let order = checkout.find(Find::Key(key)).await?.ok_or(CheckoutError::NotFound)?;
    let (_, refund, new) = checkout.refund(order.id, wanted).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(ok(status, Whole::of(&refund)))
}

/// `GET /rest/orders/{type}/{number}/refunds/{refund_number}`.
///
/// # Errors
/// As documented in docs/errors.md.
pub async fn read(
    State(checkout): State<Checkout>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let member = merchant(&checkout, &headers).await?;
    let Ok(Path((order_type, order_number, number))) = path else { return Err(ApiError::unknown_route()) };
    let key = orders::key(member.config.id.clone(), &order_type, order_number)?;
    let number = refund_number(number)?;
    let order = checkout.find(Find::Key(key)).await?.ok_or(CheckoutError::NotFound)?;
    let refund = order.refund(&number).ok_or_else(|| ApiError::new(Kind::RefundNotFound))?;
    Ok(ok(StatusCode::OK, Whole::of(refund)))
}

fn wanted(body: NewRefund) -> Result<RefundWanted, ApiError> {
    if !(1..=TOTAL_MAX).contains(&body.amount) {
        return Err(ApiError::out_of_range("amount", 1, TOTAL_MAX));
    }
    let too_long = |text: &String| text.len() > REASON_MAX || text.chars().any(char::is_control);
    if body.reason.as_ref().is_some_and(too_long) {
        return Err(ApiError::invalid("reason", "up to 80 bytes without control characters"));
    }
    let transaction_id = body.transaction_id.map(TransactionId::new).transpose();
    Ok(RefundWanted {
        number: refund_number(body.refund_number)?,
        amount: Fen::new(body.amount).map_err(|error| ApiError::invalid("amount", error))?,
        reason: body.reason.filter(|text| !text.is_empty()),
        transaction_id: transaction_id.map_err(|error| ApiError::invalid("transaction_id", error))?,
    })
}

fn refund_number(text: String) -> Result<RefundNumber, ApiError> {
    RefundNumber::new(text).map_err(|error| ApiError::invalid("refund_number", error))
}

impl<'a> Whole<'a> {
    fn of(refund: &'a Refund) -> Self {
        let (succeeded_at, failed_code) = match &refund.state {
            RefundState::Asked | RefundState::Processing => (None, None),
            RefundState::Failed { code } => (None, Some(code.as_str())),
            RefundState::Succeeded { at } => (Some(rfc3339(*at)), None),
        };
        Self {
            refund: RefundSnapshot::of(refund),
            reason: refund.reason.as_deref(),
            channel: refund.trade.channel,
            transaction_id: &refund.transaction_id,
            out_refund_no: &refund.out_refund_no,
            created_at: rfc3339(refund.asked_at),
            succeeded_at,
            failed_code,
        }
    }
}
