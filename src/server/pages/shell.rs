//! The checkout page as HTML: head, scripts with a nonce, and everything on it that never changes. What
//! changes is the island's, `ui::card`. Never loads anything; never sets an inline style or handler.

use std::sync::Arc;

use axum::response::{Html, IntoResponse as _, Response};
use http::{HeaderValue, header};
use hydration_context::SsrSharedContext;
use leptos::children::ToChildren;
use leptos::prelude::*;

use super::around::{around, icon, returning};
use super::look::Look;
use super::pay::address;
use crate::domain::id::Channel;
use crate::runtime::random;
use crate::server::assets;
use crate::server::error::{ApiError, Kind};
use crate::ui::card::{CheckoutCard, CheckoutCardProps};
use crate::ui::countdown::urgency;
use crate::ui::i18n::{Label, Locale, Text, fill};
use crate::ui::method::{method_switch, shown_way, way_input};
use crate::ui::view::{CheckoutView, CodeState, Device, Packed, PageState, Way, of_channel, tail};

/// Seconds until a page without script loads itself anew: while payable, while its code is awaited, and
/// while money goes back.
const REFRESH_S: (u8, u8, u8) = (5, 2, 30);

/// What the page loads, and the nonce that lets it.
pub struct Assets {
    /// Of this response only.
    pub nonce: String,
    /// The addresses of style, loader, bindings and wasm; absent in a binary built without the site.
    pub style: Option<&'static str>,
    loader: Option<(&'static str, &'static str, &'static str)>,
}

impl Assets {
    /// For pages that have none.
    pub(super) fn without_islands(&self) -> Self {
        Self { nonce: self.nonce.clone(), style: self.style, loader: None }
    }
}

/// The parts of the document that differ between pages.
pub struct Document {
    /// Of the page.
    pub locale: Locale,
    /// Of the window.
    pub title: String,
    /// Of `<body>`.
    pub class: &'static str,
    /// Of `<html>`: what the stylesheet reads.
    pub marks: Vec<(&'static str, String)>,
    /// For pages without script: seconds, and where to.
    pub refresh: Option<String>,
    /// The page's `/status`, and the state that it shows: for the watchdog.
    pub watched: Option<(String, &'static str)>,
    /// A style and a script in the place of the islands, by their plain names.
    pub own: Option<(&'static str, &'static str)>,
}

/// A whole answer: the document that `draw` makes, with its headers and a nonce of its own.
pub fn page(draw: impl FnOnce(&Assets) -> String, locale: Locale, embed_origins: &[String]) -> Response {
    let Ok(nonce) = random::base62(22) else { return ApiError::new(Kind::Internal).into_response() };
    let loader = assets::url("loader.js").zip(assets::url("shouyin.js")).zip(assets::url("shouyin.wasm"));
    let assets = Assets {
        style: assets::url("main.css"),
        loader: loader.map(|((loader, js), wasm)| (loader, js, wasm)),
        nonce,
    };
    let policy = policy(&assets.nonce, embed_origins);
    let mut response = Html(draw(&assets)).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::CONTENT_LANGUAGE, locale.as_str()),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "strict-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin-allow-popups"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
        (header::HeaderName::from_static("x-robots-tag"), "noindex"),
    ] {
        // The configuration lets nothing into `embed_origins` that a header cannot hold.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

fn policy(nonce: &str, embed_origins: &[String]) -> String {
    let ancestors = if embed_origins.is_empty() { "'none'".to_owned() } else { embed_origins.join(" ") };
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}' 'strict-dynamic' 'wasm-unsafe-eval'; \
         style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; connect-src 'self'; font-src 'self'; \
         form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors {ancestors}"
    )
}

/// Draws the checkout page.
pub fn checkout(view: &CheckoutView) -> impl FnOnce(&Assets) -> String + use<'_> {
    move |assets| {
        let card = &view.card;
        let state = shown(view);
        let code = card.live.code.as_ref().map_or(CodeState::Waiting, |code| code.state);
        let left = card.live.remaining_ms.map(|ms| ms / 1_000);
        let over = card.live.state.is_over();
        // Asking "has it changed?" makes no sense while there is no code yet: then the page reloads.
        let watched = if code == CodeState::Waiting { "" } else { card.live.state.as_str() };
        let document = Document {
            locale: card.locale,
            title: card.window_title(state),
            class: "checkout",
            marks: vec![
                ("data-state", state.as_str().to_owned()),
                ("data-version", card.live.version.to_string()),
                ("data-channel", card.channel.as_str().to_owned()),
                ("data-code", code.as_str().to_owned()),
                (of_channel(card.channel), code.as_str().to_owned()),
                ("data-left", urgency(left).to_owned()),
                ("data-device", view.device.as_str().to_owned()),
            ],
            refresh: (!card.live.is_over()).then(|| refresh(view, code)),
            watched: (!over).then(|| (format!("{}/status", card.path()), watched)),
            own: None,
        };
        render(&document, assets, || (body(view), around(view, assets)).to_html())
    }
}

/// Draws the page that is shown when an order cannot be: `gone`, or not right now.
pub fn trouble(locale: Locale, gone: bool, assets: &Assets) -> String {
    let (title, means) = if gone {
        (Label::UnknownTitle, Label::UnknownMeans)
    } else {
        (Label::BrokenTitle, Label::BrokenMeans)
    };
    let document = Document {
        locale,
        title: locale.label(title).to_owned(),
        class: "checkout",
        marks: Vec::new(),
        refresh: (!gone).then(|| REFRESH_S.0.to_string()),
        watched: None,
        own: None,
    };
    render(&document, &assets.without_islands(), || {
        view! {
            <main class="card">
                <div class="result">
                    <h1>{locale.label(title)}</h1>
                    <p>{locale.label(means)}</p>
                </div>
            </main>
        }
        .to_html()
    })
}

/// What the island will show: `confirming` while the answer to "I have paid" is awaited.
fn shown(view: &CheckoutView) -> PageState {
    if view.card.asked { PageState::Confirming } else { view.card.live.state }
}

/// The refresh of a page without script keeps method and language, and counts how long it confirms.
fn refresh(view: &CheckoutView, code: CodeState) -> String {
    let seconds = match code {
        _ if view.card.live.state.is_over() => REFRESH_S.2,
        CodeState::Waiting => REFRESH_S.1,
        CodeState::Ready
        | CodeState::Unavailable
        | CodeState::Refused
        | CodeState::Elsewhere
        | CodeState::Over => REFRESH_S.0,
    };
    let asked = if view.card.asked { view.asked.saturating_add(1) } else { 0 };
    let address = address(&view.card.page, Look { asked, ..wished(view) });
    format!("{seconds};url={address}")
}

/// What keeps the page as it is shown, in addresses.
fn wished(view: &CheckoutView) -> Look {
    let way = view.card.live.code.as_ref().map(|code| code.way);
    let way = way.filter(|_| view.card.live.state.is_payable());
    Look { lang: Some(view.card.locale), channel: Some(view.channel), way, asked: 0 }
}

/// The document around a body. Escaping is Leptos's; only the tags of the frame are written here.
pub fn render(document: &Document, assets: &Assets, body: impl FnOnce() -> String) -> String {
    let (head, body) = drawn(|| (head(document, assets).to_html(), body()));
    let mut html = format!("<!DOCTYPE html><html lang=\"{}\"", document.locale.as_str());
    for (name, word) in &document.marks {
        html.extend([" ", name, "=\"", word, "\""]);
    }
    html.extend(["><head>", &head, "</head><body class=\"", document.class, "\">", &body, "</body></html>"]);
    html
}

/// Draws views: whatever signals they make end with it.
pub fn drawn<T>(draw: impl FnOnce() -> T) -> T {
    Owner::new_root(Some(Arc::new(SsrSharedContext::new_islands()))).with(draw)
}

fn head(document: &Document, assets: &Assets) -> impl IntoView + use<> {
    let nonce = assets.nonce.clone();
    let refresh = document.refresh.clone().map(|content| {
        view! {
            <noscript>
                <meta http-equiv="refresh" content=content />
            </noscript>
        }
    });
    let style = assets.style.map(|style| view! { <link rel="stylesheet" href=style /> });
    let own = document.own.map(|(style, script)| {
        let style = assets::url(style).map(|style| view! { <link rel="stylesheet" href=style /> });
        let nonce = nonce.clone();
        let script =
            assets::url(script).map(|script| view! { <script defer src=script nonce=nonce></script> });
        (style, script)
    });
    let islands = own.is_none() && (document.watched.is_some() || !document.marks.is_empty());
    let loader = assets.loader.filter(|_| islands);
    let loader = loader.map(|(loader, js, wasm)| {
        let (first, second) = (nonce.clone(), nonce.clone());
        view! {
            <link rel="modulepreload" href=js nonce=first />
            <link rel="preload" href=wasm r#as="fetch" r#type="application/wasm" crossorigin="anonymous" />
            <script type="module" src=loader data-js=js data-wasm=wasm nonce=second></script>
        }
    });
    let watchdog = document.watched.clone().map(|(status, state)| {
        view! { <script nonce=nonce data-status=status data-state=state inner_html=WATCHDOG></script> }
    });
    let state = document.marks.iter().find(|(name, _)| *name == "data-state");
    let state = state.and_then(|(_, word)| word.parse().ok());
    view! {
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover" />
        <meta name="color-scheme" content="light dark" />
        <meta name="robots" content="noindex" />
        <title>{document.title.clone()}</title>
        {refresh}
        {style}
        {icon(state)}
        {own}
        {loader}
        {watchdog}
    }
}

/// For browsers with script whose islands do not wake (no wasm, too old, blocked): from the fourth
/// second on it asks for the state and loads the page anew when that has changed. Old syntax on purpose.
const WATCHDOG: &str = "(function(){var d=document,s=d.currentScript;if(!s)return;\
var u=s.getAttribute('data-status'),o=s.getAttribute('data-state');\
function again(){setTimeout(ask,1500)}\
function ask(){if(d.documentElement.hasAttribute('data-awake'))return;if(!o)return location.reload();\
var x=new XMLHttpRequest();x.open('GET',u);x.onerror=again;x.onload=function(){var n;\
try{n=JSON.parse(x.responseText).data.state}catch(e){}\
if(n&&n!==o)location.reload();else again()};x.send()}\
setTimeout(ask,4000)})()";

fn body(view: &CheckoutView) -> impl IntoView + use<> {
    let card = &view.card;
    let locale = card.locale;
    let other = locale.other();
    let language = address(&card.page, Look { lang: Some(other), ..wished(view) });
    let island = CheckoutCardProps::builder()
        .card(Packed::of(card))
        .children(ToChildren::to_children({
            let (summary, methods, actions) =
                (summary(view).into_any(), method_switch(view).into_any(), actions(view).into_any());
            move || (summary, methods, actions)
        }))
        .build();
    let support = view.support.clone().map(|support| view! { <span class="support">{support}</span> });
    view! {
        <main class="card">
            <p class="banner while-offline">{locale.say(Text::Offline)}</p>
            <header class="top">
                <h1 class="payee">{view.payee.clone()}</h1>
                <nav class="languages">
                    <a href=language lang=other.as_str() hreflang=other.as_str()>
                        {locale.label(Label::OtherLanguage)}
                    </a>
                </nav>
            </header>
            <div class="columns">{CheckoutCard(island)}</div>
            <footer class="foot">
                <span>{fill(locale.label(Label::Support), tail(&card.order_number))}</span>
                {support}
                <span>{locale.label(Label::LastKnown)}</span>
            </footer>
        </main>
    }
}

/// How much, for what.
fn summary(view: &CheckoutView) -> impl IntoView + use<> {
    let card = &view.card;
    let locale = card.locale;
    view! {
        <div class="summary">
            <p class="due">
                <span class="while-open">{locale.label(Label::AmountDue)}</span>
                <span class="while-over">{locale.label(Label::Amount)}</span>
            </p>
            <p class="amount">
                <span aria-hidden="true">
                    <small>"¥"</small>
                    {card.amount.clone()}
                </span>
                <span class="spoken">{fill(locale.label(Label::SpokenAmount), &card.amount)}</span>
            </p>
            <p class="title">{view.title.clone()}</p>
            <p class="order second">
                <span>{locale.label(Label::OrderNumber)} " " <b>{card.order_number.clone()}</b></span>
                <button
                    class="copy while-awake"
                    type="button"
                    data-copy=card.order_number.clone()
                    aria-label=locale.label(Label::CopyOrderNumber)
                >
                    {locale.label(Label::Copy)}
                </button>
                <span class="while-copied" aria-hidden="true">
                    {locale.say(Text::Copied)}
                </span>
            </p>
        </div>
    }
}

/// What else can be done: each a form or a link that works by itself.
fn actions(view: &CheckoutView) -> impl IntoView + use<> {
    let card = &view.card;
    let locale = card.locale;
    let form = |what: &'static str, class: &'static str, label: Label| {
        view! {
            <form method="post" action=card.path() class=class data-do=what>
                <input type="hidden" name="do" value=what />
                <input type="hidden" name="channel" value=view.channel.as_str() />
                {way_input(shown_way(view))}
                <input type="hidden" name="lang" value=locale.as_str() />
                <button class="plain" type="submit">
                    {locale.label(label)}
                </button>
            </form>
        }
    };
    let hint = |class: &'static str, text: &'static str| view! { <p class=class>{text}</p> };
    let all = view.refunded.as_ref() == Some(&card.amount);
    let refunded = if all { Label::RefundedAll } else { Label::Refunded };
    let refund = |label: Label, yuan: &Option<String>| {
        yuan.as_ref().map(|yuan| view! { <p class="note">{fill(locale.label(label), yuan)}</p> })
    };
    let exit = match view.exit.clone() {
        // A page around this one is left, too.
        Some(exit) => view! {
            <a class="plain exit" href=exit target="_top">
                {locale.label(Label::Back)}
            </a>
        }
        .into_any(),
        None => hint("second", locale.label(Label::CloseTab)).into_any(),
    };
    view! {
        <div class="more">
            {ways(view)}
            {returning(view)}
            {refund(refunded, &view.refunded)}
            {refund(Label::Refunding, &view.refunding)}
            {hint("second while-expiring", locale.say(Text::OneMinuteLeft))}
            {hint("wait while-not-yet while-payable", locale.label(Label::NotYet))}
            <div class="actions">
                {form("refresh", "while-trouble while-payable", Label::NewCode)}
                {form("confirm", "while-open", Label::HavePaid)}
                {exit}
            </div>
        </div>
    }
}

/// The other ways to pay, of each method, and what helps where a wallet does not open.
fn ways(view: &CheckoutView) -> impl IntoView + use<> {
    let card = &view.card;
    let label = |label| card.locale.label(label);
    let here = card.live.code.as_ref().is_some_and(|code| code.way == Way::Here);
    // The page's own address for another browser: what a wallet will not open.
    let link = card.live.code.as_ref().filter(|code| code.state == CodeState::Elsewhere);
    let link = link.map(|_| {
        view! {
            <p class="second address">{view.address.clone()}</p>
            <button class="plain while-awake" type="button" data-copy=view.address.clone()>
                {label(Label::CopyLink)}
            </button>
        }
    });
    // The code for all stands in the switch.
    let others = view.ways.iter().filter(|(_, way)| *way != Way::Any).map(|&(channel, way)| {
        let class = match channel {
            Channel::Wx => "while-wx",
            Channel::Ali => "while-ali",
        };
        let text = match (way, view.device) {
            (Way::Scan, _) => Label::ScanInstead,
            (Way::Here, Device::Desktop) => Label::LogInInstead,
            (Way::Here | Way::Any, _) => Label::HereInstead,
        };
        let look = Look { lang: Some(card.locale), channel: Some(channel), way: Some(way), asked: 0 };
        view! {
            <a class=class href=address(&card.page, look)>
                {label(text)}
            </a>
        }
    });
    let scanned = view.device == Device::Phone || view.device == Device::InWechat;
    let on_phone = (scanned && !here).then(|| {
        view! { <p class="second while-payable while-ready">{label(Label::OnPhone)}</p> }
    });
    // No other phone, and no app that might be missing.
    let inside = view.device == Device::InAlipay;
    let stuck = label(if inside { Label::StuckInside } else { Label::Stuck });
    let stuck = here.then(|| view! { <p class="wait while-stuck while-payable">{stuck}</p> });
    view! {
        {link}
        {on_phone}
        {stuck}
        <nav class="ways while-payable">{others.collect_view()}</nav>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::view::{CardView, CodeView, Extra, LiveView};

    fn view(state: PageState) -> CheckoutView {
        let paid = matches!(state, PageState::Paid | PageState::PaidTwice);
        let code = if state.is_payable() {
            let content = "weixin://wxpay/bizpayurl?pr=NwY5Mz9&groupid=00".to_owned();
            CodeView { state: CodeState::Ready, content, remaining_ms: 60_000, way: Way::Scan }
        } else {
            CodeView::bare(CodeState::Over, Way::Scan)
        };
        let live = LiveView {
            state,
            version: 3,
            remaining_ms: state.is_payable().then_some(1_781_500),
            paid_at: paid.then(|| "2026-11-23 18:30:00".to_owned()),
            paid_with: paid.then_some(Channel::Wx),
            extra: Extra::None,
            code: Some(code),
        };
        CheckoutView {
            payee: "<b>Shop & Co</b>".to_owned(),
            support: Some("400-000-0000".to_owned()),
            title: "茶 \"</script><script>alert(1)</script>".repeat(8),
            exit: Some("https://mall.example/done?order_type=Order&order_number=12346".to_owned()),
            methods: Channel::ALL.to_vec(),
            channel: Channel::Wx,
            device: Device::Desktop,
            ways: vec![(Channel::Ali, Way::Here), (Channel::Wx, Way::Any)],
            address: "https://pay.example/pay/AbCdEfGhIjKlMnOpQrStUv?channel=wx".to_owned(),
            asked: 0,
            refunding: None,
            refunded: None,
            return_after_s: None,
            embed_origins: Vec::new(),
            card: CardView {
                page: "AbCdEfGhIjKlMnOpQrStUv".to_owned(),
                locale: Locale::Zh,
                order_number: "12346".to_owned(),
                amount: "12.34".to_owned(),
                channel: Channel::Wx,
                asked: false,
                live,
            },
        }
    }

    fn html(view: &CheckoutView) -> String {
        let assets =
            Assets { nonce: "NONCE".to_owned(), style: None, loader: Some(("/l.js", "/b.js", "/w.wasm")) };
        checkout(view)(&assets)
    }

    #[test]
    fn the_first_html_pays() {
        let html = html(&view(PageState::Pending));
        assert!(html.len() <= 30_000, "{} bytes", html.len());
        for part in [
            "<title>待支付 ¥12.34</title>",
            "aria-label=\"微信支付二维码，金额 12.34 元\"",
            "12.34 元",
            "12346",
            "name=\"channel\" value=\"ali\"",
            "我已支付，刷新结果",
            "content=\"5;url=/pay/AbCdEfGhIjKlMnOpQrStUv?channel=wx&amp;way=scan&amp;lang=zh-CN\"",
            "href=\"/pay/AbCdEfGhIjKlMnOpQrStUv?channel=ali&amp;way=here&amp;lang=zh-CN\"",
            "29:41",
            "order_number=12346",
            "400-000-0000",
            "&lt;b&gt;Shop &amp; Co&lt;/b&gt;",
        ] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
        assert!(!html.contains("支付成功"));
        assert!(!html.contains("<script>"), "every script has its nonce, and no text becomes one");
        assert_eq!(
            html.matches("<script").count(),
            html.matches("nonce=\"NONCE\"").count() - 1,
            "and the preload"
        );
        assert!(!html.contains("style=") && !html.contains("onclick"), "{html}");
    }

    #[test]
    fn what_is_over_says_so_and_stays() {
        for (state, says) in
            [(PageState::Paid, "支付成功"), (PageState::Expired, "已过期"), (PageState::Closed, "已关闭")]
        {
            let html = html(&view(state));
            assert!(html.contains(says), "{state}");
            assert!(!html.contains("http-equiv") && !html.contains("currentScript"), "{state}");
            assert!(html.contains("返回商家"), "{state}");
        }
    }

    #[test]
    fn what_goes_back_is_said() {
        let paid = CheckoutView { refunding: Some("5.00".to_owned()), ..view(PageState::Paid) };
        assert!(html(&paid).contains("正在退款 5.00 元"));
        let part = CheckoutView { refunded: Some("5.00".to_owned()), ..view(PageState::Paid) };
        assert!(html(&part).contains("已退款 5.00 元") && !html(&part).contains("正在退款"));
        let all = CheckoutView { refunded: Some("12.34".to_owned()), ..view(PageState::Paid) };
        assert!(html(&all).contains("已全额退款 12.34 元"));
        // Followed for as long as it is on its way.
        for (extra, says, refreshes) in [
            (Extra::Held, "商家会联系您", false),
            (Extra::Returning, "正在原路退回", true),
            (Extra::Returned, "已原路退回", false),
            (Extra::Stuck, "未能自动退回", false),
        ] {
            for state in [PageState::PaidLate, PageState::PaidTwice] {
                let mut view = view(state);
                view.card.live.extra = extra;
                let html = html(&view);
                assert!(html.contains(says), "{state} {extra}: {html}");
                assert_eq!(html.contains("http-equiv"), refreshes, "{state} {extra}");
            }
        }
    }

    #[test]
    fn a_way_back_by_itself_waits_for_script() {
        let mut view = CheckoutView { return_after_s: Some(8), ..view(PageState::Paid) };
        let back = "hidden data-return=\"8\" data-words=\"{} 秒后自动返回商家\"";
        assert!(html(&view).contains(back), "{}", html(&view));
        view.refunding = Some("5.00".to_owned());
        assert!(!html(&view).contains("data-return"), "what goes back is followed");
        (view.refunding, view.exit) = (None, None);
        assert!(!html(&view).contains("data-return"), "there is nowhere to go");
    }

    #[test]
    fn the_icon_tells_the_state() {
        for state in PageState::ALL {
            let icon = match state {
                PageState::Pending | PageState::Scanned | PageState::Expiring | PageState::Confirming => "",
                PageState::Paid | PageState::PaidTwice => "-paid",
                _ => "-attention",
            };
            let html = html(&view(*state));
            assert!(
                html.contains(&format!("<link rel=\"icon\" href=\"/favicon{icon}.svg\"")),
                "{state} {html}"
            );
            assert!(html.contains("data-paid=\"paid paid_twice\" data-attention=\"expired closed"), "{html}");
        }
    }

    #[test]
    fn confirming_counts_its_refreshes() {
        let mut view = view(PageState::Pending);
        (view.asked, view.card.asked) = (2, true);
        let html = html(&view);
        assert!(html.contains("正在确认支付结果") && html.contains("asked=3"), "{html}");
    }

    #[test]
    fn the_watchdog_is_small_and_its_policy_strict() {
        assert!(WATCHDOG.len() <= 1_000, "{}", WATCHDOG.len());
        let policy = policy("N", &["https://a.example".to_owned(), "https://b.example".to_owned()]);
        assert!(policy.ends_with("frame-ancestors https://a.example https://b.example"), "{policy}");
        assert!(!policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"));
    }
}
