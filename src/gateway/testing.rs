//! What the tests of both protocols share: a moment, a trade, throw-away keys, and the table of what must
//! not be believed (`vectors/rejected.txt`).

use std::sync::LazyLock;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;

use super::keys::PrivateKey;
use super::{
    GatewayRefund, GatewayRefundState, RefundTerms, Stamp, Standing, Terms, Told, Trade, TradeState, Visit,
};
use crate::domain::id::{OutRefundNo, OutTradeNo, Scene, TransactionId, UnixMillis};
use crate::domain::money::Fen;

/// 2023-11-15 06:13:20 +08:00.
pub(super) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
pub(super) const NUMBER: &str = "T20231115_1";
pub(super) const APP_KEY: &str = include_str!("vectors/keys/app.pkcs8.pem");
pub(super) const APP_PUBLIC: &str = include_str!("vectors/keys/app.spki.pem");
const ALIPAY_KEY: &str = include_str!("vectors/keys/alipay.pkcs8.pem");

/// The merchant's key. Reading one checks its primes, so it is read once.
pub(super) fn app_key() -> PrivateKey {
    static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::read(APP_KEY).unwrap());
    KEY.clone()
}

/// Alipay's key.
pub(super) fn alipay_key() -> PrivateKey {
    static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::read(ALIPAY_KEY).unwrap());
    KEY.clone()
}

/// The trade that a notice tells of.
pub(super) fn of_trade(told: Told) -> Trade {
    match told {
        Told::Trade(trade) => trade,
        Told::Refund { .. } => panic!("a refund: {told:?}"),
    }
}

/// One line of the table.
pub(super) struct Row {
    pub(super) line: &'static str,
    pub(super) message: &'static str,
    /// Name and new value, `None` to remove.
    pub(super) edits: Vec<(&'static str, Option<&'static str>)>,
    pub(super) signature: &'static str,
    pub(super) outcome: &'static str,
}

/// The lines whose message begins with `prefix`.
pub(super) fn rows(prefix: &str) -> Vec<Row> {
    let lines = include_str!("vectors/rejected.txt").lines().filter(|line| line.starts_with(prefix));
    lines
        .map(|line| {
            let parts: Vec<&str> = line.split('|').map(str::trim).collect();
            let edits = parts[1].split(", ").filter(|edit| *edit != ".");
            let edits = edits.map(|edit| match edit.strip_prefix('-') {
                Some(name) => (name, None),
                None => edit.split_once('=').map(|(name, value)| (name, Some(value))).unwrap(),
            });
            Row { line, message: parts[0], edits: edits.collect(), signature: parts[2], outcome: parts[3] }
        })
        .collect()
}

pub(super) fn stamp() -> Stamp {
    Stamp { now: NOW, nonce: "5K8264ILTKCH16CQ2502SI8ZNMTM67VS".to_owned() }
}

pub(super) fn number() -> OutTradeNo {
    OutTradeNo::new(NUMBER).unwrap()
}

pub(super) fn terms(scene: Scene) -> Terms {
    Terms {
        scene,
        title: "测试 + 100% <茶> \"杯\"".to_owned(),
        total: Fen::new(1110).unwrap(),
        notify_url: "https://pay.example.com/rest/pub/pay_notify".to_owned(),
        time_expire: NOW.plus(600_000),
        client_ip: "203.0.113.7".to_owned(),
        visit: Visit::default(),
    }
}

/// A paid trade.
pub(super) fn paid_trade(scene: Scene, echo: &[(&str, &str)]) -> Standing {
    Standing {
        out_trade_no: number(),
        total: Fen::new(1110).unwrap(),
        title: "测试 + 100% & 茶".to_owned(),
        scene,
        transaction_id: Some(TransactionId::new("4200001234202311151234567890").unwrap()),
        payer: Some("2088102116773037".to_owned()),
        created_at: NOW.plus(-60_000),
        paid_at: Some(NOW.plus(-1000)),
        state: TradeState::Success,
        refunded: None,
        echo: echo.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    }
}

pub(super) fn refund_no() -> OutRefundNo {
    OutRefundNo::new("T20231115_1_r1").unwrap()
}

/// A part of that trade's money, on its way back.
pub(super) fn refund_terms() -> RefundTerms {
    RefundTerms {
        out_refund_no: refund_no(),
        total: Fen::new(1110).unwrap(),
        amount: Fen::new(110).unwrap(),
        reason: Some("少了一杯 <茶>".to_owned()),
        notify_url: "https://pay.example.com/rest/pub/wx/refund_notify".to_owned(),
    }
}

/// The same, as the gateway knows it.
pub(super) fn gateway_refund(state: GatewayRefundState) -> GatewayRefund {
    GatewayRefund {
        out_trade_no: number(),
        transaction_id: TransactionId::new("4200001234202311151234567890").unwrap(),
        out_refund_no: refund_no(),
        refund_id: "50300604212020051600550537447".to_owned(),
        total: Fen::new(1110).unwrap(),
        amount: Fen::new(110).unwrap(),
        refunded_total: Fen::new(210).unwrap(),
        payer: Some("2088102116773037".to_owned()),
        reason: Some("少了一杯 <茶>".to_owned()),
        asked_at: NOW.plus(-2000),
        done_at: (state == GatewayRefundState::Success).then_some(NOW.plus(-1000)),
        state,
        repeated: false,
    }
}

pub(super) fn request(body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post("http://127.0.0.1/notice").body(body.into()).unwrap()
}

pub(super) fn reply(body: impl Into<Bytes>) -> Response<Bytes> {
    Response::new(body.into())
}

/// Vectors of one file, and under one name of it.
pub(super) fn vectors(file: &str) -> Value {
    serde_json::from_str(file).unwrap()
}

/// A captured request, sent to where our half listens.
pub(super) fn captured(vector: &Value) -> Request<Bytes> {
    let text = |name: &str| vector[name].as_str().unwrap().to_owned();
    let request = Request::builder().method(text("method").as_str());
    request.uri(format!("http://127.0.0.1{}", text("url"))).body(text("body").into()).unwrap()
}

pub(super) const OFFICIAL: &str = include_str!("vectors/official.json");
pub(super) const NODE: &str = include_str!("vectors/node.json");
pub(super) const PYTHON: &str = include_str!("vectors/python.json");
