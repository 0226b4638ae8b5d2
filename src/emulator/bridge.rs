//! WeChat's client on the control port: who holds the phone, and what happens when a page calls the wallet.
//! Never pays for a page what the real client would not: parameters are checked first (gateways.md 1.4, 3.4).

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::Emulator;
use super::browser::no;
use super::control::{Denied, data, parse};
use super::log::Entry;
use super::people::User;
use crate::domain::id::{Channel, Payer, Scene};
use crate::gateway::Refusal;
use crate::gateway::wechat_v2::PayParams;

pub(super) fn router() -> Router<Emulator> {
    Router::new()
        .route("/wechat", get(user).post(hand_over))
        .route("/bridge", post(invoke))
        .route("/bridge.js", get(script))
}

/// How the person in front of the wallet ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    #[default]
    Ok,
    Cancel,
    Fail,
    /// Pays, but the page is never told. The script's word: to the wallet it is `ok`.
    Silent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invoked {
    params: Map<String, Value>,
    /// The address of the page that calls. Left out by who calls without a page: then nothing is said of it.
    page: Option<String>,
    #[serde(default)]
    outcome: Outcome,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    outcome: Outcome,
    #[serde(default)]
    delay_ms: u32,
}

async fn user(State(emulator): State<Emulator>) -> Response {
    data(&shown(&emulator))
}

async fn hand_over(State(emulator): State<Emulator>, body: Bytes) -> Result<Response, Denied> {
    let user: User = parse(&body)?;
    if !(1..=64).contains(&user.user.len()) {
        return Err(Denied::bad("\"user\" must have between 1 and 64 bytes"));
    }
    emulator.inner.people.hand_to(user);
    Ok(data(&shown(&emulator)))
}

fn shown(emulator: &Emulator) -> Value {
    let people = &emulator.inner.people;
    let user = people.current();
    json!({ "user": user.user, "snapshot": user.snapshot, "openid": people.openid(&user) })
}

async fn invoke(State(emulator): State<Emulator>, body: Bytes) -> Result<Response, Denied> {
    let Invoked { params, page, outcome } = parse(&body)?;
    let now = emulator.inner.clock.now();
    let called = match page.as_deref().map_or(Ok(()), |page| emulator.in_pay_directory(page)) {
        Ok(()) => emulator.called(&params, outcome).await,
        Err(refusal) => Err(refusal),
    };
    let (said, why) = match called {
        Ok(said) => (said, None),
        Err(refusal) => {
            emulator.log_refusal(Channel::Wx, CALL, None, &refusal);
            ("fail", Some(refusal.message))
        }
    };
    if why.is_none() {
        emulator.inner.log.push(Entry::ok(now, Channel::Wx, CALL, None));
    }
    let mut told = json!({ "err_msg": format!("get_brand_wcpay_request:{said}") });
    if let (Some(why), Some(told)) = (why, told.as_object_mut()) {
        told.insert("err_desc".to_owned(), Value::from(why));
    }
    Ok(data(&told))
}

/// The script is made for this one browser: `outcome` and `delay_ms` stand in it.
async fn script(State(emulator): State<Emulator>, Query(wanted): Query<Script>) -> Response {
    let outcome = match wanted.outcome {
        Outcome::Ok => "ok",
        Outcome::Cancel => "cancel",
        Outcome::Fail => "fail",
        Outcome::Silent => "silent",
    };
    let control = &emulator.inner.credentials.control_url;
    let settings = json!({ "control": control, "outcome": outcome, "delayMs": wanted.delay_ms });
    let script = SCRIPT.replacen("/* settings */ null", &settings.to_string(), 1);
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], script).into_response()
}

impl Emulator {
    /// Whether a page may call the wallet: it must lie under the payment directory (gateways.md 3.4).
    fn in_pay_directory(&self, page: &str) -> Result<(), Refusal> {
        let directory = &self.inner.pay_directory;
        let url = Url::parse(page).ok().filter(|url| self.is_registered(url));
        if url.is_some_and(|url| {
            url.path().strip_prefix(directory.as_str()).is_some_and(|page| !page.is_empty())
        }) {
            return Ok(());
        }
        // Without what the page was asked for: only where it lies counts.
        let page = page.split(['?', '#']).next().unwrap_or_default();
        let why = format!(
            "{page} does not lie under the payment directory {directory} (--pay-directory), on this machine \
             or at the registered domain (--domain)"
        );
        Err(no("fail", &format!("当前页面的URL未注册:{page}"), why))
    }

    /// A page calls the wallet; how that ends.
    async fn called(&self, params: &Map<String, Value>, outcome: Outcome) -> Result<&'static str, Refusal> {
        let params = pay_params(params)?;
        let unsigned = |why: String| no("fail", "支付验证签名失败", why);
        let Some(prepay_id) = params.package.strip_prefix("prepay_id=") else {
            return Err(unsigned("package must be prepay_id=…".to_owned()));
        };
        let trade = self.book().of_code(prepay_id).cloned();
        let trade = trade.ok_or_else(|| unsigned("no trade has this prepay_id".to_owned()))?;
        self.inner.gateways.wechat().check_pay_params(&params, &trade.echo).map_err(unsigned)?;
        if trade.terms.scene != Scene::Jsapi {
            let why =
                format!("{} was placed for {}, not for JSAPI", trade.key.out_trade_no, trade.terms.scene);
            return Err(no("fail", "该订单不支持在公众号内支付", why));
        }
        let people = &self.inner.people;
        let holder = people.current();
        if trade.terms.visit.openid.as_ref().map(Payer::as_str) != Some(people.openid(&holder).as_str()) {
            let why = format!(
                "it was placed for another openid than that of {:?}, who holds the phone",
                holder.user
            );
            return Err(no("fail", "下单账号与支付账号不一致，请核实后再支付", why));
        }
        // Opened in any case: what cannot be paid is not shown.
        let stopped = |denied: Denied| no("fail", &denied.message, "the trade does not allow it");
        self.wallet_scan(prepay_id).await.map_err(stopped)?;
        match outcome {
            Outcome::Ok | Outcome::Silent => {
                self.wallet_pay(prepay_id, 1).await.map(|_| "ok").map_err(stopped)
            }
            Outcome::Cancel => Ok("cancel"),
            Outcome::Fail => Err(no("fail", "支付失败：余额不足", "as wanted")),
        }
    }
}

/// The client wants six texts; a number is none, which iOS in fact refuses.
fn pay_params(given: &Map<String, Value>) -> Result<PayParams, Refusal> {
    let text = |name: &str| match given.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::String(_)) | None => {
            Err(no("fail", &format!("调用支付JSAPI缺少参数:{name}"), format!("{name} is missing or empty")))
        }
        Some(other) => {
            let why = format!("{name} is {other}; it must be a string");
            Err(no("fail", &format!("调用支付JSAPI缺少参数:{name}"), why))
        }
    };
    Ok(PayParams {
        app_id: text("appId")?,
        time_stamp: text("timeStamp")?,
        nonce_str: text("nonceStr")?,
        package: text("package")?,
        sign_type: text("signType")?,
        pay_sign: text("paySign")?,
    })
}

const SCRIPT: &str = include_str!("bridge.js");
const CALL: &str = "wx.getBrandWCPayRequest";
