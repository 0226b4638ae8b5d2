//! What somebody pasted: a raw HTTP message, a URL, or only a body. Never strict: it comes out of logs,
//! mails and consoles, and only what is signed must come out of it byte for byte.

use encoding_rs::GBK;

/// A message, taken apart.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// Method and target, if it was a raw request or a URL.
    pub(super) request: Option<(String, String)>,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    /// What follows the headers.
    pub(super) body: Vec<u8>,
    /// What had to be put right to read it.
    pub(super) notes: Vec<String>,
}

impl Message {
    /// Takes `input` apart. Whatever does not begin like HTTP is a body.
    pub(super) fn read(input: &[u8]) -> Self {
        let start = input.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(input.len());
        let input = input.get(start..).unwrap_or_default();
        let (line, _) = cut(input, b"\n");
        let line = String::from_utf8_lossy(line).trim().to_owned();
        let words: Vec<&str> = line.split(' ').collect();
        let request = match words.as_slice() {
            [method, target, version] if version.starts_with("HTTP/") => {
                Some(((*method).to_owned(), (*target).to_owned()))
            }
            [version, _, ..] if version.starts_with("HTTP/") => None,
            [url] if url.starts_with("https://") || url.starts_with("http://") => {
                let request = Some(("GET".to_owned(), (*url).to_owned()));
                return Self { request, ..Self::default() };
            }
            _ => return Self { body: input.to_vec(), ..Self::default() },
        };
        let crlf = cut(input, b"\r\n\r\n");
        let (head, body) =
            if crlf.0.len() < cut(input, b"\n\n").0.len() { crlf } else { cut(input, b"\n\n") };
        let head = String::from_utf8_lossy(head);
        let headers = head.lines().skip(1).filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        });
        let mut message = Self { request, headers: headers.collect(), ..Self::default() };
        message.body = message.whole(body).to_vec();
        message
    }

    /// The body as `Content-Length` has it: editors add a line end.
    fn whole<'a>(&mut self, body: &'a [u8]) -> &'a [u8] {
        let Some(length) = self.header("content-length").and_then(|text| text.parse::<usize>().ok()) else {
            return body;
        };
        if body.len() < length {
            self.notes.push(format!("Content-Length is {length}, but only {} bytes follow", body.len()));
        } else if body.len() > length {
            self.notes.push(format!(
                "the last {} bytes are beyond Content-Length and left out",
                body.len() - length
            ));
        }
        body.get(..length).unwrap_or(body)
    }

    /// A header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Path without host and query.
    pub(super) fn path(&self) -> Option<&str> {
        let (_, target) = self.request.as_ref()?;
        let target = target
            .split_once("://")
            .map_or(target.as_str(), |(_, rest)| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"));
        target.split(['?', '#']).next()
    }

    /// What stands behind the `?`.
    pub(super) fn query(&self) -> Option<&str> {
        let (_, target) = self.request.as_ref()?;
        target.split_once('?').map(|(_, query)| query.split('#').next().unwrap_or_default())
    }
}

/// Text of bytes, and whether they were GBK. `None` if they are neither.
pub(super) fn text(bytes: &[u8]) -> Option<(String, bool)> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Some((text.to_owned(), false));
    }
    GBK.decode_without_bom_handling_and_without_replacement(bytes).map(|text| (text.into_owned(), true))
}

/// The bytes of a text in GBK; `None` where it has none.
pub(super) fn gbk(text: &str) -> Option<Vec<u8>> {
    let (bytes, _, lost) = GBK.encode(text);
    (!lost).then(|| bytes.into_owned())
}

/// Before and after the first `mark`; everything and nothing without one.
fn cut<'a>(bytes: &'a [u8], mark: &[u8]) -> (&'a [u8], &'a [u8]) {
    let at = bytes.windows(mark.len()).position(|window| window == mark);
    at.and_then(|at| Some((bytes.get(..at)?, bytes.get(at + mark.len()..)?))).unwrap_or((bytes, &[]))
}
