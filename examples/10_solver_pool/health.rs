//! `GET /health`, which shows what the pool is able to do now by its status alone, and a client of it.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use longshore::Status;

/// Answers for ever, on one thread. A status is a snapshot, and can be had while every container is down.
pub(crate) fn serve(listener: &TcpListener, status: impl Fn() -> Status) {
    for client in listener.incoming() {
        // If a client hangs up, the next one is answered all the same.
        let _ = client.and_then(|client| answer(client, &status));
    }
}

fn answer(mut client: TcpStream, status: impl Fn() -> Status) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // Read the headers to their end. A close before that would reset the connection.
    while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
    let (code, body) = match request.split(' ').take(2).collect::<Vec<_>>()[..] {
        ["GET", "/health"] => health(&status()),
        _ => ("404 Not Found", String::new()),
    };
    let length = body.len();
    write!(client, "HTTP/1.1 {code}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// The verdict counts live containers only, because no other container answers an order.
fn health(status: &Status) -> (&'static str, String) {
    let containers = status.containers;
    let configured = containers.configured();
    let (code, verdict) = match containers.live {
        0 => ("503 Service Unavailable", "down"),
        live if live < configured => ("200 OK", "degraded"),
        _ => ("200 OK", "healthy"),
    };
    let mut body = format!(
        "pool: {verdict}, {} of {configured} live\n\
         starting: {}\nbacking off: {}\nabandoned: {}\nwaiting: {}\ncrashes: {}\n",
        containers.live,
        containers.starting,
        containers.backing_off,
        containers.abandoned,
        status.inputs_waiting,
        status.crashes,
    );
    if let Some((ago, crash)) = &status.last_crash {
        // The cause has a line without the container, so that equal causes can be counted.
        let source = crash.source().map_or(String::new(), |source| format!(": {source}"));
        let _ = writeln!(body, "last crash: container {}, {ago:?} ago", crash.container);
        let _ = writeln!(body, "last cause: {}{source}", crash.death);
    }
    if let Some(crash_loop) = &status.crash_loop {
        let next = crash_loop.next_restart.map_or("now".to_owned(), |next| format!("in {next:?}"));
        let (crashes, since) = (crash_loop.crashes, crash_loop.since);
        let _ = writeln!(body, "crash loop: {crashes} in a row since {since:?}, next restart {next}");
    }
    if let Some(gave_up) = &status.gave_up {
        let _ = writeln!(body, "gave up: {gave_up}");
    }
    (code, body)
}

/// The answer that a client received.
pub(crate) struct Answer(String);

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a line of the body. It is empty if there is no such line.
    pub(crate) fn line(&self, key: &str) -> &str {
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).unwrap_or_default()
    }
}

/// Asks again and again, as a load balancer does, until the answer meets a condition.
pub(crate) fn ask_until(server: SocketAddr, is_so: impl Fn(&Answer) -> bool) -> io::Result<Answer> {
    loop {
        let mut connection = TcpStream::connect(server)?;
        write!(connection, "GET /health HTTP/1.1\r\nhost: {server}\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let answer = Answer(answer);
        if is_so(&answer) {
            return Ok(answer);
        }
    }
}
