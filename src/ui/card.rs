//! The island of the checkout page: everything on it that changes, around one `Session`.
//! Never holds text that the server alone can render: that comes as children, from `server::pages::pay`.

use leptos::prelude::*;
use wasm_bindgen::JsCast as _;
use wasm_bindgen_futures::JsFuture;
use web_sys::{Element, Event, MouseEvent, SubmitEvent};

use super::i18n::Text;
use super::panel::Stage;
use super::session::Session;
use super::status::follow;
use super::view::Packed;

/// The live part of the card. Its children are forms that work by themselves; when the island is awake
/// it hears them first.
#[island]
pub(crate) fn CheckoutCard(
    /// As the server saw it.
    card: Packed,
    /// The forms, and what else stands beside the code.
    children: Children,
) -> impl IntoView {
    let session = Session::new(card.card);
    let label = session.card.with_value(|card| card.locale.say(Text::TimeLeft));
    follow(session);
    view! {
        <div class="stage" on:click=move |event| opened(session, &event)>
            <Stage session />
        </div>
        <div
            class="side"
            on:change=move |event| chosen(session, &event)
            on:submit=move |event| sent(session, &event)
            on:click=move |event| copied(session, &event)
        >
            {children()} <p class="countdown" aria-hidden="true">
                {label} " " <b class="digits">{session.face}</b>
            </p>
        </div>
        <p class="spoken" role="status">
            {session.calm}
        </p>
        <p class="spoken" role="alert">
            {session.urgent}
        </p>
    }
}

fn target(event: &Event) -> Option<Element> {
    event.target()?.dyn_into().ok()
}

/// A radio button was chosen. The choice stands in the address too, so that reloading keeps it, and in the
/// link to the other language.
fn chosen(session: Session, event: &Event) {
    let value = target(event).and_then(|radio| radio.get_attribute("value"));
    // What is no method is the code for all of them.
    match value.and_then(|word| word.parse().ok()) {
        Some(channel) => session.choose(channel),
        None => session.choose_any(),
    }
    let channel = session.channel.get_untracked();
    let way = session.code.with_untracked(|code| code.way);
    let (chosen, locale) = session.card.with_value(|card| {
        let chosen = [&card.path(), "?channel=", channel.as_str(), "&way=", way.as_str(), "&lang="].concat();
        (chosen, card.locale)
    });
    let address = [&chosen, locale.as_str()].concat();
    if let Ok(Some(link)) = document().query_selector("a[hreflang]") {
        // Refused for a malformed name only.
        let _ = link.set_attribute("href", &[&chosen, locale.other().as_str()].concat());
    }
    if let Ok(history) = window().history() {
        // Refused only by browsers that limit how often; the page works without it.
        let _ = history.replace_state_with_url(&wasm_bindgen::JsValue::NULL, "", Some(&address));
    }
}

/// A form was sent. "I have paid" goes to the server as it is; the others are calls.
fn sent(session: Session, event: &SubmitEvent) {
    let Some(form) = target(event) else { return };
    if let Ok(Some(hidden)) = form.query_selector("[type=hidden][name=channel]") {
        // The server wrote the method that it drew; another may have been chosen since.
        let _ = hidden.set_attribute("value", session.channel.get_untracked().as_str());
    }
    match form.get_attribute("data-do").as_deref() {
        Some("confirm") => session.confirm(),
        Some("refresh") => {
            event.prevent_default();
            session.renew();
        }
        // The radio buttons were heard already.
        _ => event.prevent_default(),
    }
}

/// The link to the wallet was followed.
fn opened(session: Session, event: &MouseEvent) {
    if target(event).is_some_and(|link| link.has_attribute("data-open")) {
        session.opened();
    }
}

/// A button that copies something was pressed: it names what.
fn copied(session: Session, event: &MouseEvent) {
    let Some(text) = target(event).and_then(|button| button.get_attribute("data-copy")) else { return };
    let done = session.card.with_value(|card| card.locale.say(Text::Copied));
    let writing = JsFuture::from(window().navigator().clipboard().write_text(&text));
    leptos::task::spawn_local(async move {
        // Refused where the page is framed without leave: the number can be selected by hand.
        if writing.await.is_ok() {
            session.calm.set(done.to_owned());
            super::session::mark("data-copied", "1");
        }
    });
}
