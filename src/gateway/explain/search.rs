//! The causes, tried: every text that may have been signed, under every key that may have signed it. The
//! fewest mistakes that make a signature right are the likely ones. Never shows a key.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::message::gbk;

/// A mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Its name, for programs.
    pub id: &'static str,
    /// What it is and what to do, for people.
    pub words: String,
}

/// One way it may have been done; without a cause it is the right one.
pub(super) struct Way<T> {
    pub(super) cause: Option<Cause>,
    pub(super) value: T,
}

/// What makes the signature right.
pub(super) struct Found<'a> {
    pub(super) causes: Vec<Cause>,
    pub(super) text: &'a [u8],
}

pub(super) const fn right<T>(value: T) -> Way<T> {
    Way { cause: None, value }
}

pub(super) fn wrong<T>(id: &'static str, words: impl Into<String>, value: T) -> Way<T> {
    Way { cause: Some(Cause { id, words: words.into() }), value }
}

/// Mistakes in one message at most. Four would explain anything.
const MOST: usize = 3;

/// The combination with the fewest mistakes that `fits`.
pub(super) fn search<'a, S, K>(
    texts: &'a [Way<Vec<u8>>],
    signatures: &[Way<S>],
    keys: &[Way<K>],
    fits: impl Fn(&[u8], &S, &K) -> bool,
) -> Option<Found<'a>> {
    for mistakes in 0..=MOST {
        for text in texts {
            for signature in signatures {
                for key in keys {
                    let causes = [&text.cause, &signature.cause, &key.cause];
                    let causes: Vec<Cause> = causes.into_iter().flatten().cloned().collect();
                    if causes.len() == mistakes && fits(&text.value, &signature.value, &key.value) {
                        return Some(Found { causes, text: &text.value });
                    }
                }
            }
        }
    }
    None
}

/// The names of what was tried, each once.
pub(super) fn tried<S, K>(
    texts: &[Way<Vec<u8>>],
    signatures: &[Way<S>],
    keys: &[Way<K>],
) -> Vec<&'static str> {
    let causes = texts.iter().map(|way| &way.cause);
    let causes =
        causes.chain(signatures.iter().map(|way| &way.cause)).chain(keys.iter().map(|way| &way.cause));
    let mut ids = Vec::new();
    for cause in causes.flatten() {
        if !ids.contains(&cause.id) {
            ids.push(cause.id);
        }
    }
    ids
}

/// Named values, as a protocol joins them.
pub(super) type Fields = BTreeMap<String, String>;

/// How a protocol signs named values.
pub(super) struct Rule<'a> {
    /// Names that are not signed.
    pub(super) skip: &'a [&'a str],
    /// Whether the text is GBK, as its `charset` says.
    pub(super) gbk: bool,
    /// Whether SDKs that sign empty values, too, are taken: then it is no mistake.
    pub(super) empties_taken: bool,
}

/// `name=value&…` in byte order; gateways.md 1.3, 4.2.
fn join<'a>(fields: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    fields.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Every text that may have been signed for `fields`, the right one first.
pub(super) fn texts(fields: &Fields, rule: &Rule<'_>) -> Vec<Way<Vec<u8>>> {
    let skipped = |name: &str| rule.skip.contains(&name);
    let signed = || fields.iter().filter(|(name, value)| !skipped(name) && !value.is_empty());
    let text = join(signed());
    let bytes =
        |text: &str| if rule.gbk { gbk(text) } else { None }.unwrap_or_else(|| text.as_bytes().to_vec());
    let mut ways = vec![right(bytes(&text))];
    let mut push = |id, words: &str, other: String| {
        if other != text {
            ways.push(wrong(id, words, bytes(&other)));
        }
    };
    let all = join(fields.iter().filter(|(name, _)| !skipped(name)));
    if !rule.empties_taken {
        push("empty-values", "empty values were signed, too; leave them out", all.clone());
    }
    push(
        "sign_type-out",
        "sign_type was left out of the signed text; here it belongs in",
        join(signed().filter(|(name, _)| *name != "sign_type")),
    );
    if skipped("sign_type") {
        push(
            "sign_type-in",
            "sign_type was signed, too; here it belongs out (only requests have it in)",
            join(fields.iter().filter(|(name, value)| *name != "sign" && !value.is_empty())),
        );
    }
    let mut folded: Vec<_> = signed().collect();
    folded.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    push("order", "names were sorted without regard to case; sort by bytes", join(folded.into_iter()));
    for (id, words, change) in CHANGES {
        let changed: Fields = signed().map(|(name, value)| (name.clone(), change(value))).collect();
        push(id, words, join(changed.iter()));
    }
    push("trailing-newline", "a line end stood behind the signed text", format!("{text}\n"));
    // A message of more fields than any real one has is not worth the wait.
    for (left, _) in signed().take(FIELDS) {
        let rest = join(signed().filter(|(name, _)| *name != left));
        push("field-left-out", &format!("{left} was sent but not signed, or was added afterwards"), rest);
    }
    ways.extend(encoded(&text, rule.gbk));
    // SDKs disagree on empty values, and where both are taken that is no cause.
    if rule.empties_taken && all != text {
        ways.insert(1, right(bytes(&all)));
    }
    ways
}

/// The same text in the other charset.
pub(super) fn encoded(text: &str, is_gbk: bool) -> Option<Way<Vec<u8>>> {
    if text.is_ascii() {
        return None;
    }
    if is_gbk {
        let words = "the text was signed as UTF-8, but charset says GBK";
        return Some(wrong("charset", words, text.as_bytes().to_vec()));
    }
    let words = "the text was signed as GBK; it must be UTF-8, or charset must say so";
    gbk(text).map(|bytes| wrong("charset", words, bytes))
}

/// Fields of which each is tried as the one that was not signed.
const FIELDS: usize = 100;

/// What happens to values between signing and arriving, undone.
type Change = (&'static str, &'static str, fn(&str) -> String);
const CHANGES: &[Change] = &[
    (
        "percent-encoded",
        "values were percent-encoded before they were signed; sign the raw values",
        |value| url::form_urlencoded::byte_serialize(value.as_bytes()).collect(),
    ),
    (
        "percent-encoded",
        "values were percent-encoded before they were signed; sign the raw values",
        |value| percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string(),
    ),
    (
        "encoded-twice",
        "values were percent-encoded twice (or decoded once too little); decode them once more",
        |value| percent_decode_str(value).decode_utf8_lossy().into_owned(),
    ),
    (
        "encoded-twice",
        "values were percent-encoded twice (or decoded once too little); decode them once more",
        |value| percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned(),
    ),
    ("plus-as-space", "a + was sent as it is and read as a space; percent-encode it as %2B", |value| {
        value.replace(' ', "+")
    }),
    ("space-as-plus", "a space was sent as + and not decoded; decode the body as a form", |value| {
        value.replace('+', " ")
    }),
    (
        "escaped",
        "values were escaped (&amp;, &lt;, &quot;) before they were signed; sign the raw values",
        |value| value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"),
    ),
    (
        "unescaped",
        "values were escaped (&amp;, &lt;, &quot;) after they were signed, by a filter or a log; undo it",
        |value| {
            let value = value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
            value.replace("&#39;", "'").replace("&apos;", "'").replace("&amp;", "&")
        },
    ),
    (
        "slashes",
        "slashes were written as \\/ by one side and as / by the other: JSON was written again",
        |value| value.replace("\\/", "/"),
    ),
    (
        "slashes",
        "slashes were written as \\/ by one side and as / by the other: JSON was written again",
        |value| value.replace('/', "\\/"),
    ),
    (
        "re-encoded",
        "a value that is JSON was written again with other white space; keep the bytes as they came",
        compact,
    ),
    ("white-space", "values have white space around them that was not signed", |value| {
        value.trim().to_owned()
    }),
    ("line-ends", "line ends were changed from CRLF to LF", |value| value.replace('\n', "\r\n")),
    ("line-ends", "line ends were changed from LF to CRLF", |value| value.replace("\r\n", "\n")),
];

/// JSON without the white space between its tokens.
pub(super) fn compact(text: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let kept = text.chars().filter(|letter| {
        let keep = inside || !letter.is_ascii_whitespace();
        if inside && escaped {
            escaped = false;
        } else if inside && *letter == '\\' {
            escaped = true;
        } else if *letter == '"' {
            inside = !inside;
        }
        keep
    });
    let kept: String = kept.collect();
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() { kept } else { text.to_owned() }
}
