//! The gateways' HTTP face: reads a call, asks the books, answers in the gateway's words.
//! Never answers before the ledger has what it answers.
//! Paths and envelopes: gateways.md 1.1 (WeChat v2), 4.1 (Alipay).

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{Html, IntoResponse};
use axum::routing::{any, get};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::Emulator;
use super::faults::{ANY_CALL, Strike, halve, resized, unsign_answer};
use super::gateways::Signer;
use super::log::Entry;
use super::page::{self, Language};
use super::refunds;
use super::trades::{Decision, Key};
use super::{cashier, mweb, oauth};
use crate::domain::id::Channel;
use crate::gateway::{Answer, Call, Objection, Received, Refusal, Stamp};
use crate::runtime::clock::Clock;
use crate::runtime::listen::OverTls;
use crate::runtime::random;

pub(super) fn router(emulator: Emulator) -> Router {
    Router::new()
        .route("/", get(about))
        .route("/style.css", get(page::style))
        .route("/pay/unifiedorder", any(wechat))
        .route("/pay/orderquery", any(wechat))
        .route("/pay/closeorder", any(wechat))
        .route("/pay/refundquery", any(wechat))
        .route("/secapi/pay/refund", any(wechat))
        .route("/gateway.do", any(alipay))
        .merge(oauth::router())
        .merge(mweb::router())
        .merge(cashier::router())
        .with_state(emulator)
}

async fn wechat(State(emulator): State<Emulator>, request: Request<Body>) -> Response<Body> {
    emulator.call(Channel::Wx, request).await
}

async fn alipay(State(emulator): State<Emulator>, request: Request<Body>) -> Response<Body> {
    emulator.call(Channel::Ali, request).await
}

impl Emulator {
    async fn call(&self, channel: Channel, request: Request<Body>) -> Response<Body> {
        if let Some(refused) = self.wants_certificate(channel, &request) {
            return refused;
        }
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return plain_status(StatusCode::PAYLOAD_TOO_LARGE);
            }
            Err(_) => return plain_status(StatusCode::BAD_REQUEST),
        };
        let Ok(nonce) = random::base62(32) else { return plain_status(StatusCode::INTERNAL_SERVER_ERROR) };
        let stamp = Stamp { now: Clock::real(), nonce };
        let request = Request::from_parts(head, body);
        let now = self.inner.clock.now();
        let gateway = self.inner.gateways.of(channel, Signer::Gateway);
        match gateway.decode_call(&request, now) {
            Ok(received) if cashier::is_for_browsers(&received) => self.cashier(&request, &received).await,
            Ok(received) => self.trusted(channel, &received, &stamp).await,
            Err(refusal) => {
                let line = format!("{} {}", request.method(), request.uri().path());
                self.log_refusal(channel, &line, None, &refusal);
                let echo = refusal.echo.clone();
                gateway.encode_answer(&Answer::Refused(refusal), &echo, &stamp).map(Body::from)
            }
        }
    }

    /// What a request without the merchant's certificate gets where one is wanted. Plain HTTP, which only
    /// loopback should have, is served as if it came with one (contract.md 7).
    fn wants_certificate(&self, channel: Channel, request: &Request<Body>) -> Option<Response<Body>> {
        let OverTls(shown) = request.extensions().get::<OverTls>()?;
        if !request.uri().path().starts_with("/secapi/") {
            return None;
        }
        let why = match shown {
            None => "No required SSL certificate was sent",
            Some(shown) if *shown != self.inner.merchant_certificate => "The SSL certificate error",
            Some(_) => return None,
        };
        let call = format!("{} {}", request.method(), request.uri().path());
        let mut entry = Entry::ok(self.inner.clock.now(), channel, &call, None);
        "400".clone_into(&mut entry.result);
        why.clone_into(&mut entry.message);
        let file = self.inner.credentials.wechat.merchant_certificate_file.display();
        entry.explanation =
            format!("Refunds go over the merchant's API certificate, here {file} and its key.");
        self.inner.log.push(entry);
        let html = format!(
            "<html>\r\n<head><title>400 {why}</title></head>\r\n<body>\r\n<center><h1>400 Bad Request</h1>\
             </center>\r\n<center>{why}</center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        );
        Some((StatusCode::BAD_REQUEST, Html(html)).into_response())
    }

    /// A call that the gateway understood and trusts.
    async fn trusted(&self, channel: Channel, received: &Received, stamp: &Stamp) -> Response<Body> {
        let number = received.call.out_trade_no().to_string();
        let strike = self.inner.faults.strike(&[&received.method, ANY_CALL]);
        let gateway = self.inner.gateways.of(channel, Signer::Gateway);
        if let Some(strike) = &strike {
            let mut entry = Entry::ok(self.inner.clock.now(), channel, &received.method, Some(number));
            entry.result = format!("fault: {strike:?}");
            self.inner.log.push(entry);
        }
        match strike {
            Some(Strike::Status(status)) => {
                return plain_status(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
            }
            Some(Strike::CutBefore) => return cut(),
            Some(Strike::SystemError) => {
                let refusal = gateway.refuse(received, Objection::Busy);
                return gateway
                    .encode_answer(&Answer::Refused(refusal), &received.echo, stamp)
                    .map(Body::from);
            }
            _ => {}
        }
        let closing = strike == Some(Strike::RefundClosed);
        let answer = match strike {
            Some(Strike::Delay(ms)) => {
                let (emulator, late) = (self.clone(), received.clone());
                // On its own: who called may go, what was called is under way.
                let settled = tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    emulator.settle(channel, &late, closing).await
                });
                let busy = |_| Answer::Refused(gateway.refuse(received, Objection::Busy));
                settled.await.unwrap_or_else(busy)
            }
            _ => self.settle(channel, received, closing).await,
        };
        let signer = if strike == Some(Strike::Forged) { Signer::Forger } else { Signer::Gateway };
        let reply = self.inner.gateways.of(channel, signer).encode_answer(&answer, &received.echo, stamp);
        match strike {
            Some(Strike::CutAfter) => cut(),
            Some(Strike::StatusAfter(status)) => {
                plain_status(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY))
            }
            Some(Strike::DelayAfter(ms)) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                reply.map(Body::from)
            }
            Some(Strike::Unsigned) => unsign_answer(reply).map(Body::from),
            Some(Strike::Truncated) => resized(reply.map(|body| halve(&body))).map(Body::from),
            _ => reply.map(Body::from),
        }
    }

    /// Decides, writes down, and only then gives the answer.
    async fn settle(&self, channel: Channel, received: &Received, closing: bool) -> Answer {
        let gateway = self.inner.gateways.of(channel, Signer::Gateway);
        let now = self.inner.clock.now();
        let decided = {
            let mut book = self.book();
            let decision = if self.is_for_a_stranger(&received.call) {
                Ok(Decision::No(Objection::UnknownPayer))
            } else {
                book.decide(channel, received, &self.inner.credentials.emulator_url, now)
            };
            match decision.map(|decision| if closing { refunds::closing(decision) } else { decision }) {
                Ok(Decision::Yes(answer, record)) => {
                    if let Some(record) = record {
                        self.record(&mut book, record);
                    }
                    *answer
                }
                Ok(Decision::No(objection)) => {
                    let mut refusal = gateway.refuse(received, objection);
                    let key = Key { channel, out_trade_no: received.call.out_trade_no().clone() };
                    let first = book.trade(&key).map_or("", |trade| &trade.fingerprint);
                    refusal.explanation = explain(&key, objection, first, &received.fingerprint);
                    Answer::Refused(refusal)
                }
                Err(_) => Answer::Refused(gateway.refuse(received, Objection::Busy)),
            }
        };
        let answer = match self.inner.ledger.settled().await {
            Ok(()) => decided,
            Err(_) => Answer::Refused(gateway.refuse(received, Objection::Busy)),
        };
        let number = Some(received.call.out_trade_no().to_string());
        match &answer {
            Answer::Refused(refusal) => self.log_refusal(channel, &received.method, number, refusal),
            Answer::Created(_)
            | Answer::Trade(_)
            | Answer::Closed
            | Answer::Refund(_)
            | Answer::RefundQuery(_) => {
                self.inner.log.push(Entry::ok(now, channel, &received.method, number));
            }
        }
        answer
    }

    /// WeChat takes a JSAPI trade only for an `openid` of the app that places it (gateways.md 1.2).
    fn is_for_a_stranger(&self, call: &Call) -> bool {
        let Call::Create { terms, .. } = call else { return false };
        terms.visit.openid.as_ref().is_some_and(|openid| !self.inner.people.knows(openid))
    }

    pub(super) fn log_refusal(
        &self,
        channel: Channel,
        call: &str,
        number: Option<String>,
        refusal: &Refusal,
    ) {
        let mut entry = Entry::ok(self.inner.clock.now(), channel, call, number);
        entry.result.clone_from(&refusal.code);
        entry.message.clone_from(&refusal.message);
        entry.explanation.clone_from(&refusal.explanation);
        self.inner.log.push(entry);
    }
}

/// For the developer who reads the log.
fn explain(key: &Key, objection: Objection, first: &str, now: &str) -> String {
    let number = &key.out_trade_no;
    match (objection, key.channel) {
        (Objection::Absent, Channel::Wx) => format!("{number} was never placed."),
        (Objection::Absent, Channel::Ali) => format!(
            "{number} was never placed, or nobody has scanned its code yet: Alipay makes the trade at the \
             scan."
        ),
        (Objection::Paid, _) => format!("{number} is paid. Query it."),
        (Objection::Closed, _) => format!("{number} is closed. A new attempt needs a new number."),
        (Objection::OtherTerms, _) => format!(
            "{number} was placed before with other parameters, so this is no repetition of it.\n\
             first: {first}\nnow:   {now}"
        ),
        (Objection::NotPaid, _) => format!("{number} is not paid: there is nothing to give back."),
        (Objection::RefundTooMuch, _) => format!("More than what is left of the payment of {number}."),
        (Objection::RefundDiffers, _) => format!(
            "Either this refund's number was accepted with another amount (a new refund needs a new number), \
             or total_fee is not what {number} was paid with."
        ),
        (Objection::RefundAbsent, _) => format!("{number} has no refund of this number."),
        (Objection::UnknownPayer, _) => format!(
            "The openid of {number} is nobody's at this app: made up, of another app, or of a snapshot user."
        ),
        (Objection::Busy, _) => {
            "The outcome is unknown to the caller: ask again with the same parameters.".to_owned()
        }
    }
}

/// What a proxy before the gateway says.
pub(super) fn plain_status(status: StatusCode) -> Response<Body> {
    let html = format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n");
    (status, Html(html)).into_response()
}

/// An answer that promises more than it brings: the caller sees the connection end too early.
pub(super) fn cut() -> Response<Body> {
    let broken =
        stream::once(async { Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset)) });
    let mut answer = Response::new(Body::from_stream(broken));
    answer.headers_mut().insert(header::CONTENT_LENGTH, header::HeaderValue::from_static("512"));
    answer
}

async fn about(State(emulator): State<Emulator>, headers: HeaderMap) -> Response<Body> {
    let control_url = emulator.inner.credentials.control_url.clone();
    let mut response = page::about(Language::of(&headers), &control_url).into_response();
    page::guard(response.headers_mut());
    response
}

/// contract.md 4: what our own service takes, too.
const MAX_BODY: usize = 64 * 1024;
