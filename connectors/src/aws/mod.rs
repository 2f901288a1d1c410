//! What the clients of all AWS services share: region, endpoint, credentials, retries, and errors in words.
//!
//! ```text
//! WITH ('aws.region' = .., 'aws.endpoint' = ..) ──> AwsOptions ── connect(service) ──> SdkConfig ──> a service's client
//! ```
//!
//! Invariant: no credential leaves this folder except inside the SDK's configuration: not in `Debug`, not in an error.

mod backoff;
mod credentials;
mod failure;
mod pace;
mod start;

use std::{fmt, time::Duration};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, environment::EnvironmentVariableCredentialsProvider,
    meta::credentials::CredentialsProviderChain, profile::ProfileFileCredentialsProvider, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_credential_types::provider::ProvideCredentials;
use aws_types::service_config::ServiceConfigKey;
use headwater_engine::error::{Error, Result};

pub(crate) use backoff::Backoff;
pub(crate) use failure::{Failure, failed};
pub(crate) use pace::Pace;
pub(crate) use start::{sequence_numbers, timestamp};

use self::credentials::CredentialsFrom;
use crate::options::Options;

/// Region of requests to another server than AWS when nothing names one.
const REGION_DEFAULT: &str = "us-east-1";
/// Limit of one attempt of a request.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Limit of making a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Attempts of the SDK itself; what then fails is for the connector's own [`Backoff`].
const ATTEMPTS: u32 = 3;

/// How a table reaches its service.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct AwsOptions {
    /// `aws.region`; else the standard chain's.
    region: Option<String>,
    /// `aws.endpoint`; else `AWS_ENDPOINT_URL_<SERVICE>`, `AWS_ENDPOINT_URL` and the profile's.
    endpoint: Option<String>,
    /// `aws.credentials.profile.name`.
    profile: Option<String>,
    /// `aws.credentials.provider` and what goes with it.
    credentials: CredentialsFrom,
}

impl fmt::Debug for AwsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, endpoint, profile, credentials: _ } = self;
        let mut shown = f.debug_struct("AwsOptions");
        shown.field("region", region).field("endpoint", endpoint).field("profile", profile).finish_non_exhaustive()
    }
}

impl AwsOptions {
    /// Where the service is, as far as the options say, to tell two of one name apart.
    pub(crate) fn place(&self) -> String {
        [&self.endpoint, &self.region, &self.profile].map(|part| part.as_deref().unwrap_or_default()).join(" ")
    }

    /// Takes the `aws.*` options of a table.
    pub(crate) fn parse(options: &mut Options) -> Result<Self> {
        let endpoint = options.text("aws.endpoint").filter(|endpoint| !endpoint.is_empty());
        if let Some(endpoint) = &endpoint
            && url::Url::parse(endpoint).map_or(true, |url| !matches!(url.scheme(), "http" | "https"))
        {
            return Err(options.invalid("aws.endpoint", endpoint, "a URL such as 'http://127.0.0.1:8000'"));
        }
        if options.flag("aws.trust.all.certificates")?.unwrap_or(false) {
            return Err(options.invalid("aws.trust.all.certificates", "true", "false").with_hint(
                "certificates are always checked; give the environment's trust store the one of your endpoint",
            ));
        }
        let credentials = CredentialsFrom::parse(options)?;
        let region = options.text("aws.region").filter(|region| !region.is_empty());
        Ok(Self { region, endpoint, profile: options.text("aws.credentials.profile.name"), credentials })
    }

    /// Takes the region of an ARN where no option names one.
    #[must_use]
    pub(crate) fn or_region_of(mut self, arn: &str) -> Self {
        let of_arn = arn.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2)).filter(|part| !part.is_empty());
        self.region = self.region.or_else(|| of_arn.map(ToOwned::to_owned));
        self
    }

    /// The SDK's configuration for a service; `services` are the names it goes by in the environment and in profiles,
    /// the first that names an endpoint counting (`["DynamoDB Streams", "DynamoDB"]`).
    pub(crate) async fn connect(&self, services: &[&str]) -> Result<SdkConfig> {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(ATTEMPT_TIMEOUT);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts.build());
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &self.endpoint {
            // Given here it comes before what the environment says, which each client would ask otherwise.
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        let config = self.credentials.set(loader, self.profile.as_deref()).load().await;
        if self.endpoint.is_some() {
            return Ok(with_region(config));
        }
        let endpoint = configured_endpoint(&config, services);
        let mut config = config.into_builder();
        if let Some(endpoint) = &endpoint {
            config.set_endpoint_url(Some(endpoint.clone()));
        }
        let config = config.build();
        match (config.region(), &endpoint) {
            (Some(_), _) => Ok(config),
            (None, Some(_)) => Ok(with_region(config)),
            (None, None) => {
                Err(Error::user("INVALID_TABLE_PROPERTY", format!("no AWS region for {}", services.join(", ")))
                    .with_hint("add 'aws.region' to the WITH clause, or set AWS_REGION"))
            }
        }
    }
}

/// A configuration with some region, for another server than AWS.
fn with_region(config: SdkConfig) -> SdkConfig {
    match config.region() {
        Some(_) => config,
        None => config.into_builder().region(Region::new(REGION_DEFAULT)).build(),
    }
}

/// The access key of the environment, else of the profile's file: its id and its secret.
pub(crate) async fn standard_keys() -> Option<(String, String)> {
    let chain = CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("Profile", ProfileFileCredentialsProvider::builder().build());
    let found = chain.provide_credentials().await.ok()?;
    Some((found.access_key_id().to_owned(), found.secret_access_key().to_owned()))
}

/// The endpoint that the environment or the profile names for one of these services, else for all of AWS.
fn configured_endpoint(config: &SdkConfig, services: &[&str]) -> Option<String> {
    let named = |service: &&str| {
        let key = ServiceConfigKey::builder()
            .service_id(service)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .ok()?;
        config.service_config()?.load_config(key)
    };
    let general = config.endpoint_url().map(ToOwned::to_owned);
    // A name without a variable of its own answers with the general one: only another answer is its own.
    services.iter().filter_map(named).find(|found| general.as_ref() != Some(found)).or(general)
}

#[cfg(test)]
mod tests {
    use headwater_engine::catalog::Properties;

    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<AwsOptions> {
        let properties: Properties = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut options = Options::new("t", &properties);
        let aws = AwsOptions::parse(&mut options)?;
        options.finish()?;
        Ok(aws)
    }

    #[test]
    fn half_a_key_and_a_bare_host_are_refused() {
        assert!(parsed(&[("aws.credentials.basic.accesskeyid", "a")]).unwrap_err().message().contains("go together"));
        assert!(parsed(&[("aws.endpoint", "localhost:8000")]).unwrap_err().message().contains("aws.endpoint"));
    }

    #[test]
    fn certificates_are_always_checked() {
        assert!(parsed(&[("aws.trust.all.certificates", "false")]).is_ok());
        let trusting = parsed(&[("aws.trust.all.certificates", "true")]).unwrap_err();
        assert!(trusting.message().contains("'aws.trust.all.certificates' = 'true' is not false"), "{trusting}");
    }

    #[test]
    fn keys_are_not_shown() -> Result<()> {
        let aws = parsed(&[
            ("aws.credentials.basic.accesskeyid", "AKID"),
            ("aws.credentials.basic.secretkey", "verysecret"),
        ])?;
        assert!(!format!("{aws:?}").contains("verysecret"));
        Ok(())
    }

    #[tokio::test]
    async fn an_arn_names_its_region_and_an_option_comes_first() -> Result<()> {
        let arn = "arn:aws:kinesis:eu-central-1:123456789012:stream/s";
        let endpoint = ("aws.endpoint", "http://127.0.0.1:1");
        let of_arn = parsed(&[endpoint])?.or_region_of(arn).connect(&["Kinesis"]).await?;
        assert_eq!(of_arn.region().map(AsRef::as_ref), Some("eu-central-1"));
        assert_eq!(of_arn.endpoint_url(), Some("http://127.0.0.1:1"));
        let given = parsed(&[endpoint, ("aws.region", "eu-west-1")])?.or_region_of(arn).connect(&["Kinesis"]).await?;
        assert_eq!(given.region().map(AsRef::as_ref), Some("eu-west-1"));
        Ok(())
    }
}
