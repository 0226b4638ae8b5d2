//! `shouyin explain`: why a signature is wrong. Takes keys from the configuration or from files, never from
//! the command line, where every user of the machine can read them; shows none. Changes no order.
//! Exit status: 0 right, 1 wrong or not checked, 2 not understood (or a bad configuration).

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::{ConfigArg, failed};
use crate::gateway::explain::{self, Key, Keys, Kind, Verdict};
use crate::runtime::clock::Clock;
use crate::server::config::{Config, ConfigError, MerchantConfig};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The message: raw HTTP with its headers, a URL, or only the body. Without it, or with `-`, it is read
    /// from standard input.
    #[arg(value_name = "FILE")]
    message: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArg,
    /// A key to check with, as a file, also beside a configuration: RSA, private or public, in any armour, a
    /// certificate, or a WeChat API v2 key. May stand several times.
    #[arg(long, value_name = "FILE")]
    key_file: Vec<PathBuf>,
    /// The text that the other side says it signed, as a file: where the two first differ is shown.
    #[arg(long, value_name = "FILE")]
    signed_text: Option<PathBuf>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Reads the message and says what is wrong with it.
///
/// # Errors
/// [`ConfigError`], or a file that cannot be read.
pub fn run(args: &ExplainArgs, env: Vec<(String, String)>) -> anyhow::Result<ExitCode> {
    let keys = keys(args, env)?;
    let theirs = args.signed_text.as_deref().map(content).transpose()?;
    let message = match args.message.as_deref() {
        Some(path) if path != Path::new("-") => content(path)?,
        _ => limited(io::stdin().lock(), "standard input")?,
    };
    let explanation = match explain::explain(&message, &keys, theirs.as_deref(), Clock::real()) {
        Ok(explanation) => explanation,
        Err(error) => return Ok(failed(&error, 2)),
    };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?;
    } else {
        write!(out, "{explanation}")?;
    }
    Ok(if explanation.verdict == Verdict::Right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Those of the configuration and of the files. Where files name keys, a configuration need not be.
fn keys(args: &ExplainArgs, env: Vec<(String, String)>) -> anyhow::Result<Keys> {
    let path = args.config.path();
    let mut keys = Vec::new();
    if path.is_some() || args.key_file.is_empty() {
        let config = Config::load(path.as_deref(), env)?;
        keys.extend(config.merchants.iter().flat_map(|merchant| of(merchant)));
    }
    for path in &args.key_file {
        let name = path.display().to_string();
        let unusable = |problem: String| ConfigError {
            file: name.clone(),
            key: "--key-file".to_owned(),
            problem,
            cure: "Name a file with one key".to_owned(),
        };
        let text = content(path)?;
        let text = String::from_utf8(text).map_err(|_| unusable("is not text".to_owned()))?;
        let key = Key::read(name.clone(), &text);
        keys.push(key.map_err(|problem| unusable(format!("is no key that is known: {problem}")))?);
    }
    Ok(Keys(keys))
}

/// The keys that a merchant's messages are signed with.
fn of(merchant: &MerchantConfig) -> Vec<Key> {
    let key = |name: &str, account: (&String, &String), kind| Key {
        name: format!("merchant {}, {name}", merchant.id),
        account: Some((account.0.clone(), account.1.clone())),
        kind,
    };
    let mut keys = Vec::new();
    if let Some(wechat) = &merchant.wechat {
        let account = (&wechat.app_id, &wechat.mch_id);
        let v2 = Kind::ApiV2(wechat.api_v2_key.clone(), Some(wechat.sign_type));
        keys.push(key("api_v2_key", account, v2));
        if let Some(v3) = &wechat.api_v3_key {
            keys.push(key("api_v3_key", account, Kind::ApiV3(v3.clone())));
        }
    }
    if let Some(alipay) = &merchant.alipay {
        let account = (&alipay.app_id, &alipay.seller_id);
        keys.push(key("app_private_key", account, Kind::App(alipay.app_private_key.clone())));
        keys.push(key("alipay_public_key", account, Kind::Alipay(alipay.alipay_public_key.clone())));
    }
    keys
}

fn content(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display().to_string();
    let file = File::open(path).with_context(|| format!("{shown} cannot be read"))?;
    limited(file, &shown)
}

/// Reads one byte more than is explained at most, so that what is too long is refused there, and not cut.
fn limited(reader: impl Read, name: &str) -> anyhow::Result<Vec<u8>> {
    let one_too_many = u64::try_from(explain::LONGEST + 1)?;
    let mut bytes = Vec::new();
    reader.take(one_too_many).read_to_end(&mut bytes).with_context(|| format!("{name} cannot be read"))?;
    Ok(bytes)
}
