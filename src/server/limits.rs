//! How often strangers may ask: token buckets by address, for what can be guessed or what costs others work.
//! Never slows down who has a right: a known key, token or page passes, however many wrong ones came
//! from the same address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use ipnet::IpNet;

use super::capability::hash;
use super::error::ApiError;
use crate::domain::id::{PadId, UnixMillis};
use crate::runtime::clock::Clock;
use crate::runtime::listen::PeerAddr;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Pushes without a key: each may place an attempt at a gateway.
    AnonymousPush,
    /// Pages that are not there.
    UnknownPage,
    /// Order numbers that are not there, where a number is enough.
    UnknownNumber,
    /// Keys and tokens that nobody knows, neither we nor the mall.
    WrongKey,
    /// What WeChat sends browsers back with: asking whose it is takes our secret, and is counted there.
    OpenidCode,
    /// Codes that pair a tablet, right or wrong: they are short.
    PairingCode,
    /// PINs of staff that were wrong, by tablet: they are shorter still.
    PadPin,
    /// Notices that are not trusted and are kept all the same; all senders together.
    UntrustedNotice,
}

/// So many at once, and one more each so many ms.
struct Rate {
    burst: i64,
    each_ms: i64,
}

impl Rule {
    const fn rate(self) -> Rate {
        match self {
            // Shoppers of one provider share an address.
            Self::AnonymousPush => Rate { burst: 120, each_ms: 500 },
            Self::UnknownPage | Self::WrongKey => Rate { burst: 20, each_ms: 3_000 },
            Self::UnknownNumber => Rate { burst: 20, each_ms: 10_000 },
            // Once for each shopper; those of one provider share an address.
            Self::OpenidCode => Rate { burst: 60, each_ms: 1_000 },
            Self::PairingCode => Rate { burst: 10, each_ms: 30_000 },
            Self::PadPin => Rate { burst: 5, each_ms: 60_000 },
            Self::UntrustedNotice => Rate { burst: 600, each_ms: 100 },
        }
    }

    /// Whether a hit is refused as well once the misses are used up: else guessing would go on to tell
    /// which numbers are there.
    const fn hides_hits(self) -> bool {
        matches!(self, Self::UnknownNumber)
    }
}

/// Who asks, as far as it is counted: an address of a person's is one, and a network of theirs is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Visitor {
    V4(Ipv4Addr),
    /// The first 64 bits: the rest is the visitor's own to choose.
    V6(u64),
    /// A tablet, by the hash of its name, wherever it asks from.
    Pad([u8; 32]),
    Everybody,
}

impl Visitor {
    fn of(pad: &PadId) -> Self {
        Self::Pad(hash(pad.as_str()))
    }
}

impl From<Option<IpAddr>> for Visitor {
    fn from(address: Option<IpAddr>) -> Self {
        match address {
            None => Self::Everybody,
            Some(IpAddr::V4(ip)) => Self::V4(ip),
            Some(IpAddr::V6(ip)) => Self::V6(u64::try_from(ip.to_bits() >> 64).unwrap_or(u64::MAX)),
        }
    }
}

/// Buckets kept at the same time.
const BUCKETS_MAX: usize = 50_000;
/// How often is said that untrusted notices are not kept.
const TELL_MS: i64 = 60_000;

/// Come back after so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(u32);

impl From<Wait> for ApiError {
    fn from(wait: Wait) -> Self {
        Self::rate_limited(wait.0)
    }
}

/// What strangers have asked lately. Without a clock there are no limits.
pub struct Limits {
    clock: Option<Clock>,
    proxies: Vec<IpNet>,
    /// When each bucket will be full again; one that is full is not there.
    full_at: Mutex<HashMap<(Rule, Visitor), UnixMillis>>,
    unkept: Mutex<Unkept>,
}

/// Notices that were answered and not kept.
#[derive(Default)]
struct Unkept {
    count: u64,
    told_at: UnixMillis,
}

impl Limits {
    /// `proxies` may say for whom they ask.
    pub fn new(clock: Clock, proxies: Vec<IpNet>) -> Self {
        Self { clock: Some(clock), proxies, ..Self::none() }
    }

    /// For the demo, where everything comes from one machine.
    pub fn none() -> Self {
        Self { clock: None, proxies: Vec::new(), full_at: Mutex::default(), unkept: Mutex::default() }
    }

    /// Counts a guess, before anybody says whether it is right.
    ///
    /// # Errors
    /// Too many: it is not to be looked into.
    pub fn guess(&self, rule: Rule, request: &Request) -> Result<(), Wait> {
        self.take(rule, self.visitor(request))
    }

    /// Counts what was typed at a tablet, before anybody says whether it is right.
    ///
    /// # Errors
    /// Too many wrong ones: it is not to be looked into.
    pub fn guess_at(&self, rule: Rule, pad: &PadId) -> Result<(), Wait> {
        self.take(rule, Visitor::of(pad))
    }

    /// It was right: what was wrong before does not count any more.
    pub fn guessed_at(&self, rule: Rule, pad: &PadId) {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        full_at.remove(&(rule, Visitor::of(pad)));
    }

    /// Whether an untrusted notice is to be kept. Those that are not are counted, and said in one line.
    pub fn keep_untrusted(&self) -> bool {
        let Some(clock) = &self.clock else { return true };
        let now = clock.now();
        let keep = self.take(Rule::UntrustedNotice, Visitor::Everybody).is_ok();
        let mut unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        unkept.count += u64::from(!keep);
        if unkept.count > 0 && now.since(unkept.told_at) >= TELL_MS {
            tracing::warn!(count = unkept.count, "notices that are not trusted were refused and not kept");
            *unkept = Unkept { count: 0, told_at: now };
        }
        keep
    }

    /// Who asks: the other end of the connection, or whom our proxies name. Each proxy adds on the right
    /// whom it heard, so that the first from the right who is none of ours is the visitor.
    pub fn address(&self, peer: Option<PeerAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let mut ip = peer?.0.ip().to_canonical();
        for word in forwarded(headers) {
            if !self.proxies.iter().any(|proxy| proxy.contains(&ip)) {
                break;
            }
            // What cannot be read is no reason to believe what stands before it.
            let Some(named) = address(word) else { break };
            ip = named;
        }
        Some(ip)
    }

    fn visitor(&self, request: &Request) -> Visitor {
        self.address(request.extensions().get().copied(), request.headers()).into()
    }

    /// Takes one for who is at `address`.
    ///
    /// # Errors
    /// [`Wait`]: there is none left.
    pub fn spend(&self, rule: Rule, address: Option<IpAddr>) -> Result<(), Wait> {
        self.take(rule, address.into())
    }

    /// Whether there is something left, and takes nothing.
    fn look(&self, rule: Rule, visitor: Visitor) -> Result<(), Wait> {
        self.count(rule, visitor, false)
    }

    /// Takes one, if there is one left.
    fn take(&self, rule: Rule, visitor: Visitor) -> Result<(), Wait> {
        self.count(rule, visitor, true)
    }

    fn count(&self, rule: Rule, visitor: Visitor, take: bool) -> Result<(), Wait> {
        let Some(clock) = &self.clock else { return Ok(()) };
        let (now, Rate { burst, each_ms }) = (clock.now(), rule.rate());
        let empty = now.plus(burst * each_ms);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not lock anybody out.
        let known = full_at.get(&(rule, visitor)).map_or(now, |at| (*at).clamp(now, empty));
        let next = known.plus(each_ms);
        if next > empty {
            let seconds = (next.since(empty) + 999) / 1_000;
            return Err(Wait(u32::try_from(seconds).unwrap_or(1)));
        }
        if take {
            make_room(&mut full_at, now);
            full_at.insert((rule, visitor), next);
        }
        Ok(())
    }
}

/// Forgets what is full again; if most are still in use, all: who comes from so many addresses is not
/// stopped by counting them, and looking through them each time would be the attack.
fn make_room(full_at: &mut HashMap<(Rule, Visitor), UnixMillis>, now: UnixMillis) {
    if full_at.len() >= BUCKETS_MAX {
        full_at.retain(|_, at| *at > now);
        if full_at.len() > BUCKETS_MAX / 2 {
            full_at.clear();
        }
    }
}

/// The words of `X-Forwarded-For`, from the right.
fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all("x-forwarded-for").into_iter().rev();
    values.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','))
}

/// `192.0.2.1`, `2001:db8::1`, either with a port, and the second in brackets.
fn address(word: &str) -> Option<IpAddr> {
    let word = word.trim();
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
    let ip = bare.parse::<IpAddr>().or_else(|_| word.parse::<SocketAddr>().map(|address| address.ip()));
    ip.ok().map(|ip| ip.to_canonical())
}

/// Layer of routes where something can be guessed: answers that say "not there" are counted, and beyond
/// the rule's rate they say "later" instead.
pub async fn misses(
    State((limits, rule)): State<(Arc<Limits>, Rule)>,
    request: Request,
    next: Next,
) -> Response {
    let visitor = limits.visitor(&request);
    if rule.hides_hits()
        && let Err(wait) = limits.look(rule, visitor)
    {
        return ApiError::from(wait).into_response();
    }
    let response = next.run(request).await;
    if response.status() != StatusCode::NOT_FOUND {
        return response;
    }
    match limits.take(rule, visitor) {
        Ok(()) => response,
        Err(wait) => slowed(response, wait),
    }
}

/// A page stays a page: it says the same to people, and something else to programs.
fn slowed(page: Response, wait: Wait) -> Response {
    let html = |value: &http::HeaderValue| value.as_bytes().starts_with(b"text/html");
    let mut later = ApiError::from(wait).into_response();
    if page.headers().get(header::CONTENT_TYPE).is_some_and(html) {
        let (mut head, body) = page.into_parts();
        head.status = later.status();
        if let Some(seconds) = later.headers_mut().remove(header::RETRY_AFTER) {
            head.headers.insert(header::RETRY_AFTER, seconds);
        }
        return Response::from_parts(head, body);
    }
    later
}

/// An extension of requests whose address has sent too many wrong keys: another unknown one is not even
/// looked into.
#[derive(Clone, Copy, Debug)]
pub struct KeysUsedUp(pub Wait);

/// Layer of routes that take a key: unknown ones are counted, and calls without one where that is allowed.
pub async fn keys(State(limits): State<Arc<Limits>>, mut request: Request, next: Next) -> Response {
    let visitor = limits.visitor(&request);
    if !request.headers().contains_key(header::AUTHORIZATION) {
        return next.run(request).await;
    }
    if let Err(wait) = limits.look(Rule::WrongKey, visitor) {
        request.extensions_mut().insert(KeysUsedUp(wait));
    }
    let response = next.run(request).await;
    if response.status() != StatusCode::UNAUTHORIZED {
        return response;
    }
    limits
        .take(Rule::WrongKey, visitor)
        .map_or_else(|wait| ApiError::from(wait).into_response(), |()| response)
}

/// Layer of routes that may be called without a key: those calls are counted.
pub async fn anonymous(State(limits): State<Arc<Limits>>, request: Request, next: Next) -> Response {
    if !request.headers().contains_key(header::AUTHORIZATION)
        && let Err(wait) = limits.take(Rule::AnonymousPush, limits.visitor(&request))
    {
        return ApiError::from(wait).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::{get, post};
    use tower::ServiceExt as _;

    use super::*;
    use crate::server::error::Kind;

    fn limits(proxies: &[&str]) -> (Arc<Limits>, Clock) {
        let clock = Clock::frozen(UnixMillis(1_000_000));
        let proxies = proxies.iter().map(|word| word.parse().unwrap()).collect();
        (Arc::new(Limits::new(clock.clone(), proxies)), clock)
    }

    fn from(peer: &str, path: &str) -> Request {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(PeerAddr(peer.parse().unwrap()));
        request
    }

    #[test]
    fn who_asks() {
        let (limits, _) = limits(&["10.0.0.0/8", "2001:db8:1::/48"]);
        // Peer, headers, who is counted.
        let cases: &[(&str, &[&str], &str)] = &[
            ("192.0.2.1:5", &[], "192.0.2.1"),
            ("[::ffff:192.0.2.1]:5", &[], "192.0.2.1"),
            // A stranger's word about others is not believed.
            ("192.0.2.1:5", &["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1:5", &[], "10.0.0.1"),
            ("10.0.0.1:5", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1:5", &["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1:5", &["203.0.113.9", "198.51.100.7 , 10.2.3.4"], "198.51.100.7"),
            ("10.0.0.1:5", &["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
            ("10.0.0.1:5", &["203.0.113.9, evil, 10.2.3.4"], "10.2.3.4"),
            ("10.0.0.1:5", &["198.51.100.7:4711"], "198.51.100.7"),
            ("[2001:db8:1::5]:5", &["[2001:db8:2:3::9]:443"], "2001:db8:2:3::"),
            ("10.0.0.1:5", &["2001:db8:2:3:4:5:6:7"], "2001:db8:2:3::"),
        ];
        for (peer, headers, wanted) in cases {
            let mut request = from(peer, "/");
            for value in *headers {
                request.headers_mut().append("x-forwarded-for", value.parse().unwrap());
            }
            let wanted = match wanted.parse().unwrap() {
                IpAddr::V4(ip) => Visitor::V4(ip),
                IpAddr::V6(ip) => Visitor::V6(u64::try_from(ip.to_bits() >> 64).unwrap()),
            };
            assert_eq!(limits.visitor(&request), wanted, "{peer} {headers:?}");
        }
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let (limits, clock) = limits(&[]);
        let (one, other) = (Visitor::V4([1, 1, 1, 1].into()), Visitor::V6(1));
        for _ in 0..20 {
            assert_eq!(limits.look(Rule::WrongKey, one), Ok(()));
            assert_eq!(limits.take(Rule::WrongKey, one), Ok(()));
        }
        assert_eq!(limits.look(Rule::WrongKey, one), Err(Wait(3)));
        assert_eq!(limits.take(Rule::WrongKey, one), Err(Wait(3)));
        assert_eq!(limits.take(Rule::WrongKey, other), Ok(()));
        assert_eq!(limits.take(Rule::UnknownPage, one), Ok(()));
        clock.advance(2_000);
        assert_eq!(limits.take(Rule::WrongKey, one), Err(Wait(1)));
        clock.advance(1_000);
        assert_eq!(limits.take(Rule::WrongKey, one), Ok(()));
        assert_eq!(limits.take(Rule::WrongKey, one), Err(Wait(3)));
        clock.advance(60_000);
        for _ in 0..20 {
            assert_eq!(limits.take(Rule::WrongKey, one), Ok(()));
        }
        assert_eq!(limits.take(Rule::WrongKey, one), Err(Wait(3)));
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let (limits, _) = limits(&[]);
        let visitor = Visitor::V6(1);
        limits.full_at.lock().unwrap().insert((Rule::WrongKey, visitor), UnixMillis(i64::MAX / 2));
        assert_eq!(limits.take(Rule::WrongKey, visitor), Err(Wait(3)));
    }

    #[test]
    fn memory_has_an_end() {
        let (limits, clock) = limits(&[]);
        let entries = || limits.full_at.lock().unwrap().len();
        let visitors = |from: u64, count: usize| (from..).take(count).map(Visitor::V6);
        for visitor in visitors(0, BUCKETS_MAX) {
            limits.take(Rule::WrongKey, visitor).unwrap();
        }
        assert_eq!(entries(), BUCKETS_MAX);
        clock.advance(3_000);
        limits.take(Rule::WrongKey, Visitor::Everybody).unwrap();
        assert_eq!(entries(), 1, "all others are full again");
        for visitor in visitors(1 << 40, 3 * BUCKETS_MAX) {
            limits.take(Rule::WrongKey, visitor).unwrap();
            assert!(entries() <= BUCKETS_MAX);
        }
    }

    #[test]
    fn untrusted_notices_are_kept_ten_a_second() {
        let (limits, clock) = limits(&[]);
        assert_eq!((0..700).filter(|_| limits.keep_untrusted()).count(), 600);
        clock.advance(1_000);
        assert_eq!((0..700).filter(|_| limits.keep_untrusted()).count(), 10);
        assert_eq!(limits.unkept.lock().unwrap().count, 789, "one was said at once");
        clock.advance(60_000);
        assert!(limits.keep_untrusted());
        assert_eq!(limits.unkept.lock().unwrap().count, 0, "the others with the first one a minute later");
        assert!((0..1_000).all(|_| Limits::none().keep_untrusted()));
    }

    async fn status(app: &Router, request: Request) -> (StatusCode, bool) {
        let response = app.clone().oneshot(request).await.unwrap();
        (response.status(), response.headers().contains_key(header::RETRY_AFTER))
    }

    fn guessing(limits: &Arc<Limits>, rule: Rule) -> Router {
        Router::new()
            .route("/here", get(async || "yes"))
            .route("/page", get(async || (StatusCode::NOT_FOUND, axum::response::Html("not here"))))
            .fallback(async || ApiError::new(Kind::OrderNotFound))
            .layer(from_fn_with_state((Arc::clone(limits), rule), misses))
    }

    #[tokio::test]
    async fn guesses_come_to_an_end() {
        for (rule, here) in [
            (Rule::UnknownPage, (StatusCode::OK, false)),
            (Rule::UnknownNumber, (StatusCode::TOO_MANY_REQUESTS, true)),
        ] {
            let (limits, _) = limits(&[]);
            let app = guessing(&limits, rule);
            for _ in 0..20 {
                assert_eq!(status(&app, from("192.0.2.1:1", "/here")).await, (StatusCode::OK, false));
                let guess = status(&app, from("192.0.2.1:1", "/guess")).await;
                assert_eq!(guess, (StatusCode::NOT_FOUND, false));
            }
            let later = (StatusCode::TOO_MANY_REQUESTS, true);
            assert_eq!(status(&app, from("192.0.2.1:1", "/guess")).await, later);
            assert_eq!(status(&app, from("192.0.2.1:1", "/page")).await, later);
            assert_eq!(status(&app, from("192.0.2.1:1", "/here")).await, here, "{rule:?}");
            assert_eq!(status(&app, from("192.0.2.2:1", "/here")).await, (StatusCode::OK, false));
        }
    }

    #[tokio::test]
    async fn a_right_key_passes_however_many_were_wrong() {
        let (limits, _) = limits(&[]);
        let answer = async |request: Request| {
            let right = request.headers().get("authorization").is_some_and(|key| key == "right");
            let used_up = request.extensions().get::<KeysUsedUp>().is_some();
            if right { Ok(used_up.to_string()) } else { Err(ApiError::wrong_key()) }
        };
        let app = Router::new()
            .route("/", post(answer).get(answer))
            .layer(from_fn_with_state(Arc::clone(&limits), anonymous))
            .layer(from_fn_with_state(Arc::clone(&limits), keys));
        let with = |key: &'static str| {
            let mut request = from("192.0.2.1:1", "/");
            if !key.is_empty() {
                request.headers_mut().insert("authorization", key.parse().unwrap());
            }
            request
        };
        for _ in 0..20 {
            assert_eq!(status(&app, with("wrong")).await.0, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(status(&app, with("wrong")).await, (StatusCode::TOO_MANY_REQUESTS, true));
        assert_eq!(status(&app, with("right")).await, (StatusCode::OK, false));
        for _ in 0..120 {
            assert_eq!(status(&app, with("")).await.0, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(status(&app, with("")).await, (StatusCode::TOO_MANY_REQUESTS, true));
        assert_eq!(status(&app, with("right")).await, (StatusCode::OK, false));
    }
}
