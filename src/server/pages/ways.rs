//! Which ways lead from a device to a wallet, and what each wants placed at its gateway: a code that another
//! phone scans, or a link for this very browser. Never decides what a method is worth: only what works.

use std::net::{IpAddr, Ipv4Addr};

use crate::domain::id::{Channel, Scene};
use crate::server::checkout::Placing;
use crate::ui::view::{Device, Way};

/// Who looks at the page, as far as it matters for paying.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// With what.
    pub device: Device,
    /// The way that was wished for.
    pub way: Option<Way>,
    /// From where.
    pub address: Option<IpAddr>,
}

/// What a method is paid by on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// An attempt, and what is done with its code.
    Attempt(Placing, Way),
    /// The page's own address as a code: whatever scans it chooses.
    Page,
    /// This app does not let it happen; another browser does.
    Elsewhere,
}

impl Seen {
    /// A screen whose code is scanned, and nothing else.
    pub const SCREEN: Self = Self { device: Device::Desktop, way: Some(Way::Scan), address: None };

    /// How a method is paid: as wished where that works, else as the device does it best.
    pub fn route(&self, channel: Channel) -> Route {
        if matches!(
            (self.device, channel),
            (Device::InWechat, Channel::Ali) | (Device::InAlipay, Channel::Wx)
        ) {
            return Route::Elsewhere;
        }
        let ways = ways(self.device, channel);
        let way = self.way.filter(|way| ways.contains(way)).or_else(|| ways.first().copied());
        match way {
            Some(Way::Any) => Route::Page,
            Some(Way::Here) => {
                let scene = match (channel, self.device) {
                    (Channel::Wx, _) => Scene::Mweb,
                    (Channel::Ali, Device::Desktop) => Scene::Page,
                    (Channel::Ali, _) => Scene::Wap,
                };
                let address = self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                Route::Attempt(Placing::in_browser(scene, address), Way::Here)
            }
            Some(Way::Scan) | None => {
                let scene = match channel {
                    Channel::Wx => Scene::Native,
                    Channel::Ali => Scene::QrCode,
                };
                Route::Attempt(scene.into(), Way::Scan)
            }
        }
    }

    /// The ways that a method could be paid by besides the one that is shown.
    pub fn others(&self, channel: Channel) -> impl Iterator<Item = Way> {
        let shown = match self.route(channel) {
            Route::Attempt(_, way) => Some(way),
            Route::Page => Some(Way::Any),
            Route::Elsewhere => None,
        };
        let ways = if shown.is_some() { ways(self.device, channel) } else { &[] };
        ways.iter().copied().filter(move |way| Some(*way) != shown)
    }
}

/// The ways of a method on a device, the best first (checkout-ux: a computer is scanned from, a phone opens
/// the app). WeChat has no page for computers.
const fn ways(device: Device, channel: Channel) -> &'static [Way] {
    match (device, channel) {
        (Device::Desktop, Channel::Wx) => &[Way::Scan, Way::Any],
        (Device::Desktop, Channel::Ali) | (Device::Tablet, _) => &[Way::Scan, Way::Here, Way::Any],
        (Device::Phone, _) => &[Way::Here, Way::Scan],
        (Device::InAlipay, _) => &[Way::Here],
        (Device::InWechat, _) => &[Way::Scan],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Device, wish, and what WeChat Pay and Alipay are paid by then.
    const TABLE: &str = "
        desktop    -     NATIVE    QRCODE
        desktop    here  NATIVE    PAGE
        desktop    any   page      page
        tablet     -     NATIVE    QRCODE
        tablet     here  MWEB      WAP
        phone      -     MWEB      WAP
        phone      scan  NATIVE    QRCODE
        phone      any   MWEB      WAP
        in_wechat  -     NATIVE    elsewhere
        in_wechat  here  NATIVE    elsewhere
        in_alipay  -     elsewhere WAP
        in_alipay  scan  elsewhere WAP
    ";

    #[test]
    fn what_is_paid_by_what() {
        for row in TABLE.lines().map(str::trim).filter(|row| !row.is_empty()) {
            let cells: Vec<&str> = row.split_whitespace().collect();
            let seen = Seen { device: cells[0].parse().unwrap(), way: cells[1].parse().ok(), address: None };
            let said = |channel| match seen.route(channel) {
                Route::Attempt(placing, _) => placing.scene.as_str(),
                Route::Page => "page",
                Route::Elsewhere => "elsewhere",
            };
            assert_eq!([said(Channel::Wx), said(Channel::Ali)], cells[2..], "{row}");
        }
    }

    #[test]
    fn what_else_is_offered_works() {
        for device in Device::ALL {
            for channel in Channel::ALL {
                let seen = Seen { device: *device, way: None, address: None };
                for other in seen.others(*channel) {
                    let wished = Seen { way: Some(other), ..seen };
                    assert_ne!(wished.route(*channel), seen.route(*channel), "{device} {channel} {other}");
                }
            }
        }
    }
}
