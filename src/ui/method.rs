//! The radio switch between methods: a form that works by itself. Rendered by the server alone; the
//! island hears its changes, and the stylesheet hides it when the order is over.

use leptos::prelude::*;

use super::i18n::Label;
use super::view::{CheckoutView, Way, method_name};
use crate::domain::id::Channel;

/// The radio buttons, and a button to send them that is seen only while no island is awake.
pub fn method_switch(view: &CheckoutView) -> impl IntoView + use<> {
    let locale = view.card.locale;
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
                    checked=view.channel == channel
                />
                <span class="disc" aria-hidden="true">
                    {locale.label(mark)}
                </span>
                <span>{locale.say(method_name(channel))}</span>
            </label>
        }
    });
    view! {
        <form class="methods while-payable" method="get" action=view.card.path() data-do="choose">
            <fieldset>
                <legend>{locale.label(Label::Method)}</legend>
                {radios.collect_view()}
            </fieldset>
            {way_input(view)}
            <input type="hidden" name="lang" value=locale.as_str() />
            <button class="plain while-asleep" type="submit">
                {locale.label(Label::UseMethod)}
            </button>
        </form>
    }
}

/// The way that the page shows, so that forms keep it; one code for all methods ends with the choice of one.
pub fn way_input(view: &CheckoutView) -> impl IntoView + use<> {
    let way = view.card.live.code.as_ref().map(|code| code.way).filter(|way| *way != Way::Any);
    way.map(|way| view! { <input type="hidden" name="way" value=way.as_str() /> })
}
