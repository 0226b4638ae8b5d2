//! Tests of refunds in both halves of Alipay: round trips, words, and what the trade's notices tell of them.

use super::super::testing::{
    NODE, NOW, PYTHON, Row, alipay_key, app_key, captured, gateway_refund, number, of_trade, paid_trade,
    refund_no, refund_terms, reply, rows, stamp, vectors,
};
use super::super::{
    Answer, Call, Counterpart, GatewayRefund, GatewayRefundState, Merchant, Objection, RefundTerms, Refunded,
    Reply, Retry, Standing, Trade,
};
use super::tests::{called, each, edit, gateway, made, merchant, outcome_of, resign, sent, text};
use super::*;
use crate::domain::id::{OutRefundNo, OutTradeNo};
use crate::domain::money::Fen;
use crate::domain::refund::RefundStanding;
use crate::domain::time;

/// What our half asks, as it comes out of Alipay's request: no total, no address.
fn refund() -> Call {
    let refund = RefundTerms { total: Fen::ZERO, notify_url: String::new(), ..refund_terms() };
    Call::Refund {
        out_trade_no: number(),
        refund: RefundTerms { reason: Some("少了一杯".to_owned()), ..refund },
    }
}

fn query() -> Call {
    Call::RefundQuery { out_trade_no: number(), out_refund_no: refund_no() }
}

/// The other half's answer to `call`, as our half reads it.
fn answered(call: &Call, answer: &Answer) -> Result<Reply, Fault> {
    let received = gateway().decode_call(&sent(call), NOW).unwrap();
    merchant().decode_reply(call, &gateway().encode_answer(answer, &received.echo, &stamp()), NOW)
}

const fn standing(standing: RefundStanding) -> Reply {
    Reply::Refund(standing)
}

const fn done() -> RefundStanding {
    RefundStanding::Succeeded { at: Some(UnixMillis(NOW.0 - 1000)) }
}

#[test]
fn a_refund_there_and_back() {
    let received = gateway().decode_call(&sent(&refund()), NOW).unwrap();
    assert_eq!((received.method.as_str(), &received.call), ("alipay.trade.refund", &refund()));
    let success = gateway_refund(GatewayRefundState::Success);
    assert_eq!(answered(&refund(), &Answer::Refund(success.clone())), Ok(standing(done())));
    // Accepted is as good as done; only a repetition moves nothing, and then the query tells.
    let accepted = gateway_refund(GatewayRefundState::Processing);
    let at = Some(accepted.asked_at);
    let read = answered(&refund(), &Answer::Refund(accepted));
    assert_eq!(read, Ok(standing(RefundStanding::Succeeded { at })));
    let repeated = Answer::Refund(GatewayRefund { repeated: true, ..success });
    assert_eq!(answered(&refund(), &repeated), Ok(standing(RefundStanding::Processing)));
    let closed = answered(&refund(), &Answer::Refund(gateway_refund(GatewayRefundState::Closed)));
    assert!(matches!(closed, Err(Fault::Refused { retry: Retry::Never, .. })), "{closed:?}");
}

#[test]
fn a_refund_query_there_and_back() {
    let received = gateway().decode_call(&sent(&query()), NOW).unwrap();
    assert_eq!((received.method.as_str(), &received.call), ("alipay.trade.fastpay.refund.query", &query()));
    for (state, expected) in [
        (GatewayRefundState::Success, done()),
        (GatewayRefundState::Processing, RefundStanding::Processing),
        (GatewayRefundState::Closed, RefundStanding::Absent),
    ] {
        let answer = Answer::RefundQuery(Some(gateway_refund(state)));
        assert_eq!(answered(&query(), &answer), Ok(standing(expected)));
    }
    assert_eq!(answered(&query(), &Answer::RefundQuery(None)), Ok(standing(RefundStanding::Absent)));
    // The time is told only to who asks for it.
    let echo = [("method".to_owned(), "alipay.trade.fastpay.refund.query".to_owned())];
    let answer = Answer::RefundQuery(Some(gateway_refund(GatewayRefundState::Success)));
    let reply = gateway().encode_answer(&answer, &echo, &stamp());
    let read = merchant().decode_reply(&query(), &reply, NOW);
    assert_eq!(read, Ok(standing(RefundStanding::Succeeded { at: None })));
}

/// `node` as a signed answer to `call`.
fn read_node(call: &Call, node: &str) -> Result<Reply, Fault> {
    let name = match call {
        Call::Refund { .. } => "alipay_trade_refund_response",
        _ => "alipay_trade_fastpay_refund_query_response",
    };
    let sign = sign(&alipay_key(), node);
    let body = format!("{{\"{name}\":{node},\"sign\":\"{sign}\"}}");
    merchant().decode_reply(call, &reply(body), NOW)
}

#[test]
fn answers_word_by_word() {
    let ok = r#""code":"10000","msg":"Success""#;
    let refund = |rest: &str| read_node(&refund(), &format!("{{{ok},{rest}}}"));
    let query = |rest: &str| read_node(&query(), &format!("{{{ok}{rest}}}"));
    let told = RefundStanding::Succeeded { at: None };
    assert_eq!(refund(r#""fund_change":"Y","refund_fee":"1.10""#), Ok(standing(told.clone())));
    assert_eq!(refund(r#""fund_change":"Y","refund_fee":"11.1""#), Ok(standing(told.clone())));
    assert_eq!(refund(r#""fund_change":"N","refund_fee":"1.10""#), Ok(standing(RefundStanding::Processing)));
    assert_eq!(refund(r#""msg2":"x""#), Ok(standing(RefundStanding::Processing)));
    for wrong in [
        r#""fund_change":"Y","refund_fee":"1.09""#,
        r#""fund_change":"Y","refund_fee":"x""#,
        r#""fund_change":"Y""#,
        r#""fund_change":"Y","refund_fee":"1.10","out_trade_no":"T20231115_2""#,
    ] {
        let read = refund(wrong);
        assert!(matches!(read, Err(Fault::Malformed(_))), "{wrong}: {read:?}");
    }
    let ours = r#","out_request_no":"T20231115_1_r1""#;
    assert_eq!(query(""), Ok(standing(RefundStanding::Absent)));
    assert_eq!(query(ours), Ok(standing(RefundStanding::Absent)));
    assert_eq!(query(&format!(r#"{ours},"refund_status":"REFUND_SUCCESS""#)), Ok(standing(told)));
    let processing = Ok(standing(RefundStanding::Processing));
    assert_eq!(query(&format!(r#"{ours},"refund_status":"REFUND_PROCESSING""#)), processing);
    assert_eq!(query(&format!(r#"{ours},"refund_amount":"1.10""#)), processing);
    for wrong in [
        r#","out_request_no":"T20231115_1_r2","refund_status":"REFUND_SUCCESS""#,
        r#","refund_status":"REFUND_SUCCESS""#,
        r#","out_trade_no":"T20231115_2","out_request_no":"T20231115_1_r1","refund_status":"REFUND_SUCCESS""#,
    ] {
        let read = query(wrong);
        assert!(matches!(read, Err(Fault::Malformed(_))), "{wrong}: {read:?}");
    }
}

#[test]
fn refusals_and_what_they_mean() {
    let refused = |call: &Call, sub_code: &str| {
        read_node(call, &format!(r#"{{"code":"40004","msg":"x","sub_code":"{sub_code}","sub_msg":"words"}}"#))
    };
    for (sub_code, expected) in [
        ("ACQ.SELLER_BALANCE_NOT_ENOUGH", Retry::Later),
        ("ACQ.DISCORDANT_REPEAT_REQUEST", Retry::Never),
        ("ACQ.REFUND_AMT_NOT_EQUAL_TOTAL", Retry::Never),
        ("ACQ.TRADE_HAS_FINISHED", Retry::Never),
        ("ACQ.TRADE_STATUS_ERROR", Retry::Never),
        ("ACQ.TRADE_NOT_EXIST", Retry::Never),
    ] {
        let (code, message) = (sub_code.to_owned(), "words".to_owned());
        let expected = Err(Fault::Refused { code, message, retry: expected });
        assert_eq!(refused(&refund(), sub_code), expected);
    }
    assert_eq!(refused(&query(), "ACQ.TRADE_NOT_EXIST"), Ok(standing(RefundStanding::Absent)));
    for call in [refund(), query()] {
        assert!(matches!(refused(&call, "aop.ACQ.SYSTEM_ERROR"), Err(Fault::Unknown(_))));
    }
}

#[test]
fn objections_in_alipays_words() {
    let received = gateway().decode_call(&sent(&refund()), NOW).unwrap();
    for (objection, code) in [
        (Objection::NotPaid, "ACQ.TRADE_STATUS_ERROR"),
        (Objection::Absent, "ACQ.TRADE_NOT_EXIST"),
        (Objection::RefundTooMuch, "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL"),
        (Objection::RefundDiffers, "ACQ.DISCORDANT_REPEAT_REQUEST"),
    ] {
        let refusal = gateway().refuse(&received, objection);
        match answered(&refund(), &Answer::Refused(refusal)) {
            Err(Fault::Refused { code: told, retry: Retry::Never, .. }) => assert_eq!(told, code),
            other => panic!("{objection:?}: {other:?}"),
        }
    }
}

#[test]
fn what_is_asked_of_a_refund() {
    let decode = |method: &str, biz: &str| {
        let request = sent(&query());
        let mut params = read_form(request.uri().query().unwrap().as_bytes()).unwrap();
        put(&mut params, "method", method);
        put(&mut params, "biz_content", biz);
        resign(&mut params, &app_key(), &["sign"]);
        gateway().decode_call(&called(&params), NOW).map(|it| it.call).map_err(|no| no.code)
    };
    let refund = |biz: &str| decode("alipay.trade.refund", biz);
    // The whole trade needs no number of its own, and SDK users write amounts as numbers.
    let whole = refund(r#"{"out_trade_no":"T20231115_1","refund_amount":11.1}"#);
    let Ok(Call::Refund { refund: terms, .. }) = whole else { panic!("{whole:?}") };
    assert_eq!((terms.out_refund_no.as_str(), terms.amount.get(), terms.reason), ("T20231115_1", 1110, None));
    let long = "茶".repeat(257);
    for biz in [
        r#""out_request_no":"R1""#.to_owned(),
        r#""refund_amount":"0""#.to_owned(),
        r#""refund_amount":"0.001""#.to_owned(),
        r#""refund_amount":"-1""#.to_owned(),
        r#""refund_amount":"1","out_request_no":"R 1""#.to_owned(),
        format!(r#""refund_amount":"1","refund_reason":"{long}""#),
    ] {
        let told = refund(&format!(r#"{{"out_trade_no":"T20231115_1",{biz}}}"#));
        assert_eq!(told, Err("ACQ.INVALID_PARAMETER".to_owned()), "{biz}");
    }
    let dollars = r#"{"out_trade_no":"T20231115_1","refund_amount":"1","refund_currency":"USD"}"#;
    assert_eq!(refund(dollars), Err("ACQ.CURRENCY_NOT_SUPPORT".to_owned()));
    let unnamed = decode("alipay.trade.fastpay.refund.query", r#"{"out_trade_no":"T20231115_1"}"#);
    assert_eq!(unnamed, Err("ACQ.INVALID_PARAMETER".to_owned()));
}

#[test]
fn a_trade_that_was_given_back_was_paid() {
    for (fen, status) in [(110, "TRADE_SUCCESS"), (1110, "TRADE_CLOSED")] {
        let refunded =
            Refunded { total: Fen::new(fen).unwrap(), out_refund_no: refund_no(), at: NOW.plus(-500) };
        let trade = Standing { refunded: Some(refunded), ..paid_trade(Scene::QrCode, &[]) };
        let sent = gateway().encode_notice(&trade, "http://127.0.0.1/n", "n1", &stamp());
        let params = read_form(sent.body()).unwrap();
        assert_eq!(params["trade_status"], status);
        assert_eq!(params["refund_fee"], Fen::new(fen).unwrap().to_string());
        assert_eq!(params["out_biz_no"], "T20231115_1_r1");
        assert_eq!(params["gmt_refund"], "2023-11-15 06:13:19.500");
        // The same payment again, never a second one and never a close (gateways.md 5, pitfalls 9 and 10).
        let before = paid_trade(Scene::QrCode, &[]);
        let first = gateway().encode_notice(&before, "http://127.0.0.1/n", "n0", &stamp());
        let told = |sent| of_trade(merchant().decode_notice(sent, NOW).unwrap().into_inner().told);
        assert!(matches!(told(&sent), Trade::Paid(_)));
        assert_eq!(told(&sent), told(&first));
        let call = Call::Query { out_trade_no: number() };
        let received = gateway().decode_call(&super::tests::sent(&call), NOW).unwrap();
        let answer = gateway().encode_answer(&Answer::Trade(trade), &received.echo, &stamp());
        assert!(String::from_utf8_lossy(answer.body()).contains(status));
        let read = merchant().decode_reply(&call, &answer, NOW);
        assert_eq!(read, Ok(Reply::Trade(told(&first))));
    }
    let refund = gateway_refund(GatewayRefundState::Success);
    assert!(gateway().encode_refund_notice(&refund, "http://127.0.0.1/n", "n1", &stamp()).is_none());
}

/// The calls of the vectors.
fn theirs() -> (Call, Call) {
    let out_trade_no = OutTradeNo::new("T20260601_1").unwrap();
    let out_refund_no = OutRefundNo::new("T20260601_1_r1").unwrap();
    let refund = RefundTerms { out_refund_no: out_refund_no.clone(), ..refund_terms() };
    let refund = Call::Refund { out_trade_no: out_trade_no.clone(), refund };
    (refund, Call::RefundQuery { out_trade_no, out_refund_no })
}

#[test]
fn requests_by_others_are_taken() {
    let mut methods = Vec::new();
    for file in [NODE, PYTHON].map(vectors) {
        for vector in each(&file, "alipay_refund_requests") {
            let received = gateway().decode_call(&captured(vector), NOW).unwrap();
            match &received.call {
                Call::Refund { out_trade_no, refund } => {
                    assert_eq!(out_trade_no, theirs().0.out_trade_no());
                    assert_eq!(refund.out_refund_no.as_str(), "T20260601_1_r1");
                    assert_eq!(refund.amount.get(), 110);
                    assert_eq!(refund.reason.as_deref(), Some("少了 + 100% \"一杯\""));
                }
                call => assert_eq!(*call, theirs().1),
            }
            let form = format!("{}&{}", text(vector, "url").split_once('?').unwrap().1, text(vector, "body"));
            let params = read_form(form.as_bytes()).unwrap();
            // RSA2 is deterministic: the same key over the same text is the same signature.
            assert_eq!(sign(&app_key(), &canonical(&params, &["sign"], Empties::Kept)), params["sign"]);
            methods.push(received.method);
        }
    }
    let (refund, query) = ("alipay.trade.refund", "alipay.trade.fastpay.refund.query");
    assert_eq!(methods, [refund, refund, query, refund, query]);
}

#[test]
fn replies_by_others_are_taken() {
    let (refund, query) = theirs();
    let vectors = vectors(PYTHON);
    assert_eq!(each(&vectors, "alipay_refund_replies").len(), 5);
    let told = Ok(standing(RefundStanding::Succeeded { at: time::parse_spaced("2026-06-02 12:00:00") }));
    for vector in each(&vectors, "alipay_refund_replies") {
        let read = |call| merchant().decode_reply(call, &reply(text(vector, "body").to_owned()), NOW);
        match text(vector, "name") {
            "taken" => assert_eq!(read(&refund), told),
            "repeated" => assert_eq!(read(&refund), Ok(standing(RefundStanding::Processing))),
            "not enough" => {
                let read = read(&refund);
                assert!(matches!(read, Err(Fault::Refused { retry: Retry::Later, .. })), "{read:?}");
            }
            "queried" => assert_eq!(read(&query), told),
            "query of nothing" => assert_eq!(read(&query), Ok(standing(RefundStanding::Absent))),
            name => panic!("{name}"),
        }
    }
}

/// A right answer of the kind, edited, and signed as the table says.
fn signed_answer(message: &str, edits: &[(&str, Option<&str>)], signature: &str) -> String {
    let success = gateway_refund(GatewayRefundState::Success);
    let (call, answer) = match message {
        "ali-refund.reply" => (refund(), Answer::Refund(success)),
        _ => (query(), Answer::RefundQuery(Some(success))),
    };
    let received = gateway().decode_call(&sent(&call), NOW).unwrap();
    let reply = gateway().encode_answer(&answer, &received.echo, &stamp());
    let body: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(reply.body()).unwrap();
    let (name, node) = body.iter().find(|(name, _)| name.ends_with("_response")).unwrap();
    let mut members: Params = serde_json::from_value(node.clone()).unwrap();
    let before = serde_json::to_string(&members).unwrap();
    edit(&mut members, edits);
    let node = serde_json::to_string(&members).unwrap();
    let made = match signature {
        "keep" => made("right", &before, &alipay_key(), &app_key()),
        signature => made(signature, &node, &alipay_key(), &app_key()),
    };
    let sign = made.map(|made| format!(",\"sign\":\"{made}\"")).unwrap_or_default();
    format!("{{\"{name}\":{node}{sign}}}")
}

#[test]
fn what_must_not_be_believed() {
    let rows = rows("ali-refund.");
    assert!(rows.len() >= 24);
    for Row { line, message, edits, signature, outcome } in rows {
        let call = if message == "ali-refund.reply" { refund() } else { query() };
        let answer = reply(signed_answer(message, &edits, signature));
        assert_eq!(outcome_of(merchant().decode_reply(&call, &answer, NOW)), outcome, "{line}");
    }
}
