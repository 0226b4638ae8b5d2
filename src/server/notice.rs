//! Gateway -> us: choose whose keys to try, verify, apply, and only then acknowledge. Never answers
//! success before the commit; every failure is answered so that the gateway comes again.

use std::sync::Arc;

use axum::extract::{Request as AxumRequest, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::Request;

use super::checkout::{Checkout, CheckoutError, event_of};
use super::json::read_body;
use super::limits::Limits;
use super::merchants::Member;
use super::store::{Change, InboxRow, Settle, Verdict};
use crate::domain::id::{Channel, TradeId};
use crate::gateway::{self, Ack, Fault, Notice, Told, Verified, alipay, wechat_v2};
use crate::runtime::clock::Clock;
use crate::runtime::crash::{self, Point};

/// Bytes that are kept of a notice that is not trusted; real ones are shorter.
const UNTRUSTED_RAW: usize = 4096;
/// Bytes that are kept of a notice's headers; WeChat's v3 signature needs about 600.
const HEADERS: usize = 4096;
/// Bytes that are said of one: what it says of itself is part of that.
const UNTRUSTED_NOTE: usize = 512;

/// `POST /rest/pub/wx/pay_notify`.
pub async fn wx(
    State(checkout): State<Checkout>,
    State(limits): State<Arc<Limits>>,
    request: AxumRequest,
) -> Response {
    receive(checkout, limits, Channel::Wx, request).await
}

/// `POST /rest/pub/ali/pay_notify`.
pub async fn ali(
    State(checkout): State<Checkout>,
    State(limits): State<Arc<Limits>>,
    request: AxumRequest,
) -> Response {
    receive(checkout, limits, Channel::Ali, request).await
}

async fn receive(
    checkout: Checkout,
    limits: Arc<Limits>,
    channel: Channel,
    request: AxumRequest,
) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = match read_body(body).await {
        Ok(bytes) => bytes,
        Err(error) => return error.into_response(),
    };
    // In a task of its own: a gateway that hangs up must not leave a notice half applied.
    let work = tokio::spawn(async move {
        let notice = Request::from_parts(parts, bytes);
        settle(&checkout, &limits, channel, &notice).await
    });
    let ack = work.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a notice was not settled");
        Ack::Failed
    });
    if ack == Ack::Accepted {
        crash::point(Point::AcceptBeforeAnswer);
    }
    encode_ack(channel, ack)
}

/// The whole decision table of contract.md 4. The answer is that of the commit.
pub async fn settle(checkout: &Checkout, limits: &Limits, channel: Channel, notice: &Request<Bytes>) -> Ack {
    crash::point(Point::AcceptRead);
    let (member, verified) = match verify(checkout, channel, notice) {
        Ok(verified) => verified,
        Err(_) if !limits.keep_untrusted() => return Ack::Failed,
        Err((verdict, fault)) => {
            let fault = gateway::truncate_bytes(&fault.to_string(), UNTRUSTED_NOTE).to_owned();
            tracing::warn!(%channel, %fault, "a notice was not trusted");
            record(checkout, channel, notice, verdict, fault).await;
            return Ack::Failed;
        }
    };
    crash::point(Point::AcceptVerified);
    match apply(checkout, channel, &member, verified, notice).await {
        Ok(ack) => ack,
        Err(error) => {
            tracing::error!(%channel, %error, "a trusted notice could not be applied");
            Ack::Failed
        }
    }
}

/// Tries the keys of the merchants that have the account the notice names.
fn verify(
    checkout: &Checkout,
    channel: Channel,
    notice: &Request<Bytes>,
) -> Result<(Arc<Member>, Verified<Notice>), (Verdict, Fault)> {
    let identified = match channel {
        Channel::Wx => wechat_v2::identify(notice.body()),
        Channel::Ali => alipay::identify(notice.body()),
    };
    let (app, merchant) = identified.map_err(|fault| (Verdict::Untrusted, fault))?;
    let account = format!("{app}:{merchant}");
    let merchants = checkout.merchants();
    let mut last = (Verdict::Foreign, Fault::ForeignAccount(account.clone()));
    for member in merchants.by_account(channel, &account) {
        let Some(half) = member.gateway(channel) else { continue };
        match half.decode_notice(notice, Clock::real()) {
            Ok(verified) => return Ok((member.clone(), verified)),
            Err(fault) => last = (Verdict::Untrusted, fault),
        }
    }
    Err(last)
}

async fn apply(
    checkout: &Checkout,
    channel: Channel,
    member: &Member,
    verified: Verified<Notice>,
    notice: &Request<Bytes>,
) -> Result<Ack, CheckoutError> {
    let Notice { out_trade_no, delivery_id, told } = verified.into_inner();
    let trade = TradeId { channel, out_trade_no: out_trade_no.clone() };
    let change = match told {
        Told::Trade(standing) => event_of(&trade, &standing).map_or(Change::Nothing, Change::Event),
        Told::Refund { out_refund_no } => Change::RefundMoved(out_refund_no),
    };
    let told = Settle {
        account: member.gateway(channel).map(|half| half.account().to_owned()).unwrap_or_default(),
        trade: trade.clone(),
        change,
        notice: InboxRow {
            channel,
            merchant: Some(member.config.id.clone()),
            verdict: Verdict::Applied,
            out_trade_no: Some(out_trade_no),
            delivery_id,
            note: None,
            headers: headers(notice),
            raw: notice.body().to_vec(),
        },
    };
    // What the order refuses by name contradicts what is settled, is recorded, and will not be otherwise
    // later: the gateway need not come again.
    if checkout.settle(told).await? {
        crash::point(Point::AcceptAfterCommit);
        return Ok(Ack::Accepted);
    }
    tracing::error!(%trade, "a trusted notice names nothing of ours");
    Ok(Ack::Failed)
}

/// The headers as they came, one a line: a signature may stand in them.
fn headers(notice: &Request<Bytes>) -> String {
    let mut text = String::new();
    for (name, value) in notice.headers() {
        text.push_str(name.as_str());
        text.push_str(": ");
        text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        text.push('\n');
    }
    gateway::truncate_bytes(&text, HEADERS).to_owned()
}

/// Anybody may send these, so what is kept of each has an end.
async fn record(
    checkout: &Checkout,
    channel: Channel,
    notice: &Request<Bytes>,
    verdict: Verdict,
    note: String,
) {
    let row = InboxRow {
        channel,
        merchant: None,
        verdict,
        out_trade_no: None,
        delivery_id: None,
        note: Some(note),
        headers: headers(notice),
        raw: notice.body().iter().copied().take(UNTRUSTED_RAW).collect(),
    };
    if let Err(error) = checkout.record_notice(row).await {
        tracing::error!(%error, "an untrusted notice was not recorded");
    }
}

fn encode_ack(channel: Channel, ack: Ack) -> Response {
    let reply = match channel {
        Channel::Wx => wechat_v2::encode_ack(ack),
        Channel::Ali => alipay::encode_ack(ack),
    };
    reply.map(axum::body::Body::from)
}
