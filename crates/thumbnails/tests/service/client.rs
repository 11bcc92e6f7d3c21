//! A client of HTTP with one request for each connection, which may leave in the midst of it.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server that is silent for longer than this counts as hung.
pub(crate) const HUNG: Duration = Duration::from_secs(60);

/// An answer of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The seconds of the header `Retry-After`.
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The numbers of a health check, by their names.
    pub(crate) fn numbers(&self) -> BTreeMap<String, u64> {
        let text = self.text();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?))).collect()
    }
}

/// A request that has been sent, and whose answer has not been read. Dropping it closes the connection.
pub(crate) struct Sent(TcpStream);

/// Sends a picture, and returns without waiting for the answer.
pub(crate) fn send(address: SocketAddr, picture: &[u8]) -> Result<Sent> {
    let mut sent = begin(address, picture.len())?;
    // A server that does not want all of it closes the connection, and its answer says why.
    match sent.0.write_all(picture) {
        Err(error) if !is_closed(&error) => Err(error),
        _ => Ok(sent),
    }
}

/// Sends the head of a request with a picture of this many bytes, and none of the bytes.
pub(crate) fn begin(address: SocketAddr, length: usize) -> Result<Sent> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(HUNG))?;
    write!(
        stream,
        "POST /thumbnail HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )?;
    Ok(Sent(stream))
}

impl Sent {
    /// Sends some bytes of the picture.
    pub(crate) fn more(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes)
    }

    /// The answer. It is an error if the connection ends before the answer does.
    pub(crate) fn answer(mut self) -> Result<Answer> {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            // A server that has not read the whole upload resets the connection after its answer.
            Err(error) if !is_closed(&error) || bytes.is_empty() => return Err(error),
            _ => {}
        }
        let cut_off = || Error::new(ErrorKind::UnexpectedEof, "the answer was cut off");
        let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(cut_off)?;
        let body = bytes.split_off(at + 4);
        let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(cut_off)?;
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.and_then(|value| value.parse().ok())
        };
        if header("content-length") != Some(body.len() as u64) {
            return Err(cut_off());
        }
        Ok(Answer { status, retry_after: header("retry-after"), body })
    }
}

/// Whether the other side has closed the connection.
pub(crate) fn is_closed(error: &Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | UnexpectedEof
    )
}

/// Sends a picture, and waits for the answer.
pub(crate) fn post(address: SocketAddr, picture: &[u8]) -> Result<Answer> {
    send(address, picture)?.answer()
}

/// The answer of the health check.
pub(crate) fn health(address: SocketAddr) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(HUNG)).expect("the limit is not zero");
    write!(stream, "GET /health HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").expect("it is read");
    Sent(stream).answer().expect("there is an answer")
}
