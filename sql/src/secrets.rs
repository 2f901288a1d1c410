//! `${env:NAME}` and `${file:PATH}` in the values of options: where a secret is, until the moment it is needed.
//!
//! Invariant: what is resolved here goes to a connector and nowhere else: not to the catalog, a checkpoint, `SHOW` or an
//! error.

use std::{collections::BTreeMap, fmt};

use headwater_engine::{
    catalog::Properties,
    error::{Error, Result},
};

/// The environment that secrets are taken from.
#[derive(Clone, Default)]
pub struct Secrets {
    variables: BTreeMap<String, String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// Secrets in these environment variables, and in files.
    pub fn new(variables: BTreeMap<String, String>) -> Self {
        Self { variables }
    }

    /// Options with their secrets in place.
    pub fn resolve(&self, options: &Properties) -> Result<Properties> {
        let resolved = |(key, value): (&String, &String)| Ok((key.clone(), self.resolve_value(key, value)?));
        options.iter().map(resolved).collect()
    }

    fn resolve_value(&self, key: &str, value: &str) -> Result<String> {
        let (mut resolved, mut rest) = (String::new(), value);
        while let Some(open) = rest.find("${env:").into_iter().chain(rest.find("${file:")).min() {
            resolved.push_str(&rest[..open]);
            let Some(close) = rest[open..].find('}').map(|close| open + close) else { break };
            let inside = &rest[open + 2..close];
            resolved.push_str(&match inside.split_once(':') {
                Some(("env", name)) => self.variable(key, name)?,
                Some((_, path)) => file(key, path)?,
                None => String::new(),
            });
            rest = &rest[close + 1..];
        }
        Ok(resolved + rest)
    }

    fn variable(&self, key: &str, name: &str) -> Result<String> {
        self.variables.get(name).cloned().ok_or_else(|| {
            Error::user("INVALID_TABLE_PROPERTY", format!("option \"{key}\" names a variable that is not set: {name}"))
                .with_hint(format!("set {name} in the environment"))
        })
    }
}

fn file(key: &str, path: &str) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::from(error).context(format!("option \"{key}\" names a file that cannot be read: {path}"))
    })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_put_in_place_and_templates_stay() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("password");
        std::fs::write(&path, "p\n")?;
        let secrets = Secrets::new(BTreeMap::from([("USER_NAME".into(), "ann".into())]));
        let options = Properties::from([
            ("auth".into(), format!("${{env:USER_NAME}}:${{file:{}}}!", path.display())),
            ("template".into(), "s3://b/${year}/".into()),
        ]);
        let resolved = secrets.resolve(&options)?;
        assert_eq!(resolved["auth"], "ann:p!");
        assert_eq!(resolved["template"], "s3://b/${year}/");
        Ok(())
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_is_shown() {
        let secrets = Secrets::new(BTreeMap::from([("TOKEN".into(), "s3cr3t".into())]));
        let options = Properties::from([("auth.token".into(), "${env:TOKEN}${env:NOPE}".into())]);
        let error = secrets.resolve(&options).unwrap_err();
        assert_eq!(error.message(), "option \"auth.token\" names a variable that is not set: NOPE");
        assert!(!format!("{secrets:?}{error:?}").contains("s3cr3t"));
    }
}
