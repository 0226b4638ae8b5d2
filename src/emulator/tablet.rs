//! The mall's till: puts an order on the tablet on the counter, as any till does, by the service's API. Never
//! remembers a tablet: it asks which there are.

use axum::Form;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, Method, StatusCode};
use leptos::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::mall::{BuyError, Mall};
use super::mall_pages::{Shop, not_done};
use super::page::{Frame, Language};

/// The order that goes on the tablet.
#[derive(Deserialize)]
pub(super) struct Chosen {
    order_type: String,
    order_number: String,
}

/// `POST /mall/tablet`: on the tablet that was heard of last. If none is paired, a page says how one is.
pub(super) async fn show(
    State(shop): State<Shop>,
    headers: HeaderMap,
    Form(chosen): Form<Chosen>,
) -> Response {
    let language = Language::of(&headers);
    match put(&shop.mall, &chosen).await {
        Ok(None) => Redirect::to("/mall").into_response(),
        Ok(Some(made)) => pairing(language, &made),
        Err(error) => not_done(language, &error),
    }
}

/// `Some`: a new pad, for there was no tablet.
async fn put(mall: &Mall, chosen: &Chosen) -> Result<Option<Value>, BuyError> {
    let list = mall.ask(Method::GET, "/rest/pads", None, StatusCode::OK).await?;
    let pads = list.get("pads").and_then(Value::as_array).into_iter().flatten();
    let paired = pads.filter(|pad| pad.get("paired") == Some(&Value::Bool(true)));
    let Some(pad) = paired.max_by_key(|pad| word(pad, "last_seen")) else {
        return mall.ask(Method::POST, "/rest/pads", None, StatusCode::CREATED).await.map(Some);
    };
    let path = format!("/rest/pads/{}/order", word(pad, "pad"));
    let body = json!({ "order_type": chosen.order_type, "order_number": chosen.order_number });
    mall.ask(Method::PUT, &path, Some(body), StatusCode::OK).await?;
    Ok(None)
}

fn word(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn pairing(language: Language, made: &Value) -> Response {
    let title = language.pick("配对收款平板", "Pair a tablet");
    let url = word(made, "pad_url");
    let how = language.pick(
        "在平板（或另一个窗口）上打开下面的地址，输入配对码，然后再点一次“在平板上收款”",
        "Open this address on a tablet (or in another window), type the code, then choose the order again",
    );
    let content = view! {
        <main class="card wide">
            <h1>{title}</h1>
            <p>{how}</p>
            <p>
                <a href=url.clone() target="_blank" rel="noopener">
                    {url.clone()}
                </a>
            </p>
            <p class="amount">
                <b>{word(made, "pairing_code")}</b>
            </p>
            <p>
                <a href="/mall">{language.pick("返回商城", "Back to the mall")}</a>
            </p>
        </main>
    };
    Frame { language, title, class: "mall", root: "/mall/", script: None }.render(content).into_response()
}
