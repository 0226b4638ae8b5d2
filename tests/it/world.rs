//! A world for tests: the real binary's `demo` on ports of its own, killed at the end, and a caller that
//! speaks HTTP. Never reaches into the process: everything goes over the wire.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use shouyin::runtime::transport::{Timeouts, Transport};

/// A running demo.
pub struct World {
    process: Child,
    /// Keys and addresses, as in contract.md 2.
    pub credentials: Value,
    caller: Transport,
    data: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body as JSON; null if it is none.
    pub json: Value,
    /// The body as text.
    pub text: String,
}

impl World {
    /// A demo with nothing but its seeded orders.
    pub fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let (process, credentials) = launch(data.path());
        Self { process, credentials, caller: Transport::anywhere(Timeouts::GATEWAYS).unwrap(), data }
    }

    /// kill -9, and the same data in a new process on new ports.
    pub fn kill_and_restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        (self.process, self.credentials) = launch(self.data.path());
    }

    /// One request, with an `Authorization` header unless it is empty.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        authorization: &str,
        body: impl Into<Bytes>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(url);
        if !authorization.is_empty() {
            request = request.header("authorization", authorization);
        }
        self.send_request(request.body(body.into()).unwrap()).await
    }

    /// One request as it is.
    pub async fn send_request(&self, request: Request<Bytes>) -> Reply {
        let response = self.caller.send(request).await.unwrap();
        let text = String::from_utf8_lossy(response.body()).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status: response.status(), json, text }
    }

    /// One request as it is, and the cookie that comes back.
    pub async fn cookie_of(&self, request: Request<Bytes>) -> String {
        let response = self.caller.send(request).await.unwrap();
        response.headers()["set-cookie"].to_str().unwrap().to_owned()
    }

    /// Where it keeps everything.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    fn word(&self, pointer: &str) -> &str {
        self.credentials.pointer(pointer).and_then(Value::as_str).unwrap()
    }

    /// An address of the service.
    pub fn service(&self, path: &str) -> String {
        format!("{}{path}", self.word("/base_url"))
    }

    /// An address of the emulator's control port.
    pub fn control(&self, path: &str) -> String {
        format!("{}{path}", self.word("/control_url"))
    }

    /// The mall calls its API.
    pub async fn mall(&self, method: Method, path: &str, body: Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, &self.service(path), self.word("/merchant/api_key"), body).await
    }

    /// Somebody moves the emulator; the answer's `data`.
    pub async fn emulator(&self, method: Method, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.send(method, &self.control(path), "", body).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
        reply.json["data"].clone()
    }

    /// A new order of 100 fen.
    pub async fn order(&self, number: &str) -> Value {
        let body = json!({
            "order_type": "Order", "order_number": number, "title": "茶 🍵", "total_fee": 100,
        });
        let reply = self.mall(Method::POST, "/rest/orders", body).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
        reply.json["data"].clone()
    }

    /// The order as the mall sees it.
    pub async fn read(&self, number: &str) -> Value {
        let reply = self.mall(Method::GET, &format!("/rest/orders/Order/{number}"), Value::Null).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json["data"].clone()
    }

    /// Pushes and gives the whole answer.
    pub async fn push(&self, channel: &str, number: &str, scene: &str) -> Reply {
        let body = json!({ "order_type": "Order", "order_number": number, "type": scene });
        self.mall(Method::POST, &format!("/rest/{channel}/push_order"), body).await
    }

    /// Pushes and gives the code to scan.
    pub async fn code(&self, channel: &str, number: &str) -> String {
        let scene = if channel == "wx" { "NATIVE" } else { "QRCODE" };
        let reply = self.push(channel, number, scene).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let field = if channel == "wx" { "codeUrl" } else { "qr_code" };
        reply.json["data"][field].as_str().unwrap().to_owned()
    }

    /// Puts faults in place.
    pub async fn faults(&self, faults: Value) {
        self.emulator(Method::PUT, "/faults", json!({ "faults": faults })).await;
    }

    /// Waits, without a fixed sleep, until the order looks as wanted; panics after ten seconds.
    pub async fn until(&self, number: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..200 {
            last = self.read(number).await;
            if wanted(&last) {
                return last;
            }
            tokio::time::sleep(core::time::Duration::from_millis(50)).await;
        }
        panic!("order {number} stayed {last}");
    }

    /// The events the mall can read, as `(type, order number)`.
    pub async fn events(&self) -> Vec<(String, String)> {
        let reply = self.mall(Method::GET, "/rest/events", Value::Null).await;
        let events = reply.json["data"]["events"].as_array().unwrap().clone();
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        events.iter().map(|e| (word(&e["type"]), word(&e["payload"]["data"]["order_number"]))).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Already dead is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the demo on free ports and waits until it has said where it is.
fn launch(data: &Path) -> (Child, Value) {
    let any = "127.0.0.1:0";
    let mut process = Command::new(env!("CARGO_BIN_EXE_shouyin"))
        .args(["demo", "--listen", any, "--emulator-listen", any, "--control-listen", any, "--data"])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The demo prints its addresses once it listens.
    let mut first = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    let credentials = std::fs::read_to_string(data.join("credentials.json")).unwrap();
    (process, serde_json::from_str(&credentials).unwrap())
}
