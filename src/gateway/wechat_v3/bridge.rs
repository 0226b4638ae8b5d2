//! Their client: what WeChat checks before it opens the wallet for a page (gateways.md 2.8, 3.4).
//! Never shows a key. `gateway` is their server.

use super::super::wechat_v2::PayParams;
use super::gateway::WechatV3Gateway;

impl WechatV3Gateway {
    /// Whether a page may pay with these parameters for a trade that was created by v3.
    ///
    /// # Errors
    /// For the developer: which of the six is wrong, and how.
    pub fn check_pay_params(&self, params: &PayParams) -> Result<(), String> {
        if params.app_id != self.config.app_id {
            let known = &self.config.app_id;
            return Err(format!("appId is {:?}, the one known here is {known:?}", params.app_id));
        }
        if params.sign_type != "RSA" {
            return Err(format!("signType is {:?}; a trade of v3 is paid with RSA", params.sign_type));
        }
        let (at, nonce) = (&params.time_stamp, &params.nonce_str);
        let fits = |package: &str| {
            let text = format!("{}\n{at}\n{nonce}\n{package}\n", params.app_id);
            self.config.merchant_key.verify_sha256_base64(text.as_bytes(), &params.pay_sign)
        };
        if fits(&params.package) {
            return Ok(());
        }
        let cause = if fits(params.package.trim_start_matches("prepay_id=")) {
            "the bare prepay_id was signed, as an app does; a page signs prepay_id=…"
        } else {
            "another private key than that of the merchant's certificate, or a value changed after signing"
        };
        let text = format!("{}\\n{at}\\n{nonce}\\n{}\\n", params.app_id, params.package);
        Err(format!("the signed text must be: {text}\nlikely cause: {cause}"))
    }
}
