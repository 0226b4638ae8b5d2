//! `shouyin doctor`: reads the configuration as `serve` would, looks at what it names, and says in plain
//! words what is wrong. Never changes an order, never shows a secret.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use http::{Request, header};
use tokio::net::TcpListener;

use crate::gateway::wechat_v2::SignType;
use crate::runtime::clock::Clock;
use crate::runtime::files;
use crate::runtime::transport::{Timeouts, Transport};
use crate::server::config::{Config, MerchantConfig, StoreConfig};

/// One thing looked at.
struct Finding {
    weight: Weight,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// As it should be.
    Fine,
    /// Works, but somebody should know.
    Hint,
    /// Does not work.
    Bad,
}

/// Looks at everything and prints the findings; status 1 if something does not work.
///
/// # Errors
/// The configuration is bad: that alone is the finding then.
pub fn run(path: Option<&Path>, env: Vec<(String, String)>) -> anyhow::Result<ExitCode> {
    let config = Config::load(path, env)?;
    let mut findings = vec![fine(match path {
        Some(path) => format!("{} is right", path.display()),
        None => "the environment is right".to_owned(),
    })];
    findings.extend(path.and_then(readable_by_others));
    findings.push(store(&config.store));
    findings.push(match files::advice() {
        Some(advice) => hint(advice),
        None => fine(format!("the process may have {} files open", files::open_files())),
    });
    findings.extend(config.merchants.iter().flat_map(|merchant| about(merchant)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        findings.push(listen(config.server.listen).await);
        findings.extend(gateways(&config).await);
    });
    let mut out = io::stdout().lock();
    for Finding { weight, text } in &findings {
        let word = match weight {
            Weight::Fine => "ok  ",
            Weight::Hint => "hint",
            Weight::Bad => "BAD ",
        };
        writeln!(out, "{word} {text}")?;
    }
    let bad = findings.iter().any(|finding| finding.weight == Weight::Bad);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn readable_by_others(path: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| {
        let path = path.display();
        hint(format!("{path} can be read by others. If it holds secrets, type: chmod 600 {path}"))
    })
}

/// Does not open it as a database: that would bring it up to date, which is `migrate`'s to do.
fn store(config: &StoreConfig) -> Finding {
    let StoreConfig::Sqlite(path) = config;
    let shown = path.display();
    if !path.exists() {
        return hint(format!("{shown} is not there yet; `shouyin migrate` or the first start makes it"));
    }
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => fine(format!("{shown} is there and can be written")),
        Err(error) => bad(format!("{shown} cannot be written: {error}")),
    }
}

fn about(merchant: &MerchantConfig) -> Vec<Finding> {
    let id = &merchant.id;
    let mut findings = Vec::new();
    if merchant.api_key_sha256.is_empty() {
        findings.push(hint(format!(
            "merchant {id} has no API key, so its mall cannot create orders: shouyin token"
        )));
    }
    if merchant.webhook_url.is_none() {
        findings.push(hint(format!("merchant {id} has no webhook_url: its mall must read GET /rest/events")));
    }
    if merchant.anonymous_push_order {
        findings.push(hint(format!("merchant {id} lets anybody push its orders (anonymous_push_order)")));
    }
    if merchant.wechat.as_ref().is_some_and(|wechat| wechat.sign_type == SignType::Md5) {
        findings.push(hint(format!("merchant {id} signs with MD5; sign_type = \"HMAC-SHA256\" is stronger")));
    }
    if merchant.wechat.as_ref().is_some_and(|wechat| wechat.merchant_certificate.is_none()) {
        findings.push(hint(format!(
            "merchant {id} has no merchant_certificate_file, so WeChat will refuse its refunds"
        )));
    }
    if merchant.wechat.as_ref().is_some_and(|wechat| wechat.app_secret.is_none()) {
        findings.push(hint(format!(
            "merchant {id} has no app_secret, so inside WeChat shoppers see a QR code instead of the wallet"
        )));
    }
    let channels = [("WeChat Pay", merchant.wechat.is_some()), ("Alipay", merchant.alipay.is_some())];
    let named: Vec<&str> = channels.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    findings.push(fine(format!("merchant {id} takes {}", named.join(" and "))));
    findings
}

async fn listen(address: SocketAddr) -> Finding {
    match TcpListener::bind(address).await {
        Ok(_) => fine(format!("{address} is free to listen on")),
        Err(error) => {
            hint(format!("{address} cannot be listened on: {error}. Fine if the service is running"))
        }
    }
}

/// Whether the gateways can be reached, and how far our clock is from theirs.
async fn gateways(config: &Config) -> Vec<Finding> {
    let urls = [&config.gateways.wechat_pay, &config.gateways.alipay];
    let transport = match Transport::gateways(config.gateways.urls(), Timeouts::GATEWAYS) {
        Ok(transport) => transport,
        Err(error) => return vec![bad(error.to_string())],
    };
    let mut findings = Vec::new();
    for url in urls {
        let Ok(request) = Request::get(url).body(Bytes::new()) else { continue };
        match transport.send(request).await {
            Ok(answer) => {
                findings.push(fine(format!("{url} answers")));
                let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
                findings.extend(date.and_then(skew));
            }
            Err(error) => findings.push(bad(format!("{url} does not answer: {error}"))),
        }
    }
    findings
}

/// Signatures carry the time: gateways refuse what is five minutes off.
fn skew(date: &str) -> Option<Finding> {
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second();
    let off = Clock::real().0 / 1000 - theirs;
    (off.abs() > 60).then(|| bad(format!("this machine's clock is {off} s off; set it by NTP")))
}

const fn fine(text: String) -> Finding {
    Finding { weight: Weight::Fine, text }
}

const fn hint(text: String) -> Finding {
    Finding { weight: Weight::Hint, text }
}

const fn bad(text: String) -> Finding {
    Finding { weight: Weight::Bad, text }
}
