//! The keys of an invented merchant and of both gateways: made at the first start, kept from then on.
//! Never real ones, and never shown except in `credentials.json`, which only its owner can read.
//! The file is contract.md 2's: it tells a script everything it needs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::gateway::keys::{KeyError, PrivateKey, PublicKey, Secret};
use crate::runtime::random::{self, NoRandomness};

/// `credentials.json`.
#[derive(Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are contract.md 2's")]
pub struct Credentials {
    /// The service; none if the emulator runs alone.
    pub base_url: Option<String>,
    /// The gateways.
    pub emulator_url: String,
    /// The gateways over TLS; none unless it is switched on.
    pub emulator_tls_url: Option<String>,
    pub emulator_ca_file: Option<PathBuf>,
    /// Phone, ledger, faults, clock.
    pub control_url: String,
    pub merchant: Merchant,
    pub wechat: Wechat,
    pub alipay: Alipay,
}

/// The mall at the service.
#[derive(Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are contract.md 2's")]
pub struct Merchant {
    pub id: String,
    pub api_key: String,
    pub webhook_secret: String,
}

/// The merchant at WeChat Pay, and what it knows of WeChat Pay.
#[derive(Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are contract.md 2's")]
pub struct Wechat {
    pub app_id: String,
    pub app_secret: String,
    pub mch_id: String,
    pub api_v2_key: String,
    pub api_v3_key: String,
    pub merchant_serial: String,
    pub merchant_private_key_file: PathBuf,
    pub merchant_certificate_file: PathBuf,
    pub platform_public_key_id: String,
    pub platform_public_key_file: PathBuf,
    pub platform_certificate_file: PathBuf,
}

/// The merchant at Alipay, and what it knows of Alipay.
#[derive(Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are contract.md 2's")]
pub struct Alipay {
    pub app_id: String,
    pub seller_id: String,
    pub gateway_url: String,
    pub app_private_key_file: PathBuf,
    pub app_public_key_file: PathBuf,
    pub alipay_public_key_file: PathBuf,
}

/// Where everything listens in this run.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The service; none if the emulator runs alone.
    pub service: Option<SocketAddr>,
    /// The gateways.
    pub protocol: SocketAddr,
    /// The gateways over TLS; none unless it is switched on.
    pub tls: Option<SocketAddr>,
    /// The control port.
    pub control: SocketAddr,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `credentials.json` is not ours.
    #[error("{path}: {why}; move it away to have new ones made")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The parser's words.
        why: String,
    },
    /// A key is not usable.
    #[error("{path}: {source}; move the data directory away to have new keys made")]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Nothing secret can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl Credentials {
    /// The credentials of this data directory, with this run's addresses; made if there are none.
    /// Always writes `credentials.json` anew.
    ///
    /// # Errors
    /// [`CredentialsError`] with the file and the cure.
    pub fn load_or_make(data: &Path, addresses: Addresses) -> Result<Self, CredentialsError> {
        let data = std::path::absolute(data).map_err(|source| at(data, source))?;
        let path = data.join(FILE);
        let old = match fs::read(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(at(&path, source)),
        };
        let mut all: Self = match old {
            Some(text) => serde_json::from_slice(&text).map_err(|error| CredentialsError::Unreadable {
                path: path.clone(),
                why: error.to_string(),
            })?,
            None => make(&data)?,
        };
        all.base_url = addresses.service.map(url);
        all.emulator_url = url(addresses.protocol);
        all.emulator_tls_url = addresses.tls.map(|address| url(address).replacen("http", "https", 1));
        all.emulator_ca_file = match addresses.tls {
            Some(_) => Some(super::tls::authority(&data.join("keys"))?),
            None => None,
        };
        all.control_url = url(addresses.control);
        all.alipay.gateway_url = format!("{}/gateway.do", all.emulator_url);
        let text = serde_json::to_string_pretty(&all)
            .map_err(|error| CredentialsError::Unreadable { path: path.clone(), why: error.to_string() })?;
        write_private(&path, &(text + "\n"))?;
        Ok(all)
    }

    /// Where `credentials.json` is.
    pub fn file(&self) -> PathBuf {
        // DATA/keys/alipay_public_key.pem -> DATA/credentials.json
        let data = self.alipay.alipay_public_key_file.ancestors().nth(2);
        data.unwrap_or(Path::new("")).join(FILE)
    }

    /// Where all keys are.
    pub fn keys(&self) -> &Path {
        self.alipay.alipay_public_key_file.parent().unwrap_or(Path::new(""))
    }

    /// Alipay's own key, which the merchant never sees.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn alipay_private_key(&self) -> Result<PrivateKey, CredentialsError> {
        read_key(&self.alipay.alipay_public_key_file.with_file_name(ALIPAY_KEY), PrivateKey::read)
    }

    /// The key of the merchant's API certificate at WeChat Pay.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn merchant_private_key(&self) -> Result<PrivateKey, CredentialsError> {
        read_key(&self.wechat.merchant_private_key_file, PrivateKey::read)
    }

    /// The merchant's key, as its application signs with it.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn app_private_key(&self) -> Result<PrivateKey, CredentialsError> {
        read_key(&self.alipay.app_private_key_file, PrivateKey::read)
    }

    /// The merchant's key, as Alipay knows it.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn app_public_key(&self) -> Result<PublicKey, CredentialsError> {
        read_key(&self.alipay.app_public_key_file, PublicKey::read)
    }
}

fn make(data: &Path) -> Result<Credentials, CredentialsError> {
    let dir = data.join("keys");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|source| at(&dir, source))?;
    let mch_id = format!("1{}", digits(9)?);
    let (merchant_key, _) = key_pair(&dir, "wechat_merchant")?;
    let (platform_key, platform_public) = key_pair(&dir, "wechat_platform")?;
    let (app_private_key_file, app_public_key_file) = key_pair(&dir, "alipay_app")?;
    let (_, alipay_public_key_file) = key_pair(&dir, "alipay")?;
    let (merchant_serial, merchant_certificate_file) = certificate(&merchant_key, &mch_id)?;
    let (_, platform_certificate_file) = certificate(&platform_key, "Tenpay.com emulator")?;
    let webhook_secret = STANDARD.encode(random::bytes::<32>()?);
    Ok(Credentials {
        base_url: None,
        emulator_url: String::new(),
        emulator_tls_url: None,
        emulator_ca_file: None,
        control_url: String::new(),
        merchant: Merchant {
            id: "demo".to_owned(),
            api_key: random::base62(32)?,
            webhook_secret: format!("whsec_{webhook_secret}"),
        },
        wechat: Wechat {
            app_id: format!("wx{}", hex::encode(random::bytes::<8>()?)),
            app_secret: hex::encode(random::bytes::<16>()?),
            mch_id,
            api_v2_key: random::base62(32)?,
            api_v3_key: random::base62(32)?,
            merchant_serial,
            merchant_private_key_file: merchant_key,
            merchant_certificate_file,
            platform_public_key_id: format!("PUB_KEY_ID_01{}", digits(26)?),
            platform_public_key_file: platform_public,
            platform_certificate_file,
        },
        alipay: Alipay {
            app_id: format!("2021{}", digits(12)?),
            seller_id: format!("2088{}", digits(12)?),
            gateway_url: String::new(),
            app_private_key_file,
            app_public_key_file,
            alipay_public_key_file,
        },
    })
}

/// The service's own secret in `data`, made if missing.
///
/// # Errors
/// [`CredentialsError`].
pub fn own_secret(data: &Path) -> Result<Secret, CredentialsError> {
    let path = data.join("secret");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Secret::new(text.trim())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fresh = Secret::new(random::base62(43)?);
            write_private(&path, fresh.expose())?;
            Ok(fresh)
        }
        Err(source) => Err(at(&path, source)),
    }
}

/// Makes `NAME_private_key.pem` and `NAME_public_key.pem`.
fn key_pair(dir: &Path, name: &str) -> Result<(PathBuf, PathBuf), CredentialsError> {
    let private = dir.join(format!("{name}_private_key.pem"));
    let public = dir.join(format!("{name}_public_key.pem"));
    let unusable = |source| CredentialsError::Key { path: private.clone(), source };
    let pem = PrivateKey::generate().map_err(unusable)?;
    let key = PrivateKey::read(pem.expose()).map_err(unusable)?;
    write_private(&private, pem.expose())?;
    write_private(&public, &key.public().to_pem())?;
    Ok((private, public))
}

/// Makes a self-signed certificate beside the key and tells its serial number in upper-case hex.
fn certificate(key_file: &Path, common_name: &str) -> Result<(String, PathBuf), CredentialsError> {
    let pem = fs::read_to_string(key_file).map_err(|source| at(key_file, source))?;
    let key = rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &rcgen::PKCS_RSA_SHA256)?;
    let mut serial = random::bytes::<20>()?;
    if let Some(first) = serial.first_mut() {
        // Positive and of full length.
        *first = (*first & 0x7f) | 0x40;
    }
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new())?;
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CountryName, "CN");
    name.push(rcgen::DnType::OrganizationName, "Shouyin emulator");
    name.push(rcgen::DnType::CommonName, common_name);
    params.distinguished_name = name;
    let file_name = key_file.file_name().unwrap_or_default().to_string_lossy();
    let path = key_file.with_file_name(file_name.replace("private_key", "certificate"));
    write_private(&path, &params.self_signed(&key)?.pem())?;
    Ok((hex::encode_upper(serial), path))
}

fn read_key<K>(path: &Path, read: impl Fn(&str) -> Result<K, KeyError>) -> Result<K, CredentialsError> {
    let text = fs::read_to_string(path).map_err(|source| at(path, source))?;
    read(&text).map_err(|source| CredentialsError::Key { path: path.to_owned(), source })
}

/// Whole or not at all, readable by its owner only.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), CredentialsError> {
    let fresh = path.with_extension("new");
    let write = || -> io::Result<()> {
        // What an interrupted start left behind.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(|source| at(path, source))
}

/// Decimal digits that do not start with 0.
fn digits(len: usize) -> Result<String, NoRandomness> {
    super::draw::digits(len).map(|text| if text.starts_with('0') { text.replacen('0', "7", 1) } else { text })
}

/// How this machine reaches what listens there.
pub fn url(address: SocketAddr) -> String {
    // What listens on every address is reached on this machine by the loopback one.
    let mut address = address;
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr = if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(loopback);
    }
    format!("http://{address}")
}

fn at(path: &Path, source: io::Error) -> CredentialsError {
    CredentialsError::Io { path: path.to_owned(), source }
}

const FILE: &str = "credentials.json";
const ALIPAY_KEY: &str = "alipay_private_key.pem";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut addresses = Addresses {
            service: Some(([127, 0, 0, 1], 3000).into()),
            protocol: ([127, 0, 0, 1], 3001).into(),
            tls: None,
            control: ([0, 0, 0, 0], 3002).into(),
        };
        let first = Credentials::load_or_make(dir.path(), addresses).unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(first.control_url, "http://127.0.0.1:3002");
        assert_eq!(first.wechat.mch_id.len(), 10);
        assert_eq!(first.wechat.merchant_serial.len(), 40);
        assert_eq!((first.alipay.app_id.len(), first.alipay.seller_id.len()), (16, 16));
        assert!(first.alipay.app_private_key_file.is_absolute());
        let message = b"to Alipay";
        let signature = first.app_private_key().unwrap().sign_sha256(message);
        assert!(first.app_public_key().unwrap().verify_sha256(message, &signature));
        let certificate = fs::read_to_string(&first.wechat.merchant_certificate_file).unwrap();
        PublicKey::read(&certificate).unwrap();

        assert_eq!((&first.emulator_tls_url, &first.emulator_ca_file), (&None, &None));
        addresses.tls = Some(([127, 0, 0, 1], 3443).into());
        addresses.protocol.set_port(4001);
        assert_eq!(first.file(), std::path::absolute(&path).unwrap());
        let second = Credentials::load_or_make(dir.path(), addresses).unwrap();
        assert_eq!(second.alipay.gateway_url, "http://127.0.0.1:4001/gateway.do");
        assert_eq!(second.wechat.api_v2_key, first.wechat.api_v2_key);
        assert_eq!(second.merchant.api_key, first.merchant.api_key);
        assert_eq!(second.emulator_tls_url.as_deref(), Some("https://127.0.0.1:3443"));
        let authority = second.emulator_ca_file.unwrap();
        let made = fs::read(&authority).unwrap();
        Credentials::load_or_make(dir.path(), addresses).unwrap();
        assert_eq!(fs::read(&authority).unwrap(), made, "kept");
    }

    #[test]
    fn rubbish_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{}").unwrap();
        let here: SocketAddr = ([127, 0, 0, 1], 1).into();
        let addresses = Addresses { service: None, protocol: here, tls: None, control: here };
        let refused = Credentials::load_or_make(dir.path(), addresses).map(drop).unwrap_err();
        assert!(refused.to_string().contains(FILE), "{refused}");
    }
}
