//! Follows the order while the page is open: a stream first, questions beside it, one clock for both.
//! Never trusts silence: whatever wakes the page (back, focus, online) asks at once.

use core::time::Duration;

use leptos::prelude::*;
use serde::Deserialize;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::JsFuture;
use web_sys::{EventSource, MessageEvent, Response};

use super::i18n::Text;
use super::session::{Session, mark, now};
use super::view::LiveView;

/// How often the clock of the page ticks, in ms.
const TICK: u64 = 500;
/// A stream that said nothing for this long is taken for dead: the server speaks every 10 s.
const STREAM_SILENCE: f64 = 25_000.0;
/// A question without an answer for this long may be asked again.
const QUESTION_LIFE: f64 = 8_000.0;
/// The server must be silent for this long before the shopper is told.
const OFFLINE_AFTER: f64 = 3_000.0;
/// When a stream that gave up is opened anew.
const REOPEN: f64 = 15_000.0;
/// Questions after the end, one each 15 s: money may still come late, or twice, and then the page must not
/// say that none was taken.
const AFTERWARDS: u32 = 120;

/// Starts following, in the browser only.
pub fn follow(session: Session) {
    Effect::new(move |_| {
        session.anchor();
        Follower::new(session).start();
    });
}

/// The stream, the questions and when they are due. Times are ms on the monotonic clock.
#[derive(Clone, Copy)]
struct Follower {
    session: Session,
    stream: StoredValue<Option<EventSource>, LocalStorage>,
    /// When the stream spoke last.
    heard: StoredValue<Option<f64>>,
    /// When the question under way was asked.
    asking: StoredValue<Option<f64>>,
    /// When the next question is due.
    due: StoredValue<f64>,
    /// When a stream that gave up may be opened anew.
    reopen: StoredValue<f64>,
    /// Since when nothing was heard.
    silent: StoredValue<Option<f64>>,
    /// Questions in a row without an answer.
    failures: StoredValue<u32>,
    /// Questions left after the end.
    afterwards: StoredValue<u32>,
    /// Whether the shopper has been told.
    offline: StoredValue<bool>,
    started: f64,
}

#[derive(Deserialize)]
struct Envelope {
    data: LiveView,
}

impl Follower {
    fn new(session: Session) -> Self {
        let now = now();
        Self {
            session,
            stream: StoredValue::new_local(None),
            heard: StoredValue::new(None),
            asking: StoredValue::new(None),
            due: StoredValue::new(now + 1_000.0),
            reopen: StoredValue::new(now + REOPEN),
            silent: StoredValue::new(None),
            failures: StoredValue::new(0),
            afterwards: StoredValue::new(AFTERWARDS),
            offline: StoredValue::new(false),
            started: now,
        }
    }

    fn start(self) {
        if !self.over() {
            self.listen();
        }
        set_interval(move || self.tick(), Duration::from_millis(TICK));
        for event in ["focus", "online", "pageshow"] {
            let _listener = window_event_listener_untyped(event, move |_| self.ask());
        }
        let _listener = window_event_listener_untyped("offline", move |_| self.failed());
        // Bubbles from the document.
        let _listener = window_event_listener_untyped("visibilitychange", move |_| {
            if !document().hidden() {
                self.ask();
            }
        });
    }

    fn address(self, what: &str) -> String {
        self.session.card.with_value(|card| [&card.path(), "/", what].concat())
    }

    fn over(self) -> bool {
        self.session.live.with_untracked(LiveView::is_over)
    }

    fn listen(self) {
        self.close();
        let Ok(stream) = EventSource::new(&self.address("events")) else { return };
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            let live = event.data().as_string().and_then(|text| serde_json::from_slice(text.as_bytes()).ok());
            if let Some(live) = live {
                self.heard.set_value(Some(now()));
                self.take(live);
            }
        });
        stream.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        on_message.forget();
        let on_error = Closure::<dyn FnMut()>::new(move || {
            // It opens itself anew; meanwhile there are questions.
            if self.heard.get_value().is_some() {
                self.heard.set_value(None);
                self.ask();
            }
        });
        stream.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        on_error.forget();
        self.stream.set_value(Some(stream));
    }

    fn close(self) {
        if let Some(stream) = self.stream.try_update_value(Option::take).flatten() {
            stream.set_onmessage(None);
            stream.set_onerror(None);
            stream.close();
        }
    }

    fn tick(self) {
        let now = now();
        if self.over() {
            let left = self.afterwards.get_value();
            if left > 0 && !document().hidden() && now > self.due.get_value() {
                self.afterwards.set_value(left - 1);
                self.ask();
            }
            return;
        }
        self.session.tick(now);
        if self.silent.get_value().is_some_and(|since| now - since > OFFLINE_AFTER) {
            self.offline(true);
        }
        if document().hidden() {
            return;
        }
        let gone = self
            .stream
            .with_value(|stream| stream.as_ref().is_none_or(|s| s.ready_state() == EventSource::CLOSED));
        if gone && now > self.reopen.get_value() {
            self.reopen.set_value(now + REOPEN);
            self.listen();
        }
        if now > self.due.get_value() {
            self.ask();
        }
    }

    /// How long until the next question.
    fn pace(self, now: f64) -> f64 {
        let calm = self.over() || self.heard.get_value().is_some_and(|at| now - at < STREAM_SILENCE);
        pace(calm, now - self.started, self.failures.get_value(), js_sys::Math::random())
    }

    /// Asks, unless a question is under way.
    fn ask(self) {
        let asked_at = now();
        let waiting = self.asking.get_value().is_some_and(|at| asked_at - at < QUESTION_LIFE);
        if waiting {
            return;
        }
        self.asking.set_value(Some(asked_at));
        self.due.set_value(asked_at + QUESTION_LIFE);
        leptos::task::spawn_local(async move {
            let answer = fetch(&self.address("status")).await;
            self.asking.set_value(None);
            match answer {
                Some(live) => self.take(live),
                None => self.failed(),
            }
            let now = now();
            self.due.set_value(now + self.pace(now));
        });
    }

    fn take(self, live: LiveView) {
        self.silent.set_value(None);
        self.failures.set_value(0);
        self.offline(false);
        self.session.take(live);
        if self.over() {
            self.close();
        }
    }

    fn offline(self, offline: bool) {
        if offline != self.offline.get_value() {
            self.offline.set_value(offline);
            mark("data-offline", if offline { "1" } else { "" });
            // What is over is not said any more: a reader would find it beside the result.
            let text = self.session.card.with_value(|card| card.locale.say(Text::Offline));
            self.session.urgent.set(if offline { text.to_owned() } else { String::new() });
        }
    }

    fn failed(self) {
        self.failures.update_value(|count| *count = count.saturating_add(1));
        if self.silent.get_value().is_none() {
            self.silent.set_value(Some(now()));
        }
    }
}

/// One question; `None` for whatever is not an answer.
async fn fetch(address: &str) -> Option<LiveView> {
    let response: Response = JsFuture::from(window().fetch_with_str(address)).await.ok()?.dyn_into().ok()?;
    let text = JsFuture::from(response.text().ok()?).await.ok()?.as_string()?;
    serde_json::from_slice::<Envelope>(text.as_bytes()).ok().map(|envelope| envelope.data)
}

/// How long until the next question, in ms: rarely beside a stream that speaks and after the end (`calm`),
/// often at first without one, later less so; slower for each failure in a row. `open_for`: since the page
/// was opened, in ms. `dice`, 0 to 1, takes off up to a fifth, so that a thousand pages do not ask in step.
fn pace(calm: bool, open_for: f64, failures: u32, dice: f64) -> f64 {
    let base = if calm || open_for >= 1_800_000.0 {
        15_000.0
    } else if open_for >= 600_000.0 {
        5_000.0
    } else {
        2_000.0
    };
    let slower = f64::from(failures.clamp(1, 5));
    f64::min(base * slower, 15_000.0) * (1.0 - 0.2 * dice)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stream or end, minutes open, failures in a row, and seconds until the next question at the most.
    const TABLE: &str = "
        -     0    0  2
        -     0    1  2
        -     0    2  4
        -     0    5  10
        -     0    9  10
        -     9.9  0  2
        -     10   0  5
        -     10   2  10
        -     10   3  15
        -     10   5  15
        -     29.9 0  5
        -     30   0  15
        -     600  5  15
        calm  0    0  15
        calm  600  5  15
    ";

    #[test]
    fn the_pace_of_questions() {
        for row in TABLE.lines().map(str::trim).filter(|row| !row.is_empty()) {
            let cells: Vec<&str> = row.split_whitespace().collect();
            let minutes: f64 = cells[1].parse().unwrap();
            let at_most: f64 = cells[3].parse().unwrap();
            let with = |dice| pace(cells[0] == "calm", minutes * 60_000.0, cells[2].parse().unwrap(), dice);
            for (dice, expected) in [(0.0, 1.0), (0.5, 0.9), (1.0, 0.8)] {
                let said = with(dice) / 1_000.0;
                assert!((said - at_most * expected).abs() < 1e-9, "{row}, {dice}: {said}");
            }
        }
    }
}
