//! The site that is asked: a process of its own, so that its CPU time is not counted.

use std::convert::Infallible;
use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;
use tokio::runtime::Builder;
use tokio::time::sleep;

/// The environment variable that makes this program the site.
const IS_SITE: &str = "LONGSHORE_BENCH_SITE";

/// The time that the site takes for an answer.
const LATENCY: Duration = Duration::from_millis(20);

/// The largest number of connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A running site. It ends when this is dropped.
pub(crate) struct Site {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Site {
    pub(crate) fn open() -> Self {
        let mut command = Command::new(env::current_exe().expect("it is known while it runs"));
        let mut child = command.env(IS_SITE, "yes").stdout(Stdio::piped()).spawn().expect("it can be made");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("it is text");
        Self { child, address: line.trim().parse().expect("the site prints its address") }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
    }
}

/// Whether this program was started as the site.
pub(crate) fn is_site() -> bool {
    env::var_os(IS_SITE).is_some()
}

/// Serves until the process is killed.
pub(crate) fn serve() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("there is a free port");
        let listener = socket.listen(BACKLOG).expect("it is bound");
        println!("{}", listener.local_addr().expect("it is bound"));
        loop {
            let (stream, _) = listener.accept().await.expect("it listens");
            stream.set_nodelay(true).expect("it is a connection");
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
}

/// Answers `/N/ATTEMPT`. At the first attempt, one page in 50 is refused, and one in 1000 is cut off.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    sleep(LATENCY).await;
    let mut parts =
        request.uri().path().split('/').skip(1).map(|part| part.parse::<u64>().expect("a number"));
    let (page, attempt) = (parts.next().expect("a page"), parts.next().expect("an attempt"));
    let is_faulty = attempt == 1;
    let mut response = Response::new(Full::from(match is_faulty && page % 1000 == 3 {
        true => "[".to_owned(),
        false => format!("[{page}]"),
    }));
    if is_faulty && page % 50 == 7 {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}
