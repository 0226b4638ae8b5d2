//! What Alipay says to a shopper's browser: links it opens, pages of refusal, and the way back to the shop
//! (gateways.md 4.3, 4.8). Never a proof of payment: the way back says nothing of the trade's status.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{Request, Response};

use super::super::{Refusal, Standing, answer};
use super::gateway::{AlipayGateway, merged};
use super::{Empties, Params, canonical, placing, put, sign, write_form};
use crate::domain::id::{Scene, UnixMillis};
use crate::domain::time;

impl AlipayGateway {
    /// The query of a link that asks the same as `request`: what was posted as a form stands in it, too.
    ///
    /// # Errors
    /// [`Refusal`]: it is not a request at all.
    pub fn link(&self, request: &Request<Bytes>) -> Result<String, Refusal> {
        merged(request).map(|params| write_form(&params))
    }

    /// Where the browser goes after the payment: `return_url` with what Alipay signs about it, as it signs a
    /// notice. Parameters that `return_url` had before are not signed.
    pub fn encode_return(&self, trade: &Standing, return_url: &str, now: UnixMillis) -> Option<String> {
        let mut url = url::Url::parse(return_url).ok()?;
        let (method, _) = placing(trade.scene).filter(|(method, _)| is_for_browsers(method))?;
        let mut params = Params::new();
        for (name, value) in [
            ("app_id", self.config.app_id.as_str()),
            ("method", &format!("{method}.return")),
            ("charset", "utf-8"),
            ("version", "1.0"),
            ("timestamp", &time::spaced(now)),
            ("out_trade_no", trade.out_trade_no.as_str()),
            ("trade_no", trade.transaction_id.as_ref()?.as_str()),
            ("total_amount", &trade.total.to_string()),
            ("seller_id", &self.config.seller_id),
        ] {
            put(&mut params, name, value);
        }
        let signature = sign(&self.config.alipay_key, &canonical(&params, &[], Empties::Kept));
        put(&mut params, "sign_type", "RSA2");
        put(&mut params, "sign", &signature);
        url.query_pairs_mut().extend_pairs(&params);
        Some(url.into())
    }
}

/// Whether this method is opened by browsers, so that its answers are pages.
pub(super) fn is_for_browsers(method: &str) -> bool {
    [Scene::Wap, Scene::Page].into_iter().filter_map(placing).any(|(known, _)| known == method)
}

/// The page of a refusal. It is GBK (gateways.md 4.3); whatever that lacks, and everything Chinese, is
/// written as a number, which every browser understands in every charset.
pub(super) fn refused(refusal: &Refusal) -> Response<Bytes> {
    let code = refusal.code.trim_start_matches("isv.");
    let page = format!(
        "<!DOCTYPE html><html><head><meta charset=\"gbk\"><title>错误</title></head><body>\
         <h1>调试错误，请回到请求来源地，重新发起请求。</h1><p>错误代码 {}</p><p>错误原因: {}</p>\
         </body></html>\n",
        escaped(code),
        escaped(&refusal.message),
    );
    let numbered = page.chars().fold(String::with_capacity(2 * page.len()), |mut text, letter| {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "&#{};", u32::from(letter));
        }
        text
    });
    answer("text/html;charset=GBK", numbered)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
