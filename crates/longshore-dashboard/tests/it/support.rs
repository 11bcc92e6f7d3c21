//! Helpers that the tests share: requests and their answers, a client for the own server, and functions that
//! are well, crash, or wait.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use longshore::{App, CrashLoopBackoff, Function};
use longshore_dashboard::Dashboard;
use serde_json::Value;

/// A condition that takes longer than this counts as never coming true.
pub(crate) const HUNG: Duration = Duration::from_secs(30);

/// The message of a test that cannot go on.
pub(crate) const VALID: &str = "valid settings";

pub(crate) type Numbers = Function<u64, u64, Infallible>;

/// A function that doubles its input.
pub(crate) fn well(app: &App, name: &str) -> Numbers {
    app.infallible(name, |n: &u64| 2 * n).containers(2).start().expect(VALID)
}

/// A function with one container, which crashes with this message at every input. It is in a crash loop from
/// the second input on, and its next restart is an hour away.
pub(crate) fn sick(app: &App, name: &str, message: &str) -> Numbers {
    let message = message.to_owned();
    let hour = Duration::from_secs(3600);
    let policy = CrashLoopBackoff::new().initial(hour).max(hour).reset_after(2 * hour);
    let f = app.infallible(name, move |_: &u64| -> u64 { panic!("{message}") });
    let f = f.containers(1).crash_retries(0).restart(policy).start().expect(VALID);
    for n in 0..2 {
        f.call(n).wait().expect_err("it crashes");
    }
    f
}

/// An answer of the dashboard.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn of(response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("it is text")
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        serde_json::from_slice(&self.body).expect("it is JSON")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("it is text"))
    }
}

/// Sends a request with these headers.
pub(crate) fn send(dashboard: &Dashboard, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let builder = Request::builder().method(method).uri(path);
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    Answer::of(dashboard.respond(&builder.body(()).expect("a request")))
}

pub(crate) fn get(dashboard: &Dashboard, path: &str) -> Answer {
    send(dashboard, Method::GET, path, &[])
}

pub(crate) fn overview(dashboard: &Dashboard) -> Value {
    get(dashboard, "/api/v1/overview").json()
}

/// The path of a function's answer, as the page makes it.
pub(crate) fn path_of(name: &str) -> String {
    let escaped = name.bytes().map(|byte| format!("%{byte:02X}"));
    format!("/api/v1/functions/{}", escaped.collect::<String>())
}

/// The functions of an overview, by name.
pub(crate) fn named<'a>(overview: &'a Value, name: &str) -> &'a Value {
    let functions = overview["functions"].as_array().expect("a list");
    functions.iter().find(|it| it["name"] == name).expect("the function is there")
}

/// Waits until a condition holds. `what` is the condition as a sentence.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let turn = Duration::from_millis(2);
    let turns = HUNG.as_millis() / turn.as_millis();
    for _ in 0..turns {
        if holds() {
            return;
        }
        std::thread::park_timeout(turn);
    }
    panic!("this never came true: {what}");
}

/// A connection to the own server. Nothing waits for longer than [`HUNG`].
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(HUNG)).expect("a timeout");
    stream
}

/// Sends these bytes and reads until the server closes the connection.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    // The server may have closed the connection before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request of a client that closes the connection after the answer.
pub(crate) fn ask(address: SocketAddr, path: &str, host: &str) -> String {
    exchange(address, format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())
}
