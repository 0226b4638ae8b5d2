//! WeChat's web authorisation (gateways.md 3): how a page inside WeChat learns the `openid` of who looks at
//! it. Never holds a request in an error text, for its address has the app's secret in it; never says an
//! `openid`.

use bytes::Bytes;
use http::{Request, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::Fault;
use super::keys::Secret;
use crate::domain::id::Payer;

/// Everything but the unreserved characters: a redirect address is one value, whole.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One app at WeChat.
#[derive(Clone, Debug)]
pub struct WechatOauth {
    /// The official account.
    pub app_id: String,
    /// Its secret, which is not the merchant's key.
    pub app_secret: Secret,
    /// `https://open.weixin.qq.com` or where the emulator listens.
    pub open_url: String,
    /// `https://api.weixin.qq.com` or where the emulator listens.
    pub api_url: String,
}

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// It was this person's.
    Openid(Payer),
    /// Somebody looks at a preview of the page: the `openid` is invented and no order may be placed with it.
    Preview,
    /// The code is wrong, too old, or was used before: a new one may do.
    Spent {
        /// WeChat's `errcode`.
        code: i64,
    },
    /// WeChat said no to the app: a person must look at the configuration.
    Refused {
        /// WeChat's `errcode`.
        code: i64,
    },
    /// No answer, or none that can be read. For the log.
    Unknown(String),
}

/// The answer; more stands in it than is wanted.
#[derive(Deserialize)]
struct Answer {
    errcode: Option<i64>,
    openid: Option<String>,
    is_snapshotuser: Option<u8>,
}

impl WechatOauth {
    /// Where the browser is sent. WeChat compares the order of the parameters with a pattern, and wants the
    /// fragment (gateways.md 3.1).
    pub fn authorize_url(&self, redirect_uri: &str, state: &str) -> String {
        format!(
            "{}/connect/oauth2/authorize?appid={}&redirect_uri={}&response_type=code&scope=snsapi_base\
             &state={}#wechat_redirect",
            self.open_url,
            utf8_percent_encode(&self.app_id, VALUE),
            utf8_percent_encode(redirect_uri, VALUE),
            utf8_percent_encode(state, VALUE),
        )
    }

    /// Asks whose code it is (gateways.md 3.2). The address holds the secret: it is for the wire alone.
    ///
    /// # Errors
    /// [`Fault::Malformed`] if the configured address is none.
    pub fn exchange(&self, code: &str) -> Result<Request<Bytes>, Fault> {
        let url = format!(
            "{}/sns/oauth2/access_token?appid={}&secret={}&code={}&grant_type=authorization_code",
            self.api_url,
            utf8_percent_encode(&self.app_id, VALUE),
            utf8_percent_encode(self.app_secret.expose(), VALUE),
            utf8_percent_encode(code, VALUE),
        );
        let none = || Fault::Malformed("wechat_api is not an address".to_owned());
        Request::get(url).body(Bytes::new()).map_err(|_| none())
    }

    /// Reads the answer. Refusals come with HTTP 200, too.
    pub fn read(answer: &Response<Bytes>) -> Exchanged {
        if !answer.status().is_success() {
            return Exchanged::Unknown(format!("HTTP {}", answer.status().as_u16()));
        }
        // What is wrong with it is not said in the parser's words: they may quote it.
        let Ok(answer) = serde_json::from_slice::<Answer>(answer.body()) else {
            return Exchanged::Unknown("the answer cannot be read".to_owned());
        };
        match (answer.errcode.unwrap_or_default(), answer.openid.map(Payer::new)) {
            // Invalid, used, missing, expired.
            (code @ (40_029 | 40_163 | 41_008 | 42_003), _) => Exchanged::Spent { code },
            // The system is busy.
            (-1, _) => Exchanged::Unknown("errcode -1".to_owned()),
            (0, Some(Ok(_))) if answer.is_snapshotuser == Some(1) => Exchanged::Preview,
            (0, Some(Ok(openid))) => Exchanged::Openid(openid),
            (0, Some(Err(_)) | None) => Exchanged::Unknown("the answer names nobody".to_owned()),
            (code, _) => Exchanged::Refused { code },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> WechatOauth {
        WechatOauth {
            app_id: "wxd930ea5d5a258f4f".to_owned(),
            app_secret: Secret::new("shh&=?"),
            open_url: "https://open.weixin.qq.com".to_owned(),
            api_url: "https://api.weixin.qq.com".to_owned(),
        }
    }

    /// Byte for byte what wechatpy's `WeChatOAuth(app, "", redirect, "snsapi_base", state).authorize_url`
    /// gives (gateways.md 3.1).
    #[test]
    fn the_authorize_address_is_wechatpys() {
        let redirect = "https://pay.example.com/app/payment/wpay/12346?order_type=Wallet&lang=zh-CN";
        assert_eq!(
            app().authorize_url(redirect, "0123456789ABCDEFabcdef"),
            "https://open.weixin.qq.com/connect/oauth2/authorize?appid=wxd930ea5d5a258f4f&redirect_uri=\
             https%3A%2F%2Fpay.example.com%2Fapp%2Fpayment%2Fwpay%2F12346%3Forder_type%3DWallet\
             %26lang%3Dzh-CN&response_type=code&scope=snsapi_base\
             &state=0123456789ABCDEFabcdef#wechat_redirect"
        );
    }

    #[test]
    fn a_code_is_exchanged_in_one_value_whatever_stands_in_it() {
        let request = app().exchange("a&secret=b c#").unwrap();
        assert_eq!(request.method(), http::Method::GET);
        assert_eq!(
            request.uri().to_string(),
            "https://api.weixin.qq.com/sns/oauth2/access_token?appid=wxd930ea5d5a258f4f\
             &secret=shh%26%3D%3F&code=a%26secret%3Db%20c%23&grant_type=authorization_code"
        );
        let broken = WechatOauth { api_url: "no address".to_owned(), ..app() };
        let error = broken.exchange("c").unwrap_err().to_string();
        assert!(!error.contains("shh"), "{error}");
        assert!(!format!("{:?}", app()).contains("shh"));
    }

    #[test]
    fn answers() {
        let openid = || Exchanged::Openid(Payer::new("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o").unwrap());
        let unknown = |text: &str| Exchanged::Unknown(text.to_owned());
        let long = format!(r#"{{"openid":"{}"}}"#, "o".repeat(129));
        let cases = [
            (
                r#"{"access_token":"A","expires_in":7200,"refresh_token":"R","openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
                "scope":"snsapi_base","unionid":"U"}"#,
                openid(),
            ),
            (r#"{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o","is_snapshotuser":0,"errcode":0}"#, openid()),
            (r#"{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o","is_snapshotuser":1}"#, Exchanged::Preview),
            (r#"{"errcode":40029,"errmsg":"invalid code, rid: 1-2-3"}"#, Exchanged::Spent { code: 40_029 }),
            (r#"{"errcode":40163,"errmsg":"code been used, rid: 1-2-3"}"#, Exchanged::Spent { code: 40_163 }),
            (r#"{"errcode":40125,"errmsg":"invalid appsecret"}"#, Exchanged::Refused { code: 40_125 }),
            (r#"{"errcode":40013,"openid":"o"}"#, Exchanged::Refused { code: 40_013 }),
            (r#"{"errcode":-1,"errmsg":"system error"}"#, unknown("errcode -1")),
            (r#"{"openid":""}"#, unknown("the answer names nobody")),
            ("{}", unknown("the answer names nobody")),
            (&long, unknown("the answer names nobody")),
            (r#"{"openid":"a","openid":"b"}"#, unknown("the answer cannot be read")),
            ("<html>", unknown("the answer cannot be read")),
        ];
        for (body, expected) in cases {
            let answer = Response::new(Bytes::from(body.to_owned()));
            assert_eq!(WechatOauth::read(&answer), expected, "{body}");
        }
        let down = Response::builder().status(502).body(Bytes::new()).unwrap();
        assert_eq!(WechatOauth::read(&down), unknown("HTTP 502"));
    }
}
