//! Our numbers at the gateways: made from the mall's, within each gateway's rules. Never parsed back: what a
//! number belongs to is found by the attempts and refunds that are stored.

use super::id::{Channel, OrderKey, OrderType, OutRefundNo, OutTradeNo};

/// The `n`-th number to try for an attempt (from 0) at `channel`: the order number itself where the
/// gateway's rules allow it and it is the first of an `Order`; else the number with a suffix, as far
/// as it fits. WeChat: 6-32 characters (gateways.md 1.2); Alipay: `0-9 A-Z a-z _` (4.6).
/// `None` past 9,999 tries.
pub fn out_trade_no(key: &OrderKey, channel: Channel, n: u32) -> Option<OutTradeNo> {
    let number = key.number.as_str();
    let allowed = match channel {
        Channel::Wx => number.len() >= 6,
        Channel::Ali => !number.contains('-'),
    };
    if n == 0 && allowed && key.order_type == OrderType::Order {
        return OutTradeNo::new(number).ok();
    }
    if n > 9_999 {
        return None;
    }
    let tag = match key.order_type {
        OrderType::Order => 'o',
        OrderType::Wallet => 'w',
        OrderType::Appointment => 'p',
    };
    let suffix = format!("_{tag}{n:03}");
    let kept: String = number
        .chars()
        .map(|c| if channel == Channel::Ali && c == '-' { '_' } else { c })
        .take(32 - suffix.len())
        .collect();
    OutTradeNo::new(kept + &suffix).ok()
}

/// Our number for the `n`-th refund (from 1) of an order, given back through the attempt `out_trade_no`. An
/// order's refunds are counted together, so it is unique wherever `out_trade_no` is. `None` if it does not
/// fit the gateways' 64 characters (gateways.md 1.5, 4.10), which no number of ours does.
pub fn out_refund_no(out_trade_no: &OutTradeNo, n: usize) -> Option<OutRefundNo> {
    OutRefundNo::new(format!("{out_trade_no}_r{n}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{MerchantId, OrderNumber};

    #[test]
    fn trade_numbers_follow_each_gateways_rules() {
        let key = |order_type, number: &str| OrderKey {
            merchant: MerchantId::new("m").unwrap(),
            order_type,
            number: OrderNumber::new(number).unwrap(),
        };
        let longest = "x".repeat(32);
        let cut = "x".repeat(27) + "_o001";
        for (order_type, order_number, channel, n, wanted) in [
            (OrderType::Order, "123456", Channel::Wx, 0, "123456"),
            (OrderType::Order, "12346", Channel::Wx, 0, "12346_o000"),
            (OrderType::Order, "1234", Channel::Ali, 0, "1234"),
            (OrderType::Order, "12-34", Channel::Ali, 0, "12_34_o000"),
            (OrderType::Order, "12-3456", Channel::Wx, 0, "12-3456"),
            (OrderType::Wallet, "123456", Channel::Wx, 0, "123456_w000"),
            (OrderType::Appointment, "123456", Channel::Ali, 2, "123456_p002"),
            (OrderType::Order, longest.as_str(), Channel::Wx, 1, cut.as_str()),
        ] {
            let got = out_trade_no(&key(order_type, order_number), channel, n).unwrap();
            assert_eq!(got.as_str(), wanted);
            assert!((4..=32).contains(&got.as_str().len()));
        }
        assert_eq!(out_trade_no(&key(OrderType::Order, "1"), Channel::Wx, 10_000), None);
    }
}
