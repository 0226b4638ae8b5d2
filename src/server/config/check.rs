//! From the table to the configuration: what each value must be. Never guesses: what is doubtful is
//! refused, with the cure.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use toml::{Table, Value};
use url::{Host, Url};

use super::files::{self, Unusable};
use super::{
    AlipayConfig, Config, ConfigError, GatewaysConfig, MerchantConfig, ServerConfig, StoreConfig, WechatApi,
    WechatConfig,
};
use crate::domain::id::MerchantId;
use crate::domain::refund::{DuplicatePayment, LatePayment, Policy};
use crate::gateway::keys::{PrivateKey, PublicKey, Secret};
use crate::gateway::wechat_v2::SignType;
use crate::runtime::transport::{Allow, may_reach};

/// Reads a table whose keys and shapes are right.
pub struct Reader<'a> {
    /// For errors.
    pub file: &'a str,
}

/// One section, with its name for errors.
struct Section<'a> {
    file: &'a str,
    path: String,
    table: Option<&'a Table>,
}

impl<'a> Reader<'a> {
    /// The whole configuration.
    pub fn config(&self, table: &'a Table) -> Result<Config, ConfigError> {
        let section = |name: &str| Section {
            file: self.file,
            path: name.to_owned(),
            table: table.get(name).and_then(Value::as_table),
        };
        let gateways = gateways(&section("gateways"))?;
        let merchants = self.merchants(table, &gateways)?;
        let store = store(&section("store"))?;
        let server = section("server");
        let config = ServerConfig {
            listen: server.parsed("listen", "an address and port, such as 127.0.0.1:3000")?.unwrap_or(LISTEN),
            public_base_url: public_base_url(&server)?,
            trusted_proxies: server.list("trusted_proxies", network)?,
            admin_listen: server.parsed("admin_listen", "an address and port, such as 127.0.0.1:3009")?,
        };
        let secret = files::own_secret(server.text("secret_file").unwrap_or("data/secret"))
            .map_err(|unusable| server.unusable("secret_file", unusable))?;
        Ok(Config { server: config, store, gateways, merchants, secret })
    }

    fn merchants(
        &self,
        table: &'a Table,
        gateways: &GatewaysConfig,
    ) -> Result<Vec<Arc<MerchantConfig>>, ConfigError> {
        let list = table.get("merchant").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut seen = BTreeSet::new();
        let mut merchants = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let section =
                Section { file: self.file, path: format!("merchant[{index}]"), table: value.as_table() };
            let merchant = merchant(&section, gateways)?;
            if !seen.insert(merchant.id.clone()) {
                return Err(section.error("id", "stands there twice", "Give each merchant its own id"));
            }
            merchants.push(Arc::new(merchant));
        }
        if merchants.is_empty() {
            let whole = Section { file: self.file, path: String::new(), table: None };
            return Err(whole.error("merchant", "is missing", "Add a section [[merchant]]"));
        }
        Ok(merchants)
    }
}

impl<'a> Section<'a> {
    fn inside(&self, name: &str) -> Option<Self> {
        let table = self.table?.get(name)?.as_table();
        Some(Self { file: self.file, path: format!("{}.{name}", self.path), table })
    }

    fn error(&self, key: &str, problem: impl Display, cure: impl Display) -> ConfigError {
        let key = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        ConfigError { file: self.file.to_owned(), key, problem: problem.to_string(), cure: cure.to_string() }
    }

    fn unusable(&self, key: &str, unusable: Unusable) -> ConfigError {
        self.error(key, unusable.problem, unusable.cure)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.table?.get(key)?.as_str()
    }

    fn needed(&self, key: &str) -> Result<&'a str, ConfigError> {
        match self.text(key) {
            Some(text) if !text.trim().is_empty() => Ok(text),
            Some(_) => Err(self.error(key, "is empty", "Give it a value")),
            None => Err(self.error(key, "is missing", format!("Add it to [{}]", self.path))),
        }
    }

    fn flag(&self, key: &str) -> bool {
        self.table.and_then(|table| table.get(key)).and_then(Value::as_bool).unwrap_or(false)
    }

    fn number(&self, key: &str) -> Option<i64> {
        self.table?.get(key)?.as_integer()
    }

    fn words(&self, key: &str) -> Vec<&'a str> {
        match self.table.and_then(|table| table.get(key)) {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// A text that is a `T`, `wanted` in words.
    fn parsed<T: FromStr>(&self, key: &str, wanted: &str) -> Result<Option<T>, ConfigError> {
        let refuse = |_| self.error(key, format!("is not {wanted}"), format!("Write {wanted}"));
        self.text(key).map(|text| text.parse().map_err(refuse)).transpose()
    }

    /// A list of which each is right, or the rule it breaks.
    fn list<T>(&self, key: &str, read: fn(&str) -> Result<T, &'static str>) -> Result<Vec<T>, ConfigError> {
        self.words(key)
            .into_iter()
            .enumerate()
            .map(|(index, word)| {
                read(word).map_err(|wanted| {
                    self.error(
                        &format!("{key}[{index}]"),
                        format!("is not {wanted}"),
                        format!("Write {wanted}"),
                    )
                })
            })
            .collect()
    }

    /// A secret, inline or in a file.
    fn secret(&self, key: &str) -> Result<Option<Secret>, ConfigError> {
        let file_key = format!("{key}_file");
        match (self.text(key), self.text(&file_key)) {
            (Some(_), Some(_)) => {
                Err(self.error(key, format!("and {file_key} are both given"), "Keep one of them"))
            }
            (Some(text), None) => Ok(Some(Secret::new(text))),
            (None, Some(path)) => {
                files::secret(path).map(Some).map_err(|unusable| self.unusable(&file_key, unusable))
            }
            (None, None) => Ok(None),
        }
    }

    fn needed_secret(&self, key: &str) -> Result<Secret, ConfigError> {
        self.secret(key)?.filter(|secret| !secret.expose().trim().is_empty()).ok_or_else(|| {
            self.error(key, "is missing", format!("Add {key} or {key}_file to [{}]", self.path))
        })
    }

    /// A symmetric key of WeChat's: 32 characters.
    fn key32(&self, key: &str, secret: &Secret) -> Result<(), ConfigError> {
        let text = secret.expose();
        if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(());
        }
        let cure = "Copy it from the merchant platform, under API security";
        Err(self.error(key, "is not 32 letters and digits", cure))
    }

    /// A private key, inline or in a file, in any armour.
    fn private_key(&self, key: &str) -> Result<Option<PrivateKey>, ConfigError> {
        let Some(secret) = self.secret(key)? else { return Ok(None) };
        PrivateKey::read(secret.expose()).map(Some).map_err(|error| {
            self.error(key, format!("is not usable: {error}"), "Use an RSA key of 2048 bits or more")
        })
    }

    /// A public key or certificate from text or file.
    fn public_key(&self, key: &str, text: &str) -> Result<PublicKey, ConfigError> {
        PublicKey::read(text).map_err(|error| {
            self.error(key, format!("is not usable: {error}"), "Use an RSA key of 2048 bits or more")
        })
    }

    fn public_file(&self, key: &str, path: &str) -> Result<String, ConfigError> {
        files::public(path).map_err(|unusable| self.unusable(key, unusable))
    }

    /// An http or https URL. A gateway's or a mall's, so plain http needs a reason.
    fn url(&self, key: &str) -> Result<Option<Url>, ConfigError> {
        let Some(url) = self.parsed::<Url>(key, "an absolute URL, such as https://mall.example/hook")? else {
            return Ok(None);
        };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(self.error(key, "is not an http or https URL", "Write https://…"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(self.error(key, "holds a user name or a fragment", "Leave it out"));
        }
        Ok(Some(url))
    }
}

fn gateways(section: &Section<'_>) -> Result<GatewaysConfig, ConfigError> {
    let default = GatewaysConfig::default();
    let read = |key: &str, real: String| {
        let Some(url) = section.url(key)? else { return Ok(real) };
        gateway_url(section, key, &url)
    };
    Ok(GatewaysConfig {
        wechat_pay: read("wechat_pay", default.wechat_pay)?,
        wechat_api: read("wechat_api", default.wechat_api)?,
        wechat_open: read("wechat_open", default.wechat_open)?,
        alipay: read("alipay", default.alipay)?,
    })
}

fn gateway_url(section: &Section<'_>, key: &str, url: &Url) -> Result<String, ConfigError> {
    if url.scheme() == "http" && !is_loopback(url) {
        return Err(section.error(
            key,
            "is plain http",
            "Use https; http is for an emulator on this machine",
        ));
    }
    if url.query().is_some() {
        return Err(section.error(key, "has a query", "Leave it out"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn store(section: &Section<'_>) -> Result<StoreConfig, ConfigError> {
    let url = section.text("url").unwrap_or("sqlite:data/shouyin.db");
    let cure = "Use sqlite:PATH, such as sqlite:data/shouyin.db";
    match url.split_once(':') {
        Some(("sqlite", path)) => {
            // `sqlite:data/x.db`, `sqlite:/abs/x.db` and `sqlite:///abs/x.db`.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.starts_with(':') || path.contains('?') {
                return Err(section.error("url", "names no file", cure));
            }
            Ok(StoreConfig::Sqlite(PathBuf::from(path)))
        }
        // The URL may hold a password: it is not repeated.
        Some(("postgres" | "postgresql", _)) => {
            Err(section.error("url", "asks for PostgreSQL, which is not built yet", cure))
        }
        _ => Err(section.error("url", "is of a kind that is not built", cure)),
    }
}

fn public_base_url(section: &Section<'_>) -> Result<String, ConfigError> {
    const KEY: &str = "public_base_url";
    let Some(url) = section.url(KEY)? else {
        let listen: SocketAddr = section.parsed("listen", "an address and port")?.unwrap_or(LISTEN);
        if listen.ip().is_loopback() {
            return Ok(format!("http://{listen}"));
        }
        return Err(section.error(
            KEY,
            "is missing",
            "Add what shoppers see, such as https://pay.mall.example",
        ));
    };
    if url.path() != "/" || url.query().is_some() {
        return Err(section.error(KEY, "has a path or a query", "Write scheme and host only"));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(section.error(KEY, "is plain http", "Use https; http is for this machine only"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn merchant(section: &Section<'_>, gateways: &GatewaysConfig) -> Result<MerchantConfig, ConfigError> {
    let id = MerchantId::new(section.needed("id")?)
        .map_err(|error| section.error("id", format!("is not {error}"), "Choose another id"))?;
    let name = section.needed("name")?.trim().to_owned();
    if name.chars().count() > 64 || name.chars().any(char::is_control) {
        return Err(section.error(
            "name",
            "is too long or has control characters",
            "Use up to 64 characters",
        ));
    }
    let locale = section.text("locale").unwrap_or("zh-CN").to_owned();
    if !matches!(locale.as_str(), "zh-CN" | "en") {
        return Err(section.error("locale", "is not zh-CN or en", "Write one of them"));
    }
    let webhook_allow = section.list("webhook_allow", |word| {
        Allow::from_str(word).map_err(|_| "an address, a network such as 10.0.0.0/8, or a host name")
    })?;
    let webhook_url = mall_url(section, "webhook_url", &webhook_allow)?;
    let webhook_secret = section.secret("webhook_secret")?;
    if let Some(secret) = &webhook_secret {
        webhook_key(section, secret)?;
    } else if webhook_url.is_some() {
        return Err(section.error("webhook_secret", "is missing", WEBHOOK_SECRET_CURE));
    }
    let wechat = section.inside("wechat").map(|section| wechat(&section)).transpose()?;
    let alipay = section.inside("alipay").map(|section| alipay(&section, gateways)).transpose()?;
    if wechat.is_none() && alipay.is_none() {
        let cure = "Add [merchant.wechat], [merchant.alipay] or both";
        return Err(section.error("wechat", "and alipay are both missing", cure));
    }
    Ok(MerchantConfig {
        id,
        name,
        support: section.text("support").map(str::to_owned),
        locale,
        hosts: section.list("hosts", host)?,
        api_key_sha256: section.list("api_key_sha256", sha256)?,
        token_check_url: mall_url(section, "token_check_url", &webhook_allow)?,
        pad_pin: pad_pin(section)?,
        webhook_url,
        webhook_secret,
        webhook_allow,
        allowed_origins: section.list("allowed_origins", origin)?,
        embed_origins: section.list("embed_origins", origin)?,
        return_after_s: return_after_s(section)?,
        anonymous_push_order: section.flag("anonymous_push_order"),
        policy: Policy {
            late: section.parsed("late_payment", "refund, accept or hold")?.unwrap_or(LatePayment::Refund),
            duplicate: section
                .parsed("duplicate_payment", "refund or hold")?
                .unwrap_or(DuplicatePayment::Refund),
        },
        wechat,
        alipay,
    })
}

/// 0 is off. Nobody reads a result in less than five seconds.
fn return_after_s(section: &Section<'_>) -> Result<Option<u16>, ConfigError> {
    const KEY: &str = "return_after_s";
    match section.number(KEY).map(u16::try_from) {
        None | Some(Ok(0)) => Ok(None),
        Some(Ok(seconds @ 5..=600)) => Ok(Some(seconds)),
        Some(_) => {
            let cure = "Write 0 to stay on the page, or 5 to 600 seconds";
            Err(section.error(KEY, "is neither 0 nor 5 to 600", cure))
        }
    }
}

/// Where webhooks and token checks go. What a name resolves to is checked when it is dialled.
fn mall_url(section: &Section<'_>, key: &str, allow: &[Allow]) -> Result<Option<Url>, ConfigError> {
    let Some(url) = section.url(key)? else { return Ok(None) };
    if url.scheme() == "http" && allow.is_empty() {
        let cure = "Use https, or name the target in webhook_allow";
        return Err(section.error(key, "is plain http", cure));
    }
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(_)) | None => None,
    };
    if let Some(ip) = ip.filter(|ip| !may_reach(allow, *ip)) {
        let cure = format!("Name {ip} in webhook_allow, or use a public address");
        return Err(section.error(key, format!("leads to {ip}, which is private"), cure));
    }
    Ok(Some(url))
}

/// Typed by people, on a tablet.
fn pad_pin(section: &Section<'_>) -> Result<Option<Secret>, ConfigError> {
    let Some(pin) = section.secret("pad_pin")? else { return Ok(None) };
    let text = pin.expose();
    if (4..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Some(pin));
    }
    // It is not repeated.
    Err(section.error("pad_pin", "is not 4 to 8 digits", "Write it in quotes, such as \"2580\""))
}

/// Standard Webhooks: 24 to 64 random bytes.
fn webhook_key(section: &Section<'_>, secret: &Secret) -> Result<(), ConfigError> {
    let key = secret.expose().strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    match key {
        Some(key) if (24..=64).contains(&key.len()) => Ok(()),
        _ => {
            let problem = "is not whsec_ and the base64 of 24 to 64 bytes";
            Err(section.error("webhook_secret", problem, WEBHOOK_SECRET_CURE))
        }
    }
}

fn wechat(section: &Section<'_>) -> Result<WechatConfig, ConfigError> {
    let api = match section.text("api") {
        Some("v3") => {
            return Err(section.error("api", "is v3, which is not built yet", "Write api = \"v2\""));
        }
        None => WechatApi::V2,
        Some(_) => section.parsed("api", "v2 or v3")?.unwrap_or(WechatApi::V2),
    };
    let api_v2_key = section.needed_secret("api_v2_key")?;
    section.key32("api_v2_key", &api_v2_key)?;
    let api_v3_key = section.secret("api_v3_key")?;
    if let Some(key) = &api_v3_key {
        section.key32("api_v3_key", key)?;
    }
    let certificate = |key: &str, path: &str| {
        let text = section.public_file(key, path)?;
        section.public_key(key, &text).map(|_| text)
    };
    let merchant_private_key = section.private_key("merchant_private_key")?;
    let merchant_certificate = merchant_certificate(section, merchant_private_key.as_ref())?;
    Ok(WechatConfig {
        app_id: account_id(section, "app_id")?,
        app_secret: section.secret("app_secret")?,
        mch_id: account_id(section, "mch_id")?,
        api,
        api_v2_key,
        sign_type: section.parsed("sign_type", "MD5 or HMAC-SHA256")?.unwrap_or(SignType::Md5),
        api_v3_key,
        merchant_serial: section.text("merchant_serial").map(str::to_owned),
        merchant_private_key,
        merchant_certificate,
        platform_public_keys: platform_keys(section)?,
        platform_certificates: section
            .words("platform_certificate_file")
            .into_iter()
            .map(|path| certificate("platform_certificate_file", path))
            .collect::<Result<_, _>>()?,
    })
}

/// A certificate is no use without its own key: refunds would be refused, one by one, by somebody else.
fn merchant_certificate(
    section: &Section<'_>,
    private: Option<&PrivateKey>,
) -> Result<Option<String>, ConfigError> {
    const KEY: &str = "merchant_certificate_file";
    let Some(path) = section.text(KEY) else { return Ok(None) };
    let text = section.public_file(KEY, path)?;
    let public = section.public_key(KEY, &text)?;
    let cure = "Use apiclient_cert.pem and apiclient_key.pem of one download";
    match private {
        _ if !text.contains("-----BEGIN CERTIFICATE-----") => {
            Err(section.error(KEY, "is no certificate", cure))
        }
        None => Err(section.error("merchant_private_key", "is missing, and its certificate is there", cure)),
        Some(private) if !private.matches(&public) => {
            Err(section.error(KEY, "does not belong to merchant_private_key", cure))
        }
        Some(_) => Ok(Some(text)),
    }
}

/// Key ids and key files, in the same order.
fn platform_keys(section: &Section<'_>) -> Result<Vec<(String, PublicKey)>, ConfigError> {
    let (ids, paths) = (section.words("platform_public_key_id"), section.words("platform_public_key_file"));
    if ids.len() != paths.len() {
        let problem = format!("has {} entries, platform_public_key_file has {}", ids.len(), paths.len());
        return Err(section.error("platform_public_key_id", problem, "Give each file its id"));
    }
    let read = |(id, path): (&str, &str)| {
        let text = section.public_file("platform_public_key_file", path)?;
        Ok((id.to_owned(), section.public_key("platform_public_key_file", &text)?))
    };
    ids.into_iter().zip(paths).map(read).collect()
}

fn alipay(section: &Section<'_>, gateways: &GatewaysConfig) -> Result<AlipayConfig, ConfigError> {
    for key in ["app_certificate_file", "alipay_certificate_file", "alipay_root_certificate_file"] {
        if section.text(key).is_some() {
            let cure = "Use alipay_public_key_file, the public-key mode";
            return Err(section.error(key, "asks for certificate mode, which is not built yet", cure));
        }
    }
    if let Some(url) = section.url("gateway_url")?
        && gateway_url(section, "gateway_url", &url)? != gateways.alipay
    {
        let cure = "Set [gateways] alipay, or leave gateway_url out";
        return Err(section.error("gateway_url", "differs from gateways.alipay", cure));
    }
    let app_private_key = section
        .private_key("app_private_key")?
        .ok_or_else(|| section.error("app_private_key", "is missing", "Add app_private_key_file"))?;
    if let Some(path) = section.text("app_public_key_file") {
        let text = section.public_file("app_public_key_file", path)?;
        let public = section.public_key("app_public_key_file", &text)?;
        if !app_private_key.matches(&public) {
            let cure = "Use the two halves of one key pair";
            return Err(section.error("app_public_key_file", "does not belong to app_private_key", cure));
        }
    }
    let key = "alipay_public_key";
    let text = match (section.text(key), section.text("alipay_public_key_file")) {
        (Some(text), _) => text.to_owned(),
        (None, Some(path)) => section.public_file("alipay_public_key_file", path)?,
        (None, None) => {
            return Err(section.error(
                key,
                "is missing",
                "Add alipay_public_key_file, from the open platform",
            ));
        }
    };
    let alipay_public_key = section.public_key(key, &text)?;
    if app_private_key.matches(&alipay_public_key) {
        let cure = "Copy Alipay's public key from the open platform, it stands beside yours";
        return Err(section.error(key, "is your own app's public key, not Alipay's", cure));
    }
    Ok(AlipayConfig {
        app_id: account_id(section, "app_id")?,
        seller_id: account_id(section, "seller_id")?,
        app_private_key,
        alipay_public_key,
    })
}

/// Numbers that the gateways gave: copied with blanks more often than wrong.
fn account_id(section: &Section<'_>, key: &str) -> Result<String, ConfigError> {
    let text = section.needed(key)?;
    if text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(text.to_owned());
    }
    Err(section.error(key, "has other characters than letters and digits", "Copy it without blanks"))
}

fn network(word: &str) -> Result<IpNet, &'static str> {
    let wanted = "an address or a network such as 10.0.0.0/8";
    match word.parse::<IpAddr>() {
        Ok(ip) => Ok(ip.into()),
        Err(_) => word.parse().map_err(|_| wanted),
    }
}

/// `pay.mall.example`; a port may stand there and is ignored.
fn host(word: &str) -> Result<String, &'static str> {
    let wanted = "a host name such as pay.mall.example";
    let url = Url::parse(&format!("http://{word}/")).map_err(|_| wanted)?;
    match (url.host_str(), url.path(), url.username()) {
        (Some(host), "/", "") if url.query().is_none() && url.fragment().is_none() => Ok(host.to_owned()),
        _ => Err(wanted),
    }
}

/// `https://mall.example`, in the form browsers send.
fn origin(word: &str) -> Result<String, &'static str> {
    let wanted = "an origin such as https://mall.example, without a path";
    let url = Url::parse(word).map_err(|_| wanted)?;
    let plain =
        url.path() == "/" && url.query().is_none() && url.fragment().is_none() && !word.ends_with('/');
    let origin = url.origin();
    if plain && origin.is_tuple() && matches!(url.scheme(), "http" | "https") {
        Ok(origin.ascii_serialization())
    } else {
        Err(wanted)
    }
}

fn sha256(word: &str) -> Result<[u8; 32], &'static str> {
    let mut hash = [0; 32];
    hex::decode_to_slice(word, &mut hash)
        .map_err(|_| "64 hexadecimal digits, as `shouyin token` prints them")?;
    Ok(hash)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);
const WEBHOOK_SECRET_CURE: &str = "Write whsec_ and the base64 of 32 random bytes: \
                                   openssl rand -base64 32";
