//! Text of the user's, made safe for each place where it is written: cut, escaped, and without characters
//! that change how the text around it is read.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The bytes of a name that is shown whole. It is the limit of the engine, too.
pub(crate) const NAME_MAX: usize = 255;

/// The text, cut at the end of a character to at most `bytes_max`. A text that was cut ends in `…`.
pub(crate) fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let mut end = bytes_max.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}{MARK}", &text[..end]))
}

/// The name by which a function is shown and addressed. It is the function's own name, unless that is too
/// long for an address or cannot be a part of one. Then it is cut, and ends in a hash, so that it is still
/// unique.
pub(crate) fn public_name(name: &str) -> Cow<'_, str> {
    let cannot_be_a_segment = matches!(name, "" | "." | "..");
    if name.len() <= NAME_MAX && !cannot_be_a_segment {
        return Cow::Borrowed(name);
    }
    Cow::Owned(hashed(&cut(name, NAME_MAX - 12), name))
}

/// A label of a metric: the name, with control characters replaced. Two names never become the same label.
pub(crate) fn label(name: &str) -> String {
    let public = public_name(name);
    let plain = one_line(&public);
    let plain = if plain == *public { plain } else { hashed(&plain, name) };
    plain.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The text in one line, without characters that control a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_plain(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Text for HTML, also within the quotes of an attribute. Characters that are not visible become a visible
/// one.
pub(crate) fn html(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c if is_plain(c) => html.push(c),
            _ => html.push(char::REPLACEMENT_CHARACTER),
        }
    }
    html
}

/// JSON for a `script` element. No `<` is left in it, so that it cannot end the element.
pub(crate) fn json_in_html(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// Whether a character neither controls a terminal or a parser, nor the direction of the text around it.
fn is_plain(c: char) -> bool {
    let directs =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{061c}');
    let splits = matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    !c.is_control() && !directs && !splits
}

fn hashed(shown: &str, name: &str) -> String {
    format!("{shown}#{}", hex(&Sha256::digest(name.as_bytes())[..4]))
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string can be written to");
        hex
    })
}

/// Text with each `%` and its two hexadecimal digits replaced by the byte. `None` if a `%` has no two digits
/// behind it, or if the bytes are no UTF-8.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(16 * digit(*high)? + digit(*low)?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Bytes in base 64, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let digit_is_there = digit <= three.len();
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit_is_there { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, encoded) in pairs {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn a_percent_needs_two_digits_and_the_bytes_must_be_utf_8() {
        assert_eq!(percent_decoded("a%2Fb%2e%C3%A4+").as_deref(), Some("a/b.ä+"));
        for wrong in ["%", "a%2", "%g0", "%0g", "%ff", "%+1"] {
            assert_eq!(percent_decoded(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_text_is_cut_at_the_end_of_a_character() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc…");
        assert_eq!(cut("ääää", 7), "ää…");
    }

    #[test]
    fn names_that_cannot_be_addresses_get_a_hash_and_stay_unique() {
        let (long, longer) = ("a".repeat(1 << 20), "a".repeat((1 << 20) + 1));
        for name in ["", ".", "..", &long, &longer] {
            let public = public_name(name);
            assert!(public != name && public.len() <= NAME_MAX && public.contains('#'), "{public}");
        }
        assert_ne!(public_name(&long), public_name(&longer));
        assert_eq!(public_name("a/b?"), "a/b?");
    }

    #[test]
    fn labels_are_one_line_and_stay_unique() {
        assert_eq!(label("a\\\"b"), "a\\\\\\\"b");
        assert!(!label("a\nb\0\r\u{202e}").contains(['\n', '\0', '\r', '\u{202e}']));
        assert_ne!(label("a\0"), label("a\u{1}"));
    }

    #[test]
    fn html_neither_opens_a_tag_nor_turns_the_text_around() {
        assert_eq!(html("</script><b title='\"'>&"), "&lt;/script&gt;&lt;b title=&#39;&quot;&#39;&gt;&amp;");
        assert_eq!(html("a\0\u{202e}\n"), "a\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(json_in_html("\"</script><!--\""), "\"\\u003c/script>\\u003c!--\"");
    }
}
