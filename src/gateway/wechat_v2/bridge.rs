//! Their client: what WeChat checks before it opens the wallet for a page (gateways.md 1.4, 3.4).
//! Never shows a key, nor the right signature. `gateway` is their server.

use super::gateway::{WechatV2Gateway, sign_type_of};
use super::{Fields, PayParams, SignType, canonical, put, same, sign};

impl WechatV2Gateway {
    /// Whether a page may pay with these parameters for a trade whose creation left this `echo`.
    ///
    /// # Errors
    /// For the developer: which of the six is wrong, and how.
    pub fn check_pay_params(&self, params: &PayParams, echo: &[(String, String)]) -> Result<(), String> {
        if params.app_id != self.config.app_id {
            return Err(format!(
                "appId is {:?}, the one known here is {:?}",
                params.app_id, self.config.app_id
            ));
        }
        let created_with = sign_type_of(echo);
        if params.sign_type != created_with.as_str() {
            return Err(format!(
                "signType is {:?}, but unifiedorder was signed with {created_with}: they must be the same",
                params.sign_type
            ));
        }
        let signed = |names: [&str; 5], sign_type| {
            let mut fields = Fields::new();
            let values = [&params.app_id, &params.time_stamp, &params.nonce_str, &params.package];
            for (name, value) in names.iter().zip(values.into_iter().chain([&params.sign_type])) {
                put(&mut fields, name, value);
            }
            (sign(&fields, &self.config.key, sign_type), canonical(&fields))
        };
        let (right, text) = signed(FIVE, created_with);
        if same(&params.pay_sign, &right) {
            return Ok(());
        }
        let other = match created_with {
            SignType::Md5 => SignType::HmacSha256,
            SignType::HmacSha256 => SignType::Md5,
        };
        let cause = if same(&params.pay_sign, &right.to_ascii_lowercase()) {
            "it is right but in lower case; it must be upper-case hex".to_owned()
        } else if same(&params.pay_sign, &signed(FIVE, other).0) {
            format!("it was made with {other}, signType says {created_with}")
        } else if same(&params.pay_sign, &signed(LOWER, created_with).0) {
            "the names were signed in lower case, as an app does; a page signs appId, timeStamp, nonceStr, \
             package, signType"
                .to_owned()
        } else {
            "another API v2 key, a field that is not one of the five, or a value changed after signing"
                .to_owned()
        };
        Err(format!("the signed text must be: {text}&key=***\nlikely cause: {cause}"))
    }
}

/// What a page signs (gateways.md 1.4).
const FIVE: [&str; 5] = ["appId", "timeStamp", "nonceStr", "package", "signType"];
/// The same in an app's spelling.
const LOWER: [&str; 5] = ["appid", "timestamp", "noncestr", "package", "signtype"];

#[cfg(test)]
mod tests {
    use super::super::GatewayConfig;
    use super::*;
    use crate::gateway::keys::Secret;

    /// gateways.md 1.3, computed there with two other implementations.
    #[test]
    fn the_worked_example_is_let_in_and_a_changed_one_is_not() {
        let gateway = WechatV2Gateway::new(GatewayConfig {
            app_id: "wxd930ea5d5a258f4f".to_owned(),
            mch_id: "10000100".to_owned(),
            key: Secret::new("192006250b4c09247ec02edce69f6a2d"),
        });
        let example = |sign_type: &str, pay_sign: &str| PayParams {
            app_id: "wxd930ea5d5a258f4f".to_owned(),
            time_stamp: "1414561699".to_owned(),
            nonce_str: "5K8264ILTKCH16CQ2502SI8ZNMTM67VS".to_owned(),
            package: "prepay_id=wx201410272009395522657a690389285100".to_owned(),
            sign_type: sign_type.to_owned(),
            pay_sign: pay_sign.to_owned(),
        };
        let created = |sign_type: &str| vec![("sign_type".to_owned(), sign_type.to_owned())];
        let md5 = example("MD5", "FD19D752A746E5F238A6E53BD99EEBD0");
        let hmac = "FC7A79E4918B4FFA96E836F5AD4A510F31241FB46C14C971D6D7B4F8E15AF262";
        assert_eq!(gateway.check_pay_params(&md5, &created("MD5")), Ok(()));
        assert_eq!(gateway.check_pay_params(&md5, &[]), Ok(()), "MD5 is the default");
        let longer = example("HMAC-SHA256", hmac);
        assert_eq!(gateway.check_pay_params(&longer, &created("HMAC-SHA256")), Ok(()));
        for (params, created_with, said) in [
            (&md5, "HMAC-SHA256", "must be the same"),
            (&example("MD5", &md5.pay_sign.to_ascii_lowercase()), "MD5", "lower case"),
            (&PayParams { time_stamp: "1414561698".to_owned(), ..md5.clone() }, "MD5", "another API v2 key"),
            (&example("MD5", hmac), "MD5", "another API v2 key"),
        ] {
            let why = gateway.check_pay_params(params, &created(created_with)).unwrap_err();
            assert!(why.contains(said) && !why.contains("FD19D7"), "{why}");
        }
    }
}
