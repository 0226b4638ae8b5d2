//! Numbers and codes in the gateways' shapes, drawn at random.
//! Never decides anything: `trades` and `refunds` say when a number is wanted.

use crate::domain::id::{Channel, Scene, TransactionId, UnixMillis};
use crate::domain::order::Code;
use crate::domain::time;
use crate::runtime::random::{self, NoRandomness};

/// Shapes of gateways.md 1.2 and 4.6. `base_url` is the emulator's own: where WeChat's page for phones is.
pub(super) fn draw_code(scene: Scene, base_url: &str, now: UnixMillis) -> Result<Code, NoRandomness> {
    if scene.channel() == Channel::Ali {
        let content = format!("https://qr.alipay.com/bax{}", random::base62(21)?.to_ascii_lowercase());
        return Ok(Code { content, prepay_id: None, until: None });
    }
    let prepay_id = format!("wx{}{}0000", time::compact(now), hex::encode(random::bytes::<8>()?));
    let content = match scene {
        Scene::Jsapi => prepay_id.clone(),
        Scene::Mweb => {
            let package = random::base62(10)?;
            format!("{base_url}/cgi-bin/mmpayweb-bin/checkmweb?prepay_id={prepay_id}&package={package}")
        }
        Scene::Native | Scene::QrCode | Scene::App | Scene::Wap | Scene::Page => {
            format!("weixin://wxpay/bizpayurl?pr={}", random::base62(7)?)
        }
    };
    Ok(Code { content, prepay_id: Some(prepay_id), until: None })
}

/// 28 digits at either gateway, led by the day.
pub(super) fn draw_transaction_id(channel: Channel, now: UnixMillis) -> Result<TransactionId, NoRandomness> {
    let compact = time::compact(now);
    let day = compact.get(..8).unwrap_or_default();
    let text = match channel {
        Channel::Wx => format!("42000000{day}{}", digits(12)?),
        Channel::Ali => format!("{day}2200{}", digits(16)?),
    };
    TransactionId::new(text).map_err(|_| NoRandomness)
}

/// A refund's number at the gateway (gateways.md 1.5: at most 32 characters).
pub(super) fn refund_id(now: UnixMillis) -> Result<String, NoRandomness> {
    let compact = time::compact(now);
    Ok(format!("503000{}{}", compact.get(..8).unwrap_or_default(), digits(15)?))
}

/// A notice's number, the same over all its deliveries.
pub(super) fn delivery_id(now: UnixMillis) -> Result<String, NoRandomness> {
    let compact = time::compact(now);
    Ok(format!("{}{}", compact.get(..8).unwrap_or_default(), hex::encode(random::bytes::<13>()?)))
}

/// `len` random decimal digits.
pub(super) fn digits(len: usize) -> Result<String, NoRandomness> {
    let mut text = String::with_capacity(len);
    while text.len() < len {
        // 250 = 25 * 10: the rest would favour the small digits.
        let fresh = random::bytes::<32>()?.into_iter().filter(|byte| *byte < 250);
        text.extend(fresh.map(|byte| char::from(b'0' + byte % 10)).take(len - text.len()));
    }
    Ok(text)
}
