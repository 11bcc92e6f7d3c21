//! The server as a process of its own, with signals.

#![expect(clippy::disallowed_methods, reason = "a test that waits has a limit")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use thumbnails::picture::SIDE_MAX;
use thumbnails::{CALLS_MAX, UPLOAD_BYTES_MAX};

use crate::client::{Answer, HUNG, begin, health, is_closed, post, send};
use crate::pictures::{BOMB, GOOD, JPEG, LARGER_BOMB, SLOW};

/// A server. It is killed if a test fails before its end.
struct Server {
    child: Child,
    address: SocketAddr,
    /// All that the process prints after its address, at its end.
    printed: Receiver<String>,
}

impl Server {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thumbnails"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be run");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut stderr = child.stderr.take().expect("it is piped");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it is text");
        let address = line.trim().strip_prefix("http://").and_then(|address| address.parse().ok());
        let (send, printed) = channel();
        thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("it is text");
            stderr.read_to_string(&mut text).expect("it is text");
            let _ = send.send(text); // the test may have failed
        });
        Self { child, address: address.unwrap_or_else(|| panic!("it prints its address: {line}")), printed }
    }

    fn signal(&self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status();
        assert!(sent.expect("there is a `kill`").success());
    }

    /// Asks for the health until it is as a test wants it.
    fn health_until(&self, is_so: impl Fn(&Answer) -> bool) -> Answer {
        let begun = Instant::now();
        loop {
            let health = health(self.address);
            if is_so(&health) {
                return health;
            }
            assert!(begun.elapsed() < HUNG, "it stays so: {}", health.text());
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn idle(&self) -> Answer {
        self.health_until(|health| {
            let numbers = health.numbers();
            (numbers["executing"], numbers["pending"]) == (0, 0)
        })
    }

    /// The end of the process, with what it has printed.
    fn ended(mut self) -> (ExitStatus, String) {
        let printed = self.printed.recv_timeout(HUNG).expect("it ends");
        (self.child.wait().expect("it has ended"), printed)
    }

    /// Ends a server that has nothing to do.
    fn end(self) -> String {
        self.signal();
        let (status, printed) = self.ended();
        assert!(status.success(), "{status}\n{printed}");
        assert!(printed.contains("without an outcome: 0\nended well: true\n"), "{printed}");
        printed
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
    }
}

/// Fails unless the answer is a thumbnail.
fn is_thumbnail(answer: &Answer) {
    assert_eq!((answer.status, answer.retry_after), (200, None), "{}", answer.text());
    let picture = image::load_from_memory(&answer.body).expect("it is a picture");
    assert_eq!((picture.width(), picture.height()), (SIDE_MAX, 85), "600 × 400 made small");
}

#[test]
fn good_pictures_get_thumbnails_and_others_are_refused_for_their_reason() {
    let server = Server::start();
    let ask = |picture: &[u8]| post(server.address, picture).expect("it is answered");
    is_thumbnail(&ask(&GOOD));
    is_thumbnail(&ask(&JPEG));
    let refused: [(&str, &[u8], u16); 8] = [
        ("no bytes", b"", 422),
        ("a text", b"no picture", 422),
        ("a signature", &GOOD[..8], 422),
        ("cut off", &GOOD[..GOOD.len() / 2], 422),
        ("a JPEG that is cut off in its header", &JPEG[..100], 422),
        ("more than the decoder may allocate", &LARGER_BOMB, 413),
        ("more than a container may use", &BOMB, 413),
        ("an upload that is too large", &vec![7; UPLOAD_BYTES_MAX + 1], 413),
    ];
    for (what, picture, status) in refused {
        let answer = ask(picture);
        assert_eq!((answer.status, answer.retry_after), (status, None), "{what}: {}", answer.text());
    }
    is_thumbnail(&ask(&GOOD));
    let health = server.idle();
    let numbers = health.numbers();
    assert_eq!((health.status, numbers["live"], numbers["abandoned"]), (200, 2, 0), "{}", health.text());
    assert_eq!((numbers["ok"], numbers["failed"], numbers["poisoned"]), (3, 6, 1), "{}", health.text());
    assert_eq!(numbers["crashes"], 1, "the bomb that the decoder lets through");
    assert!(server.end().starts_with("3 made, 7 refused, 0 cancelled\n"));
}

#[test]
fn nothing_but_bombs_kills_one_container_each_and_keeps_no_good_picture_away() {
    const BOMBS: u64 = 22; // two in each round: the default delay would be long after ten rounds
    let server = Server::start();
    for _ in 0..BOMBS {
        assert_eq!(post(server.address, &BOMB).expect("it is answered").status, 413);
    }
    is_thumbnail(&post(server.address, &GOOD).expect("it is answered"));
    let numbers = server.idle().numbers();
    assert_eq!((numbers["poisoned"], numbers["crashes"]), (BOMBS, BOMBS));
    server.end();
}

#[test]
fn of_two_hundred_at_once_each_is_answered_or_refused() {
    const CLIENTS: usize = 200;
    let server = Server::start();
    let (address, together) = (server.address, Arc::new(Barrier::new(CLIENTS)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let together = Arc::clone(&together);
            thread::spawn(move || {
                together.wait();
                post(address, &SLOW).expect("it is answered")
            })
        })
        .collect();
    let answers: Vec<_> = clients.into_iter().map(|client| client.join().expect("no panic")).collect();
    let made = answers.iter().filter(|answer| answer.status == 200).count() as u64;
    let refused = answers.iter().filter(|answer| answer.status == 503).count() as u64;
    assert_eq!(made + refused, CLIENTS as u64, "there is no other answer");
    assert!(made >= CALLS_MAX, "the room is used: {made}");
    assert!(answers.iter().all(|answer| answer.retry_after == (answer.status == 503).then_some(1)));
    let health = server.idle();
    let numbers = health.numbers();
    assert_eq!((numbers["ok"], numbers["overloaded"]), (made, refused), "{}", health.text());
    assert!(refused > 0, "200 are more than there is room for");
    server.end();
}

#[test]
fn clients_that_leave_half_way_leave_nothing_behind() {
    const CLIENTS: usize = 40;
    let server = Server::start();
    let mut waiting = Vec::new();
    for _ in 0..CLIENTS {
        // One leaves before its picture is there, and another while it waits for the thumbnail.
        let mut uploading = begin(server.address, SLOW.len()).expect("it is taken");
        uploading.more(&SLOW[..SLOW.len() / 2]).expect("it is read");
        waiting.push(send(server.address, &SLOW).expect("it is taken"));
    }
    let sum = |of: &BTreeMap<String, u64>, names: &[&str]| names.iter().map(|name| of[*name]).sum::<u64>();
    let all = CLIENTS as u64;
    server.health_until(|health| sum(&health.numbers(), &["pending", "ok"]) == all);
    drop(waiting);
    let numbers = server.idle().numbers();
    assert_eq!(sum(&numbers, &["cancelled", "ok"]), all, "{numbers:?}");
    assert!(numbers["cancelled"] > numbers["ok"], "most of them were not decoded: {numbers:?}");
    assert_eq!((numbers["crashes"], numbers["abandoned"], numbers["live"]), (0, 0, 2), "{numbers:?}");
    is_thumbnail(&post(server.address, &GOOD).expect("it is answered"));
    server.end();
}

#[test]
fn a_sigterm_under_load_loses_no_request() {
    let server = Server::start();
    let (made, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let (address, over) = (server.address, Arc::clone(&over));
            let (made, refused) = (Arc::clone(&made), Arc::clone(&refused));
            thread::spawn(move || {
                let picture: &[u8] = if client % 4 == 0 { &SLOW } else { &GOOD };
                while !over.load(Ordering::SeqCst) {
                    match post(address, picture) {
                        Ok(answer) if answer.status == 200 => made.fetch_add(1, Ordering::SeqCst),
                        Ok(answer) => {
                            assert_eq!((answer.status, answer.retry_after), (503, Some(5)), "{answer:?}");
                            refused.fetch_add(1, Ordering::SeqCst)
                        }
                        // The server has gone.
                        Err(error) if is_closed(&error) => return,
                        Err(error) => panic!("{error}"),
                    };
                }
            })
        })
        .collect();
    while made.load(Ordering::SeqCst) < 50 {
        thread::yield_now();
    }
    server.signal();
    let (status, printed) = server.ended();
    over.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().expect("each answer is a good one"));
    assert!(status.success() && printed.contains("ended well: true"), "{status}\n{printed}");
    let made = made.load(Ordering::SeqCst);
    assert!(
        printed.starts_with(&format!("{made} made, 0 refused, 0 cancelled\nwithout an outcome: 0\n")),
        "each thumbnail has reached its client: {made}\n{printed}"
    );
}

#[test]
fn a_second_sigterm_aborts_and_each_request_is_refused() {
    const CLIENTS: usize = 40;
    let server = Server::start();
    let sent: Vec<_> = (0..CLIENTS).map(|_| send(server.address, &SLOW).expect("it is taken")).collect();
    server.health_until(|health| health.numbers()["pending"] >= 30);
    server.signal();
    server.health_until(|health| health.text().starts_with("health ending\n"));
    server.signal();
    let answers: Vec<_> = sent.into_iter().map(|sent| sent.answer().expect("it is answered")).collect();
    let (status, printed) = server.ended();
    let made = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status == 503).count();
    assert_eq!(made + refused, CLIENTS, "{printed}");
    assert!(refused > made, "most of them had not begun: {made} were made");
    assert!(printed.starts_with(&format!("{made} made, 0 refused, ")), "{printed}");
    assert!(printed.contains("without an outcome: 0\nended well: false\n"), "{printed}");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_client_that_stops_in_the_middle_of_its_upload_does_not_keep_the_server() {
    let server = Server::start();
    let mut uploading = begin(server.address, GOOD.len()).expect("it is taken");
    uploading.more(&GOOD[..100]).expect("it is read");
    server.end();
    assert!(uploading.answer().is_err(), "there was no picture to answer to");
}
