//! `shouyin demo`: service, both gateways and a small mall in one process, on one clock.
//! Never a shortcut between them: they talk over HTTP, sign and verify as they would with strangers.
//! Everything it keeps lies in `--data` and survives kill -9.

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use anyhow::Context as _;
use axum::response::Redirect;
use axum::routing::get;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::credentials::{Addresses, Credentials};
use super::mall::{Mall, MallConfig};
use super::{Emulator, EmulatorConfig, PAY_DIRECTORY, bind, credentials, mall_pages};
use crate::domain::id::{InvalidId, MerchantId, OrderKey, OrderNumber, OrderType, Title};
use crate::domain::money::Fen;
use crate::domain::order::Terms;
use crate::domain::refund::{DuplicatePayment, LatePayment, Policy};
use crate::gateway::keys::{PublicKey, Secret};
use crate::gateway::wechat_v2::SignType;
use crate::runtime::clock::Clock;
use crate::runtime::transport::Allow;
use crate::server::capability;
use crate::server::checkout::{Checkout, CheckoutError, Wanted};
use crate::server::config::{
    AlipayConfig, Config, GatewaysConfig, MerchantConfig, ServerConfig, StoreConfig, WechatApi, WechatConfig,
};
use crate::server::limits::Limits;
use crate::server::service;

/// `shouyin demo …` (contract.md 2).
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Where the service and the mall listen.
    #[arg(long, default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,
    /// Where both gateways listen.
    #[arg(long, default_value = "127.0.0.1:3001")]
    pub emulator_listen: SocketAddr,
    /// Where the phone, the ledger, the faults and the clock are. It moves the invented money: keep it on
    /// this machine.
    #[arg(long, default_value = "127.0.0.1:3002")]
    pub control_listen: SocketAddr,
    /// Where everything is kept.
    #[arg(long, default_value = "data/demo")]
    pub data: PathBuf,
    /// WeChat's protocol for placing orders.
    #[arg(long, default_value = "v2", value_parser = wechat_api)]
    pub wechat_api: WechatApi,
    /// Sends the webhooks to your mall instead of the demo's.
    #[arg(long)]
    pub webhook_url: Option<Url>,
    /// What staff type at a tablet, 4 to 8 digits; without it nothing is asked.
    #[arg(long, value_parser = pad_pin)]
    pub pad_pin: Option<Secret>,
}

/// Runs the demo until `shutdown`, then lets the service finish before its gateways go.
///
/// # Errors
/// Whatever stops the start, with the cure.
pub async fn run(args: DemoArgs, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    let (listener, address) = bind(args.listen).await?;
    let (protocol, protocol_address) = bind(args.emulator_listen).await?;
    let (control, control_address) = bind(args.control_listen).await?;
    std::fs::create_dir_all(&args.data).with_context(|| format!("cannot make {}", args.data.display()))?;
    let clock = Clock::system(0);
    let emulator = Emulator::new(
        &EmulatorConfig {
            data: args.data.clone(),
            addresses: Addresses {
                service: Some(address),
                protocol: protocol_address,
                tls: None,
                control: control_address,
            },
            payee: PAYEE.to_owned(),
            domain: None,
            pay_directory: PAY_DIRECTORY.to_owned(),
        },
        clock.clone(),
    )?;
    let known = emulator.credentials().clone();
    let base_url = credentials::url(address);
    let config = config(&args, &known, address, &base_url)?;
    let checkout = service::open(&config, clock.clone()).await?;
    let examples = seed(&checkout).await?;
    let mall = Mall::new(
        MallConfig {
            service: base_url.clone(),
            api_key: Secret::new(known.merchant.api_key.clone()),
            webhook_secret: Secret::new(known.merchant.webhook_secret.clone()),
        },
        &args.data,
        clock,
    )?;
    let phone = format!("{}/phone", known.control_url);
    let extra = mall_pages::router(mall, phone).route("/", get(async || Redirect::temporary("/mall")));
    // Nobody may be listening.
    announce(&base_url, &known, &examples).ok();

    let stop = CancellationToken::new();
    let gateways = tokio::spawn(emulator.serve(protocol, control, stop.clone().cancelled_owned()));
    let served = service::run(checkout, Limits::none(), listener, extra, shutdown).await;
    // Only now: the service may have been asking them until its end.
    stop.cancel();
    gateways.await??;
    Ok(served?)
}

fn wechat_api(word: &str) -> Result<WechatApi, String> {
    match word {
        "v3" => Err("v3 is not built yet; use v2".to_owned()),
        _ => word.parse().map_err(|error: InvalidId| error.to_string()),
    }
}

fn pad_pin(word: &str) -> Result<Secret, &'static str> {
    let right = (4..=8).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit());
    if right { Ok(Secret::new(word)) } else { Err("write 4 to 8 digits") }
}

/// What an operator would write into `shouyin.toml`.
fn config(
    args: &DemoArgs,
    known: &Credentials,
    listen: SocketAddr,
    base_url: &str,
) -> anyhow::Result<Config> {
    Ok(Config {
        server: ServerConfig {
            listen,
            public_base_url: base_url.to_owned(),
            trusted_proxies: Vec::new(),
            admin_listen: None,
        },
        store: StoreConfig::Sqlite(args.data.join("shouyin.db")),
        gateways: GatewaysConfig {
            wechat_pay: known.emulator_url.clone(),
            wechat_api: known.emulator_url.clone(),
            wechat_open: known.emulator_url.clone(),
            alipay: known.alipay.gateway_url.clone(),
        },
        merchants: vec![Arc::new(merchant(args, known, base_url)?)],
        secret: credentials::own_secret(&args.data)?,
    })
}

/// The one merchant of the demo, with both gateways.
fn merchant(args: &DemoArgs, known: &Credentials, base_url: &str) -> anyhow::Result<MerchantConfig> {
    let webhook_url = match &args.webhook_url {
        Some(url) => url.clone(),
        None => Url::parse(&format!("{base_url}/mall/webhook"))?,
    };
    let host = webhook_url.host_str().context("--webhook-url has no host")?;
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(MerchantConfig {
        id: MerchantId::new(known.merchant.id.clone())?,
        name: PAYEE.to_owned(),
        support: None,
        locale: "zh-CN".to_owned(),
        hosts: Vec::new(),
        api_key_sha256: vec![capability::hash(&known.merchant.api_key)],
        // Whoever starts the demo may name any target; shoppers cannot.
        webhook_allow: vec![Allow::from_str(host).context("--webhook-url has no usable host")?],
        webhook_url: Some(webhook_url),
        webhook_secret: Some(Secret::new(known.merchant.webhook_secret.clone())),
        allowed_origins: Vec::new(),
        embed_origins: Vec::new(),
        return_after_s: None,
        anonymous_push_order: true,
        token_check_url: None,
        pad_pin: args.pad_pin.clone(),
        policy: Policy { late: LatePayment::Refund, duplicate: DuplicatePayment::Refund },
        wechat: Some(WechatConfig {
            app_id: known.wechat.app_id.clone(),
            app_secret: Some(Secret::new(known.wechat.app_secret.clone())),
            mch_id: known.wechat.mch_id.clone(),
            api: args.wechat_api,
            api_v2_key: Secret::new(known.wechat.api_v2_key.clone()),
            sign_type: SignType::Md5,
            api_v3_key: None,
            merchant_serial: Some(known.wechat.merchant_serial.clone()),
            merchant_private_key: Some(known.merchant_private_key()?),
            merchant_certificate: Some(read(&known.wechat.merchant_certificate_file)?),
            platform_public_keys: Vec::new(),
            platform_certificates: Vec::new(),
        }),
        alipay: Some(AlipayConfig {
            app_id: known.alipay.app_id.clone(),
            seller_id: known.alipay.seller_id.clone(),
            app_private_key: known.app_private_key()?,
            alipay_public_key: PublicKey::read(&read(&known.alipay.alipay_public_key_file)?)?,
        }),
    })
}

/// The orders of the README's examples; they never expire. Returns their pages.
async fn seed(checkout: &Checkout) -> anyhow::Result<Vec<(OrderKey, String)>> {
    let mut pages = Vec::new();
    for (order_type, number, title, fen) in SEEDS {
        let key = OrderKey {
            merchant: MerchantId::new("demo")?,
            order_type: *order_type,
            number: OrderNumber::new(*number)?,
        };
        let terms = Terms {
            title: Title::new(*title)?,
            total: Fen::new(*fen)?,
            expires_at: None,
            return_url: None,
            buyer: None,
            attach: None,
            locale: None,
        };
        match checkout.create(Wanted { key: key.clone(), terms, expires_in: None }).await {
            Ok(_) => pages.push((key.clone(), checkout.checkout_url(&key))),
            // Somebody made it first: theirs stands.
            Err(CheckoutError::Different(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(pages)
}

fn announce(base_url: &str, known: &Credentials, examples: &[(OrderKey, String)]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Shouyin is running; nothing here moves real money.\n")?;
    writeln!(out, "  buy something      {base_url}/mall")?;
    writeln!(out, "  pay with           {}/phone", known.control_url)?;
    for (key, page) in examples {
        writeln!(out, "  {:<18} {page}", format!("{} {}", key.order_type, key.number))?;
    }
    writeln!(out, "  both gateways      {}", known.emulator_url)?;
    writeln!(out, "  why refused?       {}/log", known.control_url)?;
    writeln!(out, "  for scripts        {}\n", known.file().display())?;
    writeln!(out, "Stop it with Ctrl-C; start it again and everything is still there.")?;
    out.flush()
}

const PAYEE: &str = "示例商城";

/// Type, number, title, fen. The first two are contract.md 4's; one number may stand under each type.
const SEEDS: &[(OrderType, &str, &str, i64)] = &[
    (OrderType::Order, "12346", "DEMO", 11),
    (OrderType::Order, "1234", "DEMO", 1110),
    (OrderType::Wallet, "12346", "余额充值", 5000),
    (OrderType::Appointment, "12346", "茶艺课预约", 6600),
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use serde_json::{Value, json};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::runtime::transport::{Timeouts, Transport};

    /// A demo from outside: what a script knows is `credentials.json`.
    struct Running {
        known: Credentials,
        web: Transport,
        stop: oneshot::Sender<()>,
        ended: JoinHandle<anyhow::Result<()>>,
    }

    impl Running {
        async fn start(data: &Path) -> Self {
            let any: SocketAddr = ([127, 0, 0, 1], 0).into();
            let args = DemoArgs {
                listen: any,
                emulator_listen: any,
                control_listen: any,
                data: data.to_owned(),
                wechat_api: WechatApi::V2,
                webhook_url: None,
                pad_pin: None,
            };
            let file = data.join("credentials.json");
            let before = std::fs::read(&file).ok();
            let (stop, stopped) = oneshot::channel::<()>();
            let ended = tokio::spawn(run(args, async move {
                stopped.await.ok();
            }));
            let text = until("the demo starts", async || {
                assert!(!ended.is_finished(), "the demo did not start");
                std::fs::read(&file).ok().filter(|text| Some(text) != before.as_ref())
            })
            .await;
            let known = serde_json::from_slice(&text).unwrap();
            Self { known, web: Transport::anywhere(Timeouts::GATEWAYS).unwrap(), stop, ended }
        }

        async fn send(&self, method: &str, url: &str, body: &str) -> Option<Response<Bytes>> {
            let request = Request::builder().method(method).uri(url).body(Bytes::from(body.to_owned()));
            self.web.send(request.unwrap()).await.ok()
        }

        async fn ask(&self, method: &str, url: &str, body: Value) -> Value {
            let answer = until("an answer", async || self.send(method, url, &body.to_string()).await).await;
            serde_json::from_slice(answer.body()).unwrap()
        }

        fn base(&self) -> &str {
            self.known.base_url.as_deref().unwrap()
        }

        async fn push(&self, number: &str) -> String {
            let body = json!({ "order_type": "Order", "order_number": number, "type": "NATIVE" });
            let pushed = self.ask("POST", &format!("{}/rest/wx/push_order", self.base()), body).await;
            pushed["data"]["codeUrl"].as_str().unwrap_or_else(|| panic!("{pushed}")).to_owned()
        }

        async fn listed(&self) -> Vec<Value> {
            let listed = self.ask("GET", &format!("{}/mall/orders.json", self.base()), Value::Null).await;
            listed["orders"].as_array().unwrap().clone()
        }

        async fn stop(self) {
            self.stop.send(()).unwrap();
            self.ended.await.unwrap().unwrap();
        }
    }

    async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
        for _ in 0..1000 {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not within 20 s: {what}");
    }

    #[tokio::test]
    async fn a_code_is_paid_and_the_mall_learns_of_it_once() {
        let data = tempfile::tempdir().unwrap();
        let demo = Running::start(data.path()).await;
        let code = demo.push("12346").await;
        assert_eq!(demo.push("12346").await, code, "the code stays");
        let pay = format!("{}/pay", demo.known.control_url);
        let paid = demo.ask("POST", &pay, json!({ "code": code, "copies": 8 })).await;
        assert_eq!(paid["data"]["total_fee"], 11, "{paid}");
        let told = until("the mall is told", async || demo.listed().await.into_iter().next()).await;
        assert_eq!((&told["order_number"], &told["state"]), (&json!("12346"), &json!("paid")));
        assert_eq!(told["events"].as_array().unwrap().len(), 1, "{told}");

        let bought = demo.send("POST", &format!("{}/mall/buy", demo.base()), "sku=nothing").await.unwrap();
        assert_eq!(bought.status(), 415, "forms say that they are forms");
        let front = demo.send("GET", &format!("{}/", demo.base()), "").await.unwrap();
        assert_eq!(front.headers()["location"], "/mall");
        demo.stop().await;

        let demo = Running::start(data.path()).await;
        assert_eq!(demo.listed().await, [told], "the mall's list is kept");
        demo.stop().await;
    }
}
