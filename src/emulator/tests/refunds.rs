//! Refunds from outside: asked, repeated, refused, done, told, and kept over a crash.

use super::*;
use crate::domain::id::OutRefundNo;
use crate::domain::refund::RefundStanding;
use crate::emulator::trades::Key;
use crate::gateway::RefundTerms;

fn number(text: &str) -> OutTradeNo {
    OutTradeNo::new(text).unwrap()
}

fn refund_no(text: &str) -> OutRefundNo {
    OutRefundNo::new(text).unwrap()
}

impl World {
    pub(super) fn give_back(&self, trade: &str, refund: &str, amount: i64, total: i64) -> Call {
        Call::Refund {
            out_trade_no: number(trade),
            refund: RefundTerms {
                out_refund_no: refund_no(refund),
                total: Fen::new(total).unwrap(),
                amount: Fen::new(amount).unwrap(),
                reason: Some("不要了".to_owned()),
                notify_url: self.notify_url.clone(),
            },
        }
    }

    pub(super) async fn paid(&self, scene: Scene, number: &str, fen: i64) {
        let code = self.code(merchant(self, scene), &self.create(scene, number, fen)).await;
        let (status, paid) = self.pay(&code).await;
        assert_eq!(status, StatusCode::OK, "{paid}");
    }

    async fn wait(&self, ms: i64) {
        self.control("POST", "/clock", json!({ "advance_ms": ms })).await;
    }
}

fn how(trade: &str, refund: &str) -> Call {
    Call::RefundQuery { out_trade_no: number(trade), out_refund_no: refund_no(refund) }
}

/// What an accepted refund is answered at first: WeChat says no more than that, at Alipay the money is gone.
fn accepted(scene: Scene) -> Reply {
    accepted_at(scene, START)
}

fn accepted_at(scene: Scene, now: UnixMillis) -> Reply {
    Reply::Refund(match scene {
        Scene::Native => RefundStanding::Processing,
        _ => RefundStanding::Succeeded { at: Some(now) },
    })
}

const SCENES: [Scene; 2] = [Scene::Native, Scene::QrCode];

#[tokio::test]
async fn a_refund_is_done_a_second_after_it_was_accepted() {
    for scene in SCENES {
        let data = tempfile::tempdir().unwrap();
        let world = World::open(data.path());
        let merchant = merchant(&world, scene);
        world.paid(scene, "R00001", 100).await;
        assert_eq!(
            world.ask(merchant, &how("R00001", "R00001_r1")).await,
            Ok(Reply::Refund(RefundStanding::Absent))
        );
        let asked = world.give_back("R00001", "R00001_r1", 30, 100);
        assert_eq!(world.ask(merchant, &asked).await, Ok(accepted(scene)));
        world.wait(999).await;
        let under_way = world.ledger().await;
        assert_eq!(under_way["refunds"][0]["state"], "PROCESSING");
        assert_eq!(under_way["trades"][0]["refunded_fee"], 0);
        let standing = world.ask(merchant, &how("R00001", "R00001_r1")).await;
        assert_eq!(standing, Ok(Reply::Refund(RefundStanding::Processing)));
        world.wait(1).await;
        let standing = world.ask(merchant, &how("R00001", "R00001_r1")).await;
        let at = Some(UnixMillis(START.0 + 1000));
        assert_eq!(standing, Ok(Reply::Refund(RefundStanding::Succeeded { at })));
        let done = world.ledger().await;
        let channel = scene.channel().as_str();
        assert_eq!(
            done["refunds"],
            json!([{ "channel": channel, "out_trade_no": "R00001", "out_refund_no": "R00001_r1",
                     "refund_fee": 30, "state": "SUCCESS" }])
        );
        assert_eq!(
            (&done["trades"][0]["refunded_fee"], &done["trades"][0]["state"]),
            (&json!(30), &json!("SUCCESS"))
        );
        let Ok(Reply::Trade(Trade::Paid(_))) = world.ask(merchant, &query("R00001")).await else {
            panic!("a refunded trade was paid")
        };
    }
}

#[tokio::test]
async fn the_raw_words_for_a_refunded_trade_are_the_gateways() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    for scene in SCENES {
        world.paid(scene, "R00001", 100).await;
        let says = async |word: &str| {
            let answer = world.raw(merchant(&world, scene), &query("R00001")).await;
            String::from_utf8_lossy(answer.body()).contains(word)
        };
        let (partly, wholly) = match scene {
            Scene::Native => ("<![CDATA[REFUND]]>", "<![CDATA[REFUND]]>"),
            _ => ("\"TRADE_SUCCESS\"", "\"TRADE_CLOSED\""),
        };
        for (refund, amount, word) in [("a1", 40, partly), ("a2", 60, wholly)] {
            let asked = world.give_back("R00001", refund, amount, 100);
            world.ask(merchant(&world, scene), &asked).await.unwrap();
            world.wait(1000).await;
            assert!(says(word).await, "{scene} {refund}: {word}");
        }
    }
}

#[tokio::test]
async fn a_number_gives_back_once_and_never_more_than_came_in() {
    for scene in SCENES {
        let data = tempfile::tempdir().unwrap();
        let world = World::open(data.path());
        let merchant = merchant(&world, scene);
        let code = world.code(merchant, &world.create(scene, "R00001", 100)).await;
        world.control("POST", "/scan", json!({ "code": code })).await;
        let unpaid = world.ask(merchant, &world.give_back("R00001", "a1", 1, 100)).await;
        assert_eq!(refused(unpaid).1, Retry::Never);
        let unknown = world.ask(merchant, &world.give_back("R00009", "a1", 1, 100)).await;
        refused(unknown);
        world.pay(&code).await;
        for again in 0..3 {
            let taken = world.ask(merchant, &world.give_back("R00001", "a1", 60, 100)).await;
            let said = if again == 0 { accepted(scene) } else { accepted(Scene::Native) };
            assert_eq!(taken, Ok(said));
        }
        let other = world.ask(merchant, &world.give_back("R00001", "a1", 59, 100)).await;
        assert_eq!(refused(other).1, Retry::Never);
        let too_much = world.ask(merchant, &world.give_back("R00001", "a2", 41, 100)).await;
        assert_eq!(refused(too_much).1, Retry::Never);
        world.ask(merchant, &world.give_back("R00001", "a3", 40, 100)).await.unwrap();
        world.wait(1000).await;
        let ledger = world.ledger().await;
        let amounts: Vec<_> = ledger["refunds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|refund| refund["refund_fee"].as_i64())
            .collect();
        assert_eq!(amounts, [Some(60), Some(40)], "{scene}");
        assert_eq!(ledger["trades"][0]["refunded_fee"], 100);
    }
}

#[tokio::test]
async fn wechat_numbers_refunds_per_merchant_and_alipay_per_trade() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    for scene in SCENES {
        for trade in ["R00001", "R00002"] {
            world.paid(scene, trade, 100).await;
        }
        let merchant = merchant(&world, scene);
        world.ask(merchant, &world.give_back("R00001", "same", 10, 100)).await.unwrap();
        let second = world.ask(merchant, &world.give_back("R00002", "same", 10, 100)).await;
        match scene {
            Scene::Native => assert_eq!(refused(second).1, Retry::Never),
            _ => assert_eq!(second, Ok(accepted(scene))),
        }
    }
    // A total that is not the payment's (gateways.md 1.5); Alipay is not told one.
    refused(world.ask(&world.wx, &world.give_back("R00001", "other", 10, 99)).await);
}

#[tokio::test]
async fn refund_notices_come_on_schedule_until_accepted() {
    for scene in SCENES {
        let data = tempfile::tempdir().unwrap();
        let (world, shop) = paid_world(data.path(), scene).await;
        world.paid(scene, "R00001", 100).await;
        world.emulator.deliver_due().await;
        assert_eq!(shop.heard().len(), 1, "the payment's");
        world.ask(merchant(&world, scene), &world.give_back("R00001", "a1", 100, 100)).await.unwrap();
        assert_eq!(world.emulator.deliver_due().await, 0, "not done yet");
        shop.refuse(1);
        world.wait(1000).await;
        assert_eq!(world.emulator.deliver_due().await, 1);
        world.wait(scene_wait(scene)).await;
        assert_eq!(world.emulator.deliver_due().await, 1, "{scene}: again");
        world.wait(200_000_000).await;
        assert_eq!(world.emulator.deliver_due().await, 0, "accepted, over");
        let heard = shop.heard();
        assert_eq!(heard.len(), 2);
        for body in heard {
            let text = String::from_utf8_lossy(&body).into_owned();
            let notice = merchant(&world, scene).decode_notice(&as_notice(body), START).unwrap();
            assert_eq!(notice.get().out_trade_no, number("R00001"));
            match (scene, &notice.get().told) {
                (Scene::Native, Told::Refund { out_refund_no }) => {
                    assert_eq!(*out_refund_no, refund_no("a1"));
                }
                (Scene::QrCode, _) => {
                    for pair in
                        ["trade_status=TRADE_CLOSED", "refund_fee=1.00", "out_biz_no=a1", "gmt_refund="]
                    {
                        assert!(text.contains(pair), "{pair}: {text}");
                    }
                }
                (_, other) => panic!("{scene}: {other:?}"),
            }
        }
        let told = world.ledger().await["notices"][1].clone();
        assert_eq!((&told["event"], &told["out_refund_no"]), (&json!("refunded"), &json!("a1")));
        assert_eq!(told["attempts"].as_array().unwrap().len(), 2);
    }
}

fn scene_wait(scene: Scene) -> i64 {
    if scene == Scene::Native { 15_000 } else { 240_000 }
}

#[tokio::test]
async fn faults_strike_refunds_and_their_notices() {
    let data = tempfile::tempdir().unwrap();
    for scene in SCENES {
        let (world, shop) = paid_world(&data.path().join(scene.as_str()), scene).await;
        let (ask, look) = match scene {
            Scene::Native => ("wx.refund", "wx.refundquery"),
            _ => ("alipay.trade.refund", "alipay.trade.fastpay.refund.query"),
        };
        let merchant = merchant(&world, scene);
        world.paid(scene, "R00001", 100).await;
        world.emulator.deliver_due().await;
        shop.heard();
        let fault = |on: &str, kind: &str| {
            let list = json!([{ "on": on, "kind": kind, "count": 1 }]);
            world.emulator.set_faults(serde_json::from_value(list).unwrap()).unwrap();
        };
        fault(ask, "systemerror");
        let asked = world.give_back("R00001", "a1", 100, 100);
        assert!(matches!(world.ask(merchant, &asked).await, Err(Fault::Unknown(_))));
        assert!(world.emulator.statement().await.unwrap().refunds.is_empty(), "it had no effect");
        fault(ask, "cut_after");
        let Ok(Outgoing::Send(request)) = merchant.encode_call(&asked, &stamp()) else { panic!("not sent") };
        let cut = world.emulator.protocol_router().oneshot(request.map(Body::from)).await.unwrap();
        assert!(cut.into_body().collect().await.is_err());
        assert_eq!(world.emulator.statement().await.unwrap().refunds.len(), 1, "it had its effect");
        world.wait(1000).await;
        fault(look, "forged");
        let forged = world.ask(merchant, &how("R00001", "a1")).await;
        assert!(matches!(forged, Err(Fault::BadSignature(_))), "{forged:?}");
        fault("notify", "unsigned");
        world.emulator.deliver_due().await;
        let bare = shop.heard().remove(0);
        assert!(merchant.decode_notice(&as_notice(bare), START).is_err(), "{scene}: not trusted");
    }
}

#[tokio::test]
async fn refunds_survive_a_crash_and_older_ledgers_still_load() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    world.paid(Scene::Native, "R00001", 100).await;
    let older = std::fs::read_to_string(data.path().join("ledger.jsonl")).unwrap();
    assert!(!older.contains("refund"), "what a ledger without refunds looks like");
    world.ask(&world.wx, &world.give_back("R00001", "a1", 70, 100)).await.unwrap();
    let before = world.emulator.statement().await.unwrap();
    drop(world);
    let world = World::open(data.path());
    assert_eq!(world.emulator.statement().await.unwrap(), before);
    refused(world.ask(&world.wx, &world.give_back("R00001", "a2", 31, 100)).await);
    world.ask(&world.wx, &world.give_back("R00001", "a1", 70, 100)).await.unwrap();
    assert_eq!(world.emulator.statement().await.unwrap().refunds.len(), 1);
    world.wait(1000).await;
    assert_eq!(world.emulator.deliver_due().await, 2, "both notices are still to be sent");
}

#[tokio::test]
async fn a_program_may_send_the_notices_itself() {
    for scene in SCENES {
        let data = tempfile::tempdir().unwrap();
        let world = World::open(data.path());
        let merchant = merchant(&world, scene);
        let key = Key { channel: scene.channel(), out_trade_no: number("R00001") };
        let code = world.code(merchant, &world.create(scene, "R00001", 100)).await;
        assert!(world.emulator.notice_of(&key).is_none(), "not paid");
        world.emulator.pay(&code, 0).await.unwrap();
        assert_eq!(world.emulator.deliver_due().await, 0, "not from here");
        let notice = world.emulator.notice_of(&key).unwrap();
        assert_eq!(notice.uri().to_string(), world.notify_url);
        let read = merchant.decode_notice(&notice, START).unwrap();
        assert!(matches!(read.get().told, Told::Trade(Trade::Paid(_))));
        world.ask(merchant, &world.give_back("R00001", "a1", 1, 100)).await.unwrap();
        assert!(world.emulator.refund_notice_of(&key, &refund_no("a1")).is_none(), "not done");
        world.emulator.advance_clock(1000).await.unwrap();
        let notice = world.emulator.refund_notice_of(&key, &refund_no("a1")).unwrap();
        merchant.decode_notice(&notice, START).unwrap();
    }
}

#[tokio::test]
async fn people_see_what_went_back() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    world.paid(Scene::Native, "R00001", 1234).await;
    let mut asked = world.give_back("R00001", "a1", 234, 1234);
    if let Call::Refund { refund, .. } = &mut asked {
        refund.reason = Some("<b>坏了</b>".to_owned());
    }
    world.ask(&world.wx, &asked).await.unwrap();
    let page = async |path: &str| {
        let request = Request::get(path).header("accept", "text/html").body(Body::empty()).unwrap();
        let answer = collected(world.emulator.control_router().oneshot(request).await.unwrap()).await;
        String::from_utf8(answer.body().to_vec()).unwrap()
    };
    for (wait, said) in [(0, "退款中"), (1000, "已退款")] {
        world.wait(wait).await;
        for path in ["/phone?trade=wx:R00001", "/ledger"] {
            let text = page(path).await;
            assert!(text.contains(said) && text.contains("2.34") && text.contains("a1"), "{path}: {text}");
            assert!(!text.contains("<b>坏了"), "{path}: words never become markup");
        }
    }
    assert!(page("/ledger").await.contains("通知尚未发送"));
    world.emulator.deliver_due().await;
    assert!(page("/ledger").await.contains("通知未被接收，将重发"), "nobody listens");
}

#[tokio::test]
async fn a_refund_that_cannot_be_done_gives_nothing_back() {
    for scene in SCENES {
        let data = tempfile::tempdir().unwrap();
        let (world, shop) = paid_world(data.path(), scene).await;
        world.paid(scene, "R00001", 100).await;
        world.emulator.deliver_due().await;
        shop.heard();
        let fault = json!([
            { "on": "*", "kind": "delay_after", "delay_ms": 1, "count": 1 },
            { "on": "wx.refund", "kind": "refund_closed" },
            { "on": "alipay.trade.refund", "kind": "refund closed" },
        ]);
        world.emulator.set_faults(serde_json::from_value(fault).unwrap()).unwrap();
        world.ask(merchant(&world, scene), &query("R00001")).await.unwrap();
        let asked = world.ask(merchant(&world, scene), &world.give_back("R00001", "a1", 100, 100)).await;
        world.wait(1000).await;
        let standing = world.ask(merchant(&world, scene), &how("R00001", "a1")).await;
        world.emulator.deliver_due().await;
        if scene == Scene::Native {
            assert_eq!(asked, Ok(accepted(scene)));
            assert_eq!(
                standing,
                Ok(Reply::Refund(RefundStanding::Failed { code: "REFUNDCLOSE".to_owned() }))
            );
            let notice = world.wx.decode_notice(&as_notice(shop.heard().remove(0)), START).unwrap();
            assert_eq!(notice.get().told, Told::Refund { out_refund_no: refund_no("a1") });
            assert_eq!(world.ledger().await["refunds"][0]["state"], "CLOSED");
        } else {
            assert_eq!(refused(asked), ("ACQ.TRADE_NOT_ALLOW_REFUND".to_owned(), Retry::Never));
            assert_eq!(standing, Ok(Reply::Refund(RefundStanding::Absent)));
            assert_eq!(world.ledger().await["refunds"], json!([]));
        }
        assert_eq!(world.ledger().await["trades"][0]["refunded_fee"], 0);
        world.emulator.set_faults(Vec::new()).unwrap();
        // All of it is still there to give back.
        let again = world.ask(merchant(&world, scene), &world.give_back("R00001", "a2", 100, 100)).await;
        assert_eq!(again, Ok(accepted_at(scene, START.plus(1000))));
    }
}

#[tokio::test]
async fn what_was_called_is_done_although_the_caller_left() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    world.paid(Scene::Native, "R00001", 100).await;
    for (kind, refund) in [("delay", "a1"), ("delay_after", "a2")] {
        let fault = json!([{ "on": "wx.refund", "kind": kind, "delay_ms": 50, "count": 1 }]);
        world.emulator.set_faults(serde_json::from_value(fault).unwrap()).unwrap();
        let asked = world.give_back("R00001", refund, 10, 100);
        let gone = world.ask(&world.wx, &asked);
        let impatient = tokio::time::timeout(std::time::Duration::from_millis(20), gone).await;
        assert!(impatient.is_err(), "{kind}: no answer yet");
        while world.ask(&world.wx, &how("R00001", refund)).await == Ok(Reply::Refund(RefundStanding::Absent))
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    assert_eq!(world.emulator.statement().await.unwrap().refunds.len(), 2);
}
