//! Why a signature is wrong: reads what somebody pasted, makes the text that must be signed, and tries the
//! usual mistakes until one of them makes the signature right. Never shows a key, never believes anything:
//! what it finds is for people, and no order hears of it.
//!
//! One file a protocol, each with the same `read`; `PROTOCOLS` lists them.

mod alipay;
mod message;
mod search;
#[cfg(test)]
mod tests;
mod wechat_v2;

use core::fmt;

use serde::Serialize;

use self::message::Message;
pub use self::search::Cause;
use self::search::{Found, Way, search, tried};
use super::keys::{PrivateKey, PublicKey, Secret};
use super::wechat_v2::SignType;
use crate::domain::id::UnixMillis;
use crate::domain::plain::Plain;

/// What a signature can be checked with.
#[derive(Clone, Debug, Default)]
pub struct Keys(pub Vec<Key>);

/// One key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Whose it is and where it stands, for people: `merchant mall, api_v2_key`.
    pub name: String,
    /// App and merchant number (`seller_id`) that it belongs to; a key out of a file belongs to none.
    pub account: Option<(String, String)>,
    /// The key itself.
    pub kind: Kind,
}

/// What a key is for.
#[derive(Clone, Debug)]
pub enum Kind {
    /// WeChat's API v2 key, and how its messages are signed, if that is known.
    ApiV2(Secret, Option<SignType>),
    /// WeChat's API v3 key: opens, never signs.
    ApiV3(Secret),
    /// Alipay: signs the app's requests.
    App(PrivateKey),
    /// Alipay's own: signs answers and notices.
    Alipay(PublicKey),
    /// Out of a file: any private key.
    Private(PrivateKey),
    /// Out of a file: any public key or certificate.
    Public(PublicKey),
}

impl Key {
    /// The key that a file holds: a private or public RSA key in any armour, a certificate, or 32 characters.
    ///
    /// # Errors
    /// What is wrong with it; never the content.
    pub fn read(name: String, text: &str) -> Result<Self, String> {
        let plain = text.trim();
        let kind = if plain.len() == 32 && plain.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Kind::ApiV2(Secret::new(plain), None)
        } else {
            match (PrivateKey::read(text), PublicKey::read(text)) {
                (Ok(key), _) => Kind::Private(key),
                (Err(_), Ok(key)) => Kind::Public(key),
                (Err(error), Err(_)) => return Err(format!("{error}; an API key has 32 letters and digits")),
            }
        };
        Ok(Self { name, account: None, kind })
    }
}

/// Whether the signature fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It does, and the message is about us.
    Right,
    /// It does not, there is none, or the message is about somebody else.
    Wrong,
    /// There is no key of the kind that it takes.
    Unchecked,
}

/// Where two texts part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which two.
    pub of: &'static str,
    /// Bytes before it that are the same.
    pub at: usize,
    /// What stands there in ours, with some bytes before.
    pub ours: String,
    /// What stands there in theirs.
    pub theirs: String,
}

/// Everything there is to say of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `WeChat Pay v2`, `Alipay`.
    pub protocol: &'static str,
    /// What kind of message.
    pub message: String,
    /// Whether the signature fits.
    pub verdict: Verdict,
    /// How it is signed.
    pub algorithm: String,
    /// What it was checked with, by name.
    pub key: Option<String>,
    /// The text that is signed; a key in it is `***`.
    pub signed_text: String,
    /// The signature that came.
    pub given: Option<String>,
    /// The one it should be, where a key that makes it is known.
    pub expected: Option<String>,
    /// Where what is signed, or else the signature, first differs.
    pub first_difference: Option<Difference>,
    /// What makes the signature right, all of them together; or what else is wrong with the message.
    pub causes: Vec<Cause>,
    /// The names of the causes that were tried.
    pub tried: Vec<&'static str>,
    /// What else was seen.
    pub hints: Vec<String>,
}

/// Nothing that is signed could be seen in the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotUnderstood(pub String);

/// Whether a message is of the protocol, and if so, what there is to say.
type Reader = fn(&Message, &Context<'_>) -> Option<Result<Explanation, NotUnderstood>>;
const PROTOCOLS: &[Reader] = &[wechat_v2::read, alipay::read];

/// Bytes of a message that are read: no gateway sends more, and every cause is tried on all of it.
pub const LONGEST: usize = 64 * 1024;

/// What is known beside the message.
#[derive(Clone, Copy)]
struct Context<'a> {
    keys: &'a [Key],
    /// What the other side says it signed.
    theirs: Option<&'a [u8]>,
    now: UnixMillis,
}

impl Context<'_> {
    /// `bytes`, as many, with every symmetric key in it as asterisks.
    fn hidden(&self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = bytes.to_vec();
        for key in self.keys {
            let (Kind::ApiV2(secret, _) | Kind::ApiV3(secret)) = &key.kind else { continue };
            let secret = secret.expose().as_bytes();
            let mut from = 0;
            while let Some(rest) = shown.get_mut(from..)
                && let Some(at) = rest.windows(secret.len().max(1)).position(|part| part == secret)
                && let Some(part) = rest.get_mut(at..at + secret.len())
            {
                part.fill(b'*');
                from += at + secret.len();
            }
        }
        shown
    }

    /// The first byte that differs, with what stands around it. No key is shown, also not a part of one.
    fn difference(&self, of: &'static str, ours: &[u8], theirs: &[u8]) -> Option<Difference> {
        let same = ours.iter().zip(theirs).take_while(|(ours, theirs)| ours == theirs).count();
        if same == ours.len() && same == theirs.len() {
            return None;
        }
        let around = |bytes: &[u8]| {
            let bytes = self.hidden(bytes);
            let part = bytes.get(same.saturating_sub(12)..bytes.len().min(same + 20)).unwrap_or_default();
            String::from_utf8_lossy(part).into_owned()
        };
        Some(Difference { of, at: same, ours: around(ours), theirs: around(theirs) })
    }

    fn hide(&self, text: &mut String) {
        *text = String::from_utf8_lossy(&self.hidden(text.as_bytes())).into_owned();
    }
}

/// Explains what was pasted. `theirs` is the text that the other side says it signed, if it says so.
///
/// # Errors
/// [`NotUnderstood`].
pub fn explain(
    input: &[u8],
    keys: &Keys,
    theirs: Option<&[u8]>,
    now: UnixMillis,
) -> Result<Explanation, NotUnderstood> {
    if input.len().max(theirs.map_or(0, <[u8]>::len)) > LONGEST {
        return Err(NotUnderstood("longer than any message: over 64 KiB".to_owned()));
    }
    let message = Message::read(input);
    let context = Context { keys: &keys.0, theirs, now };
    for read in PROTOCOLS {
        if let Some(read) = read(&message, &context) {
            return read.map(|mut explanation| {
                explanation.hints.extend(message.notes);
                explanation.hide(&context);
                explanation
            });
        }
    }
    Err(NotUnderstood(
        "neither XML of WeChat v2, nor a form, query or JSON answer of Alipay. Paste the message as it came, \
         with its headers or only the body"
            .to_owned(),
    ))
}

/// A message whose signature is to be tried.
struct Trial<S, K> {
    texts: Vec<Way<Vec<u8>>>,
    signatures: Vec<Way<S>>,
    keys: Vec<Way<K>>,
}

impl<S, K> Trial<S, K> {
    /// Puts causes, differences and the verdict into `explanation`. What the other side says it signed is
    /// tried, too.
    fn run(
        mut self,
        explanation: &mut Explanation,
        context: &Context<'_>,
        fits: impl Fn(&[u8], &S, &K) -> bool,
    ) {
        let ours = self.texts.first().map(|way| way.value.clone()).unwrap_or_default();
        explanation.signed_text = String::from_utf8_lossy(&ours).into_owned();
        if let Some(theirs) = context.theirs.filter(|theirs| *theirs != ours) {
            explanation.first_difference =
                context.difference("the signed text and the one that was given", &ours, theirs);
            let words = "what was signed is the text that was given, which differs";
            self.texts.push(search::wrong("their-text", words, theirs.to_vec()));
        }
        explanation.tried = tried(&self.texts, &self.signatures, &self.keys);
        if self.keys.is_empty() {
            explanation.verdict = Verdict::Unchecked;
            return;
        }
        match search(&self.texts, &self.signatures, &self.keys, fits) {
            Some(Found { causes, .. }) if causes.is_empty() => explanation.verdict = Verdict::Right,
            Some(Found { causes, text }) => {
                explanation.causes = causes;
                if let Some(found) = context.difference("the signed text and what was signed", &ours, text) {
                    explanation.first_difference = Some(found);
                }
            }
            None => {}
        }
        if explanation.verdict != Verdict::Right
            && explanation.first_difference.is_none()
            && let (Some(expected), Some(given)) = (&explanation.expected, &explanation.given)
        {
            explanation.first_difference =
                context.difference("the signatures", expected.as_bytes(), given.as_bytes());
        }
    }
}

impl Explanation {
    fn new(protocol: &'static str, message: impl Into<String>) -> Self {
        Self {
            protocol,
            message: message.into(),
            verdict: Verdict::Wrong,
            algorithm: String::new(),
            key: None,
            signed_text: String::new(),
            given: None,
            expected: None,
            first_difference: None,
            causes: Vec::new(),
            tried: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// No key is shown, wherever it stood: in a field, in what the other side logged.
    fn hide(&mut self, context: &Context<'_>) {
        context.hide(&mut self.message);
        context.hide(&mut self.signed_text);
        for text in [&mut self.given, &mut self.expected].into_iter().flatten() {
            context.hide(text);
        }
        self.causes.iter_mut().for_each(|cause| context.hide(&mut cause.words));
        self.hints.iter_mut().for_each(|hint| context.hide(hint));
    }

    /// A right signature is not enough: the gateways sign for everybody. Accounts of `keys` that the message
    /// may be about; with none known, nothing is said.
    fn check_account(&mut self, keys: &[Key], names: (&str, &str), theirs: (Option<&str>, Option<&str>)) {
        let mut known = keys.iter().filter_map(|key| key.account.as_ref()).peekable();
        let fits = |ours: &str, theirs: Option<&str>| theirs.is_none_or(|theirs| theirs == ours);
        if known.peek().is_none()
            || known.any(|(app, merchant)| fits(app, theirs.0) && fits(merchant, theirs.1))
        {
            return;
        }
        let show = |name: &str, value: Option<&str>| value.map(|value| format!("{name} {value}"));
        let shown: Vec<String> =
            [show(names.0, theirs.0), show(names.1, theirs.1)].into_iter().flatten().collect();
        let words = format!("the message is about {}, which no merchant here has", shown.join(" and "));
        self.causes.push(Cause { id: "other-account", words });
        if self.verdict == Verdict::Right {
            self.verdict = Verdict::Wrong;
        }
    }
}

/// For people.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.verdict, &self.key) {
            (Verdict::Right, _) => "right",
            (Verdict::Wrong, _) => "WRONG",
            (Verdict::Unchecked, _) => "not checked: no key that fits it is known (--config, --key-file)",
        };
        writeln!(f, "message     {}, {}", self.protocol, Plain(&self.message))?;
        writeln!(f, "signature   {verdict}")?;
        for (name, value) in [
            ("algorithm", Some(&self.algorithm)),
            ("key", self.key.as_ref()),
            ("signed text", Some(&self.signed_text)),
            ("given", self.given.as_ref()),
            ("expected", self.expected.as_ref()),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                writeln!(f, "{name:<11} {}", Plain(value))?;
            }
        }
        if let Some(Difference { of, at, ours, theirs }) = &self.first_difference {
            writeln!(f, "differs     {of}, after {at} bytes")?;
            writeln!(f, "            ours:   {}", Plain(ours))?;
            writeln!(f, "            theirs: {}", Plain(theirs))?;
        }
        for cause in &self.causes {
            writeln!(f, "cause       {}: {}", cause.id, Plain(&cause.words))?;
        }
        if self.verdict == Verdict::Wrong && self.causes.is_empty() && !self.tried.is_empty() {
            writeln!(f, "cause       none of these makes it right: {}", self.tried.join(", "))?;
        }
        for hint in &self.hints {
            writeln!(f, "hint        {}", Plain(hint))?;
        }
        Ok(())
    }
}
