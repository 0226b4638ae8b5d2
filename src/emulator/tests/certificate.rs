//! Refunds over TLS: with the merchant's certificate, without one, and with another's.

use std::process::Command;

use super::*;
use crate::domain::refund::RefundStanding;
use crate::runtime::listen::OverTls;
use crate::runtime::transport::{Dial as _, Internet, Wire};

#[tokio::test]
async fn a_refund_over_tls_wants_the_merchants_certificate() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    world.paid(Scene::Native, "T00001", 100).await;
    let known = &world.emulator.credentials().wechat;
    let ours = tls::der(&known.merchant_certificate_file).unwrap();
    let other = tls::der(&known.platform_certificate_file).unwrap();
    let asked = world.give_back("T00001", "T1", 1, 100);
    let send = async |call: &Call, over: Option<OverTls>| {
        let Ok(Outgoing::Send(request)) = world.wx.encode_call(call, &stamp()) else { panic!("not sent") };
        let mut request = request.map(Body::from);
        if let Some(over) = over {
            request.extensions_mut().insert(over);
        }
        collected(world.emulator.protocol_router().oneshot(request).await.unwrap()).await
    };
    for (shown, why) in
        [(None, "No required SSL certificate was sent"), (Some(other), "The SSL certificate error")]
    {
        let refused = send(&asked, Some(OverTls(shown))).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        let page = String::from_utf8_lossy(refused.body());
        assert!(page.contains("<html>") && page.contains(why), "{page}");
        let (_, log) = world.control("GET", "/log", Value::Null).await;
        assert_eq!(log["data"]["calls"][0]["message"], why);
    }
    assert!(world.emulator.statement().await.unwrap().refunds.is_empty());
    let standing = send(&query("T00001"), Some(OverTls(None))).await;
    assert_eq!(standing.status(), StatusCode::OK, "only refunds want one");
    for over in [Some(OverTls(Some(ours))), None] {
        let answer = send(&asked, over).await;
        let reply = world.wx.decode_reply(&asked, &answer, Clock::real());
        assert_eq!(reply, Ok(Reply::Refund(RefundStanding::Processing)));
    }
}

/// Who trusts the emulator's authority says so in `SSL_CERT_FILE`, which a process reads when it starts: this
/// test starts itself again with it.
#[tokio::test]
async fn the_services_own_wire_refunds_over_tls() {
    let Some(data) = std::env::var_os(DATA) else {
        let data = tempfile::tempdir().unwrap();
        let world = World::open(data.path());
        let authority = world.emulator.credentials().emulator_ca_file.clone().unwrap();
        drop(world);
        let name = "emulator::tests::certificate::the_services_own_wire_refunds_over_tls";
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name, "--nocapture"]).env(DATA, data.path()).env("SSL_CERT_FILE", authority);
        let output = again.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    };
    let (protocol, protocol_address) = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (tls, tls_address) = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (control, _) = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let data = std::path::PathBuf::from(data);
    let world = World::at(&data, protocol_address, Some(tls_address));
    world.paid(Scene::Native, "T00001", 100).await;
    let known = world.emulator.credentials().clone();
    let url = known.emulator_tls_url.clone().unwrap();
    let wx = WechatV2::new(wechat_v2::Config {
        app_id: known.wechat.app_id.clone(),
        mch_id: known.wechat.mch_id.clone(),
        key: Secret::new(known.wechat.api_v2_key.clone()),
        sign_type: SignType::Md5,
        base_url: url.clone(),
    });
    let on = Listeners { protocol, tls: Some(tls), control };
    let stop = CancellationToken::new();
    let served = tokio::spawn(world.emulator.clone().serve_all(on, stop.clone().cancelled_owned()));
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let pem = read(&known.wechat.merchant_certificate_file) + &read(&known.wechat.merchant_private_key_file);
    let bare = Internet.gateways(&[&url]).unwrap();
    let certified = Internet.with_certificate(&[&url], pem.as_bytes()).unwrap();
    let ask = async |wire: &Arc<dyn Wire>, call: &Call| {
        let Ok(Outgoing::Send(request)) = wx.encode_call(call, &stamp()) else { panic!("not sent") };
        wx.decode_reply(call, &wire.send(request).await.unwrap(), Clock::real())
    };
    assert!(matches!(ask(&bare, &query("T00001")).await, Ok(Reply::Trade(Trade::Paid(_)))));
    let asked = world.give_back("T00001", "T1", 60, 100);
    let (code, _) = refused(ask(&bare, &asked).await);
    assert_eq!(code, "HTTP 400");
    assert!(world.emulator.statement().await.unwrap().refunds.is_empty());
    assert_eq!(ask(&certified, &asked).await, Ok(Reply::Refund(RefundStanding::Processing)));
    assert_eq!(world.emulator.statement().await.unwrap().refunds.len(), 1);
    stop.cancel();
    served.await.unwrap().unwrap();
}

const DATA: &str = "SHOUYIN_TEST_TLS_DATA";
