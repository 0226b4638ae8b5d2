//! Tests of refunds in both halves of WeChat v2: round trips, words, and the sealed notice, which has no
//! signature and must still not be believed from everybody.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use proptest::prelude::*;

use super::super::testing::{
    NODE, NOW, OFFICIAL, PYTHON, Row, captured, gateway_refund, number, paid_trade, refund_no, refund_terms,
    reply, request, rows, stamp, vectors,
};
use super::super::{
    Answer, Call, Counterpart, GatewayRefund, GatewayRefundState, Merchant, Notice, Objection, RefundTerms,
    Refunded, Reply, Retry, Standing, Told, Trade, Verified,
};
use super::tests::{KEY, each, edit, gateway, merchant, outcome_of, resigned, sent};
use super::*;
use crate::domain::id::{OutRefundNo, OutTradeNo, Scene};
use crate::domain::money::Fen;
use crate::domain::refund::RefundStanding;

fn refund() -> Call {
    Call::Refund { out_trade_no: number(), refund: refund_terms() }
}

fn query() -> Call {
    Call::RefundQuery { out_trade_no: number(), out_refund_no: refund_no() }
}

/// The other half's answer to `call`, as our half reads it.
fn answered(call: &Call, answer: &Answer) -> Result<Reply, Fault> {
    let received = gateway().decode_call(&sent(SignType::Md5, call), NOW).unwrap();
    let reply = gateway().encode_answer(answer, &received.echo, &stamp());
    merchant(SignType::Md5).decode_reply(call, &reply, NOW)
}

/// An answer to `call` with these fields set, rightly signed.
fn edited(call: &Call, answer: &Answer, edits: &[(&str, &str)]) -> Result<Reply, Fault> {
    let echo = [("sign_type".to_owned(), "MD5".to_owned())];
    let mut fields = read(gateway().encode_answer(answer, &echo, &stamp()).body()).unwrap();
    fields.remove("sign");
    for (name, value) in edits {
        put(&mut fields, name, value);
    }
    let body = seal(fields, &Secret::new(KEY), SignType::Md5, &stamp());
    merchant(SignType::Md5).decode_reply(call, &reply(body), NOW)
}

const fn standing(standing: RefundStanding) -> Reply {
    Reply::Refund(standing)
}

#[test]
fn a_refund_there_and_back() {
    for sign_type in SignType::ALL.iter().copied() {
        let request = sent(sign_type, &refund());
        assert_eq!(request.uri().path(), "/secapi/pay/refund");
        let received = gateway().decode_call(&request, NOW).unwrap();
        assert_eq!((received.method.as_str(), &received.call), ("wx.refund", &refund()));
        let taken = Answer::Refund(gateway_refund(GatewayRefundState::Processing));
        let answer = gateway().encode_answer(&taken, &received.echo, &stamp());
        let read = merchant(sign_type).decode_reply(&refund(), &answer, NOW);
        assert_eq!(read, Ok(standing(RefundStanding::Processing)));
    }
    // Accepted is all that a refund's answer says, also of one that is done.
    let done = Answer::Refund(gateway_refund(GatewayRefundState::Success));
    assert_eq!(answered(&refund(), &done), Ok(standing(RefundStanding::Processing)));
}

#[test]
fn a_refund_query_there_and_back() {
    let request = sent(SignType::Md5, &query());
    assert_eq!(request.uri().path(), "/pay/refundquery");
    assert_eq!(read(request.body()).unwrap().get("out_trade_no"), None);
    let received = gateway().decode_call(&request, NOW).unwrap();
    assert_eq!(received.method, "wx.refundquery");
    let Call::RefundQuery { out_trade_no, out_refund_no } = received.call else { panic!("a query") };
    assert_eq!((out_trade_no.as_str(), out_refund_no), ("T20231115_1_r1", refund_no()));
    let failed = RefundStanding::Failed { code: "REFUNDCLOSE".to_owned() };
    for (state, expected) in [
        (GatewayRefundState::Processing, RefundStanding::Processing),
        (GatewayRefundState::Success, RefundStanding::Succeeded { at: Some(NOW.plus(-1000)) }),
        (GatewayRefundState::Closed, failed),
    ] {
        let answer = Answer::RefundQuery(Some(gateway_refund(state)));
        assert_eq!(answered(&query(), &answer), Ok(standing(expected)));
    }
    assert_eq!(answered(&query(), &Answer::RefundQuery(None)), Ok(standing(RefundStanding::Absent)));
}

#[test]
fn every_refund_status() {
    let answer = Answer::RefundQuery(Some(gateway_refund(GatewayRefundState::Processing)));
    let failed = |code: &str| RefundStanding::Failed { code: code.to_owned() };
    for (status, expected) in [
        ("REFUNDCLOSE", failed("REFUNDCLOSE")),
        // The money came back from the bank: a person must act.
        ("CHANGE", failed("CHANGE")),
        ("SOMETHING_NEW", RefundStanding::Processing),
        ("SUCCESS", RefundStanding::Succeeded { at: None }),
    ] {
        assert_eq!(edited(&query(), &answer, &[("refund_status_0", status)]), Ok(standing(expected)));
    }
    // Ours is where our number stands, not the first.
    let list = [
        ("out_refund_no_0", "T20231115_1_r2"),
        ("refund_status_0", "SUCCESS"),
        ("out_refund_no_10", "T20231115_1_r1"),
        ("refund_status_10", "REFUNDCLOSE"),
        ("refund_status_1", "SUCCESS"),
    ];
    assert_eq!(edited(&query(), &answer, &list), Ok(standing(failed("REFUNDCLOSE"))));
    let others = edited(&query(), &answer, &[("out_refund_no_0", "T20231115_1_r2")]);
    assert!(matches!(others, Err(Fault::Malformed(_))), "{others:?}");
}

#[test]
fn answers_about_something_else_are_no_answers() {
    let taken = Answer::Refund(gateway_refund(GatewayRefundState::Processing));
    let known = Answer::RefundQuery(Some(gateway_refund(GatewayRefundState::Success)));
    for (call, answer, name, value) in [
        (refund(), &taken, "out_trade_no", "T20231115_2"),
        (refund(), &taken, "out_refund_no", "T20231115_1_r2"),
        (refund(), &taken, "refund_fee", "111"),
        (refund(), &taken, "total_fee", "111"),
        (query(), &known, "out_trade_no", "T20231115_2"),
        (query(), &known, "refund_status_0", ""),
    ] {
        let read = edited(&call, answer, &[(name, value)]);
        assert!(matches!(read, Err(Fault::Malformed(_))), "{name}: {read:?}");
    }
}

#[test]
fn refusals_and_what_they_mean() {
    let refused = |call: &Call, code: &str| {
        let edits = [("result_code", "FAIL"), ("err_code", code), ("err_code_des", "words")];
        edited(call, &Answer::Closed, &edits)
    };
    for (code, expected) in [
        ("NOTENOUGH", Retry::Later),
        ("FREQUENCY_LIMITED", Retry::Later),
        ("INVALID_REQ_TOO_MUCH", Retry::Later),
        ("ORDER_NOT_READY", Retry::Later),
        ("ERROR", Retry::Never),
        ("TRADE_OVERDUE", Retry::Never),
        ("TRADE_STATE_ERROR", Retry::Never),
        ("REFUND_FEE_MISMATCH", Retry::Never),
        ("INVALID_REQUEST", Retry::Never),
        ("USER_ACCOUNT_ABNORMAL", Retry::Never),
    ] {
        let (code, message) = (code.to_owned(), "words".to_owned());
        assert_eq!(refused(&refund(), &code), Err(Fault::Refused { code, message, retry: expected }));
    }
    for code in ["SYSTEMERROR", "BIZERR_NEED_RETRY"] {
        assert!(matches!(refused(&refund(), code), Err(Fault::Unknown(_))), "{code}");
        assert!(matches!(refused(&query(), code), Err(Fault::Unknown(_))), "{code}");
    }
    assert_eq!(refused(&query(), "REFUNDNOTEXIST"), Ok(standing(RefundStanding::Absent)));
    // Of a refund, it is no answer that says that there is none.
    assert!(matches!(refused(&refund(), "REFUNDNOTEXIST"), Err(Fault::Refused { .. })));
}

#[test]
fn a_missing_certificate_is_named() {
    let page = "<html>\n<head><title>400 No required SSL certificate was sent</title></head></html>";
    for status in [400, 200] {
        let answer = Response::builder().status(status).body(Bytes::from_static(page.as_bytes())).unwrap();
        let fault = merchant(SignType::Md5).decode_reply(&refund(), &answer, NOW).unwrap_err();
        assert!(matches!(fault, Fault::Refused { retry: Retry::Later, .. }), "{fault:?}");
        assert!(fault.to_string().contains("apiclient_cert.pem"), "{fault}");
    }
    let other = Response::builder().status(400).body(Bytes::from_static(b"<html>?</html>")).unwrap();
    let fault = merchant(SignType::Md5).decode_reply(&refund(), &other, NOW);
    assert_eq!(fault, Err(Fault::Unknown("HTTP 400".to_owned())));
}

#[test]
fn objections_in_wechats_words() {
    let received = gateway().decode_call(&sent(SignType::Md5, &refund()), NOW).unwrap();
    for (objection, code) in [
        (Objection::NotPaid, "TRADE_STATE_ERROR"),
        (Objection::RefundTooMuch, "INVALID_REQUEST"),
        (Objection::RefundDiffers, "REFUND_FEE_MISMATCH"),
        (Objection::Absent, "ORDERNOTEXIST"),
    ] {
        let refusal = gateway().refuse(&received, objection);
        match answered(&refund(), &Answer::Refused(refusal)) {
            Err(Fault::Refused { code: told, retry: Retry::Never, .. }) => assert_eq!(told, code),
            other => panic!("{objection:?}: {other:?}"),
        }
    }
    let absent = gateway().refuse(&received, Objection::RefundAbsent);
    assert_eq!(answered(&query(), &Answer::Refused(absent)), Ok(standing(RefundStanding::Absent)));
    let busy = gateway().refuse(&received, Objection::Busy);
    assert!(matches!(answered(&refund(), &Answer::Refused(busy)), Err(Fault::Unknown(_))));
}

#[test]
fn more_than_the_total_is_refused_without_a_signature() {
    let terms = RefundTerms { amount: Fen::new(1111).unwrap(), ..refund_terms() };
    let call = Call::Refund { out_trade_no: number(), refund: terms };
    let refusal = gateway().decode_call(&sent(SignType::Md5, &call), NOW).unwrap_err();
    assert_eq!((refusal.message.as_str(), refusal.trusted), ("invalid refund_fee", false));
}

#[test]
fn a_trade_that_was_given_back_in_part_was_paid() {
    let refunded = Refunded { total: Fen::new(110).unwrap(), out_refund_no: refund_no(), at: NOW.plus(-500) };
    let trade = Standing { refunded: Some(refunded), ..paid_trade(Scene::Native, &[]) };
    let call = Call::Query { out_trade_no: number() };
    let echo = [("sign_type".to_owned(), "MD5".to_owned())];
    let answer = gateway().encode_answer(&Answer::Trade(trade), &echo, &stamp());
    assert_eq!(read(answer.body()).unwrap()["trade_state"], "REFUND");
    let told = merchant(SignType::Md5).decode_reply(&call, &answer, NOW);
    assert!(matches!(told, Ok(Reply::Trade(Trade::Paid(_)))), "{told:?}");
}

fn notice(refund: &GatewayRefund) -> Option<Request<Bytes>> {
    gateway().encode_refund_notice(refund, "http://127.0.0.1:3000/rest/pub/wx/refund_notify", "n1", &stamp())
}

#[test]
fn a_refund_notice_there_and_back() {
    for state in [GatewayRefundState::Success, GatewayRefundState::Closed] {
        let sent = notice(&gateway_refund(state)).unwrap();
        assert_eq!(sent.uri().path(), "/rest/pub/wx/refund_notify");
        let ids = ("wxd930ea5d5a258f4f".to_owned(), "10000100".to_owned());
        assert_eq!(identify(sent.body()), Ok(ids));
        assert!(!String::from_utf8_lossy(sent.body()).contains("T20231115_1"));
        // However payments are signed: this one is not.
        for sign_type in SignType::ALL.iter().copied() {
            let read = merchant(sign_type).decode_notice(&sent, NOW).unwrap().into_inner();
            let told = Told::Refund { out_refund_no: refund_no() };
            assert_eq!(read, Notice { out_trade_no: number(), delivery_id: None, told });
        }
    }
    assert!(notice(&gateway_refund(GatewayRefundState::Processing)).is_none());
}

#[test]
fn the_worked_example_opens() {
    let vector = &vectors(OFFICIAL)["sealed"];
    let text = |name: &str| vector[name].as_str().unwrap();
    let key = Secret::new(text("api_key"));
    let fields = sealed::open(text("req_info"), &key).unwrap();
    assert_eq!(Ok(&fields), xml::read(text("plain").as_bytes(), "root").as_ref());
    assert_eq!(fields["out_refund_no"], "R1");
    assert_eq!(sealed::seal(&fields, &key).as_deref(), Some(text("req_info")));
}

/// The trade and the refund of the vectors.
fn theirs() -> (OutTradeNo, OutRefundNo) {
    (OutTradeNo::new("T2026060100000001").unwrap(), OutRefundNo::new("T2026060100000001_r1").unwrap())
}

#[test]
fn requests_by_others_are_taken() {
    let mut methods = Vec::new();
    for file in [NODE, PYTHON].map(vectors) {
        for vector in each(&file, "wechat_refund_requests") {
            let received = gateway().decode_call(&captured(vector), NOW).unwrap();
            let number = match received.call {
                Call::Refund { out_trade_no, refund } => {
                    assert_eq!(out_trade_no, theirs().0);
                    assert_eq!((refund.total.get(), refund.amount.get()), (11, 10));
                    assert_eq!(refund.reason.as_deref(), Some("少了 & <一杯>"));
                    assert_eq!(refund.notify_url, "https://pay.example.com/rest/pub/wx/refund_notify");
                    refund.out_refund_no
                }
                Call::RefundQuery { out_refund_no, .. } => out_refund_no,
                other => panic!("{other:?}"),
            };
            assert_eq!(number, theirs().1);
            methods.push(received.method);
        }
    }
    let (refund, query) = ("wx.refund", "wx.refundquery");
    assert_eq!(methods, [refund, refund, query, query, refund, query]);
}

#[test]
fn notices_by_others_are_taken() {
    let mut count = 0;
    for file in [NODE, PYTHON].map(vectors) {
        for vector in each(&file, "wechat_refund_notices") {
            let body = vector["body"].as_str().unwrap().to_owned();
            let ids = ("wxd930ea5d5a258f4f".to_owned(), "10000100".to_owned());
            assert_eq!(identify(body.as_bytes()), Ok(ids));
            let read = merchant(SignType::HmacSha256).decode_notice(&request(body), NOW).unwrap();
            let (out_trade_no, out_refund_no) = theirs();
            let told = Told::Refund { out_refund_no };
            assert_eq!(read.into_inner(), Notice { out_trade_no, delivery_id: None, told });
            count += 1;
        }
    }
    assert_eq!(count, 1 + 3);
}

#[test]
fn replies_by_others_are_taken() {
    let (out_trade_no, out_refund_no) = theirs();
    let fen = |fen| Fen::new(fen).unwrap();
    let terms = RefundTerms {
        out_refund_no: out_refund_no.clone(),
        total: fen(11),
        amount: fen(10),
        ..refund_terms()
    };
    let refund = Call::Refund { out_trade_no: out_trade_no.clone(), refund: terms };
    let query = Call::RefundQuery { out_trade_no, out_refund_no };
    let vectors = vectors(NODE);
    assert_eq!(each(&vectors, "wechat_refund_replies").len(), 8);
    for vector in each(&vectors, "wechat_refund_replies") {
        let text = |name: &str| vector[name].as_str().unwrap();
        let merchant = merchant(text("type").parse().unwrap());
        let read = |call| merchant.decode_reply(call, &reply(text("body").to_owned()), NOW);
        match text("name") {
            "taken" => assert_eq!(read(&refund), Ok(standing(RefundStanding::Processing))),
            "not enough" => {
                let read = read(&refund);
                assert!(matches!(read, Err(Fault::Refused { retry: Retry::Later, .. })), "{read:?}");
            }
            "queried" => {
                let at = crate::domain::time::parse_spaced("2026-06-02 12:00:00");
                assert_eq!(read(&query), Ok(standing(RefundStanding::Succeeded { at })));
            }
            "query of nothing" => assert_eq!(read(&query), Ok(standing(RefundStanding::Absent))),
            name => panic!("{name}"),
        }
    }
}

/// A right refund notice, edited outside or inside its seal, and sealed as the table says.
fn sealed_fields(edits: &[(&'static str, Option<&'static str>)], signature: &str) -> Fields {
    let mut fields = read(notice(&gateway_refund(GatewayRefundState::Success)).unwrap().body()).unwrap();
    let (outer, inner): (Vec<_>, Vec<_>) =
        edits.iter().partition(|(name, _)| ["appid", "mch_id", "return_code"].contains(name));
    edit(&mut fields, &outer);
    let mut told = sealed::open(&fields["req_info"], &Secret::new(KEY)).unwrap();
    edit(&mut told, &inner);
    let plain = xml::write("root", told.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let right = sealed::seal(&told, &Secret::new(KEY)).unwrap();
    let bytes = STANDARD.decode(&right).unwrap();
    let req_info = match signature {
        "right" => right,
        "none" => {
            fields.remove("req_info");
            return fields;
        }
        "empty" => String::new(),
        "other-key" => sealed::seal(&told, &Secret::new("00000000000000000000000000000000")).unwrap(),
        "cut" => right[..right.len() - 3].to_owned(),
        "cut-block" => STANDARD.encode(&bytes[..bytes.len() - 16]),
        "one-off" => STANDARD.encode([&[bytes[0] ^ 1], &bytes[1..]].concat()),
        "plain" => STANDARD.encode(plain),
        "doctype" => {
            let entity = "<!DOCTYPE r [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>";
            sealed::seal_text(format!("{entity}{plain}"), &Secret::new(KEY)).unwrap()
        }
        other => panic!("{other}"),
    };
    put(&mut fields, "req_info", &req_info);
    fields
}

#[test]
fn what_must_not_be_believed() {
    let rows = rows("wx-refund.");
    assert!(rows.len() >= 65);
    let echo = [("sign_type".to_owned(), "MD5".to_owned())];
    let half = merchant(SignType::Md5);
    let answer = |answer: Answer| read(gateway().encode_answer(&answer, &echo, &stamp()).body()).unwrap();
    for Row { line, message, edits, signature, outcome } in rows {
        let signed = |fields| write(&resigned(fields, SignType::Md5, &edits, signature));
        let told = match message {
            "wx-refund.notice" => {
                outcome_of(half.decode_notice(&request(write(&sealed_fields(&edits, signature))), NOW))
            }
            "wx-refund.reply" => {
                let body = signed(answer(Answer::Refund(gateway_refund(GatewayRefundState::Processing))));
                outcome_of(half.decode_reply(&refund(), &reply(body), NOW))
            }
            "wx-refund.query" => {
                let known = gateway_refund(GatewayRefundState::Success);
                let body = signed(answer(Answer::RefundQuery(Some(known))));
                outcome_of(half.decode_reply(&query(), &reply(body), NOW))
            }
            "wx-refund.call" => {
                let body = signed(read(sent(SignType::Md5, &refund()).body()).unwrap());
                let sent = Request::post("http://127.0.0.1/secapi/pay/refund").body(body.into()).unwrap();
                gateway().decode_call(&sent, NOW).map_or_else(|refusal| refusal.code, |_| "ok".to_owned())
            }
            _ => panic!("{line}"),
        };
        assert_eq!(told, outcome, "{line}");
    }
}

#[test]
fn reasons_for_wechat() {
    let told = |reason: &str| {
        let terms = RefundTerms { reason: Some(reason.to_owned()), ..refund_terms() };
        let call = Call::Refund { out_trade_no: number(), refund: terms };
        match gateway().decode_call(&sent(SignType::Md5, &call), NOW).unwrap().call {
            Call::Refund { refund, .. } => refund.reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told("🍵🍵"), None);
    assert_eq!(told(" 🍵 cold tea ").as_deref(), Some("cold tea"));
    assert_eq!(told(&"茶".repeat(100)), Some("茶".repeat(26)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever stands where the sealed text should: one answer, and never a refund.
    #[test]
    fn no_bytes_open(noise: Vec<u8>, text in "\\PC{0,80}") {
        for req_info in [STANDARD.encode(&noise), text, hex::encode(&noise)] {
            let read = sealed::open(&req_info, &Secret::new(KEY));
            let shut = Fault::BadSignature("req_info does not open with the API key".to_owned());
            prop_assert_eq!(read, Err(shut));
        }
    }

    /// One changed byte anywhere, or another key.
    #[test]
    fn a_changed_seal_tells_no_other_refund(at in 0_usize..1000, mask in 1_u8..) {
        let sent = notice(&gateway_refund(GatewayRefundState::Success)).unwrap();
        let mut fields = read(sent.body()).unwrap();
        let mut bytes = STANDARD.decode(&fields["req_info"]).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= mask;
        put(&mut fields, "req_info", &STANDARD.encode(&bytes));
        // A block in the middle of a value may be damaged unseen; the numbers are only asked about.
        let told = merchant(SignType::Md5).decode_notice(&request(write(&fields)), NOW);
        let outcome = outcome_of(told.map(Verified::into_inner));
        prop_assert!(["ok", "BadSignature", "Malformed"].contains(&outcome.as_str()), "{}", outcome);
        let other = Secret::new("00000000000000000000000000000000");
        prop_assert!(sealed::open(&STANDARD.encode(&bytes), &other).is_err());
    }
}
