//! Outgoing HTTP: the only file that opens connections. No redirects, no proxies from the environment.
//! Never lets a merchant's URL reach a private address that the merchant's configuration does not name:
//! the resolver hands out checked addresses only, so the address that was checked is the one dialled.

mod address;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Identity, redirect};

use address::{allowed, is_public};

pub use address::{Allow, InvalidAllow, may_reach};

/// One way out. What the service asks of it; [`Transport`] is the real one, simulations have their own.
pub trait Wire: Send + Sync {
    /// Sends a request with an absolute URI and gives the answer, whatever its status.
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, SendError>>;
}

/// Makes ways out.
pub trait Dial: Send + Sync {
    /// To the gateways whose base URLs are `urls`, and nowhere else.
    ///
    /// # Errors
    /// [`NoClient`].
    fn gateways(&self, urls: &[&str]) -> Result<Arc<dyn Wire>, NoClient>;

    /// The same, showing a client certificate: `pem` holds it, its chain and its PKCS#8 key.
    ///
    /// # Errors
    /// [`NoClient`]; also if the key is not the certificate's.
    fn with_certificate(&self, urls: &[&str], pem: &[u8]) -> Result<Arc<dyn Wire>, NoClient>;

    /// To a merchant's own servers: webhooks and token checks. Private targets only if `allow` names them.
    ///
    /// # Errors
    /// [`NoClient`].
    fn webhooks(&self, allow: &[Allow]) -> Result<Arc<dyn Wire>, NoClient>;
}

/// Real connections.
#[derive(Clone, Copy, Debug)]
pub struct Internet;

/// A way out, for one kind of peer. Cheap to clone; connections are kept and shared.
#[derive(Clone, Debug)]
pub struct Transport {
    client: reqwest::Client,
    /// For plain http of the webhook kind: reaches named addresses only.
    named_only: reqwest::Client,
    reach: Reach,
    answer: AnswerBody,
}

/// Where a transport may go.
#[derive(Clone, Debug)]
enum Reach {
    /// These `host:port`s.
    Gateways(Arc<[String]>),
    /// Anywhere public over TLS; further and without TLS where it is named.
    Webhooks(Arc<[Allow]>),
    /// Anywhere: the emulator's notices go where the request that placed the trade said.
    Anywhere,
}

/// How much of an answer's body is wanted.
#[derive(Clone, Copy, Debug)]
enum AnswerBody {
    /// All of it; more than the limit is no answer.
    Whole,
    /// The first bytes; the status has said what matters.
    Head,
}

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Resolving, connecting, TLS.
    pub connect: Duration,
    /// From the call to the last byte of the answer.
    pub total: Duration,
}

/// Why there is no answer. The difference matters where money moves: what was not sent may be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Nothing reached the other side.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have arrived; the answer is lost, too long or too late.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// The TLS library could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client could be made")]
pub struct NoClient(#[source] reqwest::Error);

impl Timeouts {
    /// For the gateways: a shopper is waiting.
    pub const GATEWAYS: Self = Self { connect: Duration::from_secs(3), total: Duration::from_secs(10) };
    /// For webhooks: malls may be slow.
    pub const WEBHOOKS: Self = Self { connect: Duration::from_secs(5), total: Duration::from_secs(15) };
    /// For the emulator's notices: WeChat waits five seconds (gateways.md 1.6).
    pub const NOTICES: Self = Self { connect: Duration::from_secs(3), total: Duration::from_secs(5) };
}

impl Transport {
    /// To the gateways whose base URLs are `urls`, and nowhere else.
    ///
    /// # Errors
    /// [`NoClient`].
    pub fn gateways<'a>(
        urls: impl IntoIterator<Item = &'a str>,
        timeouts: Timeouts,
    ) -> Result<Self, NoClient> {
        Ok(Self::to_gateways(urls, client(timeouts, None, None)?))
    }

    /// The same with a client certificate: `pem` holds it, its chain and its PKCS#8 key.
    ///
    /// # Errors
    /// [`NoClient`]; also if the key is not the certificate's.
    pub fn gateways_with_certificate<'a>(
        urls: impl IntoIterator<Item = &'a str>,
        pem: &[u8],
        timeouts: Timeouts,
    ) -> Result<Self, NoClient> {
        let identity = Identity::from_pem(pem).map_err(NoClient)?;
        Ok(Self::to_gateways(urls, client(timeouts, None, Some(&identity))?))
    }

    fn to_gateways<'a>(urls: impl IntoIterator<Item = &'a str>, client: reqwest::Client) -> Self {
        let hosts = urls.into_iter().filter_map(|url| place(&url.parse().ok()?)).collect();
        Self { named_only: client.clone(), client, reach: Reach::Gateways(hosts), answer: AnswerBody::Whole }
    }

    /// To a merchant's own servers: webhooks and token checks.
    ///
    /// # Errors
    /// [`NoClient`].
    pub fn webhooks(allow: &[Allow], timeouts: Timeouts) -> Result<Self, NoClient> {
        let allow: Arc<[Allow]> = allow.into();
        let resolver = |public| Checked { allow: Arc::clone(&allow), public };
        Ok(Self {
            client: client(timeouts, Some(resolver(true)), None)?,
            named_only: client(timeouts, Some(resolver(false)), None)?,
            reach: Reach::Webhooks(allow),
            answer: AnswerBody::Head,
        })
    }

    /// Anywhere. For the emulator, which plays a gateway and has no secrets to lose.
    ///
    /// # Errors
    /// [`NoClient`].
    pub fn anywhere(timeouts: Timeouts) -> Result<Self, NoClient> {
        let client = client(timeouts, None, None)?;
        Ok(Self { named_only: client.clone(), client, reach: Reach::Anywhere, answer: AnswerBody::Whole })
    }

    /// Sends a request with an absolute URI and reads the answer, whatever its status.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        let client = self.client_for(request.uri())?;
        let request = reqwest::Request::try_from(request).map_err(|error| not_sent(&error))?;
        let mut answer = client.execute(request).await.map_err(|error| {
            if error.is_connect() || error.is_builder() { not_sent(&error) } else { unknown(&error) }
        })?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        *response.body_mut() = match self.answer {
            AnswerBody::Whole => whole(answer).await?,
            AnswerBody::Head => head(answer).await,
        };
        Ok(response)
    }

    /// Checks what can be told from the URI; names are checked when they are resolved.
    fn client_for(&self, uri: &http::Uri) -> Result<&reqwest::Client, SendError> {
        let refuse = |why: &str| Err(SendError::NotSent(why.to_owned()));
        match &self.reach {
            Reach::Anywhere => Ok(&self.client),
            Reach::Gateways(places) => match place(uri) {
                Some(place) if places.contains(&place) => Ok(&self.client),
                _ => refuse("not a gateway's address"),
            },
            Reach::Webhooks(allow) => {
                let Some(host) = uri.host() else { return refuse("the URL has no host") };
                let secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
                match host.trim_matches(['[', ']']).parse::<IpAddr>() {
                    Ok(ip) if allowed(allow, ip) => Ok(&self.client),
                    Ok(ip) if !is_public(ip) => refuse("a private address that webhook_allow does not name"),
                    Ok(_) if !secure => refuse("plain http to an address that webhook_allow does not name"),
                    Ok(_) => Ok(&self.client),
                    Err(_) if secure => Ok(&self.client),
                    Err(_) => Ok(&self.named_only),
                }
            }
        }
    }
}

impl Wire for Transport {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, SendError>> {
        Box::pin(self.send(request))
    }
}

impl Dial for Internet {
    fn gateways(&self, urls: &[&str]) -> Result<Arc<dyn Wire>, NoClient> {
        Ok(Arc::new(Transport::gateways(urls.iter().copied(), Timeouts::GATEWAYS)?))
    }

    fn with_certificate(&self, urls: &[&str], pem: &[u8]) -> Result<Arc<dyn Wire>, NoClient> {
        let urls = urls.iter().copied();
        Ok(Arc::new(Transport::gateways_with_certificate(urls, pem, Timeouts::GATEWAYS)?))
    }

    fn webhooks(&self, allow: &[Allow]) -> Result<Arc<dyn Wire>, NoClient> {
        Ok(Arc::new(Transport::webhooks(allow, Timeouts::WEBHOOKS)?))
    }
}

/// Resolves names and keeps the addresses that may be dialled.
struct Checked {
    allow: Arc<[Allow]>,
    /// Whether public addresses are fine without being named.
    public: bool,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (allow, public) = (Arc::clone(&self.allow), self.public);
        Box::pin(async move {
            let named = allow.iter().any(|entry| match entry {
                Allow::Host(host) => host.eq_ignore_ascii_case(name.as_str()),
                Allow::Net(_) => false,
            });
            let fine = |ip| named || allowed(&allow, ip) || (public && is_public(ip));
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|address| fine(address.ip()))
                .collect();
            if addresses.is_empty() {
                return Err("resolves to addresses that webhook_allow does not name".into());
            }
            Ok::<Addrs, _>(Box::new(addresses.into_iter()))
        })
    }
}

/// `host:port` of a URI, lower case, with the scheme's port where none stands.
fn place(uri: &http::Uri) -> Option<String> {
    let port = uri.port_u16().or_else(|| match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    })?;
    Some(format!("{}:{port}", uri.host()?.to_ascii_lowercase()))
}

async fn whole(mut answer: reqwest::Response) -> Result<Bytes, SendError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unknown(&error))? {
        if body.len() + chunk.len() > WHOLE_MAX {
            return Err(SendError::Unknown(format!("the answer is longer than {WHOLE_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The first bytes, as far as they come: a mall that answers 200 and then drips has still answered 200.
async fn head(mut answer: reqwest::Response) -> Bytes {
    let mut body = BytesMut::new();
    let fill = async {
        while let Ok(Some(chunk)) = answer.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= HEAD_MAX {
                break;
            }
        }
    };
    // Whatever has come by then is enough.
    let _ = tokio::time::timeout(HEAD_WAIT, fill).await;
    body.truncate(HEAD_MAX);
    body.freeze()
}

fn client(
    timeouts: Timeouts,
    resolver: Option<Checked>,
    identity: Option<&Identity>,
) -> Result<reqwest::Client, NoClient> {
    let resolver = resolver.map(Arc::new);
    let builder = || {
        #[expect(clippy::disallowed_methods, reason = "the one legal maker of clients")]
        let builder = reqwest::Client::builder()
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.total)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .user_agent(concat!("shouyin/", env!("CARGO_PKG_VERSION")));
        let builder = match &resolver {
            Some(resolver) => builder.dns_resolver(Arc::clone(resolver)),
            None => builder,
        };
        match identity {
            Some(identity) => builder.identity(identity.clone()),
            None => builder,
        }
    };
    builder().build().or_else(|error| {
        // A machine without any root certificate can still run the demo; everything over TLS will fail.
        tracing::warn!(error = chain(&error), "no root certificates: https will not work");
        builder().tls_certs_only([]).build().map_err(NoClient)
    })
}

fn not_sent(error: &reqwest::Error) -> SendError {
    SendError::NotSent(chain(error))
}

fn unknown(error: &reqwest::Error) -> SendError {
    SendError::Unknown(chain(error))
}

/// The whole chain of causes without the URL, which may hold what logs must not.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the exchange broke"
    }
    .to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Bytes of an answer that is wanted whole.
const WHOLE_MAX: usize = 1024 * 1024;
/// Bytes of an answer of which the status is wanted.
const HEAD_MAX: usize = 4096;
/// How long those may take after the status.
const HEAD_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const QUICK: Timeouts =
        Timeouts { connect: Duration::from_millis(500), total: Duration::from_millis(700) };

    /// Takes connections, reads a request, says `answer` and closes, or waits if there is nothing to say.
    async fn peer(answer: Option<&'static [u8]>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    assert_ne!(stream.read(&mut request).await.unwrap(), 0);
                    match answer {
                        Some(answer) => stream.write_all(answer).await.ok(),
                        None => std::future::pending().await,
                    };
                });
            }
        });
        address
    }

    async fn get(transport: &Transport, url: &str) -> Result<Response<Bytes>, SendError> {
        transport.send(Request::get(url).body(Bytes::new()).unwrap()).await
    }

    fn gateways(address: SocketAddr) -> (Transport, String) {
        let url = format!("http://{address}/pay");
        (Transport::gateways([url.as_str()], QUICK).unwrap(), url)
    }

    fn webhooks(allow: &[&str]) -> Transport {
        let allow: Vec<Allow> = allow.iter().map(|text| text.parse().unwrap()).collect();
        Transport::webhooks(&allow, QUICK).unwrap()
    }

    #[tokio::test]
    async fn an_answer_comes_back_whole() {
        let address = peer(Some(b"HTTP/1.1 418 Tea\r\ncontent-length: 3\r\nx-a: b\r\n\r\nyes")).await;
        let (transport, url) = gateways(address);
        let answer = get(&transport, &url).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (418, b"yes".as_ref()));
        assert_eq!(answer.headers()["x-a"], "b");
    }

    #[tokio::test]
    async fn a_refused_port_means_not_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (transport, url) = gateways(listener.local_addr().unwrap());
        drop(listener);
        assert!(matches!(get(&transport, &url).await, Err(SendError::NotSent(_))));
        let nowhere = Transport::gateways(["http://no-such-host.invalid/"], QUICK).unwrap();
        assert!(matches!(get(&nowhere, "http://no-such-host.invalid/").await, Err(SendError::NotSent(_))));
    }

    #[tokio::test]
    async fn a_broken_or_late_answer_is_unknown() {
        let cut: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\nhalf";
        for answer in [Some(b"".as_ref()), Some(cut), None] {
            let (transport, url) = gateways(peer(answer).await);
            let result = get(&transport, &url).await;
            assert!(matches!(result, Err(SendError::Unknown(_))), "{answer:?} {result:?}");
        }
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let moved = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (transport, url) = gateways(peer(Some(moved)).await);
        assert_eq!(get(&transport, &url).await.unwrap().status(), 302);
    }

    #[tokio::test]
    async fn a_gateway_client_goes_nowhere_else() {
        let (transport, _) = gateways(peer(None).await);
        let result = get(&transport, "http://127.0.0.1:9/pay").await;
        assert_eq!(result.unwrap_err(), SendError::NotSent("not a gateway's address".into()));
    }

    #[tokio::test]
    async fn long_answers() {
        let long: &'static [u8] =
            Box::leak([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 2 * WHOLE_MAX]].concat().into());
        let address = peer(Some(long)).await;
        let (transport, url) = gateways(address);
        assert!(matches!(get(&transport, &url).await, Err(SendError::Unknown(_))));
        let answer = get(&webhooks(&["127.0.0.1"]), &url).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().len()), (200, HEAD_MAX));
    }

    #[tokio::test]
    async fn webhooks_reach_private_addresses_only_by_name() {
        let address = peer(Some(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
        let (ip, name) = (format!("http://{address}/"), format!("http://localhost:{}/", address.port()));
        let mapped = format!("http://[::ffff:127.0.0.1]:{}/", address.port());
        for (allow, url, fine) in [
            (&[][..], &ip, false),
            (&[][..], &name, false),
            (&[][..], &mapped, false),
            (&["10.0.0.0/8", "example.com"][..], &ip, false),
            (&["10.0.0.0/8", "example.com"][..], &name, false),
            (&["127.0.0.1"][..], &ip, true),
            (&["127.0.0.0/8"][..], &name, true),
            (&["localhost"][..], &name, true),
            (&["localhost"][..], &ip, false),
        ] {
            let result = get(&webhooks(allow), url).await;
            match &result {
                Ok(_) => assert!(fine, "{allow:?} {url}"),
                Err(error) => {
                    assert!(!fine && matches!(error, SendError::NotSent(_)), "{allow:?} {url} {error}");
                }
            }
        }
    }
    #[test]
    fn a_client_certificate_must_have_its_own_key() {
        let make = || rcgen::generate_simple_self_signed(vec!["merchant.example".to_owned()]).unwrap();
        let (own, other) = (make(), make());
        let dial = |key: &rcgen::CertifiedKey<rcgen::KeyPair>| {
            let pem = own.cert.pem() + &key.signing_key.serialize_pem();
            Internet.with_certificate(&["https://gateway.example"], pem.as_bytes()).map(drop)
        };
        assert!(dial(&own).is_ok());
        assert!(dial(&other).is_err());
        assert!(Internet.with_certificate(&["https://gateway.example"], b"no certificate").is_err());
    }
}
