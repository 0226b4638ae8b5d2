//! Notices that are not to be believed, of every kind, about orders that are paid and orders that are not:
//! none is answered with success, and no row changes but the inbox.

use anyhow::ensure;
use bytes::Bytes;
use http::Request;

use super::super::line::{Line, wire};
use super::super::table::Row;
use super::super::world::World;
use super::super::{Plan, evidence};
use crate::domain::id::{Channel, OutTradeNo, Scene, TransactionId};
use crate::domain::money::Fen;
use crate::emulator::faults::{halve, unsign_notice};
use crate::emulator::gateways::{Gateways, Signer};
use crate::gateway::{Stamp, Standing, TradeState};
use crate::runtime::clock::Clock;
use crate::runtime::random;

/// Orders of each kind.
const ORDERS: usize = 10;

/// All of it.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut world = World::new(&plan.ground, "rejected", 1).await?;
    drop(world.start_here().await?);
    let hand = world.hand();
    let mall = world.mall()?.clone();
    for index in 0..ORDERS {
        for (channel, paid) in [("wx", true), ("ali", true), ("wx", false), ("ali", false)] {
            let number = format!("{}{channel}{index:04}", if paid { "P" } else { "U" });
            hand.order(&mall, &number, 100).await?;
            let code = hand.code(&mall, &number, channel).await?;
            if paid {
                hand.pay(&code).await?;
            }
        }
    }
    evidence::notices_answered(&world).await?;
    evidence::webhooks_told(&world).await?;
    let before = evidence::dump(&world)?;
    ensure!(before.iter().any(|(name, rows)| name == "payments" && !rows.is_empty()), "nothing is paid");
    let bad = bad_notices(&world)?;
    let mut line = Line::open(world.service).await?;
    let mut believed = Vec::new();
    for (what, notice) in &bad {
        if line.exchange(notice).await?.is_success() {
            believed.push(format!("{what} was answered with success"));
        }
    }
    let after = evidence::dump(&world)?;
    let changed: Vec<String> = before
        .iter()
        .zip(&after)
        .filter(|(one, two)| one != two)
        .map(|((name, _), _)| name.clone())
        .collect();
    world.end().await?;
    let what = format!("rejected: {} notices not to be believed", bad.len());
    Ok(vec![
        Row::none(what, "0 answered with success", &believed),
        Row::none("rejected: I8 tables changed by them", "none but the inbox", &changed),
    ])
}

/// Every kind of lie about every trade of the emulator's, and about one that is not there.
fn bad_notices(world: &World) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let gateways = Gateways::new(&world.known)?;
    let mut bad = Vec::new();
    for (channel, path) in [(Channel::Wx, "wx"), (Channel::Ali, "ali")] {
        let url = format!("http://{}/rest/pub/{path}/pay_notify", world.service);
        let write = |signer: Signer, number: &str| -> anyhow::Result<Request<Bytes>> {
            let standing = standing(channel, number)?;
            let stamp = Stamp { now: Clock::real(), nonce: random::base62(32)? };
            Ok(gateways.of(channel, signer).encode_notice(&standing, &url, "20261123000000", &stamp))
        };
        let mut numbers: Vec<String> =
            (0..ORDERS).flat_map(|index| ["P", "U"].map(|kind| format!("{kind}{path}{index:04}"))).collect();
        numbers.push(format!("NOBODY{path}1"));
        for number in &numbers {
            let right = write(Signer::Gateway, number)?;
            let text = String::from_utf8_lossy(right.body()).into_owned();
            let richer = text.replace("<![CDATA[100]]>", "<![CDATA[101]]>").replace("1.00", "1.01");
            ensure!(richer != text, "no amount in {text}");
            let cases = [
                ("a forged one", write(Signer::Forger, number)?),
                ("another merchant's", write(Signer::OtherMerchant, number)?),
                ("an unsigned one", unsign_notice(write(Signer::Gateway, number)?)),
                ("half of one", right.clone().map(|body| halve(&body))),
                ("one with another amount", right.clone().map(|_| Bytes::from(richer))),
                ("an empty one", right.clone().map(|_| Bytes::new())),
            ];
            for (what, request) in cases {
                bad.push((format!("{what} ({channel} {number})"), wire(&request)));
            }
        }
        bad.push((
            format!("one of no trade ({channel})"),
            wire(&write(Signer::Gateway, &format!("NOBODY{path}1"))?),
        ));
    }
    Ok(bad)
}

fn standing(channel: Channel, number: &str) -> anyhow::Result<Standing> {
    let now = Clock::real();
    Ok(Standing {
        out_trade_no: OutTradeNo::new(number)?,
        total: Fen::new(100)?,
        title: "torture".to_owned(),
        scene: if channel == Channel::Wx { Scene::Native } else { Scene::QrCode },
        transaction_id: Some(TransactionId::new("4200000020261123999999999999")?),
        payer: Some("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o".to_owned()),
        created_at: now,
        paid_at: Some(now),
        state: TradeState::Success,
        refunded: None,
        echo: Vec::new(),
    })
}
