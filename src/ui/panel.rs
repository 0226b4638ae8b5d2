//! What stands in the middle of the card: the code to scan, or the screen that replaces it in place.
//! Never shows a code under another method's name, and "paid" only when the server has said so.
//! `Panel::of` decides, `Stage` draws; both run on the server and in the browser.

use leptos::prelude::*;

use super::i18n::Text;
use super::qr::{Drawing, QrImage};
use super::session::Session;
use super::view::{CardView, CodeState, CodeView, LiveView, PageState, method_name};
use crate::domain::id::Channel;

/// The panel as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panel {
    /// Classes for the stylesheet.
    pub class: &'static str,
    /// A code, and what it is.
    pub code: Option<(Drawing, String)>,
    /// A line drawing in a box of 48.
    pub icon: &'static str,
    /// What is said first.
    pub heading: &'static str,
    /// What follows.
    pub lines: Vec<String>,
    /// Name and value.
    pub facts: Vec<(&'static str, String)>,
    /// Opens the app.
    pub link: Option<String>,
}

impl Panel {
    /// The panel for a state.
    pub fn of(card: &CardView, state: PageState, channel: Channel, code: &CodeView, live: &LiveView) -> Self {
        if state.is_payable() { Self::code(card, channel, code) } else { Self::result(card, state, live) }
    }

    fn code(card: &CardView, channel: Channel, code: &CodeView) -> Self {
        let say = |text| card.locale.say(text);
        let (alt, scan, down, class) = match channel {
            Channel::Wx => (Text::AltWx, Text::ScanWx, Text::WechatUnavailable, "code wx"),
            Channel::Ali => (Text::AltAli, Text::ScanAli, Text::AlipayUnavailable, "code ali"),
        };
        let mut panel = Self {
            class,
            code: None,
            icon: "",
            heading: "",
            lines: Vec::new(),
            facts: Vec::new(),
            link: None,
        };
        match code.state {
            CodeState::Ready => {
                panel.code = Drawing::of(&code.content).zip(Some(card.locale.fill(alt, &card.amount)));
                panel.heading = say(scan);
                // Alipay's code is an address that opens the app; WeChat's is for its scanner only.
                if card.phone && channel == Channel::Ali {
                    panel.link = Some(code.content.clone());
                }
            }
            CodeState::Waiting | CodeState::Over => {
                panel.class = "result waiting";
                panel.heading = say(Text::Fetching);
            }
            CodeState::Unavailable | CodeState::Refused => {
                panel.class = "result bad";
                panel.icon = MARK;
                panel.heading = say(down);
                panel.lines.push(say(Text::UnavailableMeans).to_owned());
                if code.state == CodeState::Refused {
                    panel.lines.push(card.locale.fill(Text::SupportCode, &code.content));
                }
            }
        }
        panel
    }

    fn result(card: &CardView, state: PageState, live: &LiveView) -> Self {
        let say = |text| card.locale.say(text);
        let (class, icon) = match state {
            PageState::Paid | PageState::PaidTwice => ("result good", "M15 25l7 7 12-14"),
            PageState::Pending | PageState::Expiring | PageState::Confirming => ("result waiting", ""),
            PageState::PaidLate => ("result wait", "M24 14v11l7 5"),
            PageState::Expired | PageState::Closed => ("result", "M16 24h16"),
            PageState::AmountMismatch => ("result bad", MARK),
        };
        let mut facts = vec![
            (say(Text::Amount), ["¥", &card.amount].concat()),
            (say(Text::OrderNumber), card.order_number.clone()),
        ];
        if let Some(at) = &live.paid_at {
            facts.push((say(Text::PaidAt), at.clone()));
        }
        if let Some(channel) = live.paid_with {
            facts.push((say(Text::PaidWith), say(method_name(channel)).to_owned()));
        }
        let lines = state.meaning().map(|text| say(text).to_owned()).into_iter().collect();
        Self { class, code: None, icon, heading: say(state.heading()), lines, facts, link: None }
    }
}

/// An exclamation mark.
const MARK: &str = "M24 14v12M24 32v1";

/// Draws the panel, and draws it anew when something in it changes.
#[component]
pub fn Stage(
    /// The card.
    session: Session,
) -> impl IntoView {
    let panel = Memo::new(move |_| session.panel());
    let open = session.card.with_value(|card| card.locale.say(Text::OpenAlipay));
    move || {
        let Panel { class, code, icon, heading, lines, facts, link } = panel.get();
        let lines: Vec<_> = lines.into_iter().map(|line| view! { <p>{line}</p> }).collect();
        let facts: Vec<_> = facts
            .into_iter()
            .map(|(name, value)| {
                view! {
                    <div>
                        <dt>{name}</dt>
                        <dd>{value}</dd>
                    </div>
                }
            })
            .collect();
        view! {
            <div class=class>
                {code.map(|(drawing, alt)| view! { <QrImage drawing alt /> })}
                <svg class="icon" viewBox="0 0 48 48" aria-hidden="true">
                    <circle cx="24" cy="24" r="22"></circle>
                    <path d=icon></path>
                </svg>
                <h2 id="heading" tabindex="-1">
                    {heading}
                </h2>
                {lines}
                <dl class="facts">{facts}</dl>
                {link
                    .map(|link| {
                        view! {
                            <a class="primary" href=link rel="noreferrer">
                                {open}
                            </a>
                        }
                    })}
            </div>
        }
    }
}
