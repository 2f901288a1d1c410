//! Secrets in properties: kept as a reference to where they are, never as they are.
//!
//! Invariant: no credential is written to the catalog.

use headwater_engine::{
    catalog::Properties,
    error::{Error, Result},
};

/// The last parts of keys that hold a secret.
const SECRET_ENDS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "secret-key",
    "secret-access-key",
    "secretkey",
    "session-token",
    "token",
    "api-key",
    "apikey",
    "private-key",
    "credentials",
    "jaas.config",
    "access-key",
    "access-key-id",
    "keys",
];

/// Refuses properties that hold a secret as it is.
pub(super) fn refuse_literals(properties: &Properties) -> Result<()> {
    for (key, value) in properties {
        if (is_secret_key(key) || is_access_key(value)) && !is_reference(value) {
            let message = format!("property \"{key}\" holds a secret, and the catalog does not keep secrets");
            return Err(Error::user("INVALID_TABLE_PROPERTY", message)
                .with_hint("name where it is: '${env:NAME}' or '${file:PATH}'"));
        }
    }
    Ok(())
}

fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase().replace('_', "-");
    // What SerDes call keys are those of JSON objects.
    if key == "dots.in.keys" || key.starts_with("mapping.") {
        return false;
    }
    SECRET_ENDS
        .iter()
        .any(|end| key.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with(['.', '-'])))
}

/// An AWS access key id, wherever it stands.
fn is_access_key(value: &str) -> bool {
    value.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
        word.len() == 20
            && (word.starts_with("AKIA") || word.starts_with("ASIA"))
            && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    })
}

fn is_reference(value: &str) -> bool {
    let value = value.trim();
    (value.starts_with("${env:") || value.starts_with("${file:")) && value.ends_with('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(key: &str, value: &str) -> bool {
        refuse_literals(&Properties::from([(key.into(), value.into())])).is_err()
    }

    #[test]
    fn secrets_are_refused_and_references_are_not() {
        assert!(is_refused("auth.secret-access-key", "abc"));
        assert!(is_refused("properties.sasl.jaas.config", "abc"));
        assert!(is_refused("AWS_SESSION_TOKEN", "abc"));
        assert!(is_refused("note", "key AKIAIOSFODNN7EXAMPLE"));
        assert!(!is_refused("auth.secret-access-key", "${env:KEY}"));
        assert!(!is_refused("dots.in.keys", "true") && !is_refused("mapping.token", "Token"));
        assert!(!is_refused("tokenizer", "x") && !is_refused("s3.endpoint", "http://x"));
    }
}
