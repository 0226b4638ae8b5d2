//! WeChat's page for phones' browsers: who is let in, and how it ends.

use super::*;
use crate::gateway::Shop;
use crate::runtime::listen::PeerAddr;

const BACK: &str = "http://127.0.0.1:3000/pay/x?asked=1";

impl World {
    fn for_browser(&self, number: &str) -> Call {
        let mut create = self.create(Scene::Mweb, number, 1234);
        if let Call::Create { terms, .. } = &mut create {
            terms.client_ip = "192.0.2.7".to_owned();
            terms.visit.shop = Some(Shop { url: "http://127.0.0.1:3000".to_owned(), name: "茶".to_owned() });
            terms.visit.return_url = Some(BACK.to_owned());
        }
        create
    }
}

/// Whose browser it is, and where it comes from.
#[derive(Clone, Copy)]
struct Visitor {
    referer: Option<&'static str>,
    agent: &'static str,
    peer: Option<&'static str>,
}

/// From the shop, at the address the trade was placed with.
const GUEST: Visitor = Visitor {
    referer: Some("http://127.0.0.1:3000/"),
    agent: "Mozilla/5.0 (Linux; Android 14) Chrome/130 Mobile",
    peer: Some("192.0.2.7:4711"),
};

fn visit(mut request: Request<Body>, by: Visitor) -> Request<Body> {
    let headers = request.headers_mut();
    headers.insert("user-agent", by.agent.parse().unwrap());
    if let Some(referer) = by.referer {
        headers.insert("referer", referer.parse().unwrap());
    }
    if let Some(peer) = by.peer {
        request.extensions_mut().insert(PeerAddr(peer.parse().unwrap()));
    }
    request
}

fn open(link: &str) -> Request<Body> {
    Request::get(link).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_phone_pays_behind_the_link_and_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let link = world.code(&world.wx, &world.for_browser("M00001")).await;
    let page = world.browse(visit(open(&link), GUEST)).await;
    assert!(page.shows("12.34") && page.shows("确认付款") && page.shows("M00001"), "{page:?}");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("form-action 'self' http://127.0.0.1:3000;"), "{policy}");
    let parsed = url::Url::parse(&link).unwrap();
    let fields: Vec<(String, String)> = parsed.query_pairs().into_owned().collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let went = world.browse(visit(form("/cgi-bin/mmpayweb-bin/cancel", &fields), GUEST)).await.went_to();
    assert_eq!(went.as_str(), BACK);
    assert_eq!(world.ask(&world.wx, &query("M00001")).await, Ok(Reply::Trade(Trade::Waiting)));
    let pay = || visit(form("/cgi-bin/mmpayweb-bin/pay", &fields), GUEST);
    assert_eq!(world.browse(pay()).await.went_to().as_str(), BACK);
    assert!(matches!(world.ask(&world.wx, &query("M00001")).await, Ok(Reply::Trade(Trade::Paid(_)))));
    assert!(world.browse(pay()).await.shows("已支付"), "not twice");

    let link = world.code(&world.wx, &world.for_browser("M00002")).await;
    assert_eq!(world.pay(&link).await.1["data"]["out_trade_no"], "M00002", "with the way back in it");
}

#[tokio::test]
async fn who_does_not_come_from_the_shop_is_turned_away() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let link = world.code(&world.wx, &world.for_browser("M00001")).await;
    for (by, said) in [
        (Visitor { referer: None, ..GUEST }, "商家参数格式有误，请联系商家解决"),
        (Visitor { referer: Some("https://evil.example/"), ..GUEST }, "商家存在未配置的参数，请联系商家解决"),
        (Visitor { agent: IN_WECHAT, ..GUEST }, "请在微信外打开订单，进行支付"),
        (Visitor { peer: Some("192.0.2.8:1"), ..GUEST }, "网络环境未能通过安全验证，请稍后再试"),
        (Visitor { peer: None, ..GUEST }, "网络环境未能通过安全验证，请稍后再试"),
        (Visitor { peer: Some("[::ffff:192.0.2.7]:1"), ..GUEST }, "确认付款"),
        (Visitor { referer: Some("https://mall.example/a"), ..GUEST }, "确认付款"),
    ] {
        let page = world.browse(visit(open(&link), by)).await;
        assert!(page.shows(said), "{said}: {page:?}");
    }
    let (head, _) = link.split_once("&package=").unwrap();
    let away = link.replace("127.0.0.1%3A3000", "evil.example");
    assert_ne!(away, link);
    for (link, said) in [
        (format!("{head}&package=wrong"), "参数错误，请联系商家解决"),
        (head.to_owned(), "参数错误，请联系商家解决"),
        (away, "商家存在未配置的参数"),
    ] {
        assert!(world.browse(visit(open(&link), GUEST)).await.shows(said), "{link}");
    }
    let stranger = form("/cgi-bin/mmpayweb-bin/pay", &[("prepay_id", "wx1"), ("package", "1")]);
    assert!(world.browse(visit(stranger, GUEST)).await.shows("参数错误"));
    let mut forged = visit(open(&link), GUEST);
    *forged.method_mut() = http::Method::POST;
    *forged.uri_mut() = "/cgi-bin/mmpayweb-bin/pay".parse().unwrap();
    forged.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    assert_eq!(world.browse(forged).await.status, StatusCode::FORBIDDEN);

    world.control("POST", "/clock", json!({ "advance_ms": 300_001 })).await;
    let page = world.browse(visit(open(&link), GUEST)).await;
    assert!(page.shows("支付请求已失效，请重新发起支付"), "{page:?}");
    assert_eq!(world.pay(&link).await.1["error"], "expired");
}
