//! URLs, split as RFC 2396 has them.
//!
//! Invariant: a text that is no URI gives NULL; a part that is not there gives an empty text.

use headwater_engine::error::Result;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{
    Family, Function,
    column::{Str, Text, ToI64},
    define::{self, Definition, scalar},
    kernel::{invalid, text1, text2, value1},
};

/// The family's functions.
pub fn functions() -> Result<Vec<Function>> {
    let part = |name, summary, signature, f: fn(&Uri<'_>) -> String| {
        url(name, summary).on(
            signature,
            text1::<Str>(move |text, out: &mut Text| match Uri::parse(text) {
                Some(uri) => {
                    out.push_str(&f(&uri));
                    Ok(true)
                }
                None => Ok(false),
            }),
        )
    };
    define::build(vec![
        part("url_extract_protocol", "the protocol of a URL", "url_extract_protocol(varchar) -> varchar", |uri| {
            uri.scheme.to_owned()
        })
        .example("SELECT url_extract_protocol('http://a/b')", "http"),
        part("url_extract_host", "the host of a URL", "url_extract_host(varchar) -> varchar", |uri| {
            uri.host().to_owned()
        })
        .example("SELECT url_extract_host('http://a/b')", "a"),
        part("url_extract_path", "the path of a URL", "url_extract_path(varchar) -> varchar", |uri| decoded(uri.path))
            .example("SELECT url_extract_path('http://a/b')", "/b"),
        part("url_extract_query", "the query of a URL", "url_extract_query(varchar) -> varchar", |uri| {
            decoded(uri.query)
        })
        .example("SELECT url_extract_query('http://a/b?c=1')", "c=1"),
        part("url_extract_fragment", "the fragment of a URL", "url_extract_fragment(varchar) -> varchar", |uri| {
            decoded(uri.fragment)
        })
        .example("SELECT url_extract_fragment('http://a/b#c')", "c"),
        url("url_extract_port", "the port of a URL; NULL if it has none")
            .on(
                "url_extract_port(varchar) -> bigint",
                value1::<Str, ToI64>(|text| Ok(Uri::parse(text).and_then(|uri| uri.port()))),
            )
            .example("SELECT url_extract_port('http://a:80/b')", "80"),
        url("url_extract_parameter", "the first value of a parameter of a URL's query")
            .on("url_extract_parameter(varchar, varchar) -> varchar", text2::<Str, Str>(parameter))
            .example("SELECT url_extract_parameter('http://a/?k=v', 'k')", "v"),
        url("url_encode", "a text escaped for a URL's query")
            .on(
                "url_encode(varchar) -> varchar",
                text1::<Str>(|text, out| {
                    let escaped = utf8_percent_encode(text, ESCAPED).to_string();
                    out.push_str(&escaped.replace("%20", "+"));
                    Ok(true)
                }),
            )
            .example("SELECT url_encode('a b')", "a+b"),
        url("url_decode", "the text an escaped one stands for")
            .on(
                "url_decode(varchar) -> varchar",
                text1::<Str>(|text, out| {
                    check_escapes(text)
                        .ok_or_else(|| invalid("illegal hexadecimal characters in escape (%) pattern"))?;
                    out.push_str(&percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy());
                    Ok(true)
                }),
            )
            .example("SELECT url_decode('a+b')", "a b"),
    ])
}

fn url(name: &'static str, summary: &'static str) -> Definition {
    scalar(Family::Url, name, summary)
}

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*');

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn parameter(text: &str, name: &str, out: &mut Text) -> Result<bool> {
    let Some(uri) = Uri::parse(text) else { return Ok(false) };
    for pair in uri.query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded(key) == name {
            out.push_str(&decoded(&value.replace('+', " ")));
            return Ok(true);
        }
    }
    Ok(false)
}

/// `Some` if every `%` is followed by two hexadecimal digits.
fn check_escapes(text: &str) -> Option<()> {
    for (at, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(at + 1..at + 3)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
    }
    Some(())
}

#[derive(Debug, Default)]
struct Uri<'a> {
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl<'a> Uri<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        check_escapes(text)?;
        let illegal = |c: char| {
            c.is_ascii_control()
                || matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
                || c.is_whitespace()
        };
        if text.contains(illegal) {
            return None;
        }
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        if fragment.contains('#') {
            return None;
        }
        let mut uri = Self { fragment, ..Self::default() };
        let colon = rest.find(':').filter(|at| !rest[..*at].contains(['/', '?']));
        let mut rest = rest;
        if let Some(at) = colon {
            let (scheme, after) = (&rest[..at], &rest[at + 1..]);
            let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
            if !named || after.is_empty() {
                return None;
            }
            uri.scheme = scheme;
            if !after.starts_with('/') {
                return Some(uri);
            }
            rest = after;
        }
        let (hierarchy, query) = rest.split_once('?').unwrap_or((rest, ""));
        uri.query = query;
        uri.path = hierarchy;
        if let Some(after) = hierarchy.strip_prefix("//") {
            let end = after.find('/').unwrap_or(after.len());
            (uri.authority, uri.path) = (&after[..end], &after[end..]);
            if uri.authority.is_empty() && uri.path.is_empty() {
                return None;
            }
        }
        let bracketed = uri.authority.contains('[');
        if uri.path.contains(['[', ']']) || (!bracketed && uri.authority.contains(']')) {
            return None;
        }
        Some(uri)
    }

    fn server(&self) -> (&'a str, &'a str) {
        let after_user = self.authority.rsplit_once('@').map_or(self.authority, |(_, server)| server);
        if let Some(end) = after_user.find(']') {
            let (host, rest) = after_user.split_at(end + 1);
            return (host, rest.strip_prefix(':').unwrap_or(""));
        }
        after_user.split_once(':').unwrap_or((after_user, ""))
    }

    fn is_server(&self) -> bool {
        let (host, port) = self.server();
        let named = host.starts_with('[') || host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
        named && port.bytes().all(|digit| digit.is_ascii_digit())
    }

    fn host(&self) -> &'a str {
        if self.is_server() { self.server().0 } else { "" }
    }

    fn port(&self) -> Option<i64> {
        if self.is_server() { self.server().1.parse().ok() } else { None }
    }
}
