//! A client for the examples: what a browser or a scraper would see.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Sends a request with these further headers, and returns the answer without its headers.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &str) -> io::Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or("").trim_start_matches("HTTP/1.1 ");
    Ok((status.to_owned(), body.to_owned()))
}
