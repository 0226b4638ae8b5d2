//! The page inside WeChat as HTML: who is paid and how much, the call of the wallet as data for
//! `ui/bridge.js`, and the screens that stand there instead of it. No wasm: the browsers are old. Never shows
//! "paid": an order that is paid has its own page.

use leptos::prelude::*;
use serde_json::json;

use super::super::pay::exit;
use super::super::shell::{Assets, Document, render};
use crate::domain::id::Channel;
use crate::domain::order::Order;
use crate::gateway::wechat_v2::PayParams;
use crate::server::assets;
use crate::server::merchants::Member;
use crate::ui::i18n::{Label, Locale, Text, fill};
use crate::ui::view::{LiveView, page_path, tail};

/// Seconds until a page without script loads itself anew: while payable, and while the payment is prepared.
const REFRESH_S: (u8, u8) = (5, 2);

/// What stands on every screen.
pub struct Frame<'a> {
    pub order: &'a Order,
    pub member: &'a Member,
    /// The capability of the order's page.
    pub page: String,
    pub locale: Locale,
    /// The address of this page, with nothing of WeChat's in it.
    pub clean: String,
    /// The same in the other language.
    pub other: String,
    pub live: LiveView,
}

/// What calls the wallet.
pub struct WalletCall {
    pub params: PayParams,
    /// How long the call is good.
    pub life_ms: i64,
}

/// What is shown.
pub enum Screen {
    /// The wallet can be called.
    Pay(WalletCall),
    /// WeChat has not taken the order yet.
    Preparing,
    /// WeChat cannot be reached.
    Unavailable,
    /// WeChat said no; a code for support.
    Refused(String),
    /// This way to WeChat and back is over: used, too old, or somebody else's.
    Stale,
    /// Somebody looks at a preview.
    Preview,
}

/// Heading, meaning, a code for support, and where to go on, of a screen without the wallet.
struct Words {
    class: &'static str,
    icon: &'static str,
    heading: &'static str,
    text: String,
    button: Option<(Label, String)>,
}

/// Draws the page.
pub fn draw<'a>(frame: &'a Frame<'a>, screen: &'a Screen) -> impl FnOnce(&Assets) -> String + use<'a> {
    move |assets| {
        let locale = frame.locale;
        let words = words(frame, screen);
        let refresh = match screen {
            Screen::Pay(_) => Some(REFRESH_S.0),
            Screen::Preparing => Some(REFRESH_S.1),
            Screen::Unavailable | Screen::Refused(_) | Screen::Stale | Screen::Preview => None,
        };
        let document = Document {
            locale,
            title: format!("{} ¥{}", words.heading, frame.order.terms.total),
            class: "checkout",
            marks: vec![
                ("data-state", frame.live.state.as_str().to_owned()),
                ("data-channel", Channel::Wx.as_str().to_owned()),
                ("data-left", "none".to_owned()),
            ],
            refresh: refresh.map(|seconds| format!("{seconds};url={}", frame.clean)),
            watched: None,
            own: None,
        };
        let script = assets::url("bridge.js").map(|src| (src, assets.nonce.clone()));
        render(&document, &assets.without_islands(), || body(frame, screen, words, script).to_html())
    }
}

fn words(frame: &Frame<'_>, screen: &Screen) -> Words {
    let label = |label| frame.locale.label(label);
    let anew = || format!("{}&anew=1", frame.clean);
    let begin = |to| Some((Label::BeginAgain, to));
    match screen {
        Screen::Pay(_) => Words {
            class: "result",
            icon: "M13 17h22v15H13zM28 24h7",
            heading: frame.locale.say(Text::Pending),
            text: String::new(),
            button: None,
        },
        Screen::Preparing => Words {
            class: "result waiting",
            icon: "",
            heading: label(Label::Preparing),
            text: label(Label::PreparingMeans).to_owned(),
            button: None,
        },
        Screen::Unavailable => Words {
            class: "result bad",
            icon: MARK,
            heading: frame.locale.say(Text::WechatUnavailable),
            text: frame.locale.say(Text::UnavailableMeans).to_owned(),
            button: begin(frame.clean.clone()),
        },
        Screen::Refused(code) => Words {
            class: "result bad",
            icon: MARK,
            heading: frame.locale.say(Text::WechatUnavailable),
            text: [frame.locale.say(Text::RefusedMeans), "\n", &frame.locale.fill(Text::SupportCode, code)]
                .concat(),
            button: begin(anew()),
        },
        Screen::Stale => Words {
            class: "result",
            icon: "M24 14v11l7 5",
            heading: label(Label::Stale),
            text: label(Label::StaleMeans).to_owned(),
            button: begin(frame.clean.clone()),
        },
        Screen::Preview => Words {
            class: "result wait",
            icon: "M10 24q14-16 28 0q-14 16-28 0M24 23v2",
            heading: label(Label::Preview),
            text: label(Label::PreviewMeans).to_owned(),
            button: Some((Label::GoOn, frame.clean.clone())),
        },
    }
}

/// An exclamation mark.
const MARK: &str = "M24 14v12M24 32v1";

/// What the script says in each state: heading and meaning.
fn spoken(locale: Locale) -> String {
    let label = |label| locale.label(label);
    json!({
        "busy": [label(Label::Opening), label(Label::OpeningMeans)],
        "confirming": [locale.say(Text::Confirming), locale.say(Text::ConfirmingMeans)],
        "unpaid": [locale.say(Text::Pending), label(Label::UnpaidMeans)],
        "cancelled": [label(Label::Cancelled), label(Label::CancelledMeans)],
        "failed": [label(Label::Failed), label(Label::FailedMeans)],
        "unregistered": [label(Label::Unregistered), label(Label::UnregisteredMeans)],
        "absent": [label(Label::NoWallet), label(Label::NoWalletMeans)],
        "copied": locale.say(Text::Copied),
        "expiring": locale.say(Text::OneMinuteLeft),
        "offline": locale.say(Text::Offline),
        "code": locale.say(Text::SupportCode),
    })
    .to_string()
}

fn body(
    frame: &Frame<'_>,
    screen: &Screen,
    words: Words,
    script: Option<(&'static str, String)>,
) -> impl IntoView + use<> {
    let locale = frame.locale;
    let other = locale.other();
    let script = script.map(|(src, nonce)| view! { <script src=src nonce=nonce defer="defer"></script> });
    let support = frame.member.config.support.clone();
    let support = support.map(|support| view! { <span class="support">{support}</span> });
    view! {
        <main class="card">
            <p class="banner while-offline">{locale.say(Text::Offline)}</p>
            <header class="top">
                <h1 class="payee">{frame.member.config.name.clone()}</h1>
                <nav class="languages">
                    <a href=frame.other.clone() lang=other.as_str() hreflang=other.as_str()>
                        {locale.label(Label::OtherLanguage)}
                    </a>
                </nav>
            </header>
            <div class="columns">
                <div class="stage">{stage(frame, screen, words)}</div>
                <div class="side">{summary(frame)} {more(frame, screen)}</div>
            </div>
            <p class="spoken" role="status" id="calm"></p>
            <p class="spoken" role="alert" id="urgent"></p>
            <footer class="foot">
                <span>{fill(locale.label(Label::Support), tail(frame.order.key.number.as_str()))}</span>
                {support}
                <span>{locale.label(Label::LastKnown)}</span>
            </footer>
        </main>
        {script}
    }
}

/// The middle of the card: what `ui/bridge.js` changes, and where it finds what it needs.
fn stage(frame: &Frame<'_>, screen: &Screen, words: Words) -> impl IntoView + use<> {
    let locale = frame.locale;
    let amount = frame.order.terms.total.to_string();
    let call = match screen {
        Screen::Pay(call) => Some(call),
        Screen::Preparing | Screen::Unavailable | Screen::Refused(_) | Screen::Stale | Screen::Preview => {
            None
        }
    };
    let params = call.map(|WalletCall { params, .. }| {
        json!({
            "appId": params.app_id,
            "timeStamp": params.time_stamp,
            "nonceStr": params.nonce_str,
            "package": params.package,
            "signType": params.sign_type,
            "paySign": params.pay_sign,
        })
        .to_string()
    });
    let wait = matches!(screen, Screen::Preparing).then(|| (u32::from(REFRESH_S.1) * 1_000).to_string());
    let button = call.map(|_| {
        view! {
            <button class="primary wx" type="button" hidden="hidden">
                {fill(locale.label(Label::PayInWechat), &amount)}
            </button>
            <a class="primary" href=format!("{}&anew=1", frame.clean) hidden="hidden">
                {locale.label(Label::BeginAgain)}
            </a>
            <noscript>
                <p class="guide">{locale.label(Label::NeedsScript)}</p>
            </noscript>
        }
    });
    let onward = words.button.map(|(label, to)| {
        view! {
            <a class="primary" href=to>
                {locale.label(label)}
            </a>
        }
    });
    view! {
        <div
            id="bridge"
            class=words.class
            data-clean=frame.clean.clone()
            data-page=page_path(&frame.page)
            data-amount=amount
            data-params=params
            data-life=call.map(|call| call.life_ms.to_string())
            data-words=call.map(|_| spoken(locale))
            data-wait=wait
        >
            <svg class="icon" viewBox="0 0 48 48" aria-hidden="true">
                <circle cx="24" cy="24" r="22"></circle>
                <path d=words.icon></path>
            </svg>
            <h2 id="heading" tabindex="-1">
                {words.heading}
            </h2>
            <p class="lines">{words.text}</p>
            {button}
            {onward}
        </div>
    }
}

/// How much, for what.
fn summary(frame: &Frame<'_>) -> impl IntoView + use<> {
    let locale = frame.locale;
    let amount = frame.order.terms.total.to_string();
    let number = frame.order.key.number.to_string();
    view! {
        <div class="summary">
            <p class="due">{locale.label(Label::AmountDue)}</p>
            <p class="amount">
                <span aria-hidden="true">
                    <small>"¥"</small>
                    {amount.clone()}
                </span>
                <span class="spoken">{fill(locale.label(Label::SpokenAmount), &amount)}</span>
            </p>
            <p class="title">{frame.order.terms.title.to_string()}</p>
            <p class="order second">
                <span>{locale.label(Label::OrderNumber)} " " <b>{number.clone()}</b></span>
                <button
                    class="copy while-awake"
                    type="button"
                    data-copy=number
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

/// What else can be done. While a payment is being made or confirmed, no other way is offered.
fn more(frame: &Frame<'_>, screen: &Screen) -> impl IntoView + use<> {
    let locale = frame.locale;
    let path = page_path(&frame.page);
    let paid = matches!(screen, Screen::Pay(_)).then(|| {
        view! {
            <form method="post" action=path.clone() id="paid">
                <input type="hidden" name="do" value="confirm" />
                <input type="hidden" name="channel" value=Channel::Wx.as_str() />
                <input type="hidden" name="lang" value=locale.as_str() />
                <button class="plain" type="submit">
                    {locale.label(Label::HavePaid)}
                </button>
            </form>
        }
    });
    let other = frame.member.gateway(Channel::Ali).map(|_| {
        let address = format!("{path}?channel={}&lang={}", Channel::Ali, locale.as_str());
        view! {
            <a class="plain other-way" href=address>
                {locale.label(Label::OtherWay)}
            </a>
        }
    });
    let why = other.is_some().then(|| {
        view! { <p class="second no-other-way">{locale.label(Label::NoOtherWay)}</p> }
    });
    let exit = match frame.order.terms.return_url.as_deref().and_then(|url| exit(url, frame.order)) {
        Some(exit) => view! {
            <a class="plain" href=exit>
                {locale.label(Label::Back)}
            </a>
        }
        .into_any(),
        None => view! { <p class="second">{locale.label(Label::CloseTab)}</p> }.into_any(),
    };
    view! {
        <div class="more">
            <p class="second while-expiring">{locale.say(Text::OneMinuteLeft)}</p>
            {why}
            <div class="actions">{paid} {other} {exit}</div>
        </div>
    }
}
