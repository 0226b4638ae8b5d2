//! The radio switch between methods: a form that works by itself. Rendered by the server alone; the
//! island hears its changes, and the stylesheet hides it when the order is over.

use leptos::prelude::*;

use super::i18n::Label;
use super::view::{CheckoutView, Way, method_name};
use crate::domain::id::Channel;

/// The radio buttons, and a button to send them that is seen only while no island is awake.
pub fn method_switch(view: &CheckoutView) -> impl IntoView + use<> {
    let locale = view.card.locale;
    let any = shown_way(view) == Some(Way::Any);
    let radios = view.methods.iter().map(|&channel| {
        let (mark, class) = match channel {
            Channel::Wx => (Label::MarkWx, "method wx"),
            Channel::Ali => (Label::MarkAli, "method ali"),
        };
        view! {
            <label class=class>
                <input
                    type="radio"
                    name="channel"
                    value=channel.as_str()
                    checked=!any && view.channel == channel
                />
                <span class="disc" aria-hidden="true">
                    {locale.label(mark)}
                </span>
                <span>{locale.say(method_name(channel))}</span>
                <span class="down second">{locale.label(Label::Down)}</span>
            </label>
        }
    });
    let offers_any = any || view.ways.iter().any(|(_, way)| *way == Way::Any);
    let one_for_all = offers_any.then(|| {
        view! {
            <label class="method any">
                <input type="radio" name="channel" value=Way::Any.as_str() checked=any />
                <span class="disc" aria-hidden="true">
                    "¥"
                </span>
                <span>{locale.label(Label::AnyInstead)}</span>
            </label>
        }
    });
    view! {
        <form class="methods while-payable" method="get" action=view.card.path() data-do="choose">
            <fieldset>
                <legend>{locale.label(Label::Method)}</legend>
                {radios.collect_view()}
                {one_for_all}
            </fieldset>
            {way_input(shown_way(view).filter(|way| *way != Way::Any))}
            <input type="hidden" name="lang" value=locale.as_str() />
            <button class="plain while-asleep" type="submit">
                {locale.label(Label::UseMethod)}
            </button>
        </form>
    }
}

/// The way that the page shows.
pub fn shown_way(view: &CheckoutView) -> Option<Way> {
    view.card.live.code.as_ref().map(|code| code.way)
}

/// A way for a form to keep. One code for all methods ends with the choice of one.
pub fn way_input(way: Option<Way>) -> impl IntoView + use<> {
    way.map(|way| view! { <input type="hidden" name="way" value=way.as_str() /> })
}
