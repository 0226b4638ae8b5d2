//! The merchants of the configuration, with our half of their gateways ready to use, and the ways to
//! find one: by API key, by gateway account, by host. Never reads a file; `config` does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::capability;
use super::config::{GatewaysConfig, MerchantConfig, WechatConfig};
use super::store::Policies;
use crate::domain::id::{Channel, MerchantId};
use crate::gateway::alipay::{self, Alipay};
use crate::gateway::keys::Secret;
use crate::gateway::wechat_oauth::{Exchanged, WechatOauth};
use crate::gateway::wechat_v2::{self, WechatV2};
use crate::gateway::{Call, Merchant};
use crate::runtime::transport::{Dial, NoClient, Wire};

/// How long a shopper waits for WeChat to say who they are.
const OPENID_PATIENCE: Duration = Duration::from_secs(5);

/// One merchant, ready to work.
pub struct Member {
    /// As configured.
    pub config: Arc<MerchantConfig>,
    /// WeChat Pay by its own name: it also signs what pages and mini programs hand to WeChat.
    pub wx: Option<Arc<WechatV2>>,
    /// Who looks at a page inside WeChat; absent without the app's secret.
    pub oauth: Option<WechatOauth>,
    /// Our half of each gateway the merchant has.
    halves: BTreeMap<Channel, Arc<dyn Merchant>>,
    /// The way to the gateways, shared by all merchants.
    wire: Arc<dyn Wire>,
    /// The same way with the merchant's own certificate, if one is configured.
    certified: Option<Arc<dyn Wire>>,
    /// The way to the mall: webhooks and token checks. Private targets only as configured.
    pub webhooks: Arc<dyn Wire>,
}

/// All merchants.
#[derive(Default)]
pub struct Merchants {
    members: BTreeMap<MerchantId, Arc<Member>>,
    policies: Policies,
}

impl Member {
    fn new(
        config: &Arc<MerchantConfig>,
        gateways: &GatewaysConfig,
        wire: &Arc<dyn Wire>,
        dial: &dyn Dial,
    ) -> Result<Self, NoClient> {
        let mut halves = BTreeMap::<Channel, Arc<dyn Merchant>>::new();
        let wx = config.wechat.as_ref().map(|account| {
            Arc::new(WechatV2::new(wechat_v2::Config {
                app_id: account.app_id.clone(),
                mch_id: account.mch_id.clone(),
                key: account.api_v2_key.clone(),
                sign_type: account.sign_type,
                base_url: gateways.wechat_pay.clone(),
            }))
        });
        if let Some(wx) = &wx {
            halves.insert(Channel::Wx, wx.clone());
        }
        let oauth = config.wechat.as_ref().and_then(|account| {
            Some(WechatOauth {
                app_id: account.app_id.clone(),
                app_secret: account.app_secret.clone()?,
                open_url: gateways.wechat_open.clone(),
                api_url: gateways.wechat_api.clone(),
            })
        });
        let pem = config.wechat.as_ref().and_then(certificate);
        let certified =
            pem.map(|pem| dial.with_certificate(&[&gateways.wechat_pay], pem.expose().as_bytes()));
        if let Some(account) = &config.alipay {
            let ali = Alipay::new(alipay::Config {
                app_id: account.app_id.clone(),
                seller_id: account.seller_id.clone(),
                gateway_url: gateways.alipay.clone(),
                app_key: account.app_private_key.clone(),
                alipay_key: account.alipay_public_key.clone(),
            });
            halves.insert(Channel::Ali, Arc::new(ali));
        }
        let webhooks = dial.webhooks(&config.webhook_allow)?;
        Ok(Self {
            config: config.clone(),
            wx,
            oauth,
            halves,
            wire: wire.clone(),
            certified: certified.transpose()?,
            webhooks,
        })
    }

    /// A merchant whose gateways and mall are somebody's script: simulations.
    pub fn scripted(
        config: Arc<MerchantConfig>,
        halves: impl IntoIterator<Item = (Channel, Arc<dyn Merchant>)>,
        wire: Arc<dyn Wire>,
        webhooks: Arc<dyn Wire>,
    ) -> Self {
        let halves = halves.into_iter().collect();
        Self { config, wx: None, oauth: None, halves, wire, certified: None, webhooks }
    }

    /// Our half of a gateway, if the merchant has it.
    pub fn gateway(&self, channel: Channel) -> Option<&dyn Merchant> {
        self.halves.get(&channel).map(AsRef::as_ref)
    }

    /// The way a call goes. WeChat v2 takes refunds only from who shows the merchant's certificate
    /// (gateways.md 1.1); where none is configured, it says so itself.
    pub fn wire(&self, channel: Channel, call: &Call) -> &Arc<dyn Wire> {
        match (channel, call, &self.certified) {
            (Channel::Wx, Call::Refund { .. }, Some(certified)) => certified,
            _ => &self.wire,
        }
    }

    /// Asks WeChat whose code it is, once, as long as a shopper waits: a code is good for one question.
    pub async fn openid(&self, code: &str) -> Exchanged {
        let Some(request) = self.oauth.as_ref().and_then(|oauth| oauth.exchange(code).ok()) else {
            return Exchanged::Unknown("there is nobody to ask".to_owned());
        };
        match tokio::time::timeout(OPENID_PATIENCE, self.wire.send(request)).await {
            Ok(Ok(answer)) => WechatOauth::read(&answer),
            Ok(Err(error)) => Exchanged::Unknown(error.to_string()),
            Err(_) => Exchanged::Unknown("no answer in time".to_owned()),
        }
    }

    /// Whether staff typed what the configuration says; compared in constant time. Without a PIN nothing is
    /// right.
    pub fn is_pad_pin(&self, typed: &str) -> bool {
        let right = |pin: &Secret| capability::hash(pin.expose()).ct_eq(&capability::hash(typed));
        self.config.pad_pin.as_ref().is_some_and(|pin| bool::from(right(pin)))
    }

    /// Whether the configuration names this host (port ignored) for the merchant.
    pub fn names(&self, host: &str) -> bool {
        let name = host_name(host);
        self.config.hosts.iter().any(|known| host_name(known).eq_ignore_ascii_case(name))
    }

    /// Where the merchant's pages are that find it by their host: under the first host that is its own, with
    /// scheme and port of `public_base_url`; there, if it is one of them or none is.
    pub fn origin(&self, public_base_url: &str) -> String {
        let own = || {
            let mut url = url::Url::parse(public_base_url).ok()?;
            if self.names(url.host_str()?) {
                return None;
            }
            url.set_host(Some(self.config.hosts.first()?)).ok()?;
            Some(url.origin().ascii_serialization())
        };
        own().unwrap_or_else(|| public_base_url.to_owned())
    }

    /// The channels the merchant has, in the order they are offered.
    pub fn channels(&self) -> Vec<Channel> {
        Channel::ALL.iter().copied().filter(|channel| self.gateway(*channel).is_some()).collect()
    }
}

impl Merchants {
    /// Builds every merchant's gateways.
    ///
    /// # Errors
    /// [`NoClient`] if no HTTP client can be made.
    pub fn new(
        configs: &[Arc<MerchantConfig>],
        gateways: &GatewaysConfig,
        dial: &dyn Dial,
    ) -> Result<Self, NoClient> {
        let wire = dial.gateways(&gateways.urls().into_iter().collect::<Vec<_>>())?;
        let members = configs.iter().map(|config| Member::new(config, gateways, &wire, dial));
        Ok(members.collect::<Result<Vec<_>, _>>()?.into_iter().collect())
    }

    /// The merchant of that name.
    pub fn get(&self, id: &MerchantId) -> Option<&Arc<Member>> {
        self.members.get(id)
    }

    /// The merchant whose API key this is. Every key is compared, in constant time.
    pub fn by_api_key(&self, key: &str) -> Option<&Arc<Member>> {
        let hash = capability::hash(key);
        let mut found = None;
        for member in self.members.values() {
            for known in &member.config.api_key_sha256 {
                if bool::from(known.as_slice().ct_eq(&hash)) {
                    found = Some(member);
                }
            }
        }
        found
    }

    /// The merchants that have this gateway account (`app_id:mch_id`); several may share one.
    pub fn by_account<'a>(
        &'a self,
        channel: Channel,
        account: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Member>> {
        self.members
            .values()
            .filter(move |member| member.gateway(channel).is_some_and(|half| half.account() == account))
    }

    /// The merchant that an anonymous call to `host` (port ignored) means: the one that names the host,
    /// or the only one there is.
    pub fn by_host(&self, host: &str) -> Option<&Arc<Member>> {
        let named = self.members.values().find(|member| member.names(host));
        named.or_else(|| {
            let mut all = self.members.values();
            all.next().filter(|_| all.next().is_none())
        })
    }

    /// What each merchant wants done with money that pays nothing.
    pub fn policies(&self) -> Policies {
        self.policies.clone()
    }

    /// Every merchant, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values()
    }
}

impl FromIterator<Member> for Merchants {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        let named = |member: Member| (member.config.id.clone(), Arc::new(member));
        let members: BTreeMap<_, _> = members.into_iter().map(named).collect();
        let policy = |(id, member): (&MerchantId, &Arc<Member>)| (id.clone(), member.config.policy);
        let policies = Policies::new(members.iter().map(policy));
        Self { members, policies }
    }
}

/// The merchant's certificate and its key, if both are configured.
fn certificate(account: &WechatConfig) -> Option<Secret> {
    let certificate = account.merchant_certificate.as_ref()?;
    let key = account.merchant_private_key.as_ref()?.to_pem().ok()?;
    let mut pem = Zeroizing::new(String::with_capacity(certificate.len() + key.expose().len() + 1));
    pem.push_str(certificate);
    pem.push('\n');
    pem.push_str(key.expose());
    Some(Secret::from(pem))
}

/// The host without its port; brackets of an IPv6 address stay.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}
