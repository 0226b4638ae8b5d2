//! The one XML reader and writer of WeChat v2: one root, flat children, text. Never resolves anything a
//! document defines for itself: a DOCTYPE ends the reading (gateways.md 5, pitfall 1: CVE-2018-13439).

use std::collections::BTreeMap;
use std::fmt::Write;

use quick_xml::Reader;
use quick_xml::events::Event;

/// Bytes a message may have. Real ones stay below 4 kB.
pub const MAX_BYTES: usize = 64 * 1024;

/// Why bytes are not such a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Nothing at all.
    #[error("the body is empty")]
    Empty,
    /// More than [`MAX_BYTES`].
    #[error("more than 64 KiB")]
    TooLong,
    /// Not UTF-8, or declared as something else.
    #[error("not UTF-8")]
    NotUtf8,
    /// A DOCTYPE, an entity of its own, a processing instruction or a comment.
    #[error("{0} is not allowed")]
    Forbidden(&'static str),
    /// An element inside a field.
    #[error("elements are nested deeper than one level")]
    TooDeep,
    /// One field twice: two readers could see two values.
    #[error("the element {0} stands twice")]
    Duplicate(String),
    /// Not well-formed, or another root.
    #[error("not well-formed: {0}")]
    Malformed(String),
}

/// Reads `<root><name>value</name>…</root>` into its fields, sorted by name.
///
/// # Errors
/// [`XmlError`].
pub fn read(body: &[u8], root: &str) -> Result<BTreeMap<String, String>, XmlError> {
    if body.len() > MAX_BYTES {
        return Err(XmlError::TooLong);
    }
    let text = std::str::from_utf8(body).map_err(|_| XmlError::NotUtf8)?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err(XmlError::Empty);
    }
    let mut reader = Reader::from_str(text);
    let mut state = State::default();
    loop {
        let event = reader.read_event().map_err(|error| XmlError::Malformed(error.to_string()))?;
        if let Event::Eof = event {
            return state.finish();
        }
        state.step(event, root)?;
    }
}

/// Writes such a document, each value in CDATA.
pub fn write<'a>(root: &str, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = format!("<{root}>");
    for (name, value) in fields {
        // "]]>" would end the section: it is split over two, which every reader joins again.
        let value = value.replace("]]>", "]]]]><![CDATA[>");
        // Writing to a String cannot fail.
        let _ = write!(out, "<{name}><![CDATA[{value}]]></{name}>");
    }
    let _ = write!(out, "</{root}>");
    out
}

/// Where the reader is.
#[derive(Default)]
struct State {
    fields: BTreeMap<String, String>,
    in_root: bool,
    root_done: bool,
    field: Option<Field>,
}

/// The field being read.
struct Field {
    name: String,
    text: String,
    cdata: Option<String>,
}

impl State {
    fn step(&mut self, event: Event<'_>, root: &str) -> Result<(), XmlError> {
        match event {
            Event::Decl(_) if self.in_root || self.root_done => {
                Err(XmlError::Forbidden("a second declaration"))
            }
            Event::Decl(decl) => match decl.encoding() {
                Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") => Ok(()),
                Some(_) => Err(XmlError::NotUtf8),
                None => Ok(()),
            },
            Event::Start(start) => self.open(start.name().as_ref(), root),
            Event::Empty(start) => {
                self.open(start.name().as_ref(), root)?;
                self.close()
            }
            Event::End(_) => self.close(),
            Event::Text(text) => self.text(&text.xml10_content()),
            Event::CData(cdata) => self.cdata(&cdata.xml10_content()),
            Event::GeneralRef(reference) => {
                let value = resolve(&reference)?;
                self.text(value.encode_utf8(&mut [0; 4]))
            }
            Event::Comment(_) => Err(XmlError::Forbidden("a comment")),
            Event::PI(_) => Err(XmlError::Forbidden("a processing instruction")),
            Event::DocType(_) => Err(XmlError::Forbidden("a DOCTYPE")),
            Event::Eof => Ok(()),
        }
    }

    fn open(&mut self, name: &str, root: &str) -> Result<(), XmlError> {
        if self.field.is_some() {
            return Err(XmlError::TooDeep);
        }
        if !self.in_root {
            if self.root_done || name != root {
                return Err(XmlError::Malformed(format!("expected one <{root}>")));
            }
            self.in_root = true;
            return Ok(());
        }
        // The name goes into the signed text, so a `=` or `&` in it must not pass for structure.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.$".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(XmlError::Malformed("an element's name".to_owned()));
        }
        if self.fields.contains_key(name) {
            return Err(XmlError::Duplicate(name.to_owned()));
        }
        self.field = Some(Field { name: name.to_owned(), text: String::new(), cdata: None });
        Ok(())
    }

    fn close(&mut self) -> Result<(), XmlError> {
        let Some(field) = self.field.take() else {
            self.in_root = false;
            self.root_done = true;
            return Ok(());
        };
        let value = match field.cdata {
            // White space around a CDATA section is layout, not value.
            Some(cdata) if field.text.trim().is_empty() => cdata,
            Some(_) => return Err(XmlError::Malformed("text beside CDATA".to_owned())),
            None => field.text,
        };
        self.fields.insert(field.name, value);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), XmlError> {
        match &mut self.field {
            Some(field) => field.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(XmlError::Malformed("text outside of fields".to_owned())),
        }
        Ok(())
    }

    fn cdata(&mut self, text: &str) -> Result<(), XmlError> {
        match &mut self.field {
            Some(field) => field.cdata.get_or_insert_default().push_str(text),
            None => return Err(XmlError::Malformed("text outside of fields".to_owned())),
        }
        Ok(())
    }

    fn finish(self) -> Result<BTreeMap<String, String>, XmlError> {
        if self.root_done && self.field.is_none() {
            Ok(self.fields)
        } else {
            Err(XmlError::Malformed("it ends too early".to_owned()))
        }
    }
}

/// The five entities of XML itself and numbers; whatever else a document names, it would have to define.
fn resolve(reference: &quick_xml::events::BytesRef<'_>) -> Result<char, XmlError> {
    let damaged = || XmlError::Malformed("a character reference".to_owned());
    if let Some(letter) = reference.resolve_char_ref().map_err(|_| damaged())? {
        return Ok(letter);
    }
    match reference.borrow().into_inner().as_ref() {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(XmlError::Forbidden("an entity")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Result<Vec<(String, String)>, XmlError> {
        read(text.as_bytes(), "xml").map(|fields| fields.into_iter().collect())
    }

    #[test]
    fn plain_text_cdata_entities_and_layout() {
        let read = fields(
            "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xml>\n <b> <![CDATA[1 & <2>]]> </b>\n \
             <a>x &lt;&amp;&#26085; y</a><c/><d></d><e><![CDATA[]]]]><![CDATA[>]]></e></xml>\n",
        )
        .unwrap();
        let expected = [("a", "x <&日 y"), ("b", "1 & <2>"), ("c", ""), ("d", ""), ("e", "]]>")];
        assert_eq!(read, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let values = [("a", "测试 & <商品>"), ("b", "]]>]]"), ("c", " x\n y "), ("d", "&amp;")];
        let text = write("xml", values);
        assert_eq!(fields(&text).unwrap(), values.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn refused() {
        let entity = "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><xml><a>&e;</a></xml>";
        assert_eq!(fields(entity), Err(XmlError::Forbidden("a DOCTYPE")));
        assert_eq!(fields("<xml><a>&e;</a></xml>"), Err(XmlError::Forbidden("an entity")));
        assert_eq!(fields("<xml><!-- x --></xml>"), Err(XmlError::Forbidden("a comment")));
        assert_eq!(fields("<xml><?php x?></xml>"), Err(XmlError::Forbidden("a processing instruction")));
        let declared = fields("<xml><?xml version=\"1.0\"?></xml>");
        assert_eq!(declared, Err(XmlError::Forbidden("a second declaration")));
        assert_eq!(fields("<xml><a>1</a><a>1</a></xml>"), Err(XmlError::Duplicate("a".to_owned())));
        assert_eq!(fields("<xml><a><b>1</b></a></xml>"), Err(XmlError::TooDeep));
        assert_eq!(fields(" "), Err(XmlError::Empty));
        assert_eq!(read(&[0xff], "xml"), Err(XmlError::NotUtf8));
        assert_eq!(fields("<?xml version=\"1.0\" encoding=\"gbk\"?><xml></xml>"), Err(XmlError::NotUtf8));
        assert_eq!(read(&vec![b' '; MAX_BYTES + 1], "xml"), Err(XmlError::TooLong));
        for text in [
            "<root></root>",
            "<xml>",
            "<xml><a>1</xml>",
            "<xml>text</xml>",
            "<xml><a>1</a></xml><xml></xml>",
            "<xml></xml>x",
            "<xml><a=1&b>1</a=1&b></xml>",
            "<xml><a>&#0;</a></xml>",
            "<xml><a>1<![CDATA[2]]></a></xml>",
            "{}",
        ] {
            assert!(matches!(fields(text), Err(XmlError::Malformed(_))), "{text}: {:?}", fields(text));
        }
    }
}
