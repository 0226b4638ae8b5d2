//! Durable notices per second: through HTTP, SQLite with `synchronous=FULL`, the caller on the same cores.
//! Then the same rows and bytes in bare transactions, for the ratio. Never counts an answer that is not
//! the gateway's word for success.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::super::Plan;
use super::super::bare;
use super::super::effort;
use super::super::line::{Line, wire};
use super::super::table::{Row, Spread, thousands};
use super::super::world::World;
use crate::domain::id::{OrderKey, OrderNumber, OrderType, Scene, Title, TransactionId};
use crate::domain::money::Fen;
use crate::domain::order::{Code, Event, Terms};
use crate::emulator::gateways::{Gateways, Signer};
use crate::gateway::{self, Stamp, Standing, TradeState};
use crate::runtime::clock::{Clock, Stopwatch};
use crate::runtime::random;
use crate::server::checkout::{Checkout, Wanted};
use crate::server::store::NewAttempt;

/// Notices under way at the same time: each connection has one.
const CONNECTIONS: usize = 64;
/// The thread that sends them.
const CALLER: &str = "caller";
/// What is asked for.
const WANTED: f64 = 5_000.0;
/// What is asked of a short run instead where the machine is too slow or too busy for that: such a share of
/// what the database alone can do at the same time.
const SHARE: f64 = 0.25;

/// The measurement.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let count = if plan.long { 100_000 } else { 20_000 };
    let mut world = World::new(&plan.ground, "notices", 1).await?;
    let checkout = world.start_here().await?;
    let notices = Arc::new(seed(&world, &checkout, count).await?);
    drop(checkout);
    world.stop_service().await?;
    let before = plan.ground.join("notices").join("before.db");
    bare::copy(&world.database(), &before)?;
    let checkout = world.start_here().await?;
    let before_load = effort::by_thread();
    let Loaded { took, spread, caller } = load(world.service, notices).await?;
    let spent = effort::by_thread();
    let merchant = checkout.merchants().iter().next().map(|member| member.config.id.clone());
    let unpaid = checkout.list(merchant.context("no merchant")?, Some("pending"), None, 1).await?;
    drop(checkout);
    world.stop_service().await?;
    let bare = bare::measure(&before, &world.database(), CONNECTIONS)?;
    world.end().await?;
    let rate = f64::from(u32::try_from(count)?) / took.as_secs_f64();
    let what = "notices per second, HTTP, SQLite FULL";
    let (asked, fast) = if plan.long {
        ("at least 5,000/s", rate >= WANTED)
    } else {
        ("5,000/s, or 0.25 of bare", rate >= WANTED || rate >= bare * SHARE)
    };
    let seen = format!("{}/s, {} unpaid; {spread}", whole(rate), unpaid.len());
    Ok(vec![
        Row::new(what, asked, seen, fast && unpaid.is_empty()),
        Row::told("notices: processor time of each", effort_of(count, &before_load, &spent, caller)?),
        Row::told(
            "bare transactions, same rows and bytes",
            format!("{}/s at {CONNECTIONS} a commit; ratio {:.2}", whole(bare), rate / bare),
        ),
    ])
}

/// Processor time of each notice, by who spent it.
fn effort_of(
    count: usize,
    before: &BTreeMap<String, Duration>,
    after: &BTreeMap<String, Duration>,
    caller: Duration,
) -> anyhow::Result<String> {
    let count = u32::try_from(count)?;
    let spent = |name: &str| {
        let at = |threads: &BTreeMap<String, Duration>| threads.get(name).copied().unwrap_or_default();
        at(after).saturating_sub(at(before))
    };
    let all: Duration = after.keys().map(|name| spent(name)).sum();
    let writer = spent("sqlite-writer");
    let each = |time: Duration| (time / count).as_micros();
    let rest = all.saturating_sub(writer);
    let (writer, rest, caller) = (each(writer), each(rest), each(caller));
    Ok(format!("writer {writer} us, service's rest and webhooks {rest} us, caller {caller} us"))
}

fn whole(rate: f64) -> String {
    format!("{rate:.0}").parse().map_or_else(|_| format!("{rate:.0}"), thousands)
}

/// Orders with a code each, and the notice that each is paid, signed beforehand.
pub async fn seed(world: &World, checkout: &Checkout, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let gateways = Gateways::new(&world.known)?;
    stream::iter(0..count)
        .map(|index| one(world, checkout, &gateways, index))
        .buffered(256)
        .try_collect()
        .await
}

async fn one(
    world: &World,
    checkout: &Checkout,
    gateways: &Gateways,
    index: usize,
) -> anyhow::Result<Vec<u8>> {
    let (scene, path) = if index.is_multiple_of(2) { (Scene::Native, "wx") } else { (Scene::QrCode, "ali") };
    let channel = scene.channel();
    let now = checkout.now();
    let total = Fen::new(100)?;
    let number = OrderNumber::new(format!("N{index:07}"))?;
    let merchants = checkout.merchants();
    let member = merchants.iter().next().context("no merchant")?;
    let key = OrderKey { merchant: member.config.id.clone(), order_type: OrderType::Order, number };
    let expires_at = Some(now.plus(7_200_000));
    let terms = Terms {
        title: Title::new("torture")?,
        total,
        expires_at,
        return_url: None,
        buyer: None,
        attach: None,
        locale: None,
    };
    let (order, _) = checkout.create(Wanted { key, terms, expires_in: None }).await?;
    let notify_url = format!("http://{}/rest/pub/{path}/pay_notify", world.service);
    let request = gateway::Terms {
        scene,
        title: "torture".to_owned(),
        total,
        notify_url: notify_url.clone(),
        time_expire: now.plus(7_200_000),
        client_ip: "127.0.0.1".to_owned(),
        visit: gateway::Visit::default(),
    };
    let account = member.gateway(channel).context("no gateway")?.account().to_owned();
    let request = serde_json::to_string(&request)?;
    let attempt = NewAttempt { scene, payer: None, account, request, expires_at: now.plus(7_200_000) };
    // Their sweep is due an hour from now: it is not what is measured.
    let later = now.plus(3_600_000);
    let opened =
        checkout.store().open_attempt(order.id, attempt, checkout.merchants().policies(), later).await??;
    let code = Code {
        content: format!("weixin://wxpay/bizpayurl?pr={index}"),
        prepay_id: Some(format!("wx{index}")),
        until: None,
    };
    checkout.apply(order.id, Event::Ready { trade: opened.trade.clone(), code }).await?;
    let standing = Standing {
        out_trade_no: opened.trade.out_trade_no,
        total,
        title: "torture".to_owned(),
        scene,
        transaction_id: Some(TransactionId::new(format!("4200000020261123{index:012}"))?),
        payer: Some("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o".to_owned()),
        created_at: now,
        paid_at: Some(now),
        state: TradeState::Success,
        refunded: None,
        echo: Vec::new(),
    };
    let stamp = Stamp { now: Clock::real(), nonce: random::base62(32)? };
    let id = format!("20261123{index:026}");
    Ok(wire(&gateways.of(channel, Signer::Gateway).encode_notice(&standing, &notify_url, &id, &stamp)))
}

/// What a load took.
struct Loaded {
    took: Duration,
    spread: Spread,
    /// Processor time of the caller itself.
    caller: Duration,
}

/// Sends all of them, each once, and takes the time.
async fn load(service: std::net::SocketAddr, notices: Arc<Vec<Vec<u8>>>) -> anyhow::Result<Loaded> {
    // A thread and a runtime of its own: the service's threads are the service's.
    let thread = std::thread::Builder::new().name(CALLER.to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let next = Arc::new(AtomicUsize::new(0));
            let watch = Stopwatch::start();
            let senders = (0..CONNECTIONS).map(|_| sender(service, notices.clone(), next.clone()));
            let spreads = futures_util::future::try_join_all(senders).await?;
            let mut spread = Spread::default();
            for one in spreads {
                spread.merge(one);
            }
            let caller = effort::by_thread().remove(CALLER).unwrap_or_default();
            anyhow::Ok(Loaded { took: watch.elapsed(), spread, caller })
        })
    })?;
    let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
    joined.map_err(|_| anyhow::anyhow!("the caller's thread panicked"))?
}

async fn sender(
    service: std::net::SocketAddr,
    notices: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicUsize>,
) -> anyhow::Result<Spread> {
    let mut line = Line::open(service).await?;
    let mut spread = Spread::default();
    while let Some(notice) = notices.get(next.fetch_add(1, Ordering::Relaxed)) {
        let watch = Stopwatch::start();
        let answer = line.exchange(notice).await?;
        spread.add(watch.elapsed());
        ensure!(answer.is_success(), "a notice was answered {}", String::from_utf8_lossy(&answer.body));
    }
    Ok(spread)
}
