//! The wires of the simulation: what the service sends hangs in the air until the simulation says what
//! becomes of it. Its halves of the protocols write nothing down: calls, answers and notices travel as they
//! are, beside the request, and a notice without its seal is one with a bad signature.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use tokio::sync::oneshot;

use super::gateways::{Due, Gateways};
use crate::domain::id::{Channel, Scene, UnixMillis};
use crate::domain::order::Code;
use crate::gateway::{Call, Fault, Merchant, Notice, Outgoing, Reply, Stamp, Verified};
use crate::runtime::transport::{SendError, Wire};

/// What both sides of the wires share.
#[derive(Default)]
pub struct Air(Mutex<Outside>);

/// Everything outside the service.
#[derive(Default)]
pub struct Outside {
    /// Both gateways.
    pub gateways: Gateways,
    /// The true time, whatever the service's clock says.
    pub now: UnixMillis,
    /// Calls that wait for their fate, oldest first.
    pub calls: Vec<InAir>,
    /// What reached the mall.
    pub mall: Vec<Delivery>,
    sent: u32,
}

/// A call in the air.
pub struct InAir {
    /// Its number in this run.
    pub id: u32,
    /// What it is.
    pub what: What,
    /// When it left.
    pub sent_at: UnixMillis,
    /// The answer, once it was worked on.
    pub answer: Option<Response<Bytes>>,
    reply: oneshot::Sender<Result<Response<Bytes>, SendError>>,
}

/// What is in the air.
#[derive(Clone, Debug)]
pub enum What {
    /// A call to a gateway.
    Gateway(Channel, Call),
    /// A webhook.
    Webhook(Delivery),
}

/// A webhook as it came to the mall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// `webhook-id`.
    pub event_id: String,
    /// The bytes.
    pub body: Bytes,
    /// Whether the mall took it.
    pub taken: bool,
}

/// A call beside its request.
#[derive(Clone)]
struct Asked(Channel, Call);

/// A gateway's answer beside its response.
#[derive(Clone)]
struct Said(Result<Reply, Fault>);

/// A notice beside its request: what only the gateway can write.
#[derive(Clone)]
struct Sealed(Notice);

impl Air {
    /// Everything outside, for as long as the guard lives.
    pub fn outside(&self) -> MutexGuard<'_, Outside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire for Air {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, SendError>> {
        let (reply, answer) = oneshot::channel();
        let what = match request.extensions().get::<Asked>() {
            Some(Asked(channel, call)) => What::Gateway(*channel, call.clone()),
            None => What::Webhook(Delivery {
                event_id: header(&request, "webhook-id"),
                body: request.into_body(),
                taken: false,
            }),
        };
        {
            let mut outside = self.outside();
            outside.sent += 1;
            let (id, sent_at) = (outside.sent, outside.now);
            outside.calls.push(InAir { id, what, sent_at, answer: None, reply });
        }
        Box::pin(async move {
            let lost = || SendError::Unknown("lost".to_owned());
            answer.await.unwrap_or_else(|_| Err(lost()))
        })
    }
}

impl Outside {
    /// Does what a call asks, and gives the answer. `refund_ms`: see [`Gateways::answer`]; `status`: what the
    /// mall says.
    pub fn work(&mut self, what: &What, refund_ms: i64, status: StatusCode) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        match what {
            What::Gateway(channel, call) => {
                let said = self.gateways.answer(*channel, call, self.now, refund_ms);
                response.extensions_mut().insert(Said(said));
            }
            What::Webhook(delivery) => {
                self.mall.push(Delivery { taken: status.is_success(), ..delivery.clone() });
                *response.status_mut() = status;
            }
        }
        response
    }

    /// Takes a call out of the air.
    pub fn take(&mut self, id: u32) -> Option<InAir> {
        let at = self.calls.iter().position(|call| call.id == id)?;
        Some(self.calls.remove(at))
    }
}

impl InAir {
    /// Ends the call for the service.
    pub fn end(self, result: Result<Response<Bytes>, SendError>) {
        // Who asked may be gone.
        let _ = self.reply.send(result);
    }
}

/// A gateway's answer that says nothing: it is in trouble.
pub fn trouble() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    response.extensions_mut().insert(Said(Err(Fault::Unknown("SYSTEMERROR".to_owned()))));
    response
}

/// A notice as it arrives. What is not `sealed` was not written by the gateway.
pub fn request_of(due: &Due, ours: bool, sealed: bool) -> Request<Bytes> {
    let body = match (due.channel, ours) {
        (Channel::Wx, true) => "<xml><appid>app</appid><mch_id>mch</mch_id></xml>",
        (Channel::Wx, false) => "<xml><appid>app</appid><mch_id>other</mch_id></xml>",
        (Channel::Ali, true) => "app_id=app&seller_id=seller",
        (Channel::Ali, false) => "app_id=other&seller_id=seller",
    };
    let mut request = Request::new(Bytes::from_static(body.as_bytes()));
    if sealed {
        request.extensions_mut().insert(Sealed(due.notice.clone()));
    }
    request
}

/// Our half of one gateway's protocol.
pub struct Half {
    channel: Channel,
    air: Arc<Air>,
}

impl Half {
    /// Of `channel`. The order strings that it makes are known to the gateway behind `air`.
    pub const fn new(channel: Channel, air: Arc<Air>) -> Self {
        Self { channel, air }
    }
}

impl Merchant for Half {
    fn account(&self) -> &'static str {
        match self.channel {
            Channel::Wx => "app:mch",
            Channel::Ali => "app:seller",
        }
    }

    fn encode_call(&self, call: &Call, _stamp: &Stamp) -> Result<Outgoing, Fault> {
        if let Call::Create { out_trade_no, terms } = call
            && terms.scene == Scene::App
        {
            self.air.outside().gateways.place(self.channel, out_trade_no, terms);
            let content = format!("app:{out_trade_no}");
            return Ok(Outgoing::Local(Reply::Created(Code { content, prepay_id: None, until: None })));
        }
        let mut request = Request::new(Bytes::new());
        request.extensions_mut().insert(Asked(self.channel, call.clone()));
        Ok(Outgoing::Send(request))
    }

    fn decode_reply(&self, _call: &Call, reply: &Response<Bytes>, _now: UnixMillis) -> Result<Reply, Fault> {
        let nothing = || Err(Fault::Unknown(format!("HTTP {}", reply.status().as_u16())));
        reply.extensions().get::<Said>().map_or_else(nothing, |said| said.0.clone())
    }

    fn decode_notice(&self, notice: &Request<Bytes>, _now: UnixMillis) -> Result<Verified<Notice>, Fault> {
        let sealed = notice.extensions().get::<Sealed>();
        let forged = || Fault::BadSignature("there is no seal".to_owned());
        sealed.map(|sealed| Verified::by_half(sealed.0.clone())).ok_or_else(forged)
    }
}

fn header(request: &Request<Bytes>, name: &str) -> String {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
