//! docs/routes.md against the code: every route that is laid stands there, and what stands there is laid.
//! Reads the sources, and asks the service: never what an answer says beyond that there is one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use shouyin::domain::id::UnixMillis;
use shouyin::runtime::clock::Clock;
use shouyin::server::limits::Limits;
use shouyin::server::router::{self, App};
use tower::ServiceExt as _;

use crate::malls::Shop;

/// A method, or `any`, and a path.
type Route = (String, String);

/// Paths that the sources have by name.
const NAMED: [(&str, &str); 2] =
    [("PushOrder::PATH", "/api/push_order"), ("PATH", "/cgi-bin/mmpayweb-bin/checkmweb")];
/// The site's files have their own names.
const SITE: &str = "&address";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the tables below a heading that has this word.
fn documented(word: &str) -> BTreeSet<Route> {
    let text = fs::read_to_string(root().join("docs/routes.md")).unwrap();
    let sections = text.split("\n## ").filter(|section| section.lines().next().unwrap().contains(word));
    let rows = sections.flat_map(|section| section.lines().filter(|line| line.contains("| `/")));
    let cells = |row: &str| {
        let cells: Vec<String> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
        assert_eq!(cells.len(), 6, "{row}");
        assert!(!cells[3].is_empty(), "{row}");
        (cells[1].to_lowercase(), cells[2].trim_matches('`').to_owned())
    };
    rows.map(cells).collect()
}

/// What the sources under these folders lay.
fn laid(folders: &[&str]) -> BTreeSet<Route> {
    let mut routes = BTreeSet::new();
    let mut open: Vec<_> = folders.iter().map(|folder| root().join("src").join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            // Tests lay routes of their own.
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            // What stands after it is a test.
            routes.extend(laid_by(text.split("#[cfg(test)]").next().unwrap()));
        }
    }
    routes
}

fn laid_by(text: &str) -> Vec<Route> {
    let mut routes = Vec::new();
    for laid in text.split(".route(").skip(1) {
        let laid = inside(laid);
        // With one word it is another kind of route: how a method is paid.
        let Some((path, methods)) = laid.split_once(',') else { continue };
        let path = path.trim();
        if path == SITE {
            continue;
        }
        let named = NAMED.iter().find(|(name, _)| *name == path).map(|(_, path)| *path);
        let path = named.unwrap_or_else(|| path.trim_matches('"'));
        assert!(path.starts_with('/'), "a route of which this test knows nothing: {laid}");
        let before = routes.len();
        for method in ["get", "post", "put", "delete", "any"] {
            let first = methods.trim_start().starts_with(&format!("{method}("));
            if first || methods.contains(&format!(").{method}(")) {
                routes.push((method.to_owned(), path.to_owned()));
            }
        }
        assert!(routes.len() > before, "a route without a method: {laid}");
    }
    routes
}

/// Up to the bracket that closes what was opened before.
fn inside(text: &str) -> &str {
    let mut depth = 1;
    let end = text.find(|letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        depth == 0
    });
    &text[..end.unwrap()]
}

#[test]
fn what_is_laid_is_documented_and_the_other_way_round() {
    let service = laid(&["server"]);
    assert!(service.len() > 30, "{service:?}");
    assert_eq!(service, documented("The service"));
    let mall = laid(&["emulator/mall_pages.rs", "emulator/demo.rs"]);
    assert_eq!(mall, documented("The demo's mall"));
    let all: BTreeSet<Route> = laid(&["emulator"]).difference(&mall).cloned().collect();
    let (gateways, control) = (documented("as the gateways"), documented("for people and tests"));
    // Both have a home and its style, as the mall has a home.
    let both: BTreeSet<Route> = gateways.union(&control).filter(|(_, path)| path != "/").cloned().collect();
    let laid: BTreeSet<Route> = all.into_iter().filter(|(_, path)| path != "/").collect();
    assert_eq!(laid, both);
}

#[tokio::test]
async fn the_service_answers_at_each_documented_address() {
    let shop = Shop::in_memory(Clock::frozen(UnixMillis(1_800_000_000_000)), &["left"]).await;
    let app = router::service(App { checkout: shop.checkout.clone(), limits: Limits::none().into() });
    let ask = async |method: &str, path: &str| {
        let method: Method = method.to_uppercase().parse().unwrap();
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        if response.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream") {
            return String::new();
        }
        String::from_utf8_lossy(&response.into_body().collect().await.unwrap().to_bytes()).into_owned()
    };
    for (method, path) in documented("The service") {
        let filled = [("{merchant}", "left"), ("{order_type}", "Order"), ("{order_number}", "1")];
        let filled = filled.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
        let filled = filled.replace(['{', '}'], "");
        let said = ask(&method, &filled).await;
        // A file that is not there is the one thing that says so and is laid.
        let unknown = said.contains("unknown_route") && path != "/pkg/{name}";
        assert!(!unknown && !said.contains("method_not_allowed"), "{method} {path}: {said}");
    }
    assert!(ask("get", "/rest/pad").await.contains("unknown_route"));
    assert!(ask("post", "/healthz").await.contains("method_not_allowed"));
}
