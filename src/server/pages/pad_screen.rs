//! The tablet's page as HTML: large, for somebody who stands before the counter. Everything that changes is
//! inside `main`, which `pad.js` swaps whole. Never a link that opens an app, never a thing to copy.

use leptos::prelude::*;

use super::pad::address;
use super::shell::{Assets, Document, drawn, render};
use crate::domain::id::Channel;
use crate::ui::countdown::clock_face;
use crate::ui::i18n::{Label, Locale, PadText, Text, fill};
use crate::ui::pad::{Guessed, PadOrder, PadScreen, PadView, Receipt, Staff, Strip};
use crate::ui::panel::Panel;
use crate::ui::qr::QrImage;
use crate::ui::view::{CodeState, CodeView, PageState, Way, method_name, tail};

/// Seconds until a page without script loads itself anew: as a rule, while a code is awaited, and while staff
/// is at it.
const REFRESH_S: (u32, u32, u32) = (5, 2, 30);

/// Draws the whole page.
pub fn document(view: &PadView) -> impl FnOnce(&Assets) -> String + use<'_> {
    move |assets| {
        let document = Document {
            locale: view.locale,
            title: title(view),
            class: "pad",
            marks: Vec::new(),
            refresh: refresh(view)
                .map(|seconds| format!("{seconds};url={}", address(&view.path, view.lang, ""))),
            watched: None,
            own: Some(("pad.css", "pad.js")),
        };
        render(&document, assets, || body(view).to_html())
    }
}

/// Draws what the script swaps.
pub fn part(view: &PadView) -> String {
    drawn(|| screen(view).to_html())
}

/// Nobody is interrupted while typing or printing.
fn refresh(view: &PadView) -> Option<u32> {
    match &view.screen {
        PadScreen::Pairing(_) => None,
        _ if view.paper => None,
        _ if view.strip.is_some() => Some(REFRESH_S.2),
        PadScreen::Idle | PadScreen::Broken => Some(REFRESH_S.0),
        PadScreen::Order(order) => {
            let code = order.card.live.code.as_ref().map(|code| code.state);
            let awaited = code == Some(CodeState::Waiting) && order.card.live.state.is_payable();
            let result = order.result_ms.map(|ms| ms.div_ceil(1_000).max(1));
            Some(result.unwrap_or(if awaited { REFRESH_S.1 } else { REFRESH_S.0 }))
        }
    }
}

fn title(view: &PadView) -> String {
    let said = match &view.screen {
        PadScreen::Pairing(_) => view.locale.pad(PadText::PairTitle),
        PadScreen::Idle => view.locale.pad(PadText::Waiting),
        PadScreen::Broken => view.locale.pad(PadText::Broken),
        PadScreen::Order(order) => return order.card.window_title(order.card.live.state),
    };
    [said, " · ", &view.payee].concat()
}

/// What is said aloud: calmly, or because something went wrong.
fn spoken(view: &PadView) -> (String, String) {
    match &view.screen {
        PadScreen::Pairing(_) => (String::new(), String::new()),
        PadScreen::Idle => (view.locale.pad(PadText::Waiting).to_owned(), String::new()),
        PadScreen::Broken => (String::new(), view.locale.pad(PadText::Broken).to_owned()),
        PadScreen::Order(order) => {
            let state = order.card.live.state;
            let said = order.card.spoken(state, order.card.channel, Way::Scan);
            match state {
                PageState::Expiring => (view.locale.say(Text::OneMinuteLeft).to_owned(), String::new()),
                PageState::Expired | PageState::Closed | PageState::AmountMismatch => (String::new(), said),
                PageState::Pending
                | PageState::Scanned
                | PageState::Confirming
                | PageState::Paid
                | PageState::PaidLate
                | PageState::PaidTwice => (said, String::new()),
            }
        }
    }
}

fn body(view: &PadView) -> impl IntoView + use<> {
    let locale = view.locale;
    view! {
        <p class="band" role="alert" data-text=locale.pad(PadText::NoNetwork)></p>
        {screen(view)}
        <button class="plain sound" type="button" hidden>
            {locale.pad(PadText::SoundOn)}
        </button>
        <p class="spoken" role="status"></p>
        <p class="spoken" role="alert"></p>
    }
}

fn screen(view: &PadView) -> impl IntoView + use<> {
    let locale = view.locale;
    let (state, again) = match &view.screen {
        PadScreen::Pairing(_) => ("pairing", None),
        PadScreen::Idle => ("idle", None),
        PadScreen::Broken => ("broken", Some(REFRESH_S.0 * 1_000)),
        PadScreen::Order(order) => (order.card.live.state.as_str(), order.again_ms()),
    };
    let (calm, urgent) = spoken(view);
    let middle = match &view.screen {
        PadScreen::Pairing(guessed) => pairing(view, *guessed).into_any(),
        PadScreen::Idle => said(PadText::Waiting, "wait", locale).into_any(),
        PadScreen::Broken => said(PadText::Broken, "bad", locale).into_any(),
        PadScreen::Order(order) => bill(view, order).into_any(),
    };
    let number = match &view.screen {
        PadScreen::Order(order) => Some(fill(locale.pad(PadText::OrderTail), tail(&order.card.order_number))),
        PadScreen::Pairing(_) | PadScreen::Idle | PadScreen::Broken => None,
    };
    let paired = !matches!(view.screen, PadScreen::Pairing(_) | PadScreen::Broken);
    let to_staff = (paired && view.strip.is_none()).then(|| {
        let href = address(&view.path, view.lang, "staff");
        view! {
            <a class="plain to-staff" href=href data-view="staff">
                {locale.pad(PadText::Staff)}
            </a>
        }
    });
    view! {
        <main
            id="screen"
            class=if view.paper { [state, " paper"].concat() } else { state.to_owned() }
            lang=locale.as_str()
            data-state=state
            data-key=view.key.clone()
            data-again=again
            data-title=title(view)
            data-calm=calm
            data-urgent=urgent
        >
            <header>
                <p class="payee">{view.payee.clone()}</p>
                <p class="tail">{number}</p>
            </header>
            {middle}
            {view.strip.as_ref().map(|strip| match strip {
                Strip::Locked(guessed) => lock(view, *guessed).into_any(),
                Strip::Open(staff) => open(view, staff).into_any(),
            })}
            {to_staff}
        </main>
    }
}

fn said(text: PadText, class: &'static str, locale: Locale) -> impl IntoView {
    let class = ["stage ", class].concat();
    view! {
        <div class=class>
            <h1 tabindex="-1">{locale.pad(text)}</h1>
        </div>
    }
}

fn pairing(view: &PadView, guessed: Guessed) -> impl IntoView + use<> {
    let locale = view.locale;
    let wrong = match guessed {
        Guessed::Nothing => None,
        Guessed::Wrong => Some(PadText::CodeWrong),
        Guessed::TooOften => Some(PadText::CodesUsedUp),
    };
    let described = if wrong.is_some() { "wrong hint" } else { "hint" };
    let invalid = wrong.map(|_| "true");
    let wrong = wrong.map(|text| view! { <p id="wrong" class="bad" role="alert">{locale.pad(text)}</p> });
    view! {
        <form class="pair" method="post" action=view.path.clone()>
            <h1>{locale.pad(PadText::PairTitle)}</h1>
            {hidden(view, "pair")}
            <label for="code">{locale.pad(PadText::PairingCode)}</label>
            <input
                id="code"
                name="code"
                type="text"
                required
                maxlength="20"
                autocomplete="off"
                autocapitalize="characters"
                spellcheck="false"
                aria-describedby=described
                aria-invalid=invalid
            />
            {wrong}
            <button class="primary" type="submit">
                {locale.pad(PadText::Pair)}
            </button>
            <p id="hint" class="second">
                {locale.pad(PadText::PairHint)}
            </p>
        </form>
    }
}

/// What every form sends: what is to be done, about which version, in which language.
fn hidden(view: &PadView, what: &'static str) -> impl IntoView + use<> {
    let lang = view.lang.map(|lang| view! { <input type="hidden" name="lang" value=lang.as_str() /> });
    view! {
        <input type="hidden" name="do" value=what />
        <input type="hidden" name="seen" value=view.version.to_string() />
        {lang}
    }
}

/// How much, and the code; or what became of it.
fn bill(view: &PadView, order: &PadOrder) -> impl IntoView + use<> {
    let (locale, card) = (view.locale, &order.card);
    let live = &card.live;
    let none = CodeView::bare(CodeState::Waiting, Way::Scan);
    let Panel { class, code, alt, icon, heading, text, .. } =
        Panel::of(card, live.state, card.channel, live.code.as_ref().unwrap_or(&none), live);
    let class = ["stage ", class].concat();
    let picture = if code.path.is_empty() {
        view! {
            <svg class="icon" viewBox="0 0 48 48" aria-hidden="true">
                <circle cx="24" cy="24" r="22"></circle>
                <path d=icon></path>
            </svg>
        }
        .into_any()
    } else {
        view! { <QrImage drawing=code alt /> }.into_any()
    };
    let due = if live.state.is_over() { Label::Amount } else { Label::AmountDue };
    let left = live.remaining_ms.filter(|_| live.state.is_payable()).map(|ms| {
        view! {
            <p class="left" aria-hidden="true">
                {locale.say(Text::TimeLeft)} " "
                <b class="digits" data-left=ms>
                    {clock_face(ms / 1_000)}
                </b>
            </p>
        }
    });
    let lines = (!text.is_empty()).then(|| view! { <p class="lines">{text}</p> });
    view! {
        <div class="bill">
            <div class="summary">
                <p class="due">{locale.label(due)}</p>
                <p class="amount">
                    <span aria-hidden="true">
                        <small>"¥"</small>
                        {card.amount.clone()}
                    </span>
                    <span class="spoken">{fill(locale.label(Label::SpokenAmount), &card.amount)}</span>
                </p>
                {left}
                {methods(view, order)}
            </div>
            <div class=class>
                {picture} <h1 tabindex="-1">{heading}</h1> {lines}
            </div>
        </div>
    }
}

/// The switch between the wallets: buttons that work by themselves.
fn methods(view: &PadView, order: &PadOrder) -> impl IntoView + use<> {
    let (locale, card) = (view.locale, &order.card);
    let buttons = order.methods.iter().map(|&channel| {
        let (mark, class) = match channel {
            Channel::Wx => (Label::MarkWx, "method wx"),
            Channel::Ali => (Label::MarkAli, "method ali"),
        };
        let pressed = if channel == card.channel { "true" } else { "false" };
        view! {
            <button class=class type="submit" name="channel" value=channel.as_str() aria-pressed=pressed>
                <span class="disc" aria-hidden="true">
                    {locale.label(mark)}
                </span>
                {locale.say(method_name(channel))}
            </button>
        }
    });
    let choice = card.live.state.is_payable() && order.methods.len() > 1;
    choice.then(|| {
        view! {
            <form method="post" action=view.path.clone() data-swap="">
                {hidden(view, "choose")}
                <fieldset class="methods">
                    <legend class="spoken">{locale.label(Label::Method)}</legend>
                    {buttons.collect_view()}
                </fieldset>
            </form>
        }
    })
}

/// The way back to what the customer sees; where a PIN opened the strip, it is locked again.
fn done(view: &PadView) -> impl IntoView + use<> {
    let locale = view.locale;
    if matches!(view.strip, Some(Strip::Open(_))) && view.locks {
        return view! {
            <form method="post" action=view.path.clone() data-swap="">
                {hidden(view, "lock")}
                <button class="primary" type="submit">
                    {locale.pad(PadText::Done)}
                </button>
            </form>
        }
        .into_any();
    }
    let back = address(&view.path, view.lang, "");
    view! {
        <a class="primary" href=back data-view="">
            {locale.pad(PadText::Done)}
        </a>
    }
    .into_any()
}

/// Asks staff for the PIN; the customer still sees what is to be paid.
fn lock(view: &PadView, guessed: Guessed) -> impl IntoView + use<> {
    let locale = view.locale;
    let wrong = match guessed {
        Guessed::Nothing => None,
        Guessed::Wrong => Some(PadText::PinWrong),
        Guessed::TooOften => Some(PadText::CodesUsedUp),
    };
    let (described, invalid) = (wrong.map(|_| "wrong"), wrong.map(|_| "true"));
    let wrong = wrong.map(|text| view! { <p id="wrong" class="bad" role="alert">{locale.pad(text)}</p> });
    view! {
        <section class="strip" aria-labelledby="staff">
            <h2 id="staff" tabindex="-1">
                {locale.pad(PadText::StaffTitle)}
            </h2>
            <form class="pin" method="post" action=view.path.clone() data-swap="staff">
                {hidden(view, "unlock")}
                <label for="pin">{locale.pad(PadText::Pin)}</label>
                <input
                    id="pin"
                    name="pin"
                    type="password"
                    inputmode="numeric"
                    required
                    maxlength="8"
                    autocomplete="off"
                    aria-describedby=described
                    aria-invalid=invalid
                />
                {wrong}
                <div class="actions">
                    <button class="plain" type="submit">
                        {locale.pad(PadText::Unlock)}
                    </button>
                    {done(view)}
                </div>
            </form>
        </section>
    }
}

/// What staff can do, and what this pad has seen.
fn open(view: &PadView, staff: &Staff) -> impl IntoView + use<> {
    let locale = view.locale;
    let order = match &view.screen {
        PadScreen::Order(order) => Some(order),
        PadScreen::Pairing(_) | PadScreen::Idle | PadScreen::Broken => None,
    };
    let payable = order.filter(|order| order.card.live.state.is_payable());
    let form = |what: &'static str, label: &'static str| {
        view! {
            <form method="post" action=view.path.clone() data-swap="">
                {hidden(view, what)}
                <button class="plain" type="submit">
                    {label}
                </button>
            </form>
        }
    };
    let print = staff.receipt.as_ref().map(|_| {
        let href = address(&view.path, view.lang, "receipt");
        view! {
            <a class="plain" href=href data-print="">
                {locale.pad(PadText::PrintAgain)}
            </a>
        }
    });
    let other = address(&view.path, Some(locale.other()), "staff");
    view! {
        <section class="strip" aria-labelledby="staff">
            <h2 id="staff" tabindex="-1">
                {locale.pad(PadText::StaffTitle)}
            </h2>
            <div class="actions">
                {order.map(|_| form("clear", locale.pad(PadText::TakeOff)))}
                {payable.map(|_| form("refresh", locale.label(Label::NewCode)))}
                {payable.and_then(|order| by_another(view, order))} {print}
                <a class="plain" href=other lang=locale.other().as_str() hreflang=locale.other().as_str()>
                    {locale.label(Label::OtherLanguage)}
                </a>
                {done(view)}
            </div>
            {results(locale, staff)}
        </section>
        {staff.receipt.as_ref().map(|receipt| paper(view, receipt))}
    }
}

/// The other wallet, by name.
fn by_another(view: &PadView, order: &PadOrder) -> Option<impl IntoView + use<>> {
    let locale = view.locale;
    let other = order.methods.iter().find(|channel| **channel != order.card.channel)?;
    Some(view! {
        <form method="post" action=view.path.clone() data-swap="">
            {hidden(view, "choose")}
            <input type="hidden" name="channel" value=other.as_str() />
            <button class="plain" type="submit">
                {fill(locale.pad(PadText::PayBy), locale.say(method_name(*other)))}
            </button>
        </form>
    })
}

fn results(locale: Locale, staff: &Staff) -> impl IntoView + use<> {
    let rows = staff.results.iter().map(|result| {
        view! {
            <tr>
                <td>{["…", &result.tail].concat()}</td>
                <td class="amount">{["¥", &result.amount].concat()}</td>
                <td>{locale.say(result.state.heading())}</td>
                <td class="amount">{result.at.clone()}</td>
            </tr>
        }
    });
    let head = [
        locale.pad(PadText::Order),
        locale.label(Label::Amount),
        locale.pad(PadText::State),
        locale.pad(PadText::Time),
    ];
    let head = head.map(|name| view! { <th scope="col">{name}</th> });
    if staff.results.is_empty() {
        return view! { <p class="second">{locale.pad(PadText::NoOrders)}</p> }.into_any();
    }
    view! {
        <table>
            <caption>{locale.pad(PadText::LastOrders)}</caption>
            <thead>
                <tr>{head.into_iter().collect_view()}</tr>
            </thead>
            <tbody>{rows.collect_view()}</tbody>
        </table>
    }
    .into_any()
}

/// The last receipt; seen on paper only, and on a page of its own.
fn paper(view: &PadView, receipt: &Receipt) -> impl IntoView + use<> {
    let locale = view.locale;
    let rows = [
        (locale.label(Label::OrderNumber), receipt.order_number.clone()),
        (locale.label(Label::Amount), ["¥ ", &receipt.amount].concat()),
        (locale.label(Label::Method), locale.say(method_name(receipt.channel)).to_owned()),
        (locale.pad(PadText::Time), receipt.paid_at.clone()),
        (locale.pad(PadText::State), locale.say(Text::Paid).to_owned()),
    ];
    let rows = rows.map(|(name, value)| {
        view! {
            <div>
                <dt>{name}</dt>
                <dd>{value}</dd>
            </div>
        }
    });
    view! {
        <section class="receipt" aria-labelledby="receipt">
            <h2 id="receipt">{locale.pad(PadText::Receipt)}</h2>
            <p>{view.payee.clone()}</p>
            <p>{receipt.title.clone()}</p>
            <dl>{rows.into_iter().collect_view()}</dl>
        </section>
    }
}
