//! The configuration: what `shouyin.toml` and `SHOUYIN_…` variables say, checked and ready to use.
//! Never half right: the first thing that is wrong stops the start, with the file, the key and the cure.
//! The keys: `keys`; the rules: `check`; all of it for people: contract.md 3.

mod check;
mod files;
mod keys;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use url::Url;

use crate::domain::id::{MerchantId, word_enum};
use crate::domain::refund::Policy;
use crate::gateway::keys::{PrivateKey, PublicKey, Secret};
use crate::gateway::wechat_v2::SignType;
use crate::runtime::transport::Allow;

/// Everything. Made by [`Config::load`], or field by field by the demo.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses and proxies.
    pub server: ServerConfig,
    /// Where orders are kept.
    pub store: StoreConfig,
    /// Where the gateways are.
    pub gateways: GatewaysConfig,
    /// At least one.
    pub merchants: Vec<Arc<MerchantConfig>>,
    /// The content of `server.secret_file`: capabilities and cookies derive from it.
    pub secret: Secret,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The public face.
    pub listen: SocketAddr,
    /// What shoppers and gateways see: scheme, host and port, no slash at its end.
    pub public_base_url: String,
    /// Who may say `X-Forwarded-For`.
    pub trusted_proxies: Vec<IpNet>,
    /// Metrics; nothing else is served there.
    pub admin_listen: Option<SocketAddr>,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// `sqlite:PATH`.
    Sqlite(PathBuf),
}

/// `[gateways]`: no slash at their ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaysConfig {
    /// WeChat Pay, v2 and v3.
    pub wechat_pay: String,
    /// WeChat's `access_token` calls.
    pub wechat_api: String,
    /// WeChat's authorisation page.
    pub wechat_open: String,
    /// Alipay's gateway, with its path.
    pub alipay: String,
}

/// `[[merchant]]`.
#[derive(Clone, Debug)]
pub struct MerchantConfig {
    /// Its name in the database, in URLs and in logs.
    pub id: MerchantId,
    /// The payee that shoppers see.
    pub name: String,
    /// Whom shoppers can turn to, in words.
    pub support: Option<String>,
    /// `zh-CN` or `en`, where neither order nor browser says.
    pub locale: String,
    /// Host names by which calls without a key find this merchant.
    pub hosts: Vec<String>,
    /// SHA-256 of each API key.
    pub api_key_sha256: Vec<[u8; 32]>,
    /// Where events go.
    pub webhook_url: Option<Url>,
    /// `whsec_…`, as Standard Webhooks has it. Present where `webhook_url` is.
    pub webhook_secret: Option<Secret>,
    /// Private or plain-http targets that are fine all the same.
    pub webhook_allow: Vec<Allow>,
    /// Origins whose pages may push and read orders.
    pub allowed_origins: Vec<String>,
    /// Origins whose pages may frame the checkout.
    pub embed_origins: Vec<String>,
    /// Seconds after which a paid page returns to the mall by itself; `None`: it stays.
    pub return_after_s: Option<u16>,
    /// Whether a push needs no key.
    pub anonymous_push_order: bool,
    /// Who knows the mall's own tokens.
    pub token_check_url: Option<Url>,
    /// What staff type at a tablet, 4 to 8 digits; absent: nothing.
    pub pad_pin: Option<Secret>,
    /// What happens to money after the close, and to a second payment.
    pub policy: Policy,
    /// WeChat Pay.
    pub wechat: Option<WechatConfig>,
    /// Alipay.
    pub alipay: Option<AlipayConfig>,
}

/// `[merchant.wechat]`.
#[derive(Clone, Debug)]
pub struct WechatConfig {
    /// The app or official account.
    pub app_id: String,
    /// For `openid`s; not needed for QR codes.
    pub app_secret: Option<Secret>,
    /// The merchant's number.
    pub mch_id: String,
    /// Which protocol orders are placed by.
    pub api: WechatApi,
    /// Signs v2 messages.
    pub api_v2_key: Secret,
    /// How v2 messages are signed.
    pub sign_type: SignType,
    /// v3: opens notices.
    pub api_v3_key: Option<Secret>,
    /// v3: the number of the merchant's certificate.
    pub merchant_serial: Option<String>,
    /// v3: signs requests.
    pub merchant_private_key: Option<PrivateKey>,
    /// v3 and v2 refunds: the merchant's certificate, PEM.
    pub merchant_certificate: Option<String>,
    /// v3: what answers and notices are signed with, by key id.
    pub platform_public_keys: Vec<(String, PublicKey)>,
    /// v3: the same, as certificates, PEM.
    pub platform_certificates: Vec<String>,
}

/// `[merchant.alipay]`.
#[derive(Clone, Debug)]
pub struct AlipayConfig {
    /// The app.
    pub app_id: String,
    /// The merchant's number, `2088…`.
    pub seller_id: String,
    /// Signs requests.
    pub app_private_key: PrivateKey,
    /// What answers and notices are signed with.
    pub alipay_public_key: PublicKey,
}

word_enum!(
    /// WeChat's protocols.
    WechatApi {
        /// XML, MD5 or HMAC-SHA256.
        V2 = "v2",
    }
);
/// What is wrong with the configuration, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {key} {problem}. {cure}.")]
pub struct ConfigError {
    /// The file, or `environment`.
    pub file: String,
    /// The key as in the file, `merchant[0].wechat.mch_id`, or the variable.
    pub key: String,
    /// What is wrong with it; continues a sentence that begins with the key. Never holds a secret.
    pub problem: String,
    /// What to do, a sentence without its full stop.
    pub cure: String,
}

impl Config {
    /// Reads the file, if there is one, and the variables that begin with `SHOUYIN_`, which win. Makes
    /// `server.secret_file` if it is missing. Relative paths start at the working directory.
    ///
    /// # Errors
    /// [`ConfigError`]: the first thing that is wrong.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let file = name_of(path);
        let mut table = path.map_or_else(|| Ok(toml::Table::new()), |path| files::table(path, &file))?;
        keys::apply(&mut table, env)?;
        keys::check(&table, &file)?;
        check::Reader { file: &file }.config(&table)
    }
}

/// What errors name: the file, or `environment`.
pub fn name_of(path: Option<&Path>) -> String {
    path.map_or_else(|| "environment".to_owned(), |path| path.display().to_string())
}

impl GatewaysConfig {
    /// All of them: where outgoing calls may go.
    pub fn urls(&self) -> [&str; 4] {
        [&self.wechat_pay, &self.wechat_api, &self.wechat_open, &self.alipay]
    }
}

/// The real ones.
impl Default for GatewaysConfig {
    fn default() -> Self {
        Self {
            wechat_pay: "https://api.mch.weixin.qq.com".to_owned(),
            wechat_api: "https://api.weixin.qq.com".to_owned(),
            wechat_open: "https://open.weixin.qq.com".to_owned(),
            alipay: "https://openapi.alipay.com/gateway.do".to_owned(),
        }
    }
}

/// The configuration of a running server. Merchants and keys change by [`ConfigHandle::reload`];
/// addresses and the store stay until a restart.
pub struct ConfigHandle {
    path: Option<PathBuf>,
    env: Vec<(String, String)>,
    current: RwLock<Arc<Config>>,
}

impl ConfigHandle {
    /// Loads for the first time.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: Option<PathBuf>, env: Vec<(String, String)>) -> Result<Self, ConfigError> {
        let config = Config::load(path.as_deref(), env.iter().cloned())?;
        Ok(Self { path, env, current: RwLock::new(Arc::new(config)) })
    }

    /// What errors name: the file, or `environment`.
    pub fn file(&self) -> String {
        name_of(self.path.as_deref())
    }

    /// What holds now.
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads everything again. What held stays if anything is wrong.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn reload(&self) -> Result<Arc<Config>, ConfigError> {
        let config = Arc::new(Config::load(self.path.as_deref(), self.env.iter().cloned())?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&config);
        Ok(config)
    }
}
