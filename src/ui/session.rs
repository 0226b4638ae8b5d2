//! What the card knows while it is open: signals, and the few things that change them.
//! Never decides that an order is paid: it repeats what the server says, newest version first.

use core::time::Duration;

use leptos::prelude::*;
use wasm_bindgen::JsCast as _;

use super::api::push_order;
use super::countdown::{announcement, clock_face, urgency};
use super::panel::Panel;
use super::view::{CardView, CodeState, CodeView, Extra, LiveView, PageState, Way, of_channel};
use crate::domain::id::Channel;

/// How long "confirming" holds the shopper back when no gateway confirms, in ms.
const CONFIRM_MS: f64 = 12_000.0;

/// How long an app may take to open.
const STUCK_AFTER: Duration = Duration::from_secs(3);

/// The signals of one card. Times are ms on the browser's monotonic clock.
#[derive(Clone, Copy)]
pub struct Session {
    /// As the server rendered it.
    pub card: StoredValue<CardView>,
    /// What the server said last.
    pub live: RwSignal<LiveView>,
    /// The chosen method.
    pub channel: RwSignal<Channel>,
    /// Its code.
    pub code: RwSignal<CodeView>,
    /// What is shown: the server's word, or `confirming` while an answer is awaited.
    pub shown: RwSignal<PageState>,
    /// The time left, as digits.
    pub face: RwSignal<String>,
    /// What is read out when the reader pauses.
    pub calm: RwSignal<String>,
    /// What is read out at once: expiry and errors.
    pub urgent: RwSignal<String>,
    /// Whole seconds left to pay; `None`: no limit.
    left: StoredValue<Option<u32>>,
    /// What was told last.
    told: StoredValue<(PageState, Channel, CodeState, Extra)>,
    /// The answer to "I have paid" is awaited until then.
    asked_until: StoredValue<Option<f64>>,
    deadline: StoredValue<Option<f64>>,
    code_until: StoredValue<Option<f64>>,
}

impl Session {
    /// The card as the server rendered it.
    pub fn new(card: CardView) -> Self {
        let live = card.live.clone();
        let left = live.remaining_ms.map(|ms| ms / 1_000);
        let code = live.code.clone().unwrap_or(CodeView::bare(CodeState::Waiting, Way::Scan));
        let shown = shown(live.state, left, card.asked);
        Self {
            told: StoredValue::new((shown, card.channel, code.state, live.extra)),
            channel: RwSignal::new(card.channel),
            code: RwSignal::new(code),
            shown: RwSignal::new(shown),
            calm: RwSignal::new(String::new()),
            urgent: RwSignal::new(String::new()),
            face: RwSignal::new(left.map(clock_face).unwrap_or_default()),
            left: StoredValue::new(left),
            asked_until: StoredValue::new(None),
            deadline: StoredValue::new(None),
            code_until: StoredValue::new(None),
            live: RwSignal::new(live),
            card: StoredValue::new(card),
        }
    }

    /// What stands in the middle of the card.
    pub fn panel(self) -> Panel {
        let (shown, channel) = (self.shown.get(), self.channel.get());
        self.card.with_value(|card| {
            self.code.with(|code| self.live.with(|live| Panel::of(card, shown, channel, code, live)))
        })
    }

    /// Puts the server's durations onto the browser's monotonic clock, once it is there.
    pub fn anchor(self) {
        let now = now();
        self.anchor_deadline(now);
        self.anchor_code(now);
        if self.card.with_value(|card| card.asked) {
            self.asked_until.set_value(Some(now + CONFIRM_MS));
        }
    }

    /// Takes the server's word, unless a newer one is known.
    pub fn take(self, live: LiveView) {
        if live.version < self.live.with_untracked(|known| known.version) {
            return;
        }
        let now = now();
        if let Some(code) = &live.code {
            self.code.set(code.clone());
            self.anchor_code(now);
        }
        self.live.set(live);
        self.anchor_deadline(now);
        self.tick(now);
    }

    /// Counts on, on the monotonic clock: never on the device's idea of the time of day.
    pub fn tick(self, now: f64) {
        let before = self.left.get_value();
        let left = self.deadline.get_value().map(|deadline| whole_seconds(deadline - now));
        if left != before {
            self.left.set_value(left);
            self.face.set(left.map(clock_face).unwrap_or_default());
            mark("data-left", urgency(left));
        }
        if self.asked_until.get_value().is_some_and(|until| now > until) {
            self.asked_until.set_value(None);
            mark("data-not-yet", "1");
        }
        let asked = self.asked_until.get_value().is_some();
        let state = shown(self.live.with_untracked(|live| live.state), left, asked);
        if state != self.shown.get_untracked() {
            self.shown.set(state);
        }
        if state.is_payable()
            && let (Some(before), Some(left)) = (before, left)
            && let Some(text) = announcement(before, left)
        {
            self.calm.set(self.card.with_value(|card| card.locale.say(text).to_owned()));
        }
        self.tell();
        if state.is_payable() && self.code_until.get_value().is_some_and(|until| now > until) {
            self.renew();
        }
    }

    /// If another state, method or code is shown: the title, the attributes that the stylesheet reads, the
    /// focus and the spoken text follow.
    fn tell(self) {
        let state = self.shown.get_untracked();
        let channel = self.channel.get_untracked();
        let code = self.code.with_untracked(|code| code.state);
        let before = self.told.get_value();
        let extra = self.live.with_untracked(|live| live.extra);
        if before == (state, channel, code, extra) {
            return;
        }
        self.told.set_value((state, channel, code, extra));
        mark("data-version", &self.live.with_untracked(|live| live.version).to_string());
        mark("data-state", state.as_str());
        mark("data-channel", channel.as_str());
        mark("data-code", code.as_str());
        mark(of_channel(channel), code.as_str());
        let text = self.card.with_value(|card| {
            document().set_title(&card.window_title(state));
            card.spoken(state, channel, self.code.with_untracked(|code| code.way))
        });
        let trouble = matches!(code, CodeState::Unavailable | CodeState::Refused);
        let trouble = state.is_payable() && trouble;
        let text = if trouble || extra != Extra::None {
            let panel = untrack(|| self.panel());
            [panel.heading, "\n", &panel.text].concat()
        } else {
            text
        };
        if trouble || matches!(state, PageState::Expired | PageState::AmountMismatch) {
            self.urgent.set(text);
        } else if code != CodeState::Waiting && state != PageState::Expiring {
            // The code speaks when it is there; the last minute is announced by the countdown.
            self.calm.set(text);
        }
        if before.0 != state && !state.is_payable() {
            keep_focus();
        }
    }

    /// Switches to a method. A code for all methods was not what is wanted, then.
    pub fn choose(self, channel: Channel) {
        let way = self.code.with_untracked(|code| code.way);
        self.fetch(channel, if way == Way::Any { Way::Scan } else { way });
    }

    /// Switches to the code for all methods.
    pub fn choose_any(self) {
        self.fetch(self.channel.get_untracked(), Way::Any);
    }

    /// Fetches the code anew.
    pub fn renew(self) {
        self.fetch(self.channel.get_untracked(), self.code.with_untracked(|code| code.way));
    }

    fn fetch(self, channel: Channel, way: Way) {
        self.channel.set(channel);
        self.code.set(CodeView::bare(CodeState::Waiting, way));
        mark("data-stuck", "");
        self.code_until.set_value(None);
        mark("data-not-yet", "");
        self.tell();
        let page = self.card.with_value(|card| card.page.clone());
        leptos::task::spawn_local(async move {
            let fresh = push_order(page, channel, way).await;
            // A later choice has its own answer coming.
            if (self.channel.get_untracked(), self.code.with_untracked(|code| code.way)) != (channel, way) {
                return;
            }
            if let Ok(live) = fresh {
                self.take(live);
            } else {
                self.code.set(CodeView::bare(CodeState::Unavailable, way));
                self.tell();
            }
        });
    }

    /// The link to the wallet was followed: if nothing has opened after a while, the page says what else
    /// can be done.
    pub fn opened(self) {
        set_timeout(
            move || {
                if !document().hidden() && self.shown.get_untracked().is_payable() {
                    mark("data-stuck", "1");
                }
            },
            STUCK_AFTER,
        );
    }

    /// "I have paid" is on its way to the server as a plain form; until the page comes back it shows that.
    pub fn confirm(self) {
        let now = now();
        self.asked_until.set_value(Some(now + CONFIRM_MS));
        mark("data-not-yet", "");
        self.tick(now);
    }

    fn anchor_deadline(self, now: f64) {
        let remaining = self.live.with_untracked(|live| live.remaining_ms);
        self.deadline.set_value(remaining.map(|ms| now + f64::from(ms)));
    }

    fn anchor_code(self, now: f64) {
        let until = self.code.with_untracked(|code| match code.state {
            // While the server is still asking the gateway, nothing may be shown: ask again at once.
            CodeState::Ready | CodeState::Waiting => Some(now + f64::from(code.remaining_ms)),
            CodeState::Unavailable | CodeState::Refused | CodeState::Elsewhere | CodeState::Over => None,
        });
        self.code_until.set_value(until);
    }
}

/// The server's word, except that an answer that is awaited shows as `confirming`.
pub const fn shown(state: PageState, left: Option<u32>, asked: bool) -> PageState {
    match (state, left) {
        (PageState::Pending | PageState::Scanned | PageState::Expiring, Some(0)) => PageState::Confirming,
        (PageState::Pending | PageState::Scanned | PageState::Expiring, _) if asked => PageState::Confirming,
        (PageState::Pending | PageState::Scanned, Some(1..60)) => PageState::Expiring,
        (state, _) => state,
    }
}

/// Writes an attribute of `<html>` that the stylesheet reads. In the browser only.
pub fn mark(name: &str, value: &str) {
    if let Some(root) = document().document_element() {
        // Refused for a malformed name only.
        let _ = root.set_attribute(name, value);
    }
}

/// If the focused element goes with the old screen, the new heading gets the focus; else nothing moves.
fn keep_focus() {
    let inside = document()
        .active_element()
        .is_some_and(|element| element.closest("leptos-island").is_ok_and(|island| island.is_some()));
    if !inside {
        return;
    }
    request_animation_frame(move || {
        let lost = document()
            .active_element()
            .is_none_or(|element| element.get_client_rects().length() == 0 || element.tag_name() == "BODY");
        let heading = document().get_element_by_id("heading").filter(|_| lost);
        if let Some(heading) = heading.and_then(|heading| heading.dyn_into::<web_sys::HtmlElement>().ok()) {
            // An element that cannot take the focus leaves it where it is.
            let _ = heading.focus();
        }
    });
}

/// Milliseconds on the browser's monotonic clock. In the browser only.
pub fn now() -> f64 {
    window().performance().map_or(0.0, |clock| clock.now())
}

/// Rounded down, never below 0.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the standard library has no other way from f64; out of range saturates, which is right here"
)]
const fn whole_seconds(ms: f64) -> u32 {
    (ms / 1_000.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown() {
        use PageState::{Confirming, Expiring, Paid, Pending};
        for (state, left, asked, expected) in [
            (Pending, None, false, Pending),
            (Pending, Some(60), false, Pending),
            (Pending, Some(59), false, Expiring),
            (Pending, Some(0), false, Confirming),
            (Expiring, Some(0), false, Confirming),
            (Pending, Some(100), true, Confirming),
            (Paid, Some(0), true, Paid),
        ] {
            assert_eq!(shown(state, left, asked), expected, "{state} {left:?} {asked}");
        }
    }

    #[test]
    fn seconds_are_rounded_down_and_never_negative() {
        assert_eq!([whole_seconds(999.9), whole_seconds(1_000.0), whole_seconds(-5_000.0)], [0, 1, 0]);
    }
}
