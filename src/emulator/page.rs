//! The frame of the emulator's and the mall's pages: one stylesheet with the checkout, no scripts needed.
//! Never lets text become markup: pages are Leptos views, which escape what they are given.

use axum::response::{Html, IntoResponse};
use http::{HeaderMap, HeaderValue, header};
use leptos::prelude::*;

/// Everything of a page but its content.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Of the whole page.
    pub language: Language,
    /// In the tab.
    pub title: &'static str,
    /// Of the body, for the stylesheet.
    pub class: &'static str,
    /// Where `style.css` lies: `/` or `/mall/`.
    pub root: &'static str,
    /// A script beside the stylesheet that keeps the page fresh; without scripts it reloads itself.
    pub script: Option<&'static str>,
}

impl Frame {
    /// A page of the emulator without a script.
    pub const fn new(language: Language, title: &'static str) -> Self {
        Self { language, title, class: "emulator", root: "/", script: None }
    }

    /// The whole page.
    pub fn render(self, content: impl IntoView) -> Html<String> {
        let live = self.script.map(|file| {
            view! {
                <script src=format!("{}{file}", self.root) defer></script>
                <noscript><meta http-equiv="refresh" content="5" /></noscript>
            }
        });
        let view = view! {
            <html lang=self.language.tag()>
                <head>
                    <meta charset="utf-8" />
                    <meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover" />
                    <meta name="color-scheme" content="light dark" />
                    <title>{self.title}</title>
                    <link rel="icon" href="data:," />
                    <link rel="stylesheet" href=format!("{}style.css", self.root) />
                    {live}
                </head>
                <body class=self.class>{content.into_view()}</body>
            </html>
        };
        Html(format!("<!DOCTYPE html>{}", view.to_html()))
    }
}

/// The gateways' own front page.
pub fn about(language: Language, control_url: &str) -> Html<String> {
    let title = language.pick("支付网关模拟器", "Both gateways, emulated");
    let content = view! {
        <main class="card wide">
            <h1>{title}</h1>
            <p>
                {language.pick(
                    "这里是微信支付与支付宝的模拟网关，只接受签名正确的请求，不涉及真实资金。",
                    "WeChat Pay and Alipay, emulated: strict about signatures, no real money.",
                )}
            </p>
            <p>
                {language.pick("手机与账本：", "Phone and ledger: ")}
                <a href=control_url.to_owned()>{control_url.to_owned()}</a>
            </p>
        </main>
    };
    Frame::new(language, title).render(content)
}

/// Chinese first, English for who asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// zh-CN.
    Chinese,
    /// en.
    English,
}

impl Language {
    /// From `Accept-Language`: English only if its first choice is English.
    pub fn of(headers: &HeaderMap) -> Self {
        let wanted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        if wanted.is_some_and(|tags| tags.trim_start().to_ascii_lowercase().starts_with("en")) {
            Self::English
        } else {
            Self::Chinese
        }
    }

    /// The text in this language.
    pub const fn pick(self, chinese: &'static str, english: &'static str) -> &'static str {
        match self {
            Self::Chinese => chinese,
            Self::English => english,
        }
    }

    const fn tag(self) -> &'static str {
        self.pick("zh-CN", "en")
    }
}

/// Adds the headers every page has: nothing foreign runs, frames it or is loaded by it.
pub fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// The stylesheet of all pages.
pub async fn style() -> impl IntoResponse {
    let headers =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=60")];
    (headers, concat!(include_str!("../../style/main.css"), include_str!("../../style/demo.css")))
}

/// What such a page may do.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
