//! Whose credentials a table's requests are signed with, under Flink's names.
//!
//! Invariant: a provider that is asked for by name is the only one, and what it needs is there.

use aws_config::{
    ConfigLoader, environment::EnvironmentVariableCredentialsProvider, profile::ProfileFileCredentialsProvider,
};
use aws_credential_types::Credentials;
use headwater_engine::error::{Error, Result};

use crate::options::Options;

const PROVIDER: &str = "aws.credentials.provider";
const KEY_ID: &str = "aws.credentials.basic.accesskeyid";
const SECRET: &str = "aws.credentials.basic.secretkey";
/// Flink's other providers.
const REFUSED: [&str; 5] = ["SYS_PROP", "ASSUME_ROLE", "WEB_IDENTITY_TOKEN", "CUSTOM", "NONE"];

/// Where credentials come from.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) enum CredentialsFrom {
    /// The standard chain: environment, profile, web identity, role of the machine.
    #[default]
    Chain,
    /// The id and the secret of the table's options.
    Keys(String, String),
    /// The profile's file alone.
    Profile,
    /// The environment alone.
    Environment,
}

#[derive(Clone, Copy)]
enum Provider {
    Auto,
    Basic,
    Profile,
    Environment,
}

impl CredentialsFrom {
    /// Takes the options of credentials, but the profile's name.
    pub(super) fn parse(options: &mut Options) -> Result<Self> {
        let refused = |message: String, hint: &str| {
            Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint(hint.to_owned()))
        };
        let keys = match (options.text(KEY_ID), options.text(SECRET)) {
            (None, None) => None,
            (Some(id), Some(secret)) => Some((id, secret)),
            _ => {
                let hint = "give both, or neither to use the standard chain (environment, profile, role)";
                return refused(format!("'{KEY_ID}' and '{SECRET}' go together"), hint);
            }
        };
        match (provider(options)?, keys) {
            (None | Some(Provider::Basic), Some((id, secret))) => Ok(Self::Keys(id, secret)),
            (Some(Provider::Basic), None) => {
                refused(format!("'{PROVIDER}' = 'BASIC' needs '{KEY_ID}' and '{SECRET}'"), "give both")
            }
            (Some(Provider::Auto | Provider::Profile | Provider::Environment), Some(_)) => {
                refused(format!("'{KEY_ID}' is for '{PROVIDER}' = 'BASIC'"), "leave one of the two options out")
            }
            (None | Some(Provider::Auto), None) => Ok(Self::Chain),
            (Some(Provider::Profile), None) => Ok(Self::Profile),
            (Some(Provider::Environment), None) => Ok(Self::Environment),
        }
    }

    /// A configuration that signs with them.
    pub(super) fn set(&self, loader: ConfigLoader, profile: Option<&str>) -> ConfigLoader {
        match self {
            Self::Chain => loader,
            Self::Keys(id, secret) => {
                loader.credentials_provider(Credentials::new(id, secret, None, None, "table option"))
            }
            Self::Profile => {
                let file = ProfileFileCredentialsProvider::builder();
                let file = profile.into_iter().fold(file, |file, name| file.profile_name(name));
                loader.credentials_provider(file.build())
            }
            Self::Environment => loader.credentials_provider(EnvironmentVariableCredentialsProvider::new()),
        }
    }
}

fn provider(options: &mut Options) -> Result<Option<Provider>> {
    if let Some(name) = options.text(PROVIDER).map(|name| name.trim().to_uppercase())
        && REFUSED.contains(&name.as_str())
    {
        return Err(Error::not_supported(format!("'{PROVIDER}' = '{name}'")).with_hint(
            "use AUTO, BASIC, PROFILE or ENV_VAR; AUTO takes a web identity too, and a profile may assume a role",
        ));
    }
    let providers = [
        ("AUTO", Provider::Auto),
        ("BASIC", Provider::Basic),
        ("PROFILE", Provider::Profile),
        ("ENV_VAR", Provider::Environment),
    ];
    options.choice(PROVIDER, &providers)
}

#[cfg(test)]
mod tests {
    use headwater_engine::catalog::Properties;

    use super::*;

    fn parsed(provider: &str, has_keys: bool) -> Result<CredentialsFrom> {
        let keys = [(KEY_ID, "id"), (SECRET, "secret")];
        let all = [(PROVIDER, provider)].into_iter().chain(keys.into_iter().filter(|_| has_keys));
        let properties: Properties = all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        CredentialsFrom::parse(&mut Options::new("t", &properties))
    }

    #[test]
    fn a_provider_is_taken_or_refused_by_its_name() {
        assert!(parsed("auto", false).unwrap() == CredentialsFrom::Chain);
        assert!(parsed("BASIC", true).unwrap() == CredentialsFrom::Keys("id".into(), "secret".into()));
        assert!(parsed("PROFILE", false).unwrap() == CredentialsFrom::Profile);
        assert!(parsed("ENV_VAR", false).unwrap() == CredentialsFrom::Environment);
        let said =
            |provider, has_keys| parsed(provider, has_keys).err().map(|error| error.message().to_owned()).unwrap();
        assert!(said("BASIC", false).contains("needs 'aws.credentials.basic.accesskeyid'"));
        assert!(said("PROFILE", true).contains("is for 'aws.credentials.provider' = 'BASIC'"));
        assert!(said("assume_role", false).contains("'ASSUME_ROLE'"));
        assert!(said("VAULT", false).contains("AUTO, BASIC, PROFILE, ENV_VAR"));
    }
}
