//! [`Token`]: the secret that requests must bear, if the dashboard has one.

use http::HeaderMap;
use http::header;
use sha2::{Digest, Sha256};

use crate::text::hex;

/// The secret of a dashboard. Only hashes of it are kept.
#[derive(Clone)]
pub(crate) struct Token {
    hash: Hash,
    /// The name of the cookie. It differs by token, because browsers send the cookies of one host to all of
    /// its ports.
    cookie: String,
    /// The value of the cookie: a hash, so that the cookie does not give the token away.
    value: String,
}

type Hash = [u8; 32];

impl Token {
    pub(crate) fn new(token: &str) -> Self {
        Self {
            hash: hash("token", token),
            cookie: format!("longshore-{}", hex(&hash("name", token)[..4])),
            value: hex(&hash("cookie", token)),
        }
    }

    /// Whether this is the token.
    pub(crate) fn is(&self, token: &str) -> bool {
        !token.is_empty() && same(&self.hash, &hash("token", token))
    }

    /// Whether a request has the token in its header `authorization`.
    pub(crate) fn is_bearer(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let scheme_and_token = value.and_then(|value| value.split_once(' '));
        scheme_and_token
            .is_some_and(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && self.is(token.trim()))
    }

    /// Whether a request has the cookie.
    pub(crate) fn is_in_cookie(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let expected = hash("compare", &self.value);
        pairs.any(|(name, value)| name == self.cookie && same(&expected, &hash("compare", value)))
    }

    /// The value of the header `set-cookie`. Without a path the cookie is valid below the directory of the
    /// page, which the dashboard does not know.
    pub(crate) fn set_cookie(&self) -> String {
        format!("{}={}; HttpOnly; SameSite=Strict", self.cookie, self.value)
    }
}

fn hash(purpose: &str, token: &str) -> Hash {
    Sha256::new().chain_update(purpose).chain_update([0]).chain_update(token).finalize().into()
}

/// Compares in a time that does not depend on where the hashes differ. The hashes of a secret are compared,
/// and not the secret itself, so that the time does not depend on its length either.
fn same(one: &Hash, other: &Hash) -> bool {
    let differences = one.iter().zip(other).fold(0, |differences, (one, other)| differences | (one ^ other));
    std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("a header"))])
    }

    #[test]
    fn only_the_token_is_the_token() {
        let token = Token::new("secret");
        assert!(token.is("secret"));
        for other in ["", "Secret", "secret ", "secre", "secrets"] {
            assert!(!token.is(other), "{other:?}");
        }
        assert!(!Token::new("").is(""), "an empty token opens nothing");
    }

    #[test]
    fn the_token_is_taken_from_the_bearer_header() {
        let token = Token::new("secret");
        for (value, expected) in
            [("Bearer secret", true), ("bearer secret", true), ("Basic secret", false), ("secret", false)]
        {
            assert_eq!(token.is_bearer(&headers(header::AUTHORIZATION, value)), expected, "{value}");
        }
    }

    #[test]
    fn the_cookie_is_accepted_and_does_not_hold_the_token() {
        let token = Token::new("secret");
        let cookie = token.set_cookie();
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict") && !cookie.contains("secret"), "{cookie}");
        let pair = cookie.split_once(';').expect("it has attributes").0;
        assert!(token.is_in_cookie(&headers(header::COOKIE, &format!("theme=dark; {pair}"))));
        assert!(!token.is_in_cookie(&headers(header::COOKIE, &format!("{pair}0"))));
        assert!(!Token::new("other").is_in_cookie(&headers(header::COOKIE, pair)));
    }
}
