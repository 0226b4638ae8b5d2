//! A lean HTTP/1.1 caller: one kept connection, bytes made beforehand, no more than the status and the body
//! of the answer. It plays gateways that send thousands of notices a second, so that the figure is the
//! service's and not the caller's. The service itself never uses it: its ways out are `runtime::transport`.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A kept connection.
pub struct Line {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether it is a word for success that a gateway takes: `success` at Alipay, XML at WeChat.
    pub fn is_success(&self) -> bool {
        let text = String::from_utf8_lossy(&self.body);
        self.status == 200 && (text == "success" || text.contains("<![CDATA[SUCCESS]]>"))
    }
}

impl Line {
    /// Opens one.
    ///
    /// # Errors
    /// [`io::Error`].
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(1024) })
    }

    /// Sends a whole request, reads a whole answer.
    ///
    /// # Errors
    /// [`io::Error`]: also for an answer that is not one.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.read.clear();
        loop {
            if let Some((head, length)) = head(&self.read)?
                && self.read.len() >= head + length
            {
                let status = self.read.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
                let status = status.and_then(|digits| digits.parse().ok()).ok_or_else(|| bad("no status"))?;
                return Ok(Answer { status, body: self.read.get(head..).unwrap_or_default().to_vec() });
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Where the body begins and how long it is, once the head is there.
fn head(read: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(read.get(..end).unwrap_or_default()).map_err(|_| bad("a head"))?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok(Some((end + 4, length.ok_or_else(|| bad("no Content-Length"))?)))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// A request as bytes on the wire.
pub fn wire(request: &Request<Bytes>) -> Vec<u8> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let host = request.uri().authority().map_or("localhost", |authority| authority.as_str());
    let mut text = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\n", request.method());
    for (name, value) in request.headers() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    let _ = write!(text, "content-length: {}\r\n\r\n", request.body().len());
    [text.as_bytes(), request.body()].concat()
}
