//! Addresses: which are public, and which others a merchant's configuration names.
//! Never resolves a name; what a name resolves to is checked where it is dialled.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// An address or name that webhooks may reach although it is private, and without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// `127.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
    Net(IpNet),
    /// A host by name, whatever it resolves to.
    Host(String),
}

/// A word in `webhook_allow` is neither an address, nor a network, nor a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither an address, nor a network like 10.0.0.0/8, nor a host name")]
pub struct InvalidAllow;

impl Allow {
    /// Whether `ip` is inside.
    fn covers(&self, ip: IpAddr) -> bool {
        match self {
            Self::Net(net) => net.contains(&ip.to_canonical()),
            Self::Host(_) => false,
        }
    }
}

impl FromStr for Allow {
    type Err = InvalidAllow;

    fn from_str(text: &str) -> Result<Self, InvalidAllow> {
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(Self::Net(ip.to_canonical().into()));
        }
        if text.contains('/') {
            return text.parse().map(Self::Net).map_err(|_| InvalidAllow);
        }
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A last label of digits would be an address in disguise (`127.1`, `2130706433`).
        let last_ok = text.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()));
        if text.split('.').all(label_ok) && last_ok {
            Ok(Self::Host(text.to_ascii_lowercase()))
        } else {
            Err(InvalidAllow)
        }
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Host(host) => f.write_str(host),
        }
    }
}

/// Whether webhooks may go to this address under such an allow list.
pub fn may_reach(allow: &[Allow], ip: IpAddr) -> bool {
    is_public(ip) || allowed(allow, ip)
}

/// Whether an address is on the public internet. Embedded IPv4 addresses count as what they lead to.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        // Mapped, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        // Teredo, benchmarks, ORCHID, documentation: parts of the global range that lead nowhere good.
        [0x2001, second, ..] => second >= 0x200 && second != 0xdb8,
        [0x3fff, second, ..] => second >= 0x1000,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

pub(super) fn allowed(allow: &[Allow], ip: IpAddr) -> bool {
    allow.iter().any(|entry| entry.covers(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_and_other_addresses() {
        for text in ["1.1.1.1", "100.128.0.1", "2606:4700::1", "64:ff9b::101:101", "2002:101:101::1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.8",
            "192.168.1.1",
            "198.19.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "3fff::1",
            "5f00::1",
            "100::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn words_of_an_allow_list() {
        for (text, shown) in [
            ("127.0.0.1", "127.0.0.1/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("fd00::/8", "fd00::/8"),
            ("[::1]", "::1/128"),
            ("Mall.Internal", "mall.internal"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(text.parse::<Allow>().unwrap().to_string(), shown);
        }
        for text in ["", "127.1", "10.0.0.0/33", "a b", "http://x", "x:80", "..", "2130706433"] {
            assert_eq!(text.parse::<Allow>(), Err(InvalidAllow), "{text}");
        }
    }
}
