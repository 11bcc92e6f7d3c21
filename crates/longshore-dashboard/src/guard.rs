//! [`Guard`]: the rules by which requests are answered. It reads the head of a request and nothing else.
//!
//! | check | refused with | applies to |
//! |---|---|---|
//! | the host is one of those allowed | 421 | all requests to the own server, or where a host is allowed by name |
//! | the method is `GET`, `HEAD` or `POST` | 405 | all requests |
//! | the token | 401 | all requests, if the dashboard has a token |
//! | the request comes from the page itself, or from a program that has the token | 403 | `POST` |

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName};
use http::uri::Authority;
use http::{Method, Request, StatusCode};

use crate::token::Token;

/// The answer to a client without the token.
const TOKEN_NEEDED: &str = "a token is needed: open the page once with ?token=... behind its address, or send \
                            the header authorization: Bearer ...\n";

/// The hosts that a request may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(all(not(feature = "serve"), not(test)), expect(dead_code, reason = "the own server needs them"))]
pub(crate) enum Hosts {
    /// The host is the concern of the application that mounts the dashboard.
    #[default]
    Unchecked,
    /// The names of the loopback interface, and those that were allowed.
    Loopback,
    /// Any address that is written in digits, and the names that were allowed. A page of another site can
    /// make a name of its own point here, and cannot do that with digits.
    Digits,
}

/// The rules by which requests are answered.
#[derive(Clone, Default)]
pub(crate) struct Guard {
    pub(crate) hosts: Hosts,
    /// The host names that were allowed, in lower case.
    pub(crate) allowed: Vec<String>,
    pub(crate) token: Option<Token>,
}

/// A request that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) why: &'static str,
}

/// A request that is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As it is.
    Admitted,
    /// With a cookie and the advice to come back without the token in the address.
    ToCookie(String),
}

const fn refusal(status: StatusCode, why: &'static str) -> Result<Admission, Refusal> {
    Err(Refusal { status, why })
}

impl Guard {
    /// Whether the request is answered.
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<Admission, Refusal> {
        if !self.is_host_allowed(request) {
            return refusal(StatusCode::MISDIRECTED_REQUEST, "this host name is not allowed here\n");
        }
        let is_post = match *request.method() {
            Method::GET | Method::HEAD => false,
            Method::POST => true,
            _ => return refusal(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here\n"),
        };
        let headers = request.headers();
        let mut is_bearer = false;
        if let Some(token) = &self.token {
            let in_query = token_in_query(request.uri().query());
            if !is_post && in_query.is_some_and(|it| token.is(&it)) {
                return Ok(Admission::ToCookie(token.set_cookie()));
            }
            is_bearer = token.is_bearer(headers);
            if !is_bearer && !token.is_in_cookie(headers) {
                return refusal(StatusCode::UNAUTHORIZED, TOKEN_NEEDED);
            }
        }
        if is_post && !is_from_the_page(request, is_bearer) {
            return refusal(StatusCode::FORBIDDEN, "an action must be asked for by the page itself\n");
        }
        Ok(Admission::Admitted)
    }

    fn is_host_allowed<B>(&self, request: &Request<B>) -> bool {
        if self.hosts == Hosts::Unchecked && self.allowed.is_empty() {
            return true;
        }
        let mut hosts = hosts(request).peekable();
        hosts.peek().is_some() && hosts.all(|host| host.is_some_and(|host| self.is_allowed(&host)))
    }

    /// Ports are not compared, because a forwarded port has another number at the other end.
    fn is_allowed(&self, authority: &Authority) -> bool {
        let host = authority.host().to_ascii_lowercase();
        if authority.as_str().contains('@') {
            return false;
        }
        let digits = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let is_loopback = host == "localhost" || digits.is_some_and(|ip| ip.to_canonical().is_loopback());
        match self.hosts {
            _ if is_loopback || self.allowed.contains(&host) => true,
            Hosts::Digits => digits.is_some(),
            Hosts::Loopback | Hosts::Unchecked => false,
        }
    }
}

/// The hosts that a request names, in its header and, with HTTP/2 or a proxy, in its address. `None` is one
/// that cannot be read.
fn hosts<B>(request: &Request<B>) -> impl Iterator<Item = Option<Authority>> + '_ {
    let named = request.headers().get_all(header::HOST).iter();
    let named = named.map(|value| Authority::try_from(value.as_bytes()).ok());
    named.chain(request.uri().authority().map(|authority| Some(authority.clone())))
}

/// Whether an action is asked for by a page of the same origin, or by a program that has the token.
///
/// The header `x-longshore` cannot be sent by a form, and by a script of another origin only if the dashboard
/// would agree, which it never does. `sec-fetch-site` is set by the browser. Browsers leave it out on plain
/// HTTP except on the loopback interface, and then `origin` says the same.
fn is_from_the_page<B>(request: &Request<B>, is_bearer: bool) -> bool {
    const MARK: HeaderName = HeaderName::from_static("x-longshore");
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let headers = request.headers();
    if !has(headers, &MARK) || !is_always(headers, &MARK, "1") {
        return false;
    }
    if has(headers, &SITE) {
        return is_always(headers, &SITE, "same-origin");
    }
    let mut origins = headers.get_all(header::ORIGIN).iter().peekable();
    if origins.peek().is_none() {
        return is_bearer; // every browser sends an origin with a `POST`
    }
    let host = hosts(request).next().flatten();
    origins.all(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let same = |((scheme, origin), host): ((&str, &str), &Authority)| {
            let port = match scheme {
                "http" => ":80",
                "https" => ":443",
                _ => return false,
            };
            let [origin, host] = [origin, host.as_str()].map(|it| it.strip_suffix(port).unwrap_or(it));
            origin.eq_ignore_ascii_case(host)
        };
        origin.zip(host.as_ref()).is_some_and(same)
    })
}

fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.contains_key(name)
}

fn is_always(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    headers.get_all(name).iter().all(|it| it.as_bytes() == value.as_bytes())
}

/// The value of `token` in the query of an address.
fn token_in_query(query: Option<&str>) -> Option<String> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == "token")?;
    crate::text::percent_decoded(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cret";

    fn guard(hosts: Hosts) -> Guard {
        Guard { hosts, allowed: vec!["ops.example".to_owned()], token: None }
    }

    fn with_token() -> Guard {
        Guard { token: Some(Token::new(SECRET)), ..Guard::default() }
    }

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().method(method).uri(uri);
        headers
            .iter()
            .fold(builder, |builder, (name, value)| builder.header(*name, *value))
            .body(())
            .expect("valid")
    }

    fn status(guard: &Guard, request: &Request<()>) -> u16 {
        guard.admit(request).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }

    fn host_status(guard: &Guard, host: &str) -> u16 {
        status(guard, &request("GET", "/", &[("host", host)]))
    }

    #[test]
    fn a_foreign_host_is_misdirected_by_the_loopback_rule() {
        let guard = guard(Hosts::Loopback);
        for host in [
            "localhost",
            "localhost:80",
            "LOCALHOST:9",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "ops.example:443",
        ] {
            assert_eq!(host_status(&guard, host), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "10.0.0.1",
            "[::2]",
            "evil@localhost",
            "",
            "[::1",
            "localhost:80:80",
            "ops.example.evil.example",
        ] {
            assert_eq!(host_status(&guard, host), 421, "{host}");
        }
    }

    #[test]
    fn every_host_that_a_request_names_must_be_allowed() {
        let guard = guard(Hosts::Loopback);
        assert_eq!(status(&guard, &request("GET", "/", &[])), 421);
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(status(&guard, &request("GET", "/", &two)), 421);
        let absolute = "http://evil.example/";
        assert_eq!(status(&guard, &request("GET", absolute, &[("host", "localhost")])), 421);
        assert_eq!(status(&guard, &request("GET", "http://localhost:7/", &[])), 200, "as HTTP/2 has it");
    }

    #[test]
    fn a_mounted_dashboard_leaves_the_host_to_the_application_unless_one_is_allowed_by_name() {
        assert_eq!(host_status(&Guard::default(), "anything.example"), 200);
        assert_eq!(host_status(&guard(Hosts::Unchecked), "anything.example"), 421);
        assert_eq!(host_status(&guard(Hosts::Unchecked), "OPS.example"), 200);
    }

    #[test]
    fn beyond_the_loopback_addresses_in_digits_are_allowed_and_names_are_not() {
        let guard = guard(Hosts::Digits);
        for (host, expected) in
            [("10.1.2.3:80", 200), ("[fd00::1]", 200), ("ops.example", 200), ("evil.example", 421)]
        {
            assert_eq!(host_status(&guard, host), expected, "{host}");
        }
    }

    #[test]
    fn methods_are_an_allow_list() {
        for method in ["DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND"] {
            assert_eq!(status(&Guard::default(), &request(method, "/", &[])), 405, "{method}");
        }
        assert_eq!(status(&Guard::default(), &request("HEAD", "/", &[])), 200);
    }

    #[test]
    fn reads_need_the_token_where_there_is_one() {
        let guard = with_token();
        assert_eq!(status(&guard, &request("GET", "/", &[])), 401);
        assert_eq!(status(&guard, &request("GET", "/metrics", &[("authorization", "Bearer s3cret")])), 200);
        assert_eq!(status(&guard, &request("GET", "/", &[("authorization", "Bearer wrong")])), 401);
        let cookie = Token::new(SECRET).set_cookie();
        let cookie = cookie.split(';').next().expect("a pair");
        assert_eq!(status(&guard, &request("GET", "/", &[("cookie", cookie)])), 200);
    }

    #[test]
    fn the_token_in_the_address_becomes_a_cookie_and_never_a_permission_to_act() {
        let guard = with_token();
        for query in ["/?token=s3cret", "/?a=b&token=s3%63ret"] {
            let admission = guard.admit(&request("GET", query, &[])).expect("it is the token");
            assert_eq!(admission, Admission::ToCookie(Token::new(SECRET).set_cookie()));
        }
        for query in ["/?token=", "/?token", "/?token=wrong&token=s3cret", "/?Token=s3cret"] {
            assert_eq!(status(&guard, &request("GET", query, &[])), 401, "{query}");
        }
        let post =
            request("POST", "/?token=s3cret", &[("x-longshore", "1"), ("sec-fetch-site", "same-origin")]);
        assert_eq!(status(&guard, &post), 401);
    }

    #[test]
    fn an_action_needs_the_mark_and_the_same_origin() {
        let guard = Guard::default();
        let mark = ("x-longshore", "1");
        let cases: [(&[(&str, &str)], u16); 13] = [
            (&[mark, ("sec-fetch-site", "same-origin")], 200),
            (&[mark, ("host", "a.example:7"), ("origin", "http://a.example:7")], 200),
            (&[mark, ("host", "a.example"), ("origin", "https://A.example:443")], 200),
            (&[("sec-fetch-site", "same-origin")], 403),
            (&[("x-longshore", "2"), ("sec-fetch-site", "same-origin")], 403),
            (&[mark, ("sec-fetch-site", "same-site")], 403),
            (&[mark, ("sec-fetch-site", "cross-site"), ("host", "a"), ("origin", "http://a")], 403),
            (&[mark, ("sec-fetch-site", "none")], 403),
            (&[mark, ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], 403),
            (&[mark, ("host", "a.example"), ("origin", "http://b.example")], 403),
            (&[mark, ("host", "a.example"), ("origin", "null")], 403),
            (&[mark, ("origin", "http://a.example")], 403),
            (&[mark], 403),
        ];
        for (headers, expected) in cases {
            assert_eq!(status(&guard, &request("POST", "/", headers)), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_program_that_has_the_token_is_no_browser_and_may_act() {
        let bearer = ("authorization", "Bearer s3cret");
        let guard = with_token();
        assert_eq!(status(&guard, &request("POST", "/", &[bearer, ("x-longshore", "1")])), 200);
        assert_eq!(status(&guard, &request("POST", "/", &[bearer])), 403);
        let foreign = [bearer, ("x-longshore", "1"), ("sec-fetch-site", "cross-site")];
        assert_eq!(status(&guard, &request("POST", "/", &foreign)), 403);
    }
}
