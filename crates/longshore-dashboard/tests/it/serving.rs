//! The own server: where it listens, whom it answers, and how it stops.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use longshore::App;
use longshore_dashboard::{Actions, Dashboard, ServeError};

use crate::support::{VALID, ask, connect, exchange, until, well};

#[test]
fn the_page_is_served_at_its_address_and_to_loopback_names_only() {
    let app = App::deployed("serving");
    let page = Dashboard::of(&app).serve("127.0.0.1:0").expect(VALID);
    assert_eq!(page.url(), format!("http://{}/", page.address()));
    for host in ["localhost", "127.0.0.1:1", "[::1]"] {
        let answer = ask(page.address(), "/", host);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("<!doctype html>"), "{host}: {answer}");
    }
    let foreign = ask(page.address(), "/api/v1/overview", "evil.example");
    assert!(foreign.starts_with("HTTP/1.1 421") && !foreign.contains("serving\""), "{foreign}");
    let none = exchange(page.address(), b"GET / HTTP/1.0\r\n\r\n");
    assert!(none.starts_with("HTTP/1.0 421"), "{none}");
}

#[test]
fn a_host_that_is_allowed_by_name_is_served() {
    let app = App::deployed("serving");
    let page = Dashboard::of(&app).allow_host("Ops.Example").serve("localhost:0").expect(VALID);
    assert!(ask(page.address(), "/healthz", "ops.example").starts_with("HTTP/1.1 200"));
    assert!(ask(page.address(), "/healthz", "other.example").starts_with("HTTP/1.1 421"));
}

#[test]
fn other_machines_and_actions_need_a_token() {
    let app = App::deployed("serving");
    let dashboard = Dashboard::of(&app);
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = dashboard.serve(address);
        assert!(matches!(refused, Err(ServeError::TokenNeeded(_))), "{address}: {refused:?}");
    }
    let acts = dashboard.clone().actions(Actions::RESET).serve("127.0.0.1:0");
    assert!(matches!(acts, Err(ServeError::ActionsNeedToken)), "{acts:?}");
    let page = dashboard.token("secret").serve("0.0.0.0:0").expect("it has a token");
    assert!(page.url().starts_with("http://127.0.0.1:"), "{}", page.url());
    let local = ([127, 0, 0, 1], page.address().port()).into();
    assert!(ask(local, "/", "10.0.0.1").starts_with("HTTP/1.1 401"));
    assert!(ask(local, "/", "evil.example").starts_with("HTTP/1.1 421"));
    assert!(ask(local, "/?token=secret", "10.0.0.1").starts_with("HTTP/1.1 303"));
}

#[test]
fn an_address_that_is_taken_or_unknown_is_a_typed_error() {
    let app = App::deployed("serving");
    let dashboard = Dashboard::of(&app);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let refused = dashboard.serve(address).expect_err("it is taken");
    assert_eq!(refused.to_string(), format!("the page cannot listen on [{address}]"));
    assert!(std::error::Error::source(&refused).is_some());
    assert!(matches!(dashboard.serve("no port"), Err(ServeError::NoAddress(_))));
    assert!(matches!(dashboard.serve(&[][..]), Err(ServeError::NoAddress(_))));
}

#[test]
fn a_stop_frees_the_port_at_once_although_connections_are_open() {
    let app = App::deployed("serving");
    let dashboard = Dashboard::of(&app);
    let page = dashboard.serve("127.0.0.1:0").expect(VALID);
    let address = page.address();
    let mut idle: Vec<_> = (0..7).map(|_| connect(address)).collect();
    for stream in &mut idle {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("it is open");
        let mut first = [0; 12];
        stream.read_exact(&mut first).expect("it answers");
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    let mut half = connect(address);
    half.write_all(b"GET /healthz HTTP/1.1\r\nhost: loc").expect("it is open");
    let (done, stopped) = channel();
    thread::spawn(move || {
        page.stop();
        let _ = done.send(());
    });
    stopped.recv_timeout(Duration::from_secs(5)).expect("a stop waits for no client");
    TcpListener::bind(address).expect("the port is free again");
    let mut rest = Vec::new();
    idle[0].read_to_end(&mut rest).expect("the connection is closed");
}

#[test]
fn a_drop_stops_the_server_too() {
    let app = App::deployed("serving");
    let page = Dashboard::of(&app).serve("127.0.0.1:0").expect(VALID);
    let address = page.address();
    let _idle = connect(address);
    drop(page);
    until("the port is free again", || TcpListener::bind(address).is_ok());
}

#[test]
fn a_client_that_sends_nothing_and_one_that_reads_nothing_hinder_no_other() {
    let app = App::deployed("serving");
    let _f = well(&app, "double");
    let page = Dashboard::of(&app).serve("127.0.0.1:0").expect(VALID);
    let _silent: Vec<_> = (0..20).map(|_| connect(page.address())).collect();
    let mut deaf = connect(page.address());
    for _ in 0..200 {
        let request = b"GET /report HTTP/1.1\r\nhost: localhost\r\n\r\n";
        deaf.set_write_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        if deaf.write_all(request).is_err() {
            break;
        }
    }
    assert!(ask(page.address(), "/healthz", "localhost").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let app = App::deployed("serving");
    let page = Dashboard::of(&app).serve("127.0.0.1:0").expect(VALID);
    let long = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let answer = exchange(page.address(), long.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(100));
    let answer = exchange(page.address(), many.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let body = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\nxxxx", u64::MAX / 2);
    assert!(
        exchange(page.address(), body.as_bytes()).starts_with("HTTP/1.1 403"),
        "the body is not waited for"
    );
}
