//! The configuration that an operator would write for the emulator's merchant, as a file: the service of
//! the torture reads it like any other. Never holds anything but invented keys.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use toml::{Table, Value};

use super::mall::Mall;
use crate::emulator::credentials::{self, Credentials};
use crate::gateway::keys::Secret;
use crate::runtime::random;
use crate::server::capability;

/// The configuration's name in the data directory.
pub const FILE: &str = "shouyin.toml";
/// The database's, and that of the directory that holds nothing else.
pub const DATABASE_NAME: &str = "shouyin.db";
/// Its write-ahead log.
pub const DATABASE_LOG: &str = "shouyin.db-wal";
/// See [`DATABASE_NAME`].
pub const DATABASE_DIR: &str = "db";

/// An address that nothing listens on, below the ports that the system gives to callers: the service
/// comes back to it after every kill.
///
/// # Errors
/// There is none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    for _ in 0..200 {
        let [high, low] = random::bytes::<2>()?;
        let port = 10_000 + u16::from_be_bytes([high, low]) % 20_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no free port between 10,000 and 30,000")
}

/// The emulator's mall, and others that share its accounts at the gateways.
///
/// # Errors
/// No randomness.
pub fn malls(known: &Credentials, count: usize) -> anyhow::Result<Vec<Mall>> {
    (0..count)
        .map(|index| {
            if index == 0 {
                let merchant = &known.merchant;
                let secret = Secret::new(merchant.webhook_secret.clone());
                return Ok(Mall::new(merchant.id.clone(), merchant.api_key.clone(), secret));
            }
            let secret = format!("whsec_{}", STANDARD.encode(random::bytes::<32>()?));
            Ok(Mall::new(format!("mall{index}"), random::base62(32)?, Secret::new(secret)))
        })
        .collect()
}

/// Writes [`FILE`].
///
/// # Errors
/// It cannot be written.
pub fn write(
    data: &Path,
    known: &Credentials,
    listen: SocketAddr,
    malls: &[Mall],
    hooks: SocketAddr,
) -> anyhow::Result<()> {
    let path = |name: &str| data.join(name).display().to_string();
    let server = table([
        ("listen", text(&listen)),
        ("public_base_url", text(&credentials::url(listen))),
        ("secret_file", text(&path("secret"))),
    ]);
    let gateways =
        table([("wechat_pay", text(&known.emulator_url)), ("alipay", text(&known.alipay.gateway_url))]);
    let merchants = malls.iter().map(|mall| Value::Table(merchant(known, mall, hooks))).collect();
    let all = table([
        ("server", Value::Table(server)),
        (
            "store",
            Value::Table(table([(
                "url",
                text(&format!("sqlite:{}", path(&format!("{DATABASE_DIR}/{DATABASE_NAME}")))),
            )])),
        ),
        ("gateways", Value::Table(gateways)),
        ("merchant", Value::Array(merchants)),
    ]);
    let file = data.join(FILE);
    let mut out = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&file)
        .with_context(|| file.display().to_string())?;
    out.write_all(toml::to_string(&all)?.as_bytes())?;
    Ok(())
}

fn merchant(known: &Credentials, mall: &Mall, hooks: SocketAddr) -> Table {
    let (wx, ali) = (&known.wechat, &known.alipay);
    let wechat = table([
        ("app_id", text(&wx.app_id)),
        ("mch_id", text(&wx.mch_id)),
        ("api_v2_key", text(&wx.api_v2_key)),
        ("merchant_private_key_file", text(&wx.merchant_private_key_file.display())),
        ("merchant_certificate_file", text(&wx.merchant_certificate_file.display())),
    ]);
    let alipay = table([
        ("app_id", text(&ali.app_id)),
        ("seller_id", text(&ali.seller_id)),
        ("app_private_key_file", text(&ali.app_private_key_file.display())),
        ("alipay_public_key_file", text(&ali.alipay_public_key_file.display())),
    ]);
    table([
        ("id", text(&mall.id)),
        ("name", text("Torture Mall")),
        ("api_key_sha256", Value::Array(vec![text(&hex::encode(capability::hash(&mall.api_key)))])),
        ("webhook_url", text(&format!("http://{hooks}{}", mall.path()))),
        ("webhook_secret", text(mall.secret.expose())),
        ("webhook_allow", Value::Array(vec![text("127.0.0.1")])),
        ("wechat", Value::Table(wechat)),
        ("alipay", Value::Table(alipay)),
    ])
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn text(value: &(impl ToString + ?Sized)) -> Value {
    Value::String(value.to_string())
}
