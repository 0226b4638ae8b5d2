//! What the request says about how the page should look: language, method, device. Every word of it is
//! a wish, never a fact: what is not understood is left out.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, header};

use crate::domain::id::Channel;
use crate::ui::i18n::Locale;
use crate::ui::view::{Device, Way};

/// How often a page without script refreshes itself after "I have paid" before it shows the code again.
const ASKED_MAX: u8 = 3;

/// The wishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// `?lang=`.
    pub lang: Option<Locale>,
    /// `?channel=`.
    pub channel: Option<Channel>,
    /// `?way=`.
    pub way: Option<Way>,
    /// `?asked=`: how often the page has refreshed itself since "I have paid".
    pub asked: u8,
}

impl Look {
    /// From a query or a form, whose names are the same.
    pub fn of(query: &[u8]) -> Self {
        let mut look = Self::default();
        let mut any = false;
        for (name, value) in url::form_urlencoded::parse(query) {
            match &*name {
                "lang" => look.lang = value.parse().ok(),
                "channel" => {
                    any = value == Way::Any.as_str();
                    look.channel = value.parse().ok();
                }
                "way" => look.way = value.parse().ok(),
                // Beyond that the page shows again what it showed before.
                "asked" => look.asked = value.parse().ok().filter(|asked| *asked <= ASKED_MAX).unwrap_or(0),
                _ => {}
            }
        }
        // The switch offers the code for all methods beside them.
        look.way = if any { Some(Way::Any) } else { look.way };
        look
    }
}

/// The first language of the browser that we speak.
pub fn browser_locale(headers: &HeaderMap) -> Option<Locale> {
    let wanted = text(headers, &header::ACCEPT_LANGUAGE);
    wanted.split(',').find_map(|range| {
        let tag = range.trim().to_ascii_lowercase();
        if tag.starts_with("zh") {
            Some(Locale::Zh)
        } else if tag.starts_with("en") {
            Some(Locale::En)
        } else {
            None
        }
    })
}

/// What the page is seen with, as far as the browser says.
pub fn device(headers: &HeaderMap) -> Device {
    let agent = text(headers, &header::USER_AGENT).to_ascii_lowercase();
    let has = |word| agent.contains(word);
    if has("micromessenger") {
        Device::InWechat
    } else if has("alipayclient") {
        Device::InAlipay
    } else if has("ipad") || (has("android") && !has("mobile")) {
        Device::Tablet
    } else if has("mobile") || has("android") || has("iphone") {
        Device::Phone
    } else {
        Device::Desktop
    }
}

/// Whether somebody looks at the page who may pay: not a HEAD, a preview of a link in a chat, a
/// search engine, or a browser that loads ahead. Only then is an attempt placed.
pub fn is_shopper(method: &Method, headers: &HeaderMap) -> bool {
    let agent = text(headers, &header::USER_AGENT).to_ascii_lowercase();
    let ahead = ["sec-purpose", "purpose", "x-moz"].iter().any(|name| {
        let purpose = headers.get(*name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        ["prefetch", "preview", "prerender"].iter().any(|word| purpose.contains(word))
    });
    *method != Method::HEAD && !ahead && !PREVIEWERS.iter().any(|word| agent.contains(word))
}

/// What the user agents of link previews and search engines have in their names.
const PREVIEWERS: &[&str] = &[
    "bot",
    "crawl",
    "spider",
    "preview",
    "slurp",
    "facebookexternalhit",
    "whatsapp",
    "embedly",
    "mediapartners",
    "bingpreview",
    "wechat-link-preview",
];

/// The method that this device used last, as it was remembered.
pub fn remembered(headers: &HeaderMap, public_base_url: &str) -> Option<Channel> {
    cookie_value(headers, cookie_name(public_base_url))?.parse().ok()
}

/// The value of a cookie.
pub fn cookie_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// A cookie that remembers the method on this device, for a year. It says nothing about anybody.
pub fn cookie(channel: Channel, public_base_url: &str) -> Option<HeaderValue> {
    let name = cookie_name(public_base_url);
    let secure = if is_https(public_base_url) { "; Secure" } else { "" };
    format!("{name}={channel}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax{secure}").parse().ok()
}

/// Adds the cookie, if a method was chosen.
pub fn remember(mut response: Response, chosen: Option<Channel>, public_base_url: &str) -> Response {
    if let Some(value) = chosen.and_then(|channel| cookie(channel, public_base_url)) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

fn cookie_name(public_base_url: &str) -> &'static str {
    if is_https(public_base_url) { "__Host-shouyin_channel" } else { "shouyin_channel" }
}

/// Whether cookies can be kept to this host and to TLS.
pub fn is_https(public_base_url: &str) -> bool {
    public_base_url.starts_with("https://")
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn wishes() {
        let look = Look::of(b"channel=ali&lang=en&way=here&asked=2&state=paid");
        let (lang, channel, way) = (Some(Locale::En), Some(Channel::Ali), Some(Way::Here));
        assert_eq!(look, Look { lang, channel, way, asked: 2 });
        let any = Look { way: Some(Way::Any), ..Look::default() };
        assert_eq!(Look::of(b"channel=any&way=scan"), any);
        assert_eq!(Look::of(b"channel=visa&lang=xx&way=out&asked=-1"), Look::default());
    }

    #[test]
    fn languages() {
        for (wanted, locale) in [
            ("zh-CN,zh;q=0.9,en;q=0.8", Some(Locale::Zh)),
            ("fr, EN-gb;q=0.7, zh;q=0.1", Some(Locale::En)),
            ("fr", None),
            ("", None),
        ] {
            assert_eq!(browser_locale(&with("accept-language", wanted)), locale, "{wanted}");
        }
    }

    #[test]
    fn devices_and_previews() {
        let android = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36";
        let cases = [
            ("Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0 Safari/537.36", Device::Desktop, true),
            (android, Device::Phone, true),
            (&format!("{android} MicroMessenger/8.0.47"), Device::InWechat, true),
            (&format!("{android} AlipayClient/10.5.80"), Device::InAlipay, true),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148", Device::Phone, true),
            ("Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) Mobile/15E148", Device::Tablet, true),
            ("Mozilla/5.0 (Linux; Android 14; Pad) Chrome/130.0 Safari/537.36", Device::Tablet, true),
            ("Mozilla/5.0 (compatible; Googlebot/2.1)", Device::Desktop, false),
            ("facebookexternalhit/1.1", Device::Desktop, false),
            ("", Device::Desktop, true),
        ];
        for (agent, seen_with, shopper) in cases {
            let headers = with("user-agent", agent);
            assert_eq!(device(&headers), seen_with, "{agent}");
            assert_eq!(is_shopper(&Method::GET, &headers), shopper, "{agent}");
            assert!(!is_shopper(&Method::HEAD, &headers));
        }
        assert!(!is_shopper(&Method::GET, &with("sec-purpose", "prefetch;prerender")));
    }

    #[test]
    fn the_cookie_comes_back() {
        for (base, prefix) in [("https://pay.example", "__Host-"), ("http://127.0.0.1:3000", "shouyin")] {
            let cookie = cookie(Channel::Ali, base).unwrap();
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.starts_with(prefix) && cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
            assert_eq!(cookie.contains("Secure"), base.starts_with("https"), "{cookie}");
            let sent = cookie.split(';').next().unwrap();
            assert_eq!(remembered(&with("cookie", &format!("a=b; {sent}")), base), Some(Channel::Ali));
        }
        assert_eq!(remembered(&with("cookie", "shouyin_channel=visa"), "http://x"), None);
    }
}
