//! The gateways' halves of the protocols, each in three hands: its own, one that signs for another
//! merchant, and one with a wrong key. Only faults use the latter two; neither ever reads a call.

use super::credentials::{Credentials, CredentialsError};
use crate::domain::id::Channel;
use crate::gateway::Counterpart;
use crate::gateway::alipay::{self, AlipayGateway};
use crate::gateway::keys::{PrivateKey, Secret};
use crate::gateway::wechat_v2::{self, WechatV2Gateway};
use crate::runtime::random;

/// Who writes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The gateway, to its merchant.
    Gateway,
    /// The gateway, rightly signed, but to another merchant.
    OtherMerchant,
    /// Somebody else.
    Forger,
}

/// All of them.
pub struct Gateways {
    wechat: [WechatV2Gateway; 3],
    alipay: [AlipayGateway; 3],
}

impl Gateways {
    /// For the merchant of these credentials.
    ///
    /// # Errors
    /// [`CredentialsError`]: a key file is gone or unreadable.
    pub fn new(known: &Credentials) -> Result<Self, CredentialsError> {
        let wechat = |app_id: &str, mch_id: &str, key: &str| {
            let (app_id, mch_id, key) = (app_id.to_owned(), mch_id.to_owned(), Secret::new(key));
            WechatV2Gateway::new(wechat_v2::GatewayConfig { app_id, mch_id, key })
        };
        let alipay = |app_id: &str, seller_id: &str, alipay_key: PrivateKey| {
            let (app_id, seller_id) = (app_id.to_owned(), seller_id.to_owned());
            let app_key = known.app_public_key()?;
            let config = alipay::GatewayConfig { app_id, seller_id, app_key, alipay_key };
            Ok::<_, CredentialsError>(AlipayGateway::new(config))
        };
        let (wx, ali) = (&known.wechat, &known.alipay);
        Ok(Self {
            wechat: [
                wechat(&wx.app_id, &wx.mch_id, &wx.api_v2_key),
                wechat("wx0000000000000000", "1000000001", &wx.api_v2_key),
                wechat(&wx.app_id, &wx.mch_id, &random::base62(32)?),
            ],
            alipay: [
                alipay(&ali.app_id, &ali.seller_id, known.alipay_private_key()?)?,
                alipay("2021000000000000", "2088000000000000", known.alipay_private_key()?)?,
                // What a merchant could sign itself.
                alipay(&ali.app_id, &ali.seller_id, known.app_private_key()?)?,
            ],
        })
    }

    /// One of them.
    pub const fn of(&self, channel: Channel, signer: Signer) -> &dyn Counterpart {
        let ([wx, wx_other, wx_forger], [ali, ali_other, ali_forger]) = (&self.wechat, &self.alipay);
        match (channel, signer) {
            (Channel::Wx, Signer::Gateway) => wx,
            (Channel::Wx, Signer::OtherMerchant) => wx_other,
            (Channel::Wx, Signer::Forger) => wx_forger,
            (Channel::Ali, Signer::Gateway) => ali,
            (Channel::Ali, Signer::OtherMerchant) => ali_other,
            (Channel::Ali, Signer::Forger) => ali_forger,
        }
    }

    /// WeChat Pay itself, whose client also reads what pages hand to it.
    pub const fn wechat(&self) -> &WechatV2Gateway {
        let [wechat, ..] = &self.wechat;
        wechat
    }

    /// Alipay itself, which also reads order strings.
    pub const fn alipay(&self) -> &AlipayGateway {
        let [alipay, ..] = &self.alipay;
        alipay
    }
}
