//! What refusals say, in which language, with which headers; and that the documented table is this one.

use super::*;

fn asking(text: &'static str) -> Language {
    Language::of(&HeaderMap::from_iter([(ACCEPT_LANGUAGE, HeaderValue::from_static(text))]))
}

#[test]
fn the_asker_chooses_the_language() {
    assert_eq!(Language::of(&HeaderMap::new()), Language::Zh);
    for text in ["en", "en-GB,en;q=0.9", "fr, en;q=0.5", "zh;q=0.1,en", "EN-us"] {
        assert_eq!(asking(text), Language::En, "{text}");
    }
    for text in ["", "*", "zh", "zh-CN,zh;q=0.9,en;q=0.8", "fr", "en;q=0", "en;q=x", "en;q=nan", "zh,en"] {
        assert_eq!(asking(text), Language::Zh, "{text}");
    }
}

#[test]
fn numbers_and_names_are_unique_and_ordered() {
    let numbers: Vec<u16> = Kind::ALL.iter().map(|kind| kind.number()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let mut names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), numbers.len());
}

#[test]
fn sentences_of_both_languages_say_the_same_things() {
    for kind in Kind::ALL {
        let row = kind.row();
        for word in ["{field}", "{detail}"] {
            assert_eq!(row.zh.contains(word), row.en.contains(word), "{kind:?} {word}");
        }
    }
    let error = ApiError::invalid("order_number", "1 to 32 of 0-9 A-Z a-z _ -");
    assert_eq!(
        error.message(Language::En),
        "order_number is not right, it must be: 1 to 32 of 0-9 A-Z a-z _ -"
    );
    assert_eq!(
        error.message(Language::Zh),
        "字段 order_number 的值不对，应为：1 到 32 位的数字、字母、_ 或 -"
    );
}

#[test]
fn headers_of_some_statuses() {
    let header = |error: ApiError, name| error.into_response().headers().get(name).cloned();
    assert_eq!(header(ApiError::new(Kind::StoreUnavailable), RETRY_AFTER).unwrap(), "5");
    assert_eq!(header(ApiError::rate_limited(30), RETRY_AFTER).unwrap(), "30");
    assert_eq!(header(ApiError::new(Kind::KeyWrong), WWW_AUTHENTICATE).unwrap(), "Bearer");
    assert_eq!(header(ApiError::new(Kind::OrderPaid), RETRY_AFTER), None);
}

#[tokio::test]
async fn the_envelope_in_the_askers_language() {
    use tower::ServiceExt as _;
    let app = axum::Router::new()
        .route("/", axum::routing::get(|| async { ApiError::different("title") }))
        .layer(axum::middleware::from_fn(localize));
    for (language, message) in
        [("en", "The order exists with another title"), ("zh-CN", "订单已存在，且字段 title 不同")]
    {
        let request =
            Request::get("/").header("accept-language", language).body(axum::body::Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()["content-language"], language);
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"status_code": 3004, "error": "order_different", "message": message})
        );
    }
}

/// `SHOUYIN_WRITE_DOCS=1 cargo test` writes the file anew.
#[test]
fn the_documented_table_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
    if std::env::var_os("SHOUYIN_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
        std::fs::write(path, catalogue_markdown()).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap_or_default(),
        catalogue_markdown(),
        "docs/errors.md is stale: run the tests with SHOUYIN_WRITE_DOCS=1"
    );
}
