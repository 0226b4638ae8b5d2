//! Every reader of bytes from outside, by name, and right messages to begin with. Shared by the targets of
//! cargo-fuzz beside it and by `tests/it/readers.rs`. A target may refuse anything; it must not panic.

#![expect(clippy::expect_used, reason = "what is read here is made here")]
#![expect(dead_code, reason = "each target is a program of its own and uses one of them")]

use std::sync::LazyLock;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;
use shouyin::domain::id::{OutRefundNo, OutTradeNo, Scene, UnixMillis};
use shouyin::domain::money::Fen;
use shouyin::gateway::explain::{self, Key, Keys, Kind};
use shouyin::gateway::keys::{PrivateKey, PublicKey, Secret};
use shouyin::gateway::wechat_oauth::WechatOauth;
use shouyin::gateway::{Call, Counterpart as _, Merchant, RefundTerms, Terms, Visit, alipay, wechat_v2, xml};
use shouyin::server::json;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const API_KEY: &str = "192006250b4c09247ec02edce69f6a2d";
const WECHAT: (&str, &str) = ("wxd930ea5d5a258f4f", "10000100");
const ALIPAY: (&str, &str) = ("2014072300007148", "2088102146225135");

/// What reads.
pub type Target = fn(&[u8]);

/// All of them: name, how many times the input is read, and what reads it.
pub const TARGETS: &[(&str, u32, Target)] = &[
    ("xml", 1, |data| drop(xml::read(data, "xml"))),
    ("form", 1, |data| drop(alipay::identify(data))),
    ("json", 1, |data| drop(json::parse::<Value>(data))),
    ("wechat_notice", 2, |data| {
        drop(wechat_v2::identify(data));
        drop(wechat().decode_notice(&notice(data), NOW));
    }),
    ("wechat_answer", 6, |data| answers(wechat(), data)),
    ("alipay_notice", 1, |data| drop(ali().decode_notice(&notice(data), NOW))),
    ("alipay_answer", 6, |data| answers(ali(), data)),
    ("wechat_call", 4, |data| {
        for path in ["/pay/unifiedorder", "/pay/orderquery", "/secapi/pay/refund", "/pay/refundquery"] {
            let request = Request::post(path).body(Bytes::copy_from_slice(data));
            drop(wechat_gateway().decode_call(&request.expect("a path"), NOW));
        }
    }),
    ("alipay_call", 2, |data| {
        let request = Request::post("/gateway.do?charset=utf-8").body(Bytes::copy_from_slice(data));
        drop(ali_gateway().decode_call(&request.expect("a path"), NOW));
        drop(ali_gateway().decode_order_string(&String::from_utf8_lossy(data), NOW));
    }),
    ("oauth_answer", 1, |data| {
        let _ = WechatOauth::read(&Response::new(Bytes::copy_from_slice(data)));
    }),
    ("public_key", 1, |data| drop(PublicKey::read(&String::from_utf8_lossy(data)))),
    ("private_key", 1, |data| drop(PrivateKey::read(&String::from_utf8_lossy(data)))),
    ("explain", 1, |data| drop(explain::explain(data, &KEYS, None, NOW).map(|told| told.to_string()))),
];

/// Runs one.
pub fn run(name: &str, data: &[u8]) {
    let (.., target) = TARGETS.iter().find(|(target, ..)| *target == name).expect("a target");
    target(data);
}

/// Right messages for a target: those of other people's code (`src/gateway/vectors`).
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let files = [
        include_str!("../src/gateway/vectors/node.json"),
        include_str!("../src/gateway/vectors/python.json"),
    ];
    let files = files.map(|file| serde_json::from_str::<Value>(file).expect("vectors"));
    let bodies = |lists: &[&str]| {
        let all = files.iter().flat_map(|file| lists.iter().filter_map(|list| file[*list].as_array()));
        let texts = all.flatten().filter_map(|vector| {
            let text = |name: &str| vector[name].as_str().filter(|text| !text.is_empty());
            text("body").or(text("text")).or_else(|| text("url")?.split('?').nth(1))
        });
        texts.map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>()
    };
    let orders = || {
        let mut orders = vec![
            br#"{"order_type":"Order","order_number":"1","title":"\u8336 \"a\"","total_fee":1,"x":[-1,1e9,null,true]}"#
                .to_vec(),
        ];
        orders.push(br#"{"a":{"b":{"c":[{}]}},"d":""}"#.to_vec());
        orders
    };
    match name {
        "xml" | "wechat_call" => bodies(&["wechat_requests", "wechat_refund_requests", "wechat_notices"]),
        "wechat_notice" => bodies(&["wechat_notices", "wechat_refund_notices"]),
        "wechat_answer" => bodies(&["wechat_refund_replies", "wechat_notices"]),
        "form" | "alipay_notice" => bodies(&["alipay_notices"]),
        "alipay_call" => bodies(&["alipay_requests", "alipay_refund_requests", "order_strings"]),
        "alipay_answer" => bodies(&["alipay_replies", "alipay_refund_replies"]),
        "json" => orders(),
        "oauth_answer" => vec![
            br#"{"access_token":"a","expires_in":7200,"openid":"o1","scope":"snsapi_base","is_snapshotuser":1}"#
                .to_vec(),
            br#"{"errcode":40029,"errmsg":"invalid code, rid: 1"}"#.to_vec(),
        ],
        "public_key" => vec![
            include_bytes!("../src/gateway/vectors/keys/app.spki.pem").to_vec(),
            include_bytes!("../src/gateway/vectors/keys/app.pkcs1.pub.pem").to_vec(),
            include_bytes!("../src/gateway/vectors/keys/app.crt.pem").to_vec(),
            include_bytes!("../src/gateway/vectors/keys/ec.spki.pem").to_vec(),
        ],
        "private_key" => vec![
            include_bytes!("../src/gateway/vectors/keys/app.pkcs8.pem").to_vec(),
            include_bytes!("../src/gateway/vectors/keys/app.pkcs1.pem").to_vec(),
            include_bytes!("../src/gateway/vectors/keys/app.encrypted.pem").to_vec(),
        ],
        _ => {
            let mut all = bodies(&["wechat_notices", "alipay_notices", "alipay_replies", "order_strings"]);
            let pasted = "POST /pay/orderquery HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n<xml></xml>";
            all.push(pasted.as_bytes().to_vec());
            all
        }
    }
}

fn notice(data: &[u8]) -> Request<Bytes> {
    Request::new(Bytes::copy_from_slice(data))
}

/// The same bytes as the answer to every call.
fn answers(half: &dyn Merchant, data: &[u8]) {
    for call in CALLS.iter() {
        drop(half.decode_reply(call, &Response::new(Bytes::copy_from_slice(data)), NOW));
    }
}

static CALLS: LazyLock<Vec<Call>> = LazyLock::new(|| {
    let out_trade_no = OutTradeNo::new("T20260601_1").expect("a number");
    let out_refund_no = OutRefundNo::new("T20260601_1_r1").expect("a number");
    let terms = |scene| Terms {
        scene,
        title: "茶".to_owned(),
        total: Fen::new(1110).expect("an amount"),
        notify_url: "https://pay.example.com/notify".to_owned(),
        time_expire: NOW,
        client_ip: "203.0.113.7".to_owned(),
        visit: Visit::default(),
    };
    let refund = RefundTerms {
        out_refund_no: out_refund_no.clone(),
        total: Fen::new(1110).expect("an amount"),
        amount: Fen::new(110).expect("an amount"),
        reason: None,
        notify_url: String::new(),
    };
    vec![
        Call::Create { out_trade_no: out_trade_no.clone(), terms: terms(Scene::Native) },
        Call::Create { out_trade_no: out_trade_no.clone(), terms: terms(Scene::QrCode) },
        Call::Query { out_trade_no: out_trade_no.clone() },
        Call::Close { out_trade_no: out_trade_no.clone() },
        Call::Refund { out_trade_no: out_trade_no.clone(), refund },
        Call::RefundQuery { out_trade_no, out_refund_no },
    ]
});

static APP: LazyLock<PrivateKey> = LazyLock::new(|| {
    PrivateKey::read(include_str!("../src/gateway/vectors/keys/app.pkcs8.pem")).expect("a key")
});
static THEIRS: LazyLock<PrivateKey> = LazyLock::new(|| {
    PrivateKey::read(include_str!("../src/gateway/vectors/keys/alipay.pkcs8.pem")).expect("a key")
});

fn wechat() -> &'static wechat_v2::WechatV2 {
    static HALF: LazyLock<wechat_v2::WechatV2> = LazyLock::new(|| {
        wechat_v2::WechatV2::new(wechat_v2::Config {
            app_id: WECHAT.0.to_owned(),
            mch_id: WECHAT.1.to_owned(),
            key: Secret::new(API_KEY),
            sign_type: wechat_v2::SignType::Md5,
            base_url: "http://127.0.0.1".to_owned(),
        })
    });
    &HALF
}

fn wechat_gateway() -> wechat_v2::WechatV2Gateway {
    wechat_v2::WechatV2Gateway::new(wechat_v2::GatewayConfig {
        app_id: WECHAT.0.to_owned(),
        mch_id: WECHAT.1.to_owned(),
        key: Secret::new(API_KEY),
    })
}

fn ali() -> &'static alipay::Alipay {
    static HALF: LazyLock<alipay::Alipay> = LazyLock::new(|| {
        alipay::Alipay::new(alipay::Config {
            app_id: ALIPAY.0.to_owned(),
            seller_id: ALIPAY.1.to_owned(),
            gateway_url: "http://127.0.0.1/gateway.do".to_owned(),
            app_key: APP.clone(),
            alipay_key: THEIRS.public().clone(),
        })
    });
    &HALF
}

fn ali_gateway() -> alipay::AlipayGateway {
    alipay::AlipayGateway::new(alipay::GatewayConfig {
        app_id: ALIPAY.0.to_owned(),
        seller_id: ALIPAY.1.to_owned(),
        app_key: APP.public().clone(),
        alipay_key: THEIRS.clone(),
    })
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let key = |name: &str, (app, merchant): (&str, &str), kind| Key {
        name: name.to_owned(),
        account: Some((app.to_owned(), merchant.to_owned())),
        kind,
    };
    let v2 = Kind::ApiV2(Secret::new(API_KEY), Some(wechat_v2::SignType::Md5));
    Keys(vec![
        key("v2", WECHAT, v2),
        key("app", ALIPAY, Kind::App(APP.clone())),
        key("alipay", ALIPAY, Kind::Alipay(THEIRS.public().clone())),
    ])
});
