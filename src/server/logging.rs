//! What the service says about itself, on stderr: for people on a terminal, as JSON lines elsewhere if asked.
//! Never a secret: fields of telling names are redacted, and so are such names with their values inside
//! texts; and never a second line: control characters are escaped, so nobody can write log lines.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::domain::plain::Plain;
use crate::domain::time;
use crate::runtime::clock::Clock;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// `SHOUYIN_LOG` is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SHOUYIN_LOG is not a filter such as `info` or `info,shouyin::gateway=debug`: {0}")]
pub struct InvalidFilter(String);

/// Starts logging; a second call changes nothing.
///
/// # Errors
/// [`InvalidFilter`].
pub fn init(format: LogFormat, filter: Option<&str>) -> Result<(), InvalidFilter> {
    let filter =
        EnvFilter::try_new(filter.unwrap_or("info")).map_err(|error| InvalidFilter(error.to_string()))?;
    let colour = format == LogFormat::Human && std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .fmt_fields(Redacting)
        .event_format(Line { format, colour })
        .finish();
    // The one that was set first stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Writes one line per event.
struct Line {
    format: LogFormat,
    colour: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans: Vec<String> = context
            .event_scope()
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
            .map(|span| {
                let extensions = span.extensions();
                let fields =
                    extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.fields.as_str());
                format!("{}{{{fields}}}", span.name())
            })
            .collect();
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let at = time::rfc3339(Clock::real());
        match self.format {
            LogFormat::Human => {
                self.level(&mut writer, level)?;
                write!(writer, " {at} {target}: {}", fields.message)?;
                for (name, value) in &fields.rest {
                    write!(writer, " {name}={}", text(value))?;
                }
                if !spans.is_empty() {
                    write!(writer, " ({})", spans.join(":"))?;
                }
            }
            LogFormat::Json => {
                let mut line = Map::new();
                for (name, value) in [
                    ("at", at),
                    ("level", level.to_string()),
                    ("target", target.to_owned()),
                    ("message", fields.message),
                ] {
                    line.insert(name.to_owned(), Value::String(value));
                }
                if !spans.is_empty() {
                    line.insert("spans".to_owned(), spans.into());
                }
                line.insert("fields".to_owned(), Value::Object(fields.rest.into_iter().collect()));
                write!(writer, "{}", Value::Object(line))?;
            }
        }
        writeln!(writer)
    }
}

impl Line {
    fn level(&self, writer: &mut Writer<'_>, level: Level) -> fmt::Result {
        let colour = match level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            _ => 34,
        };
        if self.colour {
            write!(writer, "\u{1b}[{colour}m{level:>5}\u{1b}[0m")
        } else {
            write!(writer, "{level:>5}")
        }
    }
}

/// Fields of spans.
struct Redacting;

impl FormatFields<'_> for Redacting {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'_>, fields: R) -> fmt::Result {
        let mut seen = Fields::default();
        fields.record(&mut seen);
        let all: Vec<String> =
            seen.rest.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
        write!(writer, "{}", all.join(" "))
    }
}

/// Redacted fields.
#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(String, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        let value = if is_secret(field.name()) { Value::from(REDACTED) } else { value.into() };
        self.rest.push((field.name().to_owned(), value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = Plain(&redact(&format!("{value:?}"))).to_string();
        if field.name() == "message" { self.message = text } else { self.add(field, text) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    /// The whole chain of causes.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.record_str(field, &text);
    }
}

/// A value without quotes where it is one word.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => text.clone(),
        other => other.to_string(),
    }
}

fn is_secret(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    SECRETS.iter().any(|secret| secret.eq_ignore_ascii_case(last))
}

/// Replaces values behind telling names (`sign=…`, `"token":"…"`, `<sign>…`, `Authorization: …`) and the
/// capability in a checkout's path.
fn redact(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = next_secret(rest) {
        safe.push_str(before);
        safe.push_str(REDACTED);
        rest = after;
    }
    safe.push_str(rest);
    safe
}

/// What stands up to the value of the first secret, and what stands behind it.
fn next_secret(text: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text.get(from..)?.find(|c: char| is_word(c) || c == '/')?;
        let here = text.get(start..)?;
        // 0 at a slash.
        let name_len = here.find(|c| !is_word(c)).unwrap_or(here.len());
        let name = here.get(..name_len)?;
        let behind = || value_offset(here.get(name_len..)?).map(|offset| name_len + offset);
        let (offset, ends): (_, fn(char) -> bool) = if here.starts_with("/pay/") {
            (Some("/pay/".len()), ends_segment)
        } else if name.eq_ignore_ascii_case("authorization") {
            (behind(), ends_header)
        } else if is_secret(name) {
            (behind(), ends_value)
        } else {
            (None, ends_value)
        };
        if let Some(offset) = offset {
            let value = here.get(offset..)?;
            let len = value.find(ends).unwrap_or(value.len());
            if len > 0 {
                return Some((text.get(..start + offset)?, value.get(len..)?));
            }
        }
        from = start + name_len.max(1);
    }
}

/// `Bearer x` has a blank inside.
fn ends_header(c: char) -> bool {
    matches!(c, '"' | '\'' | ',' | '<' | ']' | '}' | ')' | '\n' | '\\')
}

/// Base64 has slashes inside.
fn ends_value(c: char) -> bool {
    ends_header(c) || c.is_whitespace() || c == '&'
}

fn ends_segment(c: char) -> bool {
    ends_value(c) || matches!(c, '/' | '?' | '#')
}

/// How far behind a name its value begins, if a value follows.
fn value_offset(behind: &str) -> Option<usize> {
    let mut rest = behind.strip_prefix(['\\']).unwrap_or(behind);
    rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest).trim_start_matches(' ');
    rest = rest.strip_prefix(['=', ':', '>'])?.trim_start_matches(' ');
    rest = rest.strip_prefix("<![CDATA[").unwrap_or(rest);
    rest = rest.strip_prefix("Some(").unwrap_or(rest);
    rest = rest.strip_prefix(['\\']).unwrap_or(rest);
    rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
    Some(behind.len() - rest.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

const REDACTED: &str = "[redacted]";

/// Names whose values are nobody's business.
const SECRETS: &[&str] = &[
    "access_token",
    "api-key",
    "api_key",
    "api_v2_key",
    "api_v3_key",
    "apikey",
    "app_private_key",
    "app_secret",
    "authorization",
    "buyer_id",
    "buyer_logon_id",
    "buyer_open_id",
    "buyer_user_id",
    "capability",
    "ciphertext",
    "cookie",
    "key",
    "openid",
    "password",
    "pay_sign",
    "paysign",
    "private_key",
    "proxy-authorization",
    "secret",
    "set-cookie",
    "sign",
    "signature",
    "sub_openid",
    "token",
    "webhook-signature",
    "webhook_secret",
    "wechatpay-signature",
    "x-api-key",
];

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Sink {
        type Writer = Self;
        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(format: LogFormat, events: fn()) -> String {
        let sink = Sink::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(sink.clone())
            .fmt_fields(Redacting)
            .event_format(Line { format, colour: false })
            .finish();
        with_default(subscriber, events);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    fn telling() {
        let _span = tracing::info_span!("push", token = "hidden-1", order = 12346).entered();
        tracing::warn!(
            sign = "hidden-2",
            openid = "hidden-3",
            paySign = "hidden-4",
            authorization = "Bearer hidden-5",
            request.key = "hidden-6",
            body = "<xml><sign><![CDATA[hidden-7]]></sign></xml>",
            fee = 11,
            "GET /pay/hidden-8?channel=wx with sign={}&a=1",
            "hidden-9"
        );
        tracing::info!("first\nsecond \u{1b}[31m");
    }

    #[test]
    fn secrets_are_redacted_in_both_formats() {
        for format in [LogFormat::Human, LogFormat::Json] {
            let lines = logged(format, telling);
            assert!(!lines.contains("hidden"), "{lines}");
            assert_eq!(lines.matches("[redacted]").count(), 10, "{lines}");
            assert!(
                lines.contains("12346") && lines.contains("&a=1") && lines.contains("channel=wx"),
                "{lines}"
            );
        }
    }

    #[test]
    fn one_event_is_one_line_without_control_characters() {
        for format in [LogFormat::Human, LogFormat::Json] {
            let lines = logged(format, telling);
            assert_eq!(lines.lines().count(), 2, "{lines}");
            assert!(!lines.contains('\u{1b}'), "{lines}");
        }
        for line in logged(LogFormat::Json, telling).lines() {
            assert!(serde_json::from_str::<Value>(line).unwrap()["at"].is_string());
        }
    }

    #[test]
    fn texts() {
        for (text, safe) in [
            ("nothing here", "nothing here"),
            ("design=1&signal=2&keys=3", "design=1&signal=2&keys=3"),
            ("sign=AB/C+==&x=1", "sign=[redacted]&x=1"),
            ("{\"token\":\"abc\",\"a\":1}", "{\"token\":\"[redacted]\",\"a\":1}"),
            ("{\"openid\": \"abc\"}", "{\"openid\": \"[redacted]\"}"),
            ("Authorization: Bearer abc", "Authorization: [redacted]"),
            ("{\\\"token\\\":\\\"abc\\\"}", "{\\\"token\\\":\\\"[redacted]\\\"}"),
            ("<sign>abc</sign><b/>", "<sign>[redacted]</sign><b/>"),
            ("/pay/abc/status", "/pay/[redacted]/status"),
            ("/pay/", "/pay/"),
            ("the key", "the key"),
            ("签名 sign=中文 x", "签名 sign=[redacted] x"),
            ("token: Some(\"abc\")", "token: Some(\"[redacted]\")"),
        ] {
            assert_eq!(redact(text), safe);
        }
    }

    #[test]
    fn a_filter_is_checked() {
        assert!(init(LogFormat::Human, Some("info,shouyin=not a level")).is_err());
    }
}
