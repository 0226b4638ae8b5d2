//! The strict reader of request bodies: size, JSON, keys, types, with the field's name in every refusal.
//! Never lets two readings of one body be possible: no duplicate keys, no fractions for integers, no rest.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected,
    IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::error::{ApiError, Kind};

/// Extractor: the body as a `T`, whatever the Content-Type says (contract.md 4).
#[derive(Clone, Copy, Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        parse(&read_body(request.into_body()).await?).map(Self)
    }
}

/// The whole body, at most 64 KiB. A longer one is read on for a while, because a client that is still
/// sending would not see the answer.
///
/// # Errors
/// `BodyTooLarge`, `BodyIncomplete`.
pub async fn read_body(mut body: Body) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::new(Kind::BodyIncomplete))?;
        if let Some(data) = frame.data_ref() {
            if whole.len() + data.len() > BODY_MAX {
                drain(body, whole.len() + data.len()).await;
                return Err(ApiError::new(Kind::BodyTooLarge));
            }
            whole.extend_from_slice(data);
        }
    }
    Ok(whole.freeze())
}

async fn drain(mut body: Body, mut seen: usize) {
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DRAIN_MAX {
                break;
            }
        }
    };
    // Enough was done for the client either way.
    let _ = tokio::time::timeout(DRAIN_WAIT, rest).await;
}

/// Reads a JSON document as a `T`.
///
/// # Errors
/// `MalformedJson`, `DuplicateKey`, `UnknownField`, `MissingField`, `WrongType`, `NotAllowed`,
/// `InvalidValue`; all but the first name the field.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let node = read(bytes)?;
    T::deserialize(&node).map_err(Misfit::into_error)
}

/// JSON as it was read.
enum Node {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Fraction(f64),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

fn read(bytes: &[u8]) -> Result<Node, ApiError> {
    let twice = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let node = Reader { twice: &twice }.deserialize(&mut reader).and_then(|node| reader.end().map(|()| node));
    node.map_err(|error| match twice.take() {
        Some(key) => ApiError::new(Kind::DuplicateKey).at(key),
        None => ApiError::new(Kind::MalformedJson).with(format!("{}:{}", error.line(), error.column())),
    })
}

/// Builds nodes; puts the first key that stands twice into `twice`.
#[derive(Clone, Copy)]
struct Reader<'a> {
    twice: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut object: Vec<(String, Node)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                self.twice.replace(Some(shown(&key)));
                return Err(A::Error::custom("a key stands twice"));
            }
            let value = entries.next_value_seed(self)?;
            object.push((key, value));
        }
        Ok(Node::Object(object))
    }
}

/// What does not fit, and where: `path` is filled in from the inside out.
#[derive(Debug)]
struct Misfit {
    kind: Kind,
    path: Vec<Step>,
    detail: String,
}

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl Misfit {
    fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, path: Vec::new(), detail: detail.into() }
    }

    fn at(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    fn into_error(self) -> ApiError {
        let mut path = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(&shown(key)),
                Step::Key(key) => path.extend([".", &shown(key)]),
                Step::Index(index) => path.extend(["[", &index.to_string(), "]"]),
            }
        }
        let path = if path.is_empty() { "body".to_owned() } else { path };
        ApiError::new(self.kind).at(path).with(self.detail)
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.detail)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    /// Messages of `try_from` newtypes, which say their rule.
    fn custom<T: fmt::Display>(rule: T) -> Self {
        let rule = rule.to_string();
        match rule.strip_prefix("one of: ") {
            Some(words) => Self::new(Kind::NotAllowed, words.replace(' ', ", ")),
            None => Self::new(Kind::InvalidValue, rule),
        }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Kind::WrongType, plain(&expected.to_string()))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        // An integer that does not fit its type.
        Self::new(Kind::WrongType, plain(&expected.to_string()))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Kind::NotAllowed, expected.join(", "))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownField, String::new()).at(Step::Key(field.to_owned()))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::MissingField, String::new()).at(Step::Key(field.to_owned()))
    }
}

/// serde's word for a type, for people.
fn plain(expected: &str) -> String {
    let word = match expected {
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        text if text.contains("string") || text.starts_with("enum") => "text",
        text if text.starts_with("struct") || text == "a map" => "an object",
        other => other,
    };
    word.to_owned()
}

/// A key as it may stand in an answer: short and printable.
fn shown(key: &str) -> String {
    key.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl Node {
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Null => Unexpected::Unit,
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Signed(value) => Unexpected::Signed(*value),
            Self::Unsigned(value) => Unexpected::Unsigned(*value),
            Self::Fraction(value) => Unexpected::Float(*value),
            Self::Text(text) => Unexpected::Str(text),
            Self::List(_) => Unexpected::Seq,
            Self::Object(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Signed(value) => visitor.visit_i64(*value),
            Node::Unsigned(value) => visitor.visit_u64(*value),
            Node::Fraction(value) => visitor.visit_f64(*value),
            Node::Text(text) => visitor.visit_borrowed_str(text),
            Node::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Node::Object(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
        }
    }

    /// `null` is as good as absent.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    /// An object only: a list would be read field by field.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self {
            Node::Object(_) => self.deserialize_any(visitor),
            other => Err(Misfit::invalid_type(other.unexpected(), &visitor)),
        }
    }

    /// A word only.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self {
            Node::Text(text) => visitor.visit_enum(Word(text)),
            other => Err(Misfit::invalid_type(other.unexpected(), &"a string")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        seed.deserialize(node).map(Some).map_err(|misfit| misfit.at(Step::Index(index)))
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, (String, Node)>,
    value: Option<&'de (String, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        self.value = self.entries.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        let key: StrDeserializer<'_, Misfit> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some((key, node)) = self.value.take() else {
            return Err(Misfit::custom("a value without a key"));
        };
        seed.deserialize(node).map_err(|misfit| misfit.at(Step::Key(key.clone())))
    }
}

struct Word<'de>(&'de str);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Misfit> {
        let word: StrDeserializer<'_, Misfit> = self.0.into_deserializer();
        Ok((seed.deserialize(word)?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'de> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Misfit> {
        Err(Misfit::invalid_type(Unexpected::UnitVariant, &"a map"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Misfit> {
        Err(Misfit::invalid_type(Unexpected::UnitVariant, &"a map"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Misfit> {
        Err(Misfit::invalid_type(Unexpected::UnitVariant, &"a map"))
    }
}

/// Bytes that a body may have.
const BODY_MAX: usize = 64 * 1024;
/// Bytes that are read of a longer one.
const DRAIN_MAX: usize = 1024 * 1024;
/// How long they are waited for.
const DRAIN_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::error::Language;
    use super::*;
    use crate::domain::id::{OrderNumber, OrderType};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by Debug")]
    struct Call {
        order_type: OrderType,
        order_number: OrderNumber,
        total_fee: i64,
        expires_in: Option<u32>,
        #[serde(default)]
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by Debug")]
    struct Item {
        good: bool,
    }

    /// One line a case: JSON, then what comes of it.
    const CASES: &str = r#"
{"order_type":"Order","order_number":"1","total_fee":5} => ok
{"order_type":"Order","order_number":"1","total_fee":5,"expires_in":null,"items":[{"good":true}]} => ok
{"order_type":"Order","order_number":"1","total_fee":5} x => malformed_json: The body is not valid JSON (at 1:57)
{"order_type":"Order", => malformed_json: The body is not valid JSON (at 1:22)
=> malformed_json: The body is not valid JSON (at 1:0)
{"order_type":"Order","order_number":"1","total_fee":01} => malformed_json: The body is not valid JSON (at 1:55)
{"order_type":"Order","order_number":"\ud800","total_fee":1} => malformed_json: The body is not valid JSON (at 1:45)
{"order_type":"Order","order_number":"1","order_number":"2","total_fee":5} => duplicate_key: order_number stands there twice
{"order_type":"Order","order_number":"1","total_fee":5,"items":[{"good":true,"\u0067ood":true}]} => duplicate_key: good stands there twice
{"order_type":"Order","order_number":"1","total_fee":5,"x":1} => unknown_field: There is no field x
{"order_type":"Order","order_number":"1","total_fee":5,"items":[{"good":true,"bad":1}]} => unknown_field: There is no field items[0].bad
{"order_type":"Order","total_fee":5} => missing_field: order_number is missing
{"order_type":"Order","order_number":"1","total_fee":5,"items":[{}]} => missing_field: items[0].good is missing
{"order_type":"Order","order_number":1,"total_fee":5} => wrong_type: order_number must be text
{"order_type":"Order","order_number":null,"total_fee":5} => wrong_type: order_number must be text
{"order_type":7,"order_number":"1","total_fee":5} => wrong_type: order_type must be text
{"order_type":{"Order":1},"order_number":"1","total_fee":5} => wrong_type: order_type must be text
{"order_type":"Order","order_number":"1","total_fee":"5"} => wrong_type: total_fee must be a whole number
{"order_type":"Order","order_number":"1","total_fee":5.0} => wrong_type: total_fee must be a whole number
{"order_type":"Order","order_number":"1","total_fee":1e2} => wrong_type: total_fee must be a whole number
{"order_type":"Order","order_number":"1","total_fee":99999999999999999999} => wrong_type: total_fee must be a whole number
{"order_type":"Order","order_number":"1","total_fee":5,"expires_in":-1} => wrong_type: expires_in must be a whole number
{"order_type":"Order","order_number":"1","total_fee":5,"items":{}} => wrong_type: items must be a list
{"order_type":"Order","order_number":"1","total_fee":5,"items":[{"good":true},{"good":1}]} => wrong_type: items[1].good must be true or false
["Order","1",5] => wrong_type: body must be an object
"Order" => wrong_type: body must be an object
{"order_type":"order","order_number":"1","total_fee":5} => not_allowed: order_type must be one of: Order, Wallet, Appointment
{"order_type":"Order","order_number":"a b","total_fee":5} => invalid_value: order_number is not right, it must be: 1 to 32 of 0-9 A-Z a-z _ -
"#;

    #[test]
    fn the_cases() {
        for line in CASES.lines().filter(|line| !line.is_empty()) {
            let (json, wanted) = line.split_once("=> ").unwrap();
            let got = match parse::<Call>(json.trim_end().as_bytes()) {
                Ok(_) => "ok".to_owned(),
                Err(error) => format!("{}: {}", error.kind().name(), error.message(Language::En)),
            };
            assert_eq!(got, wanted, "{json}");
        }
    }

    #[test]
    fn deep_and_broken_bytes() {
        for bytes in [
            vec![b'['; 60_000],
            b"\xff\xfe".to_vec(),
            b"\xef\xbb\xbf{}".to_vec(),
            b"{\"a\":\"\xff\"}".to_vec(),
        ] {
            assert_eq!(parse::<Call>(&bytes).unwrap_err().kind(), Kind::MalformedJson);
        }
    }

    #[tokio::test]
    async fn sizes_of_bodies() {
        let of = |len: usize| read_body(Body::from(vec![b' '; len]));
        assert_eq!(of(BODY_MAX).await.unwrap().len(), BODY_MAX);
        assert_eq!(of(BODY_MAX + 1).await.unwrap_err().kind(), Kind::BodyTooLarge);
    }

    #[tokio::test]
    async fn a_long_body_is_drained_for_a_while_only() {
        let endless = |wait: Duration| {
            Body::from_stream(futures_util::stream::unfold(0_usize, move |sent| async move {
                tokio::time::sleep(wait).await;
                assert!(sent < 2 * DRAIN_MAX, "drained too much");
                Some((Ok::<_, std::io::Error>(vec![0; 8192]), sent + 8192))
            }))
        };
        for wait in [Duration::ZERO, Duration::from_millis(100)] {
            let began = tokio::time::Instant::now();
            assert_eq!(read_body(endless(wait)).await.unwrap_err().kind(), Kind::BodyTooLarge);
            assert!(began.elapsed() <= DRAIN_WAIT + Duration::from_secs(1));
        }
        let broken =
            Body::from_stream(futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]));
        assert_eq!(read_body(broken).await.unwrap_err().kind(), Kind::BodyIncomplete);
    }
}
