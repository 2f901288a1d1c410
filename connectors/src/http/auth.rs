//! Whether a request may send: AWS signatures (version 4), bearer tokens, or nobody asks.
//!
//! Invariant: secrets are compared in constant time, and no answer tells more than the service's own would.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use hmac::{Hmac, Mac};
use hyper::{
    HeaderMap, StatusCode, Uri,
    header::{AUTHORIZATION, HeaderName},
    http::request::Parts,
};
use sha2::{Digest, Sha256};

use super::{options::Auth, reply::ServiceError};

/// How far the clocks of client and listener may be apart.
const SKEW_MS: i64 = 5 * 60 * 1000;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Checks a request with its body.
pub(super) fn check(auth: &Auth, request: &Parts, body: &[u8], now_ms: i64) -> Result<(), ServiceError> {
    match auth {
        Auth::None => Ok(()),
        Auth::Bearer(token) => {
            let given = header(&request.headers, &AUTHORIZATION).unwrap_or_default();
            // The name of a scheme is the same in any case (RFC 9110, 11.1).
            let (scheme, given) = given.split_once(' ').unwrap_or_default();
            let is_bearer = scheme.eq_ignore_ascii_case("Bearer");
            let given = given.trim_start_matches(' ');
            if is_bearer && equal(given.as_bytes(), token.as_bytes()) { Ok(()) } else { Err(missing()) }
        }
        Auth::SigV4(keys) => signature(keys, request, body, now_ms),
    }
}

fn missing() -> ServiceError {
    let message = "Missing Authentication Token";
    ServiceError::of_caller("MissingAuthenticationTokenException", message)
}

fn mismatch(message: impl Into<String>) -> ServiceError {
    ServiceError::of_caller("InvalidSignatureException", message)
}

/// The region a request is signed for, if it is signed.
pub(super) fn region(request: &Parts) -> Option<&str> {
    let claim = claim(header(&request.headers, &AUTHORIZATION)?)?;
    claim.scope.split('/').nth(1).filter(|region| !region.is_empty())
}

/// The status of an answer that is not of a service's API.
pub(super) const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;

fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Compares without saying where the difference is.
fn equal(left: &[u8], right: &[u8]) -> bool {
    Sha256::digest(left) == Sha256::digest(right)
}

/// The parts of an `Authorization` header.
struct Claim<'a> {
    key_id: &'a str,
    /// Date, region, service and the closing word.
    scope: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

fn claim(text: &str) -> Option<Claim<'_>> {
    let fields: BTreeMap<&str, &str> =
        text.strip_prefix(ALGORITHM)?.split(',').filter_map(|field| field.trim().split_once('=')).collect();
    let (key_id, scope) = fields.get("Credential")?.split_once('/')?;
    Some(Claim {
        key_id,
        scope,
        signed_headers: fields.get("SignedHeaders").copied()?,
        signature: fields.get("Signature").copied()?,
    })
}

fn signature(keys: &BTreeMap<String, String>, request: &Parts, body: &[u8], now_ms: i64) -> Result<(), ServiceError> {
    let text = header(&request.headers, &AUTHORIZATION).ok_or_else(missing)?;
    let claim = claim(text).ok_or_else(missing)?;
    let secret = keys.get(claim.key_id).ok_or_else(|| {
        let message = "The security token included in the request is invalid.";
        ServiceError::of_caller("UnrecognizedClientException", message)
    })?;
    let date = header(&request.headers, &HeaderName::from_static("x-amz-date")).ok_or_else(missing)?;
    let signed_at =
        NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ").map_err(|_| mismatch("x-amz-date is no date"))?;
    if (signed_at.and_utc().timestamp_millis() - now_ms).abs() > SKEW_MS {
        let now = DateTime::<Utc>::from_timestamp_millis(now_ms).unwrap_or_default().format("%Y%m%dT%H%M%SZ");
        return Err(mismatch(format!("Signature expired: {date} is not within 5 minutes of {now}")));
    }
    let canonical = canonical_request(request, body, claim.signed_headers)
        .ok_or_else(|| mismatch("a signed header is missing from the request"))?;
    let to_sign =
        format!("{ALGORITHM}\n{date}\n{}\n{}", claim.scope, hex::encode(Sha256::digest(canonical.as_bytes())));
    let key = claim.scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part));
    if equal(hex::encode(hmac(&key, &to_sign)).as_bytes(), claim.signature.as_bytes()) {
        return Ok(());
    }
    Err(mismatch(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.",
    ))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length is taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn canonical_request(request: &Parts, body: &[u8], signed_headers: &str) -> Option<String> {
    let mut headers = String::new();
    for name in signed_headers.split(';') {
        let values = request.headers.get_all(name).iter().map(|value| value.to_str().ok().map(collapsed));
        let mut values = values.collect::<Option<Vec<String>>>()?;
        if values.is_empty() && name == "host" {
            values.extend(request.uri.authority().map(|authority| authority.as_str().to_owned()));
        }
        if values.is_empty() {
            return None;
        }
        headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    Some(format!(
        "{}\n{}\n{}\n{headers}\n{signed_headers}\n{}",
        request.method,
        canonical_path(&request.uri),
        canonical_query(&request.uri),
        hex::encode(Sha256::digest(body))
    ))
}

fn collapsed(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The path as it was sent, encoded once more, as every service but S3 wants it.
fn canonical_path(uri: &Uri) -> String {
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

fn canonical_query(uri: &Uri) -> String {
    let query = uri.query().unwrap_or_default();
    let mut pairs: Vec<String> = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| format!("{}={}", encoded(&name), encoded(&value)))
        .collect();
    pairs.sort();
    pairs.join("&")
}

fn encoded(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    /// 2015-08-30T12:36:00Z, the date of AWS's published examples.
    const NOW_MS: i64 = 1_440_938_160_000;
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    /// `get-vanilla-query-order-key-case` of AWS's Signature Version 4 test suite.
    fn request(signature: &str) -> Parts {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={signature}"
        );
        let request = Request::builder()
            .uri("/?Param2=value2&Param1=value1")
            .header("host", "example.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z")
            .header("authorization", authorization)
            .body(());
        request.unwrap().into_parts().0
    }

    const SIGNATURE: &str = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";

    fn checked(parts: &Parts, body: &[u8], now_ms: i64) -> Option<&'static str> {
        let keys = BTreeMap::from([("AKIDEXAMPLE".to_owned(), SECRET.to_owned())]);
        check(&Auth::SigV4(keys), parts, body, now_ms).err().map(|error| error.code)
    }

    #[test]
    fn the_published_signature_is_accepted_and_no_other() {
        assert_eq!(checked(&request(SIGNATURE), b"", NOW_MS), None);
        assert_eq!(checked(&request(SIGNATURE), b"x", NOW_MS), Some("InvalidSignatureException"));
        let other = SIGNATURE.replace('b', "c");
        assert_eq!(checked(&request(&other), b"", NOW_MS), Some("InvalidSignatureException"));
    }

    #[test]
    fn an_old_clock_an_unknown_key_and_no_signature_have_codes_of_their_own() {
        let late = NOW_MS + SKEW_MS + 1000;
        assert_eq!(checked(&request(SIGNATURE), b"", late), Some("InvalidSignatureException"));
        let mut unsigned = request(SIGNATURE);
        unsigned.headers.remove("authorization");
        assert_eq!(checked(&unsigned, b"", NOW_MS), Some("MissingAuthenticationTokenException"));
        let nobody = Auth::SigV4(BTreeMap::from([("OTHER".to_owned(), SECRET.to_owned())]));
        let unknown = check(&nobody, &request(SIGNATURE), b"", NOW_MS).unwrap_err();
        assert_eq!(unknown.code, "UnrecognizedClientException");
    }

    #[test]
    fn a_bearer_token_must_be_the_one() {
        let with = |value: &str| Request::builder().header("authorization", value).body(()).unwrap().into_parts().0;
        let auth = Auth::Bearer("token".to_owned());
        for given in ["Bearer token", "bearer token", "BEARER  token"] {
            assert!(check(&auth, &with(given), b"", 0).is_ok(), "{given}");
        }
        assert!(check(&auth, &with("Basic token"), b"", 0).is_err());
        assert!(check(&auth, &with("Bearer tokens"), b"", 0).is_err());
        assert!(check(&auth, &with("token"), b"", 0).is_err());
    }
}
