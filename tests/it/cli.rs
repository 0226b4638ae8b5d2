//! The program from outside: exit statuses, signals, and what is not there under `serve`.
//! Never looks inside the process.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
public_base_url = "http://127.0.0.1:3000"
secret_file = "DIR/secret"

[store]
url = "sqlite:DIR/shouyin.db"

[gateways]
wechat_pay = "http://127.0.0.1:9"

[[merchant]]
id = "mall"
name = "商城"

[merchant.wechat]
app_id = "wx1"
mch_id = "1"
api_v2_key = "192006250b4c09247ec02edce69f6a2d"
"#;

fn shouyin() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shouyin"));
    command.env_clear();
    command
}

/// A directory with a configuration, changed in one place.
fn configured(from: &str, to: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shouyin.toml");
    assert!(CONFIG.contains(from));
    fs::write(&file, CONFIG.replace(from, to).replace("DIR", dir.path().to_str().unwrap())).unwrap();
    (dir, file)
}

fn run(command: &str, file: &Path) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = shouyin().args([command, "--config"]).arg(file).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_bad_configuration_stops_the_start_with_status_2() {
    for (from, to, said) in [
        ("listen =", "lisen =", "server.lisen is not known. Known here: listen,"),
        (
            "sqlite:DIR/shouyin.db",
            "postgres://u:p@db/x",
            "PostgreSQL, which is not built yet. Use sqlite:PATH",
        ),
        ("http://127.0.0.1:3000", "http://pay.example", "server.public_base_url is plain http. Use https"),
        (
            "mch_id = \"1\"",
            "mch_id = \"1\"\napi = \"v3\"",
            "api is v3, which is not built yet. Write api = \"v2\"",
        ),
    ] {
        let (_dir, file) = configured(from, to);
        for command in ["serve", "migrate", "doctor"] {
            let (status, stderr) = run(command, &file);
            assert_eq!(status, Some(2), "{command} {to}: {stderr}");
            assert!(stderr.contains(said) && stderr.contains(file.to_str().unwrap()), "{command}: {stderr}");
        }
    }
    let (status, stderr) = run("serve", Path::new("nowhere/shouyin.toml"));
    assert!(status == Some(2) && stderr.contains("cannot be read"), "{stderr}");
    assert_eq!(shouyin().arg("sreve").output().unwrap().status.code(), Some(2));
    let demo = shouyin().args(["demo", "--wechat-api", "v3"]).output().unwrap();
    assert_eq!(demo.status.code(), Some(2));
}

#[test]
fn a_token_is_a_key_and_its_hash() {
    let output = String::from_utf8(shouyin().arg("token").output().unwrap().stdout).unwrap();
    let [key, hash] =
        output.lines().map(|line| line.split(": ").nth(1).unwrap().trim()).collect::<Vec<_>>()[..]
    else {
        panic!("{output}");
    };
    assert!(key.len() >= 22);
    assert_eq!(hash, hex::encode(shouyin::server::capability::hash(key)));
}

#[test]
fn migrate_makes_the_database() {
    let (dir, file) = configured("", "");
    assert_eq!(run("migrate", &file), (Some(0), String::new()));
    assert!(dir.path().join("shouyin.db").exists());
}

/// A running service that ends with the test.
struct Service {
    child: Child,
    address: SocketAddr,
    log: BufReader<std::process::ChildStderr>,
}

impl Service {
    fn start(file: &Path) -> Self {
        let mut child = shouyin()
            .args(["serve", "--log-format", "json", "--config"])
            .arg(file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut service = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), log };
        let line = service.logged("serving");
        service.address = line["fields"]["listen"].as_str().unwrap().parse().unwrap();
        service
    }

    /// The next line with that message.
    fn logged(&mut self, message: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "ended before it said {message:?}");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["message"].as_str().unwrap().starts_with(message) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Status and body.
    fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let answer = self.whole(method, path, "");
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// The answer as it came, asked with more headers, a line each.
    fn whole(&self, method: &str, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Already gone, if the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn serve_reloads_drains_and_has_nothing_of_the_emulator() {
    let (_dir, file) = configured("", "");
    let mut service = Service::start(&file);
    assert_eq!(service.ask("GET", "/healthz").0, 200);
    assert_eq!(service.ask("GET", "/readyz").0, 200);
    for (method, path) in [
        ("GET", "/phone"),
        ("GET", "/ledger"),
        ("GET", "/faults"),
        ("PUT", "/faults"),
        ("POST", "/clock"),
        ("POST", "/scan"),
        ("POST", "/pay"),
        ("POST", "/pay/unifiedorder"),
        ("POST", "/gateway.do"),
        ("GET", "/mall"),
        ("POST", "/mall/webhook"),
    ] {
        let (status, body) = service.ask(method, path);
        assert!(matches!(status, 403..=405), "{method} {path}: {status} {body}");
    }

    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("name = ", "nmae = ")).unwrap();
    service.signal("HUP");
    assert!(service.logged("not reloaded").to_string().contains("merchant[0].nmae is not known"));
    fs::write(&file, good).unwrap();
    service.signal("HUP");
    service.logged("reloaded");
    assert_eq!(service.ask("GET", "/healthz").0, 200);

    service.signal("TERM");
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
    assert!(TcpStream::connect(service.address).is_err());
}

#[test]
fn front_ends_of_named_origins_may_push_and_read() {
    let named = "name = \"商城\"\nallowed_origins = [\"https://mall.example\"]";
    let (_dir, file) = configured("name = \"商城\"", named);
    let service = Service::start(&file);
    let ask = |method: &str, path: &str, origin: &str| {
        let headers = format!(
            "origin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type\r\naccept-language: en\r\n"
        );
        service.whole(method, path, &headers).to_ascii_lowercase()
    };
    for path in ["/rest/wx/push_order", "/rest/ali/push_order", "/rest/orders/Order/1"] {
        let preflight = ask("OPTIONS", path, "https://mall.example");
        assert!(preflight.starts_with("http/1.1 200"), "{preflight}");
        for line in [
            "access-control-allow-origin: https://mall.example\r\n",
            "access-control-allow-headers: authorization,content-type\r\n",
            "access-control-allow-methods: get,post\r\n",
        ] {
            assert!(preflight.contains(line), "{line} {preflight}");
        }
        assert!(!preflight.contains("allow-credentials"), "{preflight}");
        assert!(!ask("OPTIONS", path, "https://evil.example").contains("access-control-allow-origin"));
        // An error may be read as well, and a cache must not give one origin's answer to another.
        let method = if path.contains("orders/") { "GET" } else { "POST" };
        let refused = ask(method, path, "https://mall.example");
        assert!(refused.starts_with("http/1.1 401") && refused.contains("\r\nvary: origin"), "{refused}");
        assert!(refused.contains("access-control-allow-origin: https://mall.example\r\n"), "{refused}");
    }
    for path in ["/rest/orders", "/rest/events", "/rest/orders/Order/1/close"] {
        let closed = ask("OPTIONS", path, "https://mall.example");
        assert!(!closed.contains("access-control-allow"), "{path}: {closed}");
    }
}

#[test]
fn the_malls_own_tokens_are_asked_of_the_mall() {
    let mall = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/me", mall.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for status in ["500 Oops", "401 No", "302 Found\r\nlocation: http://127.0.0.1:9/", "204 Yes"] {
            let (stream, _) = mall.accept().unwrap();
            let mut lines = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                lines.read_line(&mut head).unwrap();
            }
            seen.push(head);
            write!(lines.get_mut(), "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .unwrap();
        }
        seen
    });
    let checked = format!("name = \"商城\"\ntoken_check_url = \"{url}\"\nwebhook_allow = [\"127.0.0.1\"]");
    let (_dir, file) = configured("name = \"商城\"", &checked);
    let service = Service::start(&file);
    let push = || service.whole("POST", "/rest/wx/push_order", "authorization: Session abc\r\n");
    // A mall that is down has not said no.
    let down = push();
    assert!(down.starts_with("HTTP/1.1 503") && down.contains("retry-after:"), "{down}");
    assert!(down.contains("token_check_unavailable"), "{down}");
    assert!(push().starts_with("HTTP/1.1 401"));
    assert!(push().starts_with("HTTP/1.1 401"), "a redirect is no yes and is not followed");
    // A yes leads on to the body, which is empty here, and is remembered.
    assert!(push().contains("malformed_json"));
    assert!(push().contains("malformed_json"));
    for head in asked.join().unwrap() {
        assert!(head.starts_with("GET /me ") && head.contains("authorization: Session abc\r\n"), "{head}");
    }
    // It may push, not read.
    let read = service.whole("GET", "/rest/orders/Order/1", "authorization: Session abc\r\n");
    assert!(read.starts_with("HTTP/1.1 401"), "{read}");
}

/// Numbers can be guessed: who guesses is stopped, and nobody else, whoever the proxy names.
#[test]
fn guessing_comes_to_an_end() {
    let proxied = "listen = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]";
    let (_dir, file) = configured("listen = \"127.0.0.1:0\"", proxied);
    let service = Service::start(&file);
    let guess = |visitor: &str| {
        let headers = format!("x-forwarded-for: 198.51.100.9, {visitor}\r\naccept-language: en\r\n");
        service.whole("GET", "/app/payment/wpay/12346", &headers)
    };
    for _ in 0..20 {
        assert!(guess("203.0.113.1").starts_with("HTTP/1.1 404"));
    }
    let later = guess("203.0.113.1");
    assert!(later.starts_with("HTTP/1.1 429") && later.contains("\r\nretry-after: "), "{later}");
    assert!(later.contains(r#""status_code":4001,"error":"rate_limited","message":"Too many"#), "{later}");
    assert!(guess("203.0.113.2").starts_with("HTTP/1.1 404"));
    // A page stays one.
    let page = || service.whole("GET", "/pay/nobody", "accept-language: en\r\n");
    let first = page();
    for _ in 1..20 {
        assert!(page().starts_with("HTTP/1.1 404"));
    }
    let later = page();
    assert!(later.starts_with("HTTP/1.1 429") && later.contains("\r\nretry-after: "), "{later}");
    assert!(first.contains("cannot find this order") && later.contains("cannot find this order"));
    let key = || service.whole("GET", "/rest/orders", "authorization: guess\r\n");
    for _ in 0..20 {
        assert!(key().starts_with("HTTP/1.1 401"));
    }
    assert!(key().starts_with("HTTP/1.1 429"));
}

#[test]
fn a_database_that_cannot_be_one_stops_the_start_with_status_2() {
    for (url, said) in [
        ("DIR/secret", "store.url names DIR/secret, which is damaged or no database"),
        ("DIR/secret/x.db", "store.url needs DIR/secret, which cannot be made or written"),
    ] {
        let (dir, file) = configured("sqlite:DIR/shouyin.db", &format!("sqlite:{url}"));
        fs::write(dir.path().join("secret"), "0123456789abcdef0123456789abcdef\n".repeat(40)).unwrap();
        fs::set_permissions(dir.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        let said = said.replace("DIR", dir.path().to_str().unwrap());
        for command in ["serve", "migrate"] {
            let (status, stderr) = run(command, &file);
            assert_eq!(status, Some(2), "{command} {url}: {stderr}");
            assert!(stderr.contains(&said) && stderr.contains(file.to_str().unwrap()), "{command}: {stderr}");
        }
    }
}

/// A directory with the vectors' merchant, and a notice of theirs.
fn with_a_notice() -> (TempDir, PathBuf, String) {
    let (dir, file) = configured(
        "app_id = \"wx1\"\nmch_id = \"1\"",
        "app_id = \"wxd930ea5d5a258f4f\"\nmch_id = \"10000100\"",
    );
    let vectors: Value = serde_json::from_str(include_str!("../../src/gateway/vectors/node.json")).unwrap();
    let notice = vectors["wechat_notices"][0]["body"].as_str().unwrap().to_owned();
    (dir, file, notice)
}

/// Status, standard output and standard error of `explain`, which reads `input`.
fn explain(args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = shouyin();
    command.arg("explain").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn explain_says_what_is_wrong_with_a_signature() {
    const KEY: &str = "192006250b4c09247ec02edce69f6a2d";
    let (dir, file, notice) = with_a_notice();
    let config = ["--config", file.to_str().unwrap()];
    let (status, right, _) = explain(&config, &notice);
    assert_eq!(status, Some(0), "{right}");
    assert!(right.contains("WeChat Pay v2, payment notice\nsignature   right\n"), "{right}");
    assert!(right.contains("&transaction_id=") && right.contains("&key=***\n"), "{right}");
    let sign = right.lines().find_map(|line| line.strip_prefix("given       ")).unwrap();
    let lower = notice.replace(sign, &sign.to_lowercase());
    let (status, wrong, _) = explain(&[config[0], config[1], "--json"], &lower);
    assert_eq!(status, Some(1));
    let told: Value = serde_json::from_str(&wrong).unwrap();
    assert_eq!((&told["verdict"], &told["expected"]), (&"wrong".into(), &sign.into()), "{told}");
    assert_eq!(told["causes"][0]["id"], "lower-case");
    let (status, out, said) = explain(&config, &" ".repeat(64 * 1024 + 1));
    assert_eq!((status, out.as_str()), (Some(2), ""), "{said}");
    assert!(said.contains("over 64 KiB"), "{said}");
    let (status, out, said) = explain(&config, "hello");
    assert!(status == Some(2) && out.is_empty() && said.contains("neither XML"), "{said}");

    // A key in a file instead of a configuration, and the message in a file, too.
    let (key, body) = (dir.path().join("key"), dir.path().join("notice"));
    fs::write(&key, format!("{KEY}\n")).unwrap();
    fs::write(&body, &notice).unwrap();
    let args = [body.to_str().unwrap(), "--key-file", key.to_str().unwrap()];
    let (status, out, said) = explain(&args, "");
    assert!(status == Some(0) && out.contains(key.to_str().unwrap()), "{out} {said}");
    for text in [right, wrong, out] {
        assert!(!text.contains(KEY), "{text}");
    }
    fs::write(&key, "no key").unwrap();
    let (status, _, said) = explain(&args, "");
    assert!(status == Some(2) && said.contains("is no key that is known"), "{said}");
    assert!(!said.contains("no key\n"), "{said}");
}
