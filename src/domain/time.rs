//! Calendar forms of `UnixMillis`, all in Beijing time (+08:00, no daylight saving), which both
//! gateways use (gateways.md 5, pitfall 22). Never reads a clock or a time-zone database.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::Offset;

use super::id::UnixMillis;

const BEIJING: Offset = Offset::constant(8);

/// `2026-11-23T18:30:00+08:00`, whole seconds.
pub fn rfc3339(at: UnixMillis) -> String {
    format!("{}+08:00", beijing(at).strftime("%Y-%m-%dT%H:%M:%S"))
}

/// WeChat v2's `yyyyMMddHHmmss` (gateways.md 1.2).
pub fn compact(at: UnixMillis) -> String {
    beijing(at).strftime("%Y%m%d%H%M%S").to_string()
}

/// Alipay's `yyyy-MM-dd HH:mm:ss` (gateways.md 4.1).
pub fn spaced(at: UnixMillis) -> String {
    beijing(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Reads `yyyyMMddHHmmss`.
pub fn parse_compact(text: &str) -> Option<UnixMillis> {
    let shape_ok = text.len() == 14 && text.bytes().all(|b| b.is_ascii_digit());
    if shape_ok { parse(text, "%Y%m%d%H%M%S") } else { None }
}

/// Reads `yyyy-MM-dd HH:mm:ss`, with or without a fraction of a second (which is dropped), or
/// without seconds (`time_expire`, gateways.md 4.4).
pub fn parse_spaced(text: &str) -> Option<UnixMillis> {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let shape: Vec<u8> = whole.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b }).collect();
    match shape.as_slice() {
        b"0000-00-00 00:00:00" => parse(whole, "%Y-%m-%d %H:%M:%S"),
        b"0000-00-00 00:00" => parse(&format!("{whole}:00"), "%Y-%m-%d %H:%M:%S"),
        _ => None,
    }
}

/// Reads a date of HTTP's, `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn parse_http_date(text: &str) -> Option<UnixMillis> {
    let at = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(UnixMillis(at.as_millisecond()))
}

/// Out of jiff's range (before the year -9999 or after 9999) reads as the nearest end; no stored
/// time comes near it.
fn beijing(at: UnixMillis) -> DateTime {
    let end = if at.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
    BEIJING.to_datetime(Timestamp::from_millisecond(at.0).unwrap_or(end))
}

fn parse(text: &str, format: &str) -> Option<UnixMillis> {
    let civil = DateTime::strptime(format, text).ok()?;
    Some(UnixMillis(BEIJING.to_timestamp(civil).ok()?.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        // `TZ=Asia/Shanghai date -d @1700000000`: 2023-11-15 06:13:20.
        let at = UnixMillis(1_700_000_000_000);
        assert_eq!(rfc3339(at), "2023-11-15T06:13:20+08:00");
        assert_eq!(compact(at), "20231115061320");
        assert_eq!(parse_compact("20231115061320"), Some(at));
        assert_eq!(parse_spaced("2023-11-15 06:13:20.123"), Some(at));
        assert_eq!(parse_spaced("2023-11-15 06:13"), Some(UnixMillis(1_699_999_980_000)));
        assert_eq!(spaced(UnixMillis(951_753_600_000)), "2000-02-29 00:00:00");
    }

    #[test]
    fn not_a_moment() {
        for text in ["20230231000000", "2023111506132", "20231115061361", "2023111506132x", ""] {
            assert_eq!(parse_compact(text), None, "{text}");
        }
        for text in ["2023-11-15T06:13:20", "2023-1-15 06:13:20", "2023-11-15 06:13:2", "now"] {
            assert_eq!(parse_spaced(text), None, "{text}");
        }
    }
}
