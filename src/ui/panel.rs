//! What stands in the middle of the card: the code to scan, or the screen that replaces it in place.
//! Never shows a code under another method's name, and "paid" only when the server has said so.
//! `Panel::of` decides, `Stage` draws; both run on the server and in the browser.

use leptos::prelude::*;

use super::i18n::Text;
use super::qr::{Drawing, QrImage};
use super::session::Session;
use super::view::{CardView, CodeState, CodeView, LiveView, PageState, Way, method_mark, method_name};
use crate::domain::id::Channel;

/// The panel as data. It always has the same parts; the stylesheet hides those that are empty, so that the
/// browser need not download code that adds and removes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panel {
    /// Classes for the stylesheet.
    pub class: &'static str,
    /// A code.
    pub code: Drawing,
    /// What the code is.
    pub alt: String,
    /// A line drawing in a box of 48.
    pub icon: &'static str,
    /// What is said first.
    pub heading: &'static str,
    /// What follows, a line each.
    pub text: String,
    /// Where the wallet is, when it is opened here.
    pub link: String,
}

impl Panel {
    /// The panel for a state.
    pub fn of(card: &CardView, state: PageState, channel: Channel, code: &CodeView, live: &LiveView) -> Self {
        if !state.is_payable() {
            return Self::result(card, state, live);
        }
        let mut panel = Self::code(card, channel, code);
        let seen = state == PageState::Scanned && channel == Channel::Ali && code.way == Way::Scan;
        if seen && code.state == CodeState::Ready {
            panel.heading = card.locale.say(Text::ScannedMeans);
        }
        panel
    }

    fn code(card: &CardView, channel: Channel, code: &CodeView) -> Self {
        let say = |text| card.locale.say(text);
        let (alt, scan, here, down, class) = match channel {
            Channel::Wx => {
                (Text::AltWx, Text::ScanWx, Text::HereWx, Text::WechatUnavailable, ["code wx", "open wx"])
            }
            Channel::Ali => (
                Text::AltAli,
                Text::ScanAli,
                Text::HereAli,
                Text::AlipayUnavailable,
                ["code ali", "open ali"],
            ),
        };
        let (alt, said, class, mark) = match (code.way, class) {
            (Way::Scan, [class, _]) => (alt, scan, class, method_mark(channel)),
            (Way::Any, _) => (Text::AltAny, Text::ScanAny, "code", "¥"),
            (Way::Here, [_, class]) => (alt, here, class, ""),
        };
        let mut panel = Self { class: "result bad", icon: MARK, heading: say(down), ..Self::default() };
        match code.state {
            CodeState::Ready => {
                panel.class = class;
                panel.heading = say(said);
                if code.way == Way::Here {
                    panel.link.clone_from(&code.content);
                } else {
                    panel.code = Drawing::of(&code.content, mark).unwrap_or_default();
                    panel.alt = card.locale.fill(alt, &card.amount);
                }
            }
            CodeState::Waiting | CodeState::Over => {
                panel.class = "result waiting";
                panel.icon = "";
                panel.heading = say(Text::Fetching);
            }
            CodeState::Elsewhere => {
                panel.class = "result wait";
                panel.icon = "M14 34l20-20M20 14h14v14";
                panel.heading = say(Text::Elsewhere);
                panel.text.push_str(say(match channel {
                    Channel::Wx => Text::LeaveAlipay,
                    Channel::Ali => Text::LeaveWechat,
                }));
            }
            CodeState::Unavailable => panel.text.push_str(say(Text::UnavailableMeans)),
            CodeState::Refused => {
                let support = card.locale.fill(Text::SupportCode, &code.content);
                panel.text = [say(Text::RefusedMeans), "\n", &support].concat();
            }
        }
        panel
    }

    fn result(card: &CardView, state: PageState, live: &LiveView) -> Self {
        let say = |text| card.locale.say(text);
        let (class, icon) = match state {
            PageState::Paid | PageState::PaidTwice => ("result good", "M15 25l7 7 12-14"),
            PageState::Pending | PageState::Scanned | PageState::Expiring | PageState::Confirming => {
                ("result waiting", "")
            }
            PageState::PaidLate => ("result wait", "M24 14v11l7 5"),
            PageState::Expired | PageState::Closed => ("result", "M16 24h16"),
            PageState::AmountMismatch => ("result bad", MARK),
        };
        let mut text = String::new();
        if let (Some(at), Some(channel)) = (&live.paid_at, live.paid_with) {
            text = [say(method_name(channel)), " ", at, "\n"].concat();
        }
        for line in [state.meaning(), live.extra.meaning()].into_iter().flatten() {
            text = [&text, say(line), "\n"].concat();
        }
        Self { class, icon, heading: say(state.heading()), text, ..Self::default() }
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
    let open = session.card.with_value(|card| card.locale.say(Text::PayNow));
    move || {
        let Panel { class, code, alt, icon, heading, text, link } = session.panel();
        view! {
            <div class=class>
                <QrImage drawing=code alt />
                <svg class="icon" viewBox="0 0 48 48" aria-hidden="true">
                    <circle cx="24" cy="24" r="22"></circle>
                    <path d=icon></path>
                </svg>
                <h2 id="heading" tabindex="-1">
                    {heading}
                </h2>
                <p class="lines">{text}</p>
                <a class="primary" href=link data-open="">
                    {open}
                </a>
            </div>
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::i18n::Locale;
    use crate::ui::view::Extra;

    fn card() -> CardView {
        let live = LiveView {
            state: PageState::Pending,
            version: 1,
            remaining_ms: Some(60_000),
            paid_at: None,
            paid_with: None,
            extra: Extra::None,
            code: None,
        };
        CardView {
            page: "p".to_owned(),
            locale: Locale::Zh,
            order_number: "12346".to_owned(),
            amount: "12.34".to_owned(),
            channel: Channel::Wx,
            asked: false,
            live,
        }
    }

    /// The panel of a state and a code, as one line: class, heading, text, what is drawn, link.
    fn line(state: PageState, channel: Channel, code: &CodeView) -> String {
        let mut card = card();
        if state == PageState::PaidTwice {
            card.live.extra = Extra::Returning;
        }
        if matches!(state, PageState::Paid | PageState::PaidTwice) {
            card.live.paid_at = Some("2026-11-23 18:30:00".to_owned());
            card.live.paid_with = Some(channel);
        }
        let Panel { class, code, heading, text, link, .. } =
            Panel::of(&card, state, channel, code, &card.live);
        let drawn = if code.path.is_empty() { "-".to_owned() } else { format!("QR {}", code.mark) };
        format!("{class} | {heading} | {} | {drawn} | {link}", text.trim().replace('\n', " / "))
    }

    #[test]
    fn every_screen() {
        let ready = CodeView {
            state: CodeState::Ready,
            content: "https://qr.alipay.com/x".to_owned(),
            remaining_ms: 1,
            way: Way::Scan,
        };
        let here =
            CodeView { content: "https://wx.tenpay.com/x".to_owned(), way: Way::Here, ..ready.clone() };
        let any =
            CodeView { content: "https://pay.example/pay/x".to_owned(), way: Way::Any, ..ready.clone() };
        let bare = |state| CodeView::bare(state, Way::Scan);
        let refused = CodeView { content: "ACQ.SYSTEM".to_owned(), ..bare(CodeState::Refused) };
        let (wx, ali) = (Channel::Wx, Channel::Ali);
        let pending = PageState::Pending;
        for (state, channel, code, expected) in [
            (pending, wx, &ready, "code wx | 请使用微信扫一扫付款 |  | QR 微 | "),
            (pending, ali, &ready, "code ali | 请使用支付宝扫一扫付款 |  | QR 支 | "),
            (pending, wx, &here, "open wx | 将打开微信完成付款 |  | - | https://wx.tenpay.com/x"),
            (pending, ali, &here, "open ali | 将前往支付宝完成付款 |  | - | https://wx.tenpay.com/x"),
            (pending, ali, &any, "code | 请使用微信或支付宝扫一扫付款 |  | QR ¥ | "),
            (PageState::Scanned, ali, &ready, "code ali | 已扫码，请在手机上确认支付 |  | QR 支 | "),
            (PageState::Scanned, wx, &ready, "code wx | 请使用微信扫一扫付款 |  | QR 微 | "),
            (PageState::Expiring, wx, &ready, "code wx | 请使用微信扫一扫付款 |  | QR 微 | "),
            (pending, wx, &bare(CodeState::Waiting), "result waiting | 正在准备支付 |  | - | "),
            (
                pending,
                ali,
                &bare(CodeState::Unavailable),
                "result bad | 支付宝暂时不可用 | 没有发生扣款。请稍后重试，或换一种方式支付 | - | ",
            ),
            (
                pending,
                wx,
                &refused,
                "result bad | 微信支付暂时不可用 | 没有发生扣款。请换一种方式支付，或联系商家 / 问题代码 ACQ.SYSTEM | - | ",
            ),
            (
                pending,
                ali,
                &bare(CodeState::Elsewhere),
                "result wait | 请在浏览器中打开 | 微信内无法使用支付宝：点击右上角“…”，选择“在浏览器打开” | - | ",
            ),
            (
                PageState::Confirming,
                wx,
                &ready,
                "result waiting | 正在确认支付结果 | 请勿重复付款，通常只需几秒钟 | - | ",
            ),
            (PageState::Paid, ali, &ready, "result good | 支付成功 | 支付宝 2026-11-23 18:30:00 | - | "),
            (
                PageState::PaidTwice,
                wx,
                &ready,
                "result good | 支付成功 | 微信支付 2026-11-23 18:30:00 / 检测到重复付款 / 这笔款项正在原路退回，通常 1–3 个工作日到账 | - | ",
            ),
            (
                PageState::Expired,
                wx,
                &ready,
                "result | 二维码已过期 | 订单未支付，没有发生扣款。请返回商家重新下单 | - | ",
            ),
        ] {
            assert_eq!(line(state, channel, code), expected);
        }
    }

    #[test]
    fn success_is_shown_for_paid_only() {
        let code = CodeView::bare(CodeState::Over, Way::Scan);
        for state in PageState::ALL {
            let says = line(*state, Channel::Wx, &code).contains("支付成功");
            assert_eq!(says, matches!(state, PageState::Paid | PageState::PaidTwice), "{state}");
        }
    }
}
