//! The configuration's rules as a table: one change of a good file, then what is said of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::domain::refund::LatePayment;

struct Place {
    dir: TempDir,
    file: PathBuf,
}

/// A directory with keys and a good configuration.
fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let app = PrivateKey::generate().unwrap();
    let alipay = PrivateKey::read(PrivateKey::generate().unwrap().expose()).unwrap();
    write(&at("app.pem"), app.expose(), 0o600);
    write(&at("open.pem"), app.expose(), 0o644);
    write(&at("alipay.pem"), &alipay.public().to_pem(), 0o644);
    let own = PrivateKey::read(app.expose()).unwrap();
    write(&at("own.pem"), &own.public().to_pem(), 0o644);
    write(&at("short"), "short\n", 0o600);
    write(&at("cert.pem"), include_str!("../../gateway/vectors/keys/app.crt.pem"), 0o644);
    write(&at("cert.key"), include_str!("../../gateway/vectors/keys/app.pkcs8.pem"), 0o600);
    let file = at("shouyin.toml");
    let text = GOOD.replace("DIR", dir.path().to_str().unwrap());
    write(&file, &text, 0o600);
    Place { dir, file }
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const GOOD: &str = r#"
[server]
listen = "127.0.0.1:3000"
public_base_url = "https://pay.mall.example"
trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]
secret_file = "DIR/made/secret"

[store]
url = "sqlite:DIR/shouyin.db"

[gateways]
wechat_pay = "http://127.0.0.1:3001/"

[[merchant]]
id = "mall"
name = "示例商城"
hosts = ["pay.mall.example"]
api_key_sha256 = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
webhook_url = "https://mall.example/hook"
webhook_secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
webhook_allow = []
allowed_origins = ["https://Mall.example:443"]

[merchant.wechat]
app_id = "wxd930ea5d5a258f4f"
mch_id = "10000100"
api_v2_key = "192006250b4c09247ec02edce69f6a2d"

[merchant.alipay]
app_id = "2021000000000001"
seller_id = "2088000000000001"
app_private_key_file = "DIR/app.pem"
alipay_public_key_file = "DIR/alipay.pem"
"#;

/// Line of the good file, what replaces it, what is said. `-` for the last means: taken.
const CHANGES: &str = r#"
listen = "127.0.0.1:3000" | listen = "0.0.0.0:80" | -
listen = "127.0.0.1:3000" | listen = "127.0.0.1" | server.listen is not an address and port, such as 127.0.0.1:3000. Write an address and port, such as 127.0.0.1:3000.
listen = "127.0.0.1:3000" | listen = 3000 | server.listen has the wrong type. Write it in quotes.
listen = "127.0.0.1:3000" | lisen = "127.0.0.1:3000" | server.lisen is not known. Known here: listen, public_base_url, trusted_proxies, admin_listen, secret_file.
listen = "127.0.0.1:3000" | listen = | line 3 is not TOML
public_base_url = "https://pay.mall.example" | | -
public_base_url = "https://pay.mall.example" | public_base_url = "http://127.0.0.1:3000" | -
public_base_url = "https://pay.mall.example" | public_base_url = "http://pay.mall.example" | server.public_base_url is plain http. Use https; http is for this machine only.
public_base_url = "https://pay.mall.example" | public_base_url = "http://localhost.evil.example" | server.public_base_url is plain http
public_base_url = "https://pay.mall.example" | public_base_url = "https://pay.mall.example/x" | server.public_base_url has a path or a query
public_base_url = "https://pay.mall.example" | public_base_url = "pay.mall.example" | server.public_base_url is not an absolute URL
trusted_proxies = ["127.0.0.1", "10.0.0.0/8"] | trusted_proxies = ["10.0.0.0/33"] | server.trusted_proxies[0] is not an address or a network
secret_file = "DIR/made/secret" | secret_file = "DIR/open.pem" | server.secret_file names DIR/open.pem, which others may read (mode 644). Type: chmod 600 DIR/open.pem.
secret_file = "DIR/made/secret" | secret_file = "DIR/short" | server.secret_file names DIR/short, which holds fewer than 32 characters
secret_file = "DIR/made/secret" | secret_file = "/proc/x/secret" | server.secret_file names /proc/x/secret, which cannot be made
[store] | [stroe] | stroe is not known. Known sections: [server], [store], [gateways], [merchant].
url = "sqlite:DIR/shouyin.db" | url = "postgres://u:hunter2@db/x" | store.url asks for PostgreSQL, which is not built yet. Use sqlite:PATH, such as sqlite:data/shouyin.db.
url = "sqlite:DIR/shouyin.db" | url = "mysql://x" | store.url is of a kind that is not built
url = "sqlite:DIR/shouyin.db" | url = "sqlite:" | store.url names no file
wechat_pay = "http://127.0.0.1:3001/" | wechat_pay = "http://api.example" | gateways.wechat_pay is plain http
id = "mall" | | merchant[0].id is missing. Add it to [merchant[0]].
id = "mall" | id = "a mall" | merchant[0].id is not 1 to 32 of 0-9 A-Z a-z _ -
name = "示例商城" | name = " " | merchant[0].name is empty
name = "示例商城" | locale = "fr" | merchant[0].name is missing
hosts = ["pay.mall.example"] | hosts = "pay.mall.example:8443" | -
hosts = ["pay.mall.example"] | hosts = ["https://pay.mall.example"] | merchant[0].hosts[0] is not a host name
hosts = ["pay.mall.example"] | locale = "fr" | merchant[0].locale is not zh-CN or en
hosts = ["pay.mall.example"] | late_payment = "keep" | merchant[0].late_payment is not refund, accept or hold
hosts = ["pay.mall.example"] | duplicate_payment = "hold" | -
hosts = ["pay.mall.example"] | duplicate_payment = "accept" | merchant[0].duplicate_payment is not refund or hold
hosts = ["pay.mall.example"] | embed_origins = ["https://mall.example/shop"] | merchant[0].embed_origins[0] is not an origin
hosts = ["pay.mall.example"] | return_after_s = 0 | -
hosts = ["pay.mall.example"] | return_after_s = 5 | -
hosts = ["pay.mall.example"] | return_after_s = 4 | merchant[0].return_after_s is neither 0 nor 5 to 600. Write 0 to stay on the page, or 5 to 600 seconds.
hosts = ["pay.mall.example"] | return_after_s = -5 | merchant[0].return_after_s is neither 0 nor 5 to 600
hosts = ["pay.mall.example"] | return_after_s = 70000 | merchant[0].return_after_s is neither 0 nor 5 to 600
hosts = ["pay.mall.example"] | return_after_s = "5" | merchant[0].return_after_s has the wrong type. Write a whole number, without quotes.
hosts = ["pay.mall.example"] | pad_pin = "2580" | -
hosts = ["pay.mall.example"] | pad_pin = "12345678" | -
hosts = ["pay.mall.example"] | pad_pin = 2580 | merchant[0].pad_pin has the wrong type. Write it in quotes.
hosts = ["pay.mall.example"] | pad_pin = "258" | merchant[0].pad_pin is not 4 to 8 digits. Write it in quotes, such as "2580".
hosts = ["pay.mall.example"] | pad_pin = "123456789" | merchant[0].pad_pin is not 4 to 8 digits
hosts = ["pay.mall.example"] | pad_pin = "２５８０" | merchant[0].pad_pin is not 4 to 8 digits
hosts = ["pay.mall.example"] | pad_pin_file = "DIR/open.pem" | merchant[0].pad_pin_file names DIR/open.pem, which others may read (mode 644)
hosts = ["pay.mall.example"] | anonymous_push_order = "yes" | merchant[0].anonymous_push_order has the wrong type. Write true or false.
hosts = ["pay.mall.example"] | token_check_url = "http://10.1.1.1/me" | merchant[0].token_check_url is plain http
api_key_sha256 = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] | api_key_sha256 = ["abc"] | merchant[0].api_key_sha256[0] is not 64 hexadecimal digits
webhook_url = "https://mall.example/hook" | webhook_url = "http://mall.example/hook" | merchant[0].webhook_url is plain http. Use https, or name the target in webhook_allow.
webhook_url = "https://mall.example/hook" | webhook_url = "https://10.1.2.3/hook" | merchant[0].webhook_url leads to 10.1.2.3, which is private. Name 10.1.2.3 in webhook_allow, or use a public address.
webhook_url = "https://mall.example/hook" | webhook_url = "https://[::1]/hook" | merchant[0].webhook_url leads to ::1, which is private
webhook_url = "https://mall.example/hook" | webhook_url = "https://8.8.8.8/hook" | -
webhook_url = "https://mall.example/hook" | webhook_url = "https://2130706433/hook" | merchant[0].webhook_url leads to 127.0.0.1, which is private
webhook_url = "https://mall.example/hook" | webhook_url = "ftp://mall.example/hook" | merchant[0].webhook_url is not an http or https URL
webhook_url = "https://mall.example/hook" | webhook_url = "https://u:p@mall.example/hook" | merchant[0].webhook_url holds a user name or a fragment
webhook_secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=" | | merchant[0].webhook_secret is missing
webhook_secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=" | webhook_secret = "whsec_MDEy" | merchant[0].webhook_secret is not whsec_ and the base64 of 24 to 64 bytes
webhook_allow = [] | webhook_allow = ["127.0.0.1", "10.0.0.0/8", "mall.internal"] | -
webhook_allow = [] | webhook_allow = ["http://x"] | merchant[0].webhook_allow[0] is not an address, a network
allowed_origins = ["https://Mall.example:443"] | allowed_origins = ["*"] | merchant[0].allowed_origins[0] is not an origin
app_id = "wxd930ea5d5a258f4f" | app_id = "wxd930ea5d5a258f4f " | merchant[0].wechat.app_id has other characters than letters and digits
mch_id = "10000100" | | merchant[0].wechat.mch_id is missing
mch_id = "10000100" | mch_id = "10000100"; api = "v3" | merchant[0].wechat.api is v3, which is not built yet. Write api = "v2".
mch_id = "10000100" | mch_id = "10000100"; sign_type = "SHA1" | merchant[0].wechat.sign_type is not MD5 or HMAC-SHA256
mch_id = "10000100" | mch_id = "10000100"; sign_type = "HMAC-SHA256" | -
mch_id = "10000100" | mch_id = "10000100"; merchant_certificate_file = "DIR/cert.pem" | merchant[0].wechat.merchant_private_key is missing, and its certificate is there
mch_id = "10000100" | mch_id = "10000100"; merchant_certificate_file = "DIR/cert.pem"; merchant_private_key_file = "DIR/app.pem" | merchant[0].wechat.merchant_certificate_file does not belong to merchant_private_key. Use apiclient_cert.pem
mch_id = "10000100" | mch_id = "10000100"; merchant_certificate_file = "DIR/own.pem"; merchant_private_key_file = "DIR/app.pem" | merchant[0].wechat.merchant_certificate_file is no certificate
mch_id = "10000100" | mch_id = "10000100"; merchant_certificate_file = "DIR/cert.pem"; merchant_private_key_file = "DIR/cert.key" | -
mch_id = "10000100" | mch_id = "10000100"; platform_public_key_id = "PUB_1" | merchant[0].wechat.platform_public_key_id has 1 entries, platform_public_key_file has 0
mch_id = "10000100" | mch_id = "10000100"; platform_public_key_id = "PUB_1"; platform_public_key_file = "DIR/alipay.pem" | -
api_v2_key = "192006250b4c09247ec02edce69f6a2d" | api_v2_key = "192006250b4c0924" | merchant[0].wechat.api_v2_key is not 32 letters and digits
api_v2_key = "192006250b4c09247ec02edce69f6a2d" | | merchant[0].wechat.api_v2_key is missing. Add api_v2_key or api_v2_key_file to [merchant[0].wechat].
app_private_key_file = "DIR/app.pem" | app_private_key_file = "DIR/open.pem" | merchant[0].alipay.app_private_key_file names DIR/open.pem, which others may read (mode 644). Type: chmod 600 DIR/open.pem.
app_private_key_file = "DIR/app.pem" | app_private_key_file = "DIR/none.pem" | merchant[0].alipay.app_private_key_file names DIR/none.pem, which cannot be read
app_private_key_file = "DIR/app.pem" | app_private_key = "abc" | merchant[0].alipay.app_private_key is not usable
app_private_key_file = "DIR/app.pem" | app_private_key_file = "DIR/app.pem"; app_private_key = "abc" | merchant[0].alipay.app_private_key and app_private_key_file are both given
app_private_key_file = "DIR/app.pem" | app_private_key_file = "DIR/app.pem"; app_public_key_file = "DIR/alipay.pem" | merchant[0].alipay.app_public_key_file does not belong to app_private_key
alipay_public_key_file = "DIR/alipay.pem" | alipay_public_key_file = "DIR/own.pem" | merchant[0].alipay.alipay_public_key is your own app's public key, not Alipay's
alipay_public_key_file = "DIR/alipay.pem" | alipay_certificate_file = "DIR/x.crt" | merchant[0].alipay.alipay_certificate_file asks for certificate mode, which is not built yet
alipay_public_key_file = "DIR/alipay.pem" | alipay_public_key_file = "DIR/alipay.pem"; gateway_url = "http://127.0.0.1:1/gateway.do" | merchant[0].alipay.gateway_url differs from gateways.alipay
"#;

#[test]
fn a_good_file() {
    let place = place();
    let config = Config::load(Some(&place.file), []).unwrap();
    assert_eq!(config.server.public_base_url, "https://pay.mall.example");
    assert_eq!(config.gateways.wechat_pay, "http://127.0.0.1:3001");
    assert_eq!(config.gateways.alipay, "https://openapi.alipay.com/gateway.do");
    let merchant = &config.merchants[0];
    assert_eq!(merchant.allowed_origins, ["https://mall.example"]);
    assert_eq!(merchant.api_key_sha256, [[0xaa; 32]]);
    assert_eq!(merchant.policy.late, LatePayment::Refund);
    assert!(!merchant.anonymous_push_order);
    let made = place.dir.path().join("made/secret");
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(config.secret.expose().len(), 64);
    let again = Config::load(Some(&place.file), []).unwrap();
    assert_eq!(again.secret.expose(), config.secret.expose());
}

#[test]
fn changes_of_a_good_file() {
    let place = place();
    let dir = place.dir.path().to_str().unwrap();
    let good = fs::read_to_string(&place.file).unwrap();
    for line in CHANGES.lines().filter(|line| !line.is_empty()) {
        let line = line.replace("DIR", dir);
        let [from, to, wanted] = line.splitn(3, '|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        assert_eq!(good.matches(from).count(), 1, "{from}");
        fs::write(&place.file, good.replace(from, &to.replace("; ", "\n"))).unwrap();
        let said = match Config::load(Some(&place.file), []) {
            Ok(_) => "-".to_owned(),
            Err(error) => error.to_string(),
        };
        let said = said.strip_prefix(&format!("{}: ", place.file.display())).unwrap_or(&said);
        assert!(said.starts_with(wanted), "{line}\n said: {said}");
        assert!(!said.contains("hunter2") && !said.contains("192006"), "a secret in: {said}");
    }
}

#[test]
fn merchants_are_needed_and_differ() {
    let place = place();
    let good = fs::read_to_string(&place.file).unwrap();
    let (head, merchant) = good.split_once("[[merchant]]").unwrap();
    fs::write(&place.file, head).unwrap();
    let error = Config::load(Some(&place.file), []).unwrap_err();
    assert_eq!((error.key.as_str(), error.problem.as_str()), ("merchant", "is missing"));
    fs::write(&place.file, format!("{good}\n[[merchant]]{merchant}")).unwrap();
    let error = Config::load(Some(&place.file), []).unwrap_err();
    assert_eq!((error.key.as_str(), error.problem.as_str()), ("merchant[1].id", "stands there twice"));
}

#[test]
fn weak_rsa_keys_are_refused_by_name() {
    let place = place();
    let weak = concat!(
        "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu",
        "KUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ=="
    );
    let env = [("SHOUYIN_MERCHANT_ALIPAY_ALIPAY_PUBLIC_KEY".to_owned(), weak.to_owned())];
    let error = Config::load(Some(&place.file), env).unwrap_err();
    assert!(error.to_string().contains("512 bits"), "{error}");
}

#[test]
fn variables_win_over_the_file() {
    let place = place();
    let load = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Some(&place.file), pairs)
    };
    let config = load(&[
        ("PATH", "/bin"),
        ("SHOUYIN_LOG", "debug"),
        ("SHOUYIN_SERVER_LISTEN", "127.0.0.1:4000"),
        ("SHOUYIN_MERCHANT_NAME", "Other"),
        ("SHOUYIN_MERCHANT_0_ANONYMOUS_PUSH_ORDER", "true"),
        ("SHOUYIN_MERCHANT_0_HOSTS", "a.example, b.example,"),
        ("SHOUYIN_MERCHANT_WECHAT_SIGN_TYPE", "HMAC-SHA256"),
        ("SHOUYIN_MERCHANT_RETURN_AFTER_S", "8"),
    ])
    .unwrap();
    assert_eq!(config.server.listen.port(), 4000);
    let merchant = &config.merchants[0];
    assert_eq!((merchant.name.as_str(), merchant.anonymous_push_order), ("Other", true));
    assert_eq!(merchant.hosts, ["a.example", "b.example"]);
    assert_eq!(merchant.return_after_s, Some(8));
    assert_eq!(merchant.wechat.as_ref().unwrap().sign_type, SignType::HmacSha256);
    for (name, value, problem) in [
        ("SHOUYIN_SERVER_LISTN", "x", "names no key"),
        ("SHOUYIN_MERCHANT_0_ANONYMOUS_PUSH_ORDER", "1", "is not true or false"),
        ("SHOUYIN_MERCHANT_0_RETURN_AFTER_S", "5 s", "is not a whole number"),
        ("SHOUYIN_MERCHANT_5_NAME", "x", "leaves out a merchant"),
        ("SHOUYIN_MERCHANT_99999999999999999999_NAME", "x", "names no key"),
    ] {
        let error = load(&[(name, value)]).unwrap_err();
        assert_eq!((error.key.as_str(), error.problem.as_str()), (name, problem));
    }
    // The file form in the file gives way to the inline form in a variable, and the other way round.
    let key = fs::read_to_string(place.dir.path().join("app.pem")).unwrap();
    load(&[("SHOUYIN_MERCHANT_ALIPAY_APP_PRIVATE_KEY", &key)]).unwrap();
}

#[test]
fn variables_alone_are_enough() {
    let place = place();
    let at = |name: &str| place.dir.path().join(name).display().to_string();
    let env = [
        ("SHOUYIN_SERVER_SECRET_FILE", at("alone")),
        ("SHOUYIN_MERCHANT_ID", "m".to_owned()),
        ("SHOUYIN_MERCHANT_NAME", "M".to_owned()),
        ("SHOUYIN_MERCHANT_WECHAT_APP_ID", "wx1".to_owned()),
        ("SHOUYIN_MERCHANT_WECHAT_MCH_ID", "1".to_owned()),
        ("SHOUYIN_MERCHANT_WECHAT_API_V2_KEY", "192006250b4c09247ec02edce69f6a2d".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let config = Config::load(None, env).unwrap();
    assert_eq!(config.server.public_base_url, "http://127.0.0.1:3000");
    assert_eq!(config.store, StoreConfig::Sqlite(PathBuf::from("data/shouyin.db")));
}

#[test]
fn a_bad_file_leaves_what_held() {
    let place = place();
    let handle = ConfigHandle::load(Some(place.file.clone()), Vec::new()).unwrap();
    let good = fs::read_to_string(&place.file).unwrap();
    fs::write(&place.file, good.replace("示例商城", "新名字")).unwrap();
    handle.reload().unwrap();
    assert_eq!(handle.current().merchants[0].name, "新名字");
    fs::write(&place.file, "[[merchant]]\n").unwrap();
    assert!(handle.reload().is_err());
    assert_eq!(handle.current().merchants[0].name, "新名字");
}

#[test]
fn debug_shows_no_secret() {
    let config = Config::load(Some(&place().file), []).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("192006250b4c") && !shown.contains(config.secret.expose()), "{shown}");
}

#[test]
fn every_key_is_documented() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    for (section, key) in keys::all() {
        let heading = match section {
            "merchant" => "## `[[merchant]]`".to_owned(),
            "wechat" | "alipay" => format!("## `[merchant.{section}]`"),
            _ => format!("## `[{section}]`"),
        };
        let (_, part) = text.split_once(&heading).expect(&heading);
        let part = part.split("\n## ").next().unwrap();
        assert!(part.contains(&format!("`{key}`")), "{section}.{key} is not in docs/configuration.md");
    }
}
