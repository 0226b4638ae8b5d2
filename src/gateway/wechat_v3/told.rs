//! What answers and notices of v3 hold (gateways.md 2.3 to 2.5, 2.9).
//! Never signs or seals: `gateway` does.

use serde_json::{Value, json};

use super::super::{GatewayRefund, GatewayRefundState, Standing, TradeState};
use super::asked::echoed;
use crate::domain::order::Code;
use crate::domain::time;

/// What a notice tells, before it is sealed.
pub(super) struct Event {
    pub(super) kind: &'static str,
    pub(super) original_type: &'static str,
    pub(super) summary: &'static str,
    pub(super) content: Value,
}

/// The answer to a creation: one member, another for each way to pay.
pub(super) fn created(code: &Code, trade_type: Option<&str>) -> Value {
    match trade_type {
        Some("JSAPI") => json!({ "prepay_id": code.prepay_id }),
        Some("MWEB") => json!({ "h5_url": code.content }),
        _ => json!({ "code_url": code.content }),
    }
}

/// A trade. Unpaid it has neither number nor time nor payer.
pub(super) fn trade_told(app_id: &str, mch_id: &str, trade: &Standing) -> Value {
    let (state, description) = match trade.state {
        // After any refund, of a part too (gateways.md 5, pitfall 11).
        TradeState::Success if trade.refunded.is_some() => ("REFUND", "订单发生过退款"),
        TradeState::Success => ("SUCCESS", "支付成功"),
        TradeState::NotPay => ("NOTPAY", "订单未支付"),
        TradeState::Closed => ("CLOSED", "订单已关闭"),
    };
    let total = trade.total.get();
    let mut told = json!({
        "appid": app_id,
        "mchid": mch_id,
        "out_trade_no": trade.out_trade_no.as_str(),
        "trade_state": state,
        "trade_state_desc": description,
    });
    let Some(members) = told.as_object_mut() else { return told };
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    if let Some(attach) = echoed(&trade.echo, "attach") {
        put("attach", json!(attach));
    }
    if trade.state != TradeState::Success {
        return told;
    }
    put("trade_type", json!(trade.scene.as_str()));
    put("bank_type", json!("OTHERS"));
    put("transaction_id", json!(trade.transaction_id.as_ref().map(crate::domain::id::TransactionId::as_str)));
    put("success_time", json!(trade.paid_at.map(time::rfc3339)));
    put("payer", json!({ "openid": trade.payer }));
    put(
        "amount",
        json!({ "total": total, "payer_total": total, "currency": "CNY", "payer_currency": "CNY" }),
    );
    told
}

/// A refund.
pub(super) fn refund_told(refund: &GatewayRefund) -> Value {
    let (total, amount) = (refund.total.get(), refund.amount.get());
    let mut told = json!({
        "refund_id": refund.refund_id,
        "out_refund_no": refund.out_refund_no.as_str(),
        "transaction_id": refund.transaction_id.as_str(),
        "out_trade_no": refund.out_trade_no.as_str(),
        "channel": "ORIGINAL",
        "user_received_account": PURSE,
        "create_time": time::rfc3339(refund.asked_at),
        "status": word(refund.state),
        "funds_account": "UNSETTLED",
        "amount": {
            "total": total, "refund": amount, "from": [], "payer_total": total, "payer_refund": amount,
            "settlement_refund": amount, "settlement_total": total, "discount_refund": 0, "currency": "CNY",
        },
        "promotion_detail": [],
    });
    if let (Some(members), Some(at)) = (told.as_object_mut(), refund.done_at) {
        members.insert("success_time".to_owned(), json!(time::rfc3339(at)));
    }
    told
}

/// A refund that came to its end, as its notice tells it.
pub(super) fn refund_ended(mch_id: &str, refund: &GatewayRefund) -> Event {
    let (total, amount) = (refund.total.get(), refund.amount.get());
    let mut content = json!({
        "mchid": mch_id,
        "transaction_id": refund.transaction_id.as_str(),
        "out_trade_no": refund.out_trade_no.as_str(),
        "refund_id": refund.refund_id,
        "out_refund_no": refund.out_refund_no.as_str(),
        "refund_status": word(refund.state),
        "user_received_account": PURSE,
        "amount": { "total": total, "refund": amount, "payer_total": total, "payer_refund": amount },
    });
    if let (Some(members), Some(at)) = (content.as_object_mut(), refund.done_at) {
        members.insert("success_time".to_owned(), json!(time::rfc3339(at)));
    }
    let (kind, summary) = match refund.state {
        GatewayRefundState::Closed => ("REFUND.CLOSED", "退款关闭"),
        GatewayRefundState::Success | GatewayRefundState::Processing => ("REFUND.SUCCESS", "退款成功"),
    };
    Event { kind, original_type: "refund", summary, content }
}

const fn word(state: GatewayRefundState) -> &'static str {
    match state {
        GatewayRefundState::Processing => "PROCESSING",
        GatewayRefundState::Success => "SUCCESS",
        GatewayRefundState::Closed => "CLOSED",
    }
}

/// Where the money goes.
const PURSE: &str = "支付用户零钱";
