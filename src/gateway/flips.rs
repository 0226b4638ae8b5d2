//! One bit of a notice turned over, each of them once: it is refused, or it says exactly the same (white
//! space between elements, `%2f` for `%2F`). Never believes more than was signed.

use std::collections::BTreeMap;
use std::thread;

use bytes::Bytes;

use super::keys::Secret;
use super::testing::{NOW, alipay_key, app_key, paid_trade, request, stamp};
use super::{Counterpart, Merchant, alipay, wechat_v2, xml};
use crate::domain::id::Scene;

/// The fields that a body holds, read without looking at their signature.
type Read = fn(&[u8]) -> Option<BTreeMap<String, String>>;

/// Text that brings a notice to about 4 KiB, with everything in it that an encoding may trip over.
fn long() -> String {
    "茶 + 100% & <杯> \"a\" 'b' /=~ ]]> 😀 ".repeat(60)
}

fn of_xml(body: &[u8]) -> Option<BTreeMap<String, String>> {
    let mut fields = xml::read(body, "xml").ok()?;
    // An empty element is no field: nothing reads it and nothing signs it.
    fields.retain(|_, value| !value.is_empty());
    Some(fields)
}

/// Another reader of forms than the one that is tested.
fn of_form(body: &[u8]) -> Option<BTreeMap<String, String>> {
    let body = std::str::from_utf8(body).ok()?;
    let params = url::form_urlencoded::parse(body.as_bytes()).into_owned();
    let mut params: BTreeMap<String, String> = params.collect();
    params.retain(|_, value| !value.is_empty());
    Some(params)
}

/// Turns every bit of `body` over: how many were refused, and how many said the same.
fn flip(half: &dyn Merchant, body: &Bytes, read: Read) -> (usize, usize) {
    let right = half.decode_notice(&request(body.clone()), NOW).unwrap();
    let fields = read(body).unwrap();
    let part = |from: usize, to: usize| {
        let (mut refused, mut same) = (0, 0);
        let mut flipped = body.to_vec();
        for at in from..to {
            for bit in 0..8 {
                flipped[at] ^= 1 << bit;
                match half.decode_notice(&request(flipped.clone()), NOW) {
                    Err(_) => refused += 1,
                    Ok(told) => {
                        let text = String::from_utf8_lossy(&flipped[at.saturating_sub(20)..]).into_owned();
                        assert_eq!(told, right, "byte {at}, bit {bit}: {text:.60}");
                        assert_eq!(
                            read(&flipped).as_ref(),
                            Some(&fields),
                            "byte {at}, bit {bit}: {text:.60}"
                        );
                        same += 1;
                    }
                }
                flipped[at] ^= 1 << bit;
            }
        }
        (refused, same)
    };
    thread::scope(|scope| {
        let (part, middle) = (&part, body.len() / 2);
        let first = scope.spawn(move || part(0, middle));
        let (refused, same) = part(middle, body.len());
        let first = first.join().unwrap();
        (refused + first.0, same + first.1)
    })
}

fn print(what: &str, body: &Bytes, (refused, same): (usize, usize)) {
    println!("{what}: {} bytes, {refused} bits refused, {same} said the same", body.len());
    assert_eq!(refused + same, body.len() * 8);
    assert!(body.len() > 3500, "{}", body.len());
}

#[test]
fn no_bit_of_a_wechat_notice_is_free() {
    let (app_id, mch_id) = ("wxd930ea5d5a258f4f", "10000100");
    let key = || Secret::new("192006250b4c09247ec02edce69f6a2d");
    for sign_type in wechat_v2::SignType::ALL.iter().copied() {
        let half = wechat_v2::WechatV2::new(wechat_v2::Config {
            app_id: app_id.to_owned(),
            mch_id: mch_id.to_owned(),
            key: key(),
            sign_type,
            base_url: "http://127.0.0.1".to_owned(),
        });
        let gateway = wechat_v2::WechatV2Gateway::new(wechat_v2::GatewayConfig {
            app_id: app_id.to_owned(),
            mch_id: mch_id.to_owned(),
            key: key(),
        });
        let trade = paid_trade(Scene::Native, &[("sign_type", sign_type.as_str()), ("attach", &long())]);
        let notice = gateway.encode_notice(&trade, "http://127.0.0.1/notice", "1", &stamp());
        // White space between elements is what WeChat really sends.
        let text = String::from_utf8(notice.into_body().to_vec()).unwrap();
        let spaced = Bytes::from(text.replace("><", ">\n<"));
        let counts = flip(&half, &spaced, of_xml);
        print(&format!("WeChat v2, {sign_type}"), &spaced, counts);
        assert!(counts.1 > 0, "white space is layout");
    }
}

#[test]
fn no_bit_of_an_alipay_notice_is_free() {
    let (app_id, seller_id) = ("2014072300007148", "2088102146225135");
    let half = alipay::Alipay::new(alipay::Config {
        app_id: app_id.to_owned(),
        seller_id: seller_id.to_owned(),
        gateway_url: "http://127.0.0.1/gateway.do".to_owned(),
        app_key: app_key(),
        alipay_key: alipay_key().public().clone(),
    });
    let gateway = alipay::AlipayGateway::new(alipay::GatewayConfig {
        app_id: app_id.to_owned(),
        seller_id: seller_id.to_owned(),
        app_key: app_key().public().clone(),
        alipay_key: alipay_key(),
    });
    let body: String = long().chars().take(1030).collect();
    let trade = paid_trade(Scene::QrCode, &[("body", &body)]);
    let notice = gateway.encode_notice(&trade, "http://127.0.0.1/notice", "1", &stamp()).into_body();
    let counts = flip(&half, &notice, of_form);
    print("Alipay", &notice, counts);
    assert!(counts.1 > 0, "the case of a percent-encoding means nothing");
}
