//! What the browser keeps while WeChat says who it is: a sealed cookie for each time it was sent there,
//! and one that holds the `openid`. Never says an `openid`; never believes a cookie that was not sealed here.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, header};

use crate::domain::id::{OrderKey, Payer, UnixMillis};
use crate::runtime::random;
use crate::server::sealing::{Purpose, Sealing};

/// Letters and digits of a state: 128 bits, and all that WeChat takes.
const STATE_LEN: usize = 22;
/// How long the way to WeChat and back may take.
const STATE_LIFE_MS: i64 = 10 * 60_000;
/// How many of those ways a browser may be on at the same time; each tab and order has its own.
const WAYS_MAX: usize = 8;
/// How long an `openid` is kept.
const PAYER_LIFE_MS: i64 = 2 * 3_600_000;
/// States that are remembered as used, in this process. Those that are forgotten too early, or with the
/// process, are still held up: only who kept the sealed cookie has the state, and the code that came with it
/// is taken by WeChat once, so that it says nobody's `openid` a second time.
const USED_MAX: usize = 50_000;

/// The cookies of one request.
pub struct Browser<'a> {
    headers: &'a HeaderMap,
    sealing: &'a Sealing,
    https: bool,
    now: UnixMillis,
}

/// States that came back. Each is good for one time.
#[derive(Default)]
pub struct Used(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    known: HashSet<String>,
    /// In the order in which they came, with their ends.
    ends: VecDeque<(UnixMillis, String)>,
}

impl Used {
    /// `false`: it was used before.
    fn take(&self, state: &str, now: UnixMillis) -> bool {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Recent { known, ends } = &mut *recent;
        while ends.front().is_some_and(|(end, _)| *end < now || ends.len() >= USED_MAX) {
            if let Some((_, old)) = ends.pop_front() {
                known.remove(&old);
            }
        }
        let fresh = known.insert(state.to_owned());
        if fresh {
            ends.push_back((now.plus(STATE_LIFE_MS), state.to_owned()));
        }
        fresh
    }
}

impl<'a> Browser<'a> {
    /// Of a request to `public_base_url`.
    pub fn new(headers: &'a HeaderMap, sealing: &'a Sealing, public_base_url: &str, now: UnixMillis) -> Self {
        Self { headers, sealing, https: public_base_url.starts_with("https://"), now }
    }

    /// Sends the browser off for an order: a state that nobody can guess, and the cookies that bind it to
    /// this browser. `None`: the system gives no randomness.
    pub fn send_off(&self, order: &OrderKey) -> Option<(String, Vec<HeaderValue>)> {
        let state = random::base62(STATE_LEN).ok()?;
        let end = self.now.plus(STATE_LIFE_MS).0;
        let sealed = self.sealing.seal(Purpose::WechatState, &state, &format!("{end}\n{order}"))?;
        let mut cookies = vec![self.cookie(&self.state_name(&state)?, &sealed, STATE_LIFE_MS)?];
        // Browsers send the oldest first.
        let prefix = self.name("wpay_");
        let pending: Vec<&str> =
            self.cookies().map(|(name, _)| name).filter(|name| name.starts_with(&prefix)).collect();
        let too_many = (pending.len() + 1).saturating_sub(WAYS_MAX);
        cookies.extend(pending.iter().take(too_many).filter_map(|name| self.forget(name)));
        Some((state, cookies))
    }

    /// The browser comes back with `state`. `Some`: it was sent off for this order, a short while ago, and
    /// comes back for the first time; the cookie to set says that it is done.
    pub fn came_back(&self, state: &str, order: &OrderKey, used: &Used) -> Option<HeaderValue> {
        let name = self.state_name(state)?;
        let sealed = self.get(&name)?;
        // Bound to the whole state; compared in constant time.
        let text = self.sealing.open(Purpose::WechatState, state, sealed)?;
        let (end, of) = text.split_once('\n')?;
        let here = self.now <= UnixMillis(end.parse().ok()?) && of == order.to_string();
        (here && used.take(state, self.now)).then(|| self.forget(&name))?
    }

    /// Who looks at the page, if WeChat has said so to this app in the last two hours.
    pub fn payer(&self, app_id: &str) -> Option<Payer> {
        let text = self.sealing.open(Purpose::WechatPayer, app_id, self.get(&self.name("payer"))?)?;
        let (end, openid) = text.split_once('\n')?;
        let fresh = self.now <= UnixMillis(end.parse().ok()?);
        fresh.then(|| Payer::new(openid).ok())?
    }

    /// The cookie that says who looks at the page. Sealed: nobody reads an `openid` out of it.
    pub fn remember(&self, app_id: &str, openid: &Payer) -> Option<HeaderValue> {
        let end = self.now.plus(PAYER_LIFE_MS).0;
        let sealed = self.sealing.seal(Purpose::WechatPayer, app_id, &format!("{end}\n{openid}"))?;
        self.cookie(&self.name("payer"), &sealed, PAYER_LIFE_MS)
    }

    fn name(&self, what: &str) -> String {
        let prefix = if self.https { "__Host-" } else { "" };
        format!("{prefix}shouyin_{what}")
    }

    /// Each way has a cookie of its own, so that ways begun at the same moment do not overwrite each other.
    fn state_name(&self, state: &str) -> Option<String> {
        let plain = state.len() == STATE_LEN && state.bytes().all(|b| b.is_ascii_alphanumeric());
        let start = plain.then(|| state.get(..8))??;
        Some(self.name(&format!("wpay_{start}")))
    }

    fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.cookies().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn forget(&self, name: &str) -> Option<HeaderValue> {
        self.cookie(name, "", 0)
    }

    fn cookie(&self, name: &str, value: &str, life_ms: i64) -> Option<HeaderValue> {
        let secure = if self.https { "; Secure" } else { "" };
        let life = life_ms / 1_000;
        // Lax: WeChat sends the browser back by a link, which must bring the cookie.
        let cookie = format!("{name}={value}; Path=/; Max-Age={life}; HttpOnly; SameSite=Lax{secure}");
        let mut cookie = HeaderValue::from_str(&cookie).ok()?;
        cookie.set_sensitive(true);
        Some(cookie)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::id::{MerchantId, OrderNumber, OrderType};

    const BASE: &str = "https://pay.example";
    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    /// A browser's jar.
    #[derive(Clone, Default)]
    struct Jar(BTreeMap<String, String>);

    impl Jar {
        fn headers(&self) -> HeaderMap {
            let line = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
            HeaderMap::from_iter([(header::COOKIE, line.join("; ").parse().unwrap())])
        }

        fn keep(&mut self, cookies: impl IntoIterator<Item = HeaderValue>) {
            for cookie in cookies {
                let cookie = cookie.to_str().unwrap().to_owned();
                let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
                if value.is_empty() {
                    self.0.remove(name);
                } else {
                    self.0.insert(name.to_owned(), value.to_owned());
                }
            }
        }
    }

    struct World {
        sealing: Sealing,
        used: Used,
    }

    impl World {
        fn new() -> Self {
            Self { sealing: Sealing::new(b"secret"), used: Used::default() }
        }

        fn send_off(&self, jar: &mut Jar, order: &OrderKey, at: UnixMillis) -> String {
            let headers = jar.headers();
            let (state, cookies) = Browser::new(&headers, &self.sealing, BASE, at).send_off(order).unwrap();
            jar.keep(cookies);
            state
        }

        fn came_back(&self, jar: &mut Jar, state: &str, order: &OrderKey, at: UnixMillis) -> bool {
            let headers = jar.headers();
            let cookie = Browser::new(&headers, &self.sealing, BASE, at).came_back(state, order, &self.used);
            let taken = cookie.is_some();
            jar.keep(cookie);
            taken
        }
    }

    fn order(order_type: OrderType, number: &str) -> OrderKey {
        let (merchant, number) = (MerchantId::new("m").unwrap(), OrderNumber::new(number).unwrap());
        OrderKey { merchant, order_type, number }
    }

    /// Name, whether the same browser comes back, with what change to the state, for which order, when, and
    /// whether it is taken.
    type Case<'a> = (&'a str, bool, fn(&str) -> String, &'a OrderKey, UnixMillis, bool);

    #[test]
    fn which_states_are_taken() {
        let own = order(OrderType::Order, "12346");
        let wallet = order(OrderType::Wallet, "12346");
        let minutes = |count: i64| NOW.plus(count * 60_000);
        let same: fn(&str) -> String = str::to_owned;
        let cases: [Case<'_>; 9] = [
            ("right", true, same, &own, NOW, true),
            ("in the last moment", true, same, &own, minutes(10), true),
            ("too late", true, same, &own, minutes(10).plus(1), false),
            ("from another browser", false, same, &own, NOW, false),
            ("for another order", true, same, &wallet, NOW, false),
            ("made up", true, |_| "A".repeat(22), &own, NOW, false),
            (
                "made up behind the cookie's name",
                true,
                |state| format!("{}{}", &state[..8], "A".repeat(14)),
                &own,
                NOW,
                false,
            ),
            ("too long", true, |state| format!("{state}A"), &own, NOW, false),
            ("missing", true, |_| String::new(), &own, NOW, false),
        ];
        for (name, here, change, of, at, taken) in cases {
            let (world, mut jar) = (World::new(), Jar::default());
            let state = world.send_off(&mut jar, &own, NOW);
            let mut jar = if here { jar } else { Jar::default() };
            assert_eq!(world.came_back(&mut jar, &change(&state), of, at), taken, "{name}");
            assert_eq!(jar.0.is_empty(), taken || !here, "{name}: what was used is forgotten");
        }
    }

    #[test]
    fn a_state_is_good_once_also_for_a_browser_that_kept_its_cookie() {
        let (world, own) = (World::new(), order(OrderType::Order, "1"));
        let mut jar = Jar::default();
        let state = world.send_off(&mut jar, &own, NOW);
        let mut kept = jar.clone();
        assert!(world.came_back(&mut jar, &state, &own, NOW));
        assert!(!world.came_back(&mut jar, &state, &own, NOW));
        assert!(!world.came_back(&mut kept, &state, &own, NOW));
    }

    #[test]
    fn tabs_do_not_disturb_each_other_and_their_number_has_an_end() {
        let world = World::new();
        let orders = ["1", "2"].map(|number| order(OrderType::Order, number));
        // Two tabs that begin before either has its cookie, and a third later.
        let (mut one, mut other) = (Jar::default(), Jar::default());
        let first = world.send_off(&mut one, &orders[0], NOW);
        let second = world.send_off(&mut other, &orders[1], NOW);
        let mut jar = Jar(one.0.into_iter().chain(other.0).collect());
        let third = world.send_off(&mut jar, &orders[0], NOW);
        for (state, of) in [(&second, &orders[1]), (&third, &orders[0]), (&first, &orders[0])] {
            assert!(world.came_back(&mut jar, state, of, NOW));
        }
        for _ in 0..50 {
            world.send_off(&mut jar, &orders[0], NOW);
            assert!(jar.0.len() <= WAYS_MAX, "{}", jar.0.len());
        }
        let last = world.send_off(&mut jar, &orders[0], NOW);
        assert!(world.came_back(&mut jar, &last, &orders[0], NOW));
    }

    #[test]
    fn the_payer_is_kept_for_one_app_for_two_hours() {
        let world = World::new();
        let openid = Payer::new("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o").unwrap();
        for (base, prefix) in [(BASE, "__Host-shouyin_"), ("http://127.0.0.1:3000", "shouyin_")] {
            let nothing = HeaderMap::new();
            let cookie = Browser::new(&nothing, &world.sealing, base, NOW).remember("wx1", &openid).unwrap();
            let text = cookie.to_str().unwrap().to_owned();
            assert!(text.starts_with(prefix) && text.contains("; Path=/; "), "{text}");
            assert!(text.contains("; HttpOnly; SameSite=Lax"), "{text}");
            assert_eq!(text.ends_with("; Secure"), base == BASE, "{text}");
            assert!(!text.contains("oUpF8u") && cookie.is_sensitive(), "{text}");
            let mut jar = Jar::default();
            jar.keep([cookie]);
            let headers = jar.headers();
            let payer = |app_id, at| Browser::new(&headers, &world.sealing, base, at).payer(app_id);
            assert_eq!(payer("wx1", NOW.plus(PAYER_LIFE_MS)), Some(openid.clone()));
            assert_eq!(payer("wx1", NOW.plus(PAYER_LIFE_MS + 1)), None);
            assert_eq!(payer("wx2", NOW), None);
        }
        // A state is no payer, whatever its cookie is called.
        let mut jar = Jar::default();
        world.send_off(&mut jar, &order(OrderType::Order, "1"), NOW);
        let value = jar.0.values().next().unwrap().clone();
        let jar = Jar(BTreeMap::from([("__Host-shouyin_payer".to_owned(), value)]));
        let headers = jar.headers();
        assert_eq!(Browser::new(&headers, &world.sealing, BASE, NOW).payer("wx1"), None);
    }

    #[test]
    fn memory_has_an_end() {
        let used = Used::default();
        for n in 0..USED_MAX + 10 {
            assert!(used.take(&n.to_string(), NOW));
        }
        assert_eq!(used.0.lock().unwrap().known.len(), USED_MAX);
        assert!(!used.take(&(USED_MAX + 9).to_string(), NOW));
        assert!(used.take("later", NOW.plus(STATE_LIFE_MS + 1)));
        assert_eq!(used.0.lock().unwrap().known.len(), 1);
    }
}
