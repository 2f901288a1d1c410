//! S3 clients: settings, credentials of the standard AWS chain, and errors in words.
//!
//! Invariant: no credential leaves this file except inside a signed request: not in `Debug`, not in an error.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use headwater_engine::{
    catalog::Properties,
    error::{Error, ErrorKind, Result, with_cause},
};
use object_store::{
    BackoffConfig, ClientOptions, CredentialProvider, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential},
};
use tokio::sync::{Mutex, OnceCell};

/// Region of requests when nothing names one; other stores than AWS accept it.
const REGION_DEFAULT: &str = "us-east-1";
/// How long before their expiry credentials are fetched again.
const EXPIRY_MARGIN: Duration = Duration::from_secs(300);
/// How long credentials without an expiry are kept.
const CREDENTIALS_KEPT: Duration = Duration::from_secs(900);
/// Time limit of one request unless `s3.timeout` says otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Attempts after the first unless `s3.retries` says otherwise.
const RETRIES_DEFAULT: usize = 5;

/// Encryption of what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Encryption {
    /// The store's key.
    S3,
    /// A key of KMS, the account's own if `None`.
    Kms(Option<String>),
}

/// How one bucket is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct S3Settings {
    /// Another server than AWS.
    pub(super) endpoint: Option<String>,
    /// Region; else that of the AWS configuration.
    pub(super) region: Option<String>,
    /// The bucket is in the path, not in the host name.
    pub(super) path_style: bool,
    /// Requests are not signed.
    pub(super) unsigned: bool,
    /// Limit of one request.
    pub(super) timeout: Duration,
    /// Attempts after the first.
    pub(super) retries: usize,
    /// Encryption of what is written.
    pub(super) encryption: Option<Encryption>,
}

/// Names of the settings, without `s3.`.
const KEYS: [&str; 8] = ["endpoint", "region", "path-style", "unsigned", "timeout", "retries", "sse", "sse.kms-key-id"];

impl S3Settings {
    /// Settings of a bucket: the table's own first, then `s3.bucket.<name>.<key>`, then `s3.<key>`.
    pub(super) fn for_bucket(bucket: &str, settings: &Properties, options: &Properties) -> Result<Self> {
        let own = format!("s3.bucket.{bucket}.");
        for key in settings.keys().chain(options.keys()) {
            let name =
                key.strip_prefix(&own).or_else(|| key.strip_prefix("s3.").filter(|key| !key.starts_with("bucket.")));
            if let Some(unknown) = name.filter(|name| !KEYS.contains(name)) {
                let alike = KEYS.iter().find(|known| strsim::damerau_levenshtein(known, unknown) <= 2);
                return Err(Error::user("INVALID_SESSION_PROPERTY", format!("setting \"{key}\" is not known"))
                    .with_hint(match alike {
                        Some(alike) => format!("did you mean \"s3.{alike}\"?"),
                        None => format!("{unknown} is none of {}", KEYS.join(", ")),
                    }));
            }
        }
        let value = |key: &str| {
            let shared = format!("s3.{key}");
            let of_bucket = format!("{own}{key}");
            let of_table = options.get(&of_bucket).or_else(|| options.get(&shared));
            of_table.or_else(|| settings.get(&of_bucket)).or_else(|| settings.get(&shared)).cloned()
        };
        let endpoint = value("endpoint").filter(|endpoint| !endpoint.is_empty());
        let path_style = parsed("s3.path-style", value("path-style"), endpoint.is_some())?;
        let key_id = value("sse.kms-key-id");
        let encryption = match value("sse").as_deref() {
            None | Some("") => key_id.map(|id| Encryption::Kms(Some(id))),
            Some("AES256") => Some(Encryption::S3),
            Some("aws:kms") => Some(Encryption::Kms(key_id)),
            Some(other) => {
                return Err(Error::user("INVALID_SESSION_PROPERTY", format!("\"s3.sse\" is \"{other}\""))
                    .with_hint("use AES256 or aws:kms"));
            }
        };
        Ok(Self {
            endpoint,
            region: value("region"),
            path_style,
            unsigned: parsed("s3.unsigned", value("unsigned"), false)?,
            timeout: value("timeout").map_or(Ok(TIMEOUT_DEFAULT), |text| duration("s3.timeout", &text))?,
            retries: parsed("s3.retries", value("retries"), RETRIES_DEFAULT)?,
            encryption,
        })
    }
}

fn parsed<T: FromStr>(key: &str, value: Option<String>, default: T) -> Result<T> {
    let Some(text) = value else { return Ok(default) };
    text.trim().parse().map_err(|_| {
        Error::user("INVALID_SESSION_PROPERTY", format!("\"{key}\" is \"{text}\""))
            .with_hint("use true, false or a number")
    })
}

fn duration(key: &str, text: &str) -> Result<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: Option<u64> = text[..digits].parse().ok();
    let millis = number.and_then(|number| match text[digits..].trim() {
        "" | "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" | "min" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    });
    millis.map(Duration::from_millis).ok_or_else(|| {
        Error::user("INVALID_SESSION_PROPERTY", format!("\"{key}\" is \"{text}\""))
            .with_hint("write '30 s' or '500 ms'")
    })
}

/// A client for one bucket.
pub(super) async fn open(bucket: &str, settings: &S3Settings) -> Result<Arc<AmazonS3>> {
    let mut client = ClientOptions::new().with_timeout(settings.timeout).with_connect_timeout(settings.timeout);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(!settings.path_style)
        .with_skip_signature(settings.unsigned)
        .with_retry(RetryConfig {
            max_retries: settings.retries,
            retry_timeout: settings.timeout * 4,
            backoff: BackoffConfig::default(),
        });
    if let Some(endpoint) = &settings.endpoint {
        client = client.with_allow_http(true);
        builder = builder.with_endpoint(endpoint);
    }
    builder =
        match &settings.encryption {
            None => builder,
            Some(Encryption::S3) => builder
                .with_config(AmazonS3ConfigKey::from_str("aws_server_side_encryption").map_err(internal)?, "AES256"),
            Some(Encryption::Kms(Some(key))) => builder.with_sse_kms_encryption(key),
            Some(Encryption::Kms(None)) => builder
                .with_config(AmazonS3ConfigKey::from_str("aws_server_side_encryption").map_err(internal)?, "aws:kms"),
        };
    let region = if settings.unsigned {
        settings.region.clone()
    } else {
        let aws = aws().await;
        builder = builder.with_credentials(Arc::new(ChainCredentials::new(aws.credentials.clone())));
        settings.region.clone().or_else(|| aws.region.clone())
    };
    let store = builder.with_region(region.as_deref().unwrap_or(REGION_DEFAULT)).with_client_options(client).build();
    Ok(Arc::new(
        store.map_err(|error| {
            Error::user("INVALID_SESSION_PROPERTY", format!("bucket \"{bucket}\": {}", plain(&error)))
        })?,
    ))
}

fn internal(error: object_store::Error) -> Error {
    Error::internal(plain(&error))
}

struct Aws {
    credentials: Option<SharedCredentialsProvider>,
    region: Option<String>,
}

/// The AWS configuration of this process, read once: environment, profile, web identity, container, instance.
async fn aws() -> &'static Aws {
    static AWS: OnceCell<Aws> = OnceCell::const_new();
    AWS.get_or_init(|| async {
        let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
        Aws { credentials: config.credentials_provider(), region: config.region().map(ToString::to_string) }
    })
    .await
}

/// Credentials of the chain, kept until shortly before they expire.
struct ChainCredentials {
    provider: Option<SharedCredentialsProvider>,
    kept: Mutex<Option<(Arc<AwsCredential>, tokio::time::Instant)>>,
}

impl ChainCredentials {
    fn new(provider: Option<SharedCredentialsProvider>) -> Self {
        Self { provider, kept: Mutex::default() }
    }
}

impl fmt::Debug for ChainCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainCredentials")
    }
}

#[async_trait]
impl CredentialProvider for ChainCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut kept = self.kept.lock().await;
        if let Some((credential, until)) = &*kept
            && tokio::time::Instant::now() < *until
        {
            return Ok(Arc::clone(credential));
        }
        let provider = self.provider.as_ref().ok_or_else(|| no_credentials("none is configured".into()))?;
        let found = provider.provide_credentials().await.map_err(|error| no_credentials(error.to_string()))?;
        let lasts = found.expiry().and_then(|expiry| expiry.duration_since(std::time::SystemTime::now()).ok());
        let keep = lasts.map_or(CREDENTIALS_KEPT, |lasts| lasts.saturating_sub(EXPIRY_MARGIN));
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(ToOwned::to_owned),
        });
        *kept = Some((Arc::clone(&credential), tokio::time::Instant::now() + keep));
        Ok(credential)
    }
}

/// Marks a failure of the chain, so that [`explain`] knows it again.
#[derive(Debug)]
struct NoCredentials(String);

impl fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no AWS credentials: {}", self.0)
    }
}

impl std::error::Error for NoCredentials {}

fn no_credentials(why: String) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: Box::new(NoCredentials(why)) }
}

/// The error in words, if it is one that users of S3 meet.
pub(super) fn explain(what: &str, error: &object_store::Error) -> Option<Error> {
    let denied = |message: String| Error::new(ErrorKind::Denied, "PERMISSION_DENIED", message);
    if let object_store::Error::Generic { source, .. } = error
        && source.downcast_ref::<NoCredentials>().is_some()
    {
        return Some(
            denied(format!("\"{what}\" needs AWS credentials and none were found"))
                .with_hint("set AWS_PROFILE or AWS_ACCESS_KEY_ID, or SET 's3.unsigned' = 'true' for public data"),
        );
    }
    let text = error.to_string();
    if text.contains("NoSuchBucket") {
        return Some(
            Error::user("HIVE_FILESYSTEM_ERROR", format!("the bucket of \"{what}\" does not exist"))
                .with_hint("check LOCATION, and 's3.endpoint' if it is not on AWS"),
        );
    }
    if ["AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraint"]
        .iter()
        .any(|code| text.contains(code))
        || text.contains("301 Moved")
    {
        return Some(
            Error::user("HIVE_FILESYSTEM_ERROR", format!("the bucket of \"{what}\" is in another region"))
                .with_hint("SET 's3.region', or 's3.bucket.<name>.region' for this bucket"),
        );
    }
    if ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"]
        .iter()
        .any(|code| text.contains(code))
    {
        return Some(
            denied(format!("the store did not accept the credentials for \"{what}\""))
                .with_hint("renew them, or check the profile in use"),
        );
    }
    if text.contains("KeyTooLongError") {
        return Some(
            Error::user("INVALID_NAME", format!("the key of \"{what}\" is longer than an object of S3 can have"))
                .with_hint("1,024 bytes are allowed; shorten the prefix, or the values of the partition keys"),
        );
    }
    if let Some(code) = code_of(&text).filter(|code| code.to_lowercase().starts_with("kms")) {
        let message = format!("the key to encrypt \"{what}\" with cannot be used: {code}");
        return Some(denied(message).with_hint("check 's3.sse.kms-key-id', and that the user may use that key"));
    }
    if text.contains("AccessDenied") || text.contains("403 Forbidden") {
        return Some(
            denied(format!("no permission for \"{what}\"")).with_hint("check the policies of bucket and user"),
        );
    }
    None
}

/// The code of a store's answer.
fn code_of(text: &str) -> Option<&str> {
    text.split_once("<Code>")?.1.split_once("</Code>").map(|(code, _)| code)
}

/// A store's error as text without what a signed URL holds.
pub(super) fn plain(error: &object_store::Error) -> String {
    let text = with_cause(error);
    match text.find("X-Amz-") {
        Some(at) => format!("{}..", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_table_comes_before_a_bucket_before_the_rest() -> Result<()> {
        let settings = properties(&[
            ("s3.region", "eu-west-1"),
            ("s3.bucket.b.region", "eu-west-2"),
            ("s3.timeout", "500 ms"),
            ("parallelism", "3"),
        ]);
        let none = Properties::new();
        let region =
            |bucket, options: &Properties| S3Settings::for_bucket(bucket, &settings, options).map(|found| found.region);
        assert_eq!(region("a", &none)?.as_deref(), Some("eu-west-1"));
        assert_eq!(region("b", &none)?.as_deref(), Some("eu-west-2"));
        assert_eq!(region("b", &properties(&[("s3.region", "x")]))?.as_deref(), Some("x"));
        assert_eq!(region("b", &properties(&[("s3.bucket.b.region", "y"), ("s3.region", "x")]))?.as_deref(), Some("y"));
        assert_eq!(region("a", &properties(&[("s3.bucket.b.region", "y")]))?.as_deref(), Some("eu-west-1"));
        assert_eq!(S3Settings::for_bucket("b", &settings, &none)?.timeout, Duration::from_millis(500));
        Ok(())
    }

    #[test]
    fn path_style_follows_the_endpoint_unless_set() -> Result<()> {
        let of = |pairs: &[(&str, &str)]| S3Settings::for_bucket("b", &properties(pairs), &Properties::new());
        assert!(!of(&[])?.path_style);
        assert!(of(&[("s3.endpoint", "http://x")])?.path_style);
        assert!(!of(&[("s3.endpoint", "http://x"), ("s3.path-style", "false")])?.path_style);
        assert_eq!(
            of(&[("s3.sse", "aws:kms"), ("s3.sse.kms-key-id", "k")])?.encryption,
            Some(Encryption::Kms(Some("k".into())))
        );
        assert!(of(&[("s3.nonsense", "1")]).is_err());
        assert!(of(&[("s3.sse", "rot13")]).is_err());
        Ok(())
    }

    #[tokio::test]
    async fn credentials_are_kept_and_never_shown() -> Result<(), Box<dyn std::error::Error>> {
        let fixed = aws_credential_types::Credentials::new("AKID", "verysecret", None, None, "test");
        let chain = ChainCredentials::new(Some(SharedCredentialsProvider::new(fixed)));
        let first = chain.get_credential().await?;
        assert!(Arc::ptr_eq(&first, &chain.get_credential().await?));
        assert!(!format!("{chain:?}").contains("verysecret"));
        let error = ChainCredentials::new(None).get_credential().await.unwrap_err();
        assert_eq!(super::super::stores::store_error("s3://b/k", error).code().0, "PERMISSION_DENIED");
        Ok(())
    }

    #[test]
    fn a_key_that_the_store_does_not_know_is_no_missing_file() {
        let source = "Client error with status 404 Not Found: <Error><Code>kms:KeyNotFound</Code></Error>".into();
        let found = explain("s3://b/t/f", &object_store::Error::NotFound { path: "t/f".into(), source });
        let found = found.map(|error| (error.code().0, error.hint().is_some_and(|hint| hint.contains("kms-key-id"))));
        assert_eq!(found, Some(("PERMISSION_DENIED", true)));
    }
}
