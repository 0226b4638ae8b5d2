//! WeChat's web authorisation: who is this, for a page inside WeChat (gateways.md 3.1, 3.2).
//! Never a consent to show: only `snsapi_base` is granted, which is silent. A code works once, five minutes
//! long, and lives in memory: who restarts the emulator authorises again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::IntoResponse;
use axum::routing::get;
use http::{HeaderMap, Response, header};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::Emulator;
use super::browser::{found, in_wechat, no, sorry};
use super::faults::ANY_CALL;
use super::log::Entry;
use super::people::User;
use crate::domain::id::{Channel, UnixMillis};
use crate::gateway::Refusal;
use crate::gateway::keys::same;
use crate::runtime::random;

pub(super) fn router() -> Router<Emulator> {
    Router::new()
        .route("/connect/oauth2/authorize", get(authorize))
        .route("/sns/oauth2/access_token", get(access_token))
}

/// Codes handed out, and what each is good for.
#[derive(Debug, Default)]
pub(super) struct Codes {
    granted: Mutex<HashMap<String, Grant>>,
}

#[derive(Clone, Debug)]
struct Grant {
    user: User,
    at: UnixMillis,
    used: bool,
}

impl Codes {
    fn grant(&self, code: String, user: User, now: UnixMillis) {
        let mut granted = self.lock();
        if granted.len() >= KEPT {
            granted.retain(|_, grant| now.since(grant.at) <= CODE_LIFE_MS);
        }
        granted.insert(code, Grant { user, at: now, used: false });
    }

    /// Takes a code for good.
    fn take(&self, code: &str, now: UnixMillis) -> Result<User, Refusal> {
        let mut granted = self.lock();
        match granted.get_mut(code) {
            Some(grant) if grant.used => {
                let why = "each code works once; keep the openid, a refresh brings the same code again";
                Err(no("40163", "code been used", why))
            }
            Some(grant) if now.since(grant.at) > CODE_LIFE_MS => {
                Err(no("40029", "invalid code", "the code is older than five minutes"))
            }
            Some(grant) => {
                grant.used = true;
                Ok(grant.user.clone())
            }
            None => Err(no("40029", "invalid code", "this code was never handed out, or before a restart")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Grant>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn authorize(
    State(emulator): State<Emulator>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let busy = sorry(&headers, TITLE, "系统繁忙，请稍后再试");
    let at = emulator.clone();
    let answer = async move { at.authorized(&headers, query.as_deref().unwrap_or_default()) };
    emulator.bent(Channel::Wx, &[AUTHORIZE], busy, answer).await
}

async fn access_token(State(emulator): State<Emulator>, RawQuery(query): RawQuery) -> Response<Body> {
    let busy = spoken(&json!({ "errcode": -1, "errmsg": "system error" }));
    let at = emulator.clone();
    let answer = async move { at.exchanged(query.as_deref().unwrap_or_default()) };
    emulator.bent(Channel::Wx, &[ACCESS_TOKEN, ANY_CALL], busy, answer).await
}

impl Emulator {
    /// Sends the browser back with a code, or says why not.
    fn authorized(&self, headers: &HeaderMap, query: &str) -> Response<Body> {
        let now = self.inner.clock.now();
        let granted = asked(query, &self.inner.credentials.wechat.app_id).and_then(|asked| {
            if !self.is_registered(&asked.redirect_uri) {
                let why = format!(
                    "the host of {} is neither this machine nor the registered domain (--domain)",
                    asked.redirect_uri
                );
                return Err(no("10003", "redirect_uri域名与后台配置不一致", why));
            }
            if !in_wechat(headers) {
                let why = "only WeChat's own browser is let in: its User-Agent says MicroMessenger/…";
                return Err(no("outside", "请在微信客户端打开链接", why));
            }
            let code = random::base62(32).map_err(|error| no("-1", "系统错误", error.to_string()))?;
            self.inner.codes.grant(code.clone(), self.inner.people.current(), now);
            Ok(with_code(&asked, &code))
        });
        match granted {
            Ok(url) => {
                self.inner.log.push(Entry::ok(now, Channel::Wx, AUTHORIZE, None));
                found(&url)
            }
            Err(refusal) => {
                self.log_refusal(Channel::Wx, AUTHORIZE, None, &refusal);
                let coded = refusal.code.bytes().all(|b| b.is_ascii_digit());
                let code = if coded { format!("，错误码:{}", refusal.code) } else { String::new() };
                sorry(headers, TITLE, &format!("{}{code}", refusal.message))
            }
        }
    }

    /// Tells the merchant's server who came with this code.
    fn exchanged(&self, query: &str) -> Response<Body> {
        match self.exchange(query) {
            Ok(told) => {
                let now = self.inner.clock.now();
                self.inner.log.push(Entry::ok(now, Channel::Wx, ACCESS_TOKEN, None));
                spoken(&told)
            }
            Err(refusal) => {
                self.log_refusal(Channel::Wx, ACCESS_TOKEN, None, &refusal);
                let code = refusal.code.parse::<i32>().unwrap_or(-1);
                let rid = random::bytes::<12>().map(hex::encode).unwrap_or_default();
                let (a, b, c) = (rid.get(..8), rid.get(8..16), rid.get(16..));
                let rid = [a, b, c].map(Option::unwrap_or_default).join("-");
                spoken(&json!({ "errcode": code, "errmsg": format!("{}, rid: {rid}", refusal.message) }))
            }
        }
    }

    fn exchange(&self, query: &str) -> Result<Value, Refusal> {
        let given: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let want = |name: &str, code: &str| match given.get(name) {
            Some(value) if !value.is_empty() => Ok(value.as_str()),
            _ => Err(no(code, &format!("{name} missing"), format!("{name} is missing or empty"))),
        };
        let (appid, secret) = (want("appid", "41002")?, want("secret", "41004")?);
        let code = want("code", "41008")?;
        let known = &self.inner.credentials.wechat;
        if given.get("grant_type").map(String::as_str) != Some("authorization_code") {
            return Err(no("40002", "invalid grant_type", "grant_type must be authorization_code"));
        }
        if appid != known.app_id {
            let why = format!("appid is {appid:?}, the one known here is {:?}", known.app_id);
            return Err(no("40013", "invalid appid", why));
        }
        if !same(secret, &known.app_secret) {
            return Err(no("40125", "invalid appsecret", "credentials.json has the right one: app_secret"));
        }
        let user = self.inner.codes.take(code, self.inner.clock.now())?;
        let token = || random::base62(86).map_err(|error| no("-1", "system error", error.to_string()));
        let mut told = json!({
            "access_token": token()?,
            "expires_in": 7200,
            "refresh_token": token()?,
            "openid": self.inner.people.openid(&user),
            "scope": BASE,
        });
        if let (true, Some(told)) = (user.snapshot, told.as_object_mut()) {
            told.insert("is_snapshotuser".to_owned(), Value::from(1));
        }
        Ok(told)
    }
}

/// What a page wants to know, and where to tell it.
struct Asked<'a> {
    /// As it was given, decoded.
    back: String,
    redirect_uri: Url,
    state: &'a str,
}

/// Reads the link as WeChat does: by a pattern, so the order counts (gateways.md 3.1).
fn asked<'a>(query: &'a str, app_id: &str) -> Result<Asked<'a>, Refusal> {
    let pairs: Vec<(&str, &str)> =
        query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    let value = |name: &str, code: &str, said: &str| {
        let found = pairs.iter().find(|(known, value)| *known == name && !value.is_empty());
        found.map(|(_, value)| *value).ok_or_else(|| no(code, said, format!("{name} is missing or empty")))
    };
    let given = value("appid", "10012", "appid不能为空")?;
    let raw = value("redirect_uri", "10011", "redirect_uri不能为空")?;
    let scope = value("scope", "10010", "scope不能为空")?;
    let state = value("state", "10013", "state不能为空")?;
    let wrong = |why: String| no("order", "链接参数错误，授权页面无法正常访问", why);
    let names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    if names != ORDER && names.strip_suffix(&["forcePopup"]) != Some(ORDER.as_slice()) {
        let why =
            format!("the parameters must be {}, then perhaps forcePopup, in this order", ORDER.join(", "));
        return Err(wrong(format!("{why}; they are {}", names.join(", "))));
    }
    if given != app_id {
        return Err(no(
            "appid",
            "AppID参数错误",
            format!("appid is {given:?}, the one known here is {app_id:?}"),
        ));
    }
    if value("response_type", "order", "response_type不能为空")? != "code" {
        return Err(wrong("response_type must be code".to_owned()));
    }
    if scope != BASE {
        let why = format!("scope is {scope:?}; this app has {BASE} only");
        return Err(no("10005", "此公众号并没有这些scope的权限", why));
    }
    if state.len() > 128 || !state.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(wrong("state: at most 128 of 0-9 A-Z a-z".to_owned()));
    }
    if raw.contains([':', '/', '?']) {
        return Err(wrong("redirect_uri must be percent-encoded whole".to_owned()));
    }
    let mut decoded = form_urlencoded::parse(query.as_bytes());
    let back = decoded.find(|(name, _)| name == "redirect_uri").map(|(_, value)| value.into_owned());
    let back = back.unwrap_or_default();
    let redirect_uri =
        Url::parse(&back).map_err(|_| wrong("redirect_uri is not an absolute URL".to_owned()))?;
    Ok(Asked { back, redirect_uri, state })
}

/// `redirect_uri?code=CODE&state=STATE`, or with `&` where there is a query already.
fn with_code(asked: &Asked<'_>, code: &str) -> String {
    let (address, fragment) = match asked.back.split_once('#') {
        Some((address, fragment)) => (address, format!("#{fragment}")),
        None => (asked.back.as_str(), String::new()),
    };
    let joint = if address.contains('?') { '&' } else { '?' };
    format!("{address}{joint}code={code}&state={}{fragment}", asked.state)
}

/// The real one says `text/plain` (gateways.md 3.2).
fn spoken(told: &Value) -> Response<Body> {
    ([(header::CONTENT_TYPE, "text/plain"), (header::CACHE_CONTROL, "no-store")], told.to_string())
        .into_response()
}

const TITLE: &str = "微信";
const BASE: &str = "snsapi_base";
const ORDER: [&str; 5] = ["appid", "redirect_uri", "response_type", "scope", "state"];
/// The names under which faults reach both calls.
const AUTHORIZE: &str = "wx.oauth2.authorize";
const ACCESS_TOKEN: &str = "wx.oauth2.access_token";
/// gateways.md 3.2.
const CODE_LIFE_MS: i64 = 5 * 60 * 1000;
/// Beyond so many, those past their time are forgotten.
const KEPT: usize = 10_000;
