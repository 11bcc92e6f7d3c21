//! A deployed function whose dependency goes away for 20 seconds, in real time.
//!
//! The page says so within two seconds, with the place in the user's code and the next restart. When the
//! dependency is back, what was is still to be read.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs};

use longshore::{App, BoxError, Context, CrashLoopBackoff, Health, Worker};
use longshore_dashboard::{Actions, Dashboard};

use crate::browser::browse;
use crate::clock::assert_countdown;
use crate::screenshots::{HISTORY, shoot};

/// The time that the dependency is away.
const OUTAGE: Duration = Duration::from_secs(20);

/// The time within which the page says that there is a crash loop.
const SOON: Duration = Duration::from_secs(2);

/// A server of schemas, which answers each byte with the next number.
struct Registry {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Registry {
    fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("an address");
        let address = listener.local_addr().expect("it has an address");
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (client, stop) = (client.expect("a client"), Arc::clone(&stop));
                thread::spawn(move || answer(client, &stop));
            }
        });
        Self { address, is_over, thread }
    }

    /// Goes away: what is open is closed at its next request, and new connections are refused.
    fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        self.thread.join().expect("it ends");
    }
}

fn answer(mut client: TcpStream, is_over: &AtomicBool) {
    let mut asked = [0];
    while client.read_exact(&mut asked).is_ok() && !is_over.load(Ordering::SeqCst) {
        if client.write_all(&[asked[0].wrapping_add(1)]).is_err() {
            return;
        }
    }
}

/// Parses pages with a schema that it asks for.
struct Parser {
    registry: TcpStream,
}

impl Parser {
    fn enter(address: SocketAddr) -> Self {
        Self { registry: TcpStream::connect(address).expect("the schema registry refuses the connection") }
    }
}

impl Worker for Parser {
    type Input = u64;
    type Output = u64;
    type Error = std::convert::Infallible;

    fn call(&mut self, page: &u64, _: &Context) -> Result<u64, Self::Error> {
        thread::sleep(Duration::from_millis(5)); // the parsing
        let mut schema = [*page as u8];
        self.registry.write_all(&schema).expect("the registry takes a request");
        self.registry.read_exact(&mut schema).expect("the registry answers");
        Ok(page + u64::from(schema[0]))
    }
}

#[test]
fn an_outage_of_a_dependency_is_seen_at_once_and_can_be_read_afterwards() {
    let pictures = env::var_os("LONGSHORE_SCREENSHOTS").map(std::path::PathBuf::from);
    browse(async |browser| {
        let registry = Registry::start("127.0.0.1:0");
        let address = registry.address;
        let app = App::deployed("crawler");
        let quick = Duration::from_millis(250);
        let policy = CrashLoopBackoff::new().initial(quick).max(32 * quick).reset_after(64 * quick);
        let enter = move |_: &Context| Ok::<_, BoxError>(Parser::enter(address));
        let parse = app.worker("parse", enter).containers(4).restart(policy).start().expect("valid");
        let is_over = Arc::new(AtomicBool::new(false));
        let (map, stop) = (parse.map(0_u64..).label("pages").return_exceptions(), Arc::clone(&is_over));
        let work = thread::spawn(move || {
            let outcomes = map.into_iter().take_while(|_| !stop.load(Ordering::SeqCst));
            outcomes.fold((0_u64, 0_u64), |(ok, lost), outcome| match outcome {
                Ok(_) => (ok + 1, lost),
                Err(_) => (ok, lost + 1),
            })
        });
        let dashboard = Dashboard::of(&app).actions(Actions::ALL).token("t");
        let page = dashboard.serve("127.0.0.1:0").expect("it serves");
        browser.open(&format!("{}?token=t", page.url())).await;
        browser.until_text("#say", "parse is serving").await;
        if pictures.is_some() {
            browser.resize(1100, 824).await;
            browser.hide_scrollbars().await;
            tokio::time::sleep(HISTORY).await;
        }

        let begun = Instant::now();
        registry.stop();
        // On a loaded machine the containers may need a while to notice. The page is measured from then on.
        while parse.snapshot().health != Health::CrashLoop {
            assert!(begun.elapsed() < OUTAGE, "{}", parse.snapshot());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let looping = Instant::now();
        let place = concat!("panic in enter at ", file!(), ":");
        browser.until_text("#say", &format!("parse is in a crash loop: {place}")).await;
        let (noticed, shown) = (looping - begun, looping.elapsed());
        eprintln!(
            "the containers were in a crash loop after {noticed:?}, and the page said so {shown:?} later"
        );
        assert!(shown < SOON, "the page said so {shown:?} after it was so");
        browser.open_function(&page.url(), "parse").await;
        browser.until_text(".cause .message", "the schema registry refuses the connection").await;
        browser.until_text("table.containers", "backing off").await;
        let next_restart = || parse.snapshot().crash_loop.and_then(|it| it.next_restart);
        let mut seen = 0;
        while begun.elapsed() < OUTAGE {
            let next = next_restart();
            // The first call may return what an earlier request was answered, and the second one does not.
            browser.promised("await longshore.refresh(); await longshore.refresh()").await;
            // A restart in between begins another delay, which the page may not have seen.
            if next.is_some_and(|next| next > parse.snapshot().now + SOON) && next == next_restart() {
                assert_countdown(browser, || parse.snapshot()).await;
                seen += 1;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert!(seen > 10, "the countdown was seen {seen} times");
        if let Some(directory) = pictures {
            fs::create_dir_all(&directory).expect("a directory");
            shoot(browser, &directory, "crash-loop").await;
        }

        let registry = Registry::start(&address.to_string());
        browser.until_text(".title .health", "serving again").await;
        assert_ne!(parse.snapshot().health, Health::CrashLoop);
        browser.until_text("[data-b=what]", "A crash loop is over").await;
        browser.until_text("#say", "parse serves again after a crash loop: panic in enter at ").await;
        for (place, text) in [
            ("table.causes", "the schema registry refuses the connection"),
            ("table.causes", "the registry"),
            ("ol.log", "the crash loop is over"),
            ("ol.log", "next restart at"),
        ] {
            browser.until_text(place, text).await;
        }
        is_over.store(true, Ordering::SeqCst);
        let (ok, lost) = work.join().expect("the map goes on");
        assert!(ok > 0);
        assert_eq!(lost, 0, "the outage of a dependency poisons no input");
        registry.stop();
    });
}
