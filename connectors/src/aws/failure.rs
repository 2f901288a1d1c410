//! A service's errors as ours: what was being done, the service's own words, and what the caller should do.
//!
//! Invariant: a request that may succeed when it is sent again is `Unavailable`, and nothing else is.

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::{display::DisplayErrorContext, metadata::ProvideErrorMetadata};
use headwater_engine::error::{Error, ErrorKind};

/// What became of a request, beside an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Too many requests: slow down, then send it again.
    Throttled,
    /// No answer, or the service's own failure: send it again.
    Unanswered,
    /// The service refuses it, and will again.
    Refused,
}

const THROTTLES: [&str; 12] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "RequestLimitExceeded",
    "LimitExceededException",
    "TooManyRequestsException",
    "SlowDown",
    "KMSThrottlingException",
    // Somebody else writes to the same item at the moment.
    "TransactionConflictException",
    "TransactionInProgressException",
    "ReplicatedWriteConflictException",
];

const DENIALS: [&str; 10] = [
    "AccessDeniedException",
    "AccessDenied",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "MissingAuthenticationTokenException",
    "MissingAuthenticationToken",
    "ExpiredTokenException",
    "ExpiredToken",
    "InvalidClientTokenId",
];

const OUTAGES: [&str; 6] = [
    "InternalServerError",
    "InternalFailure",
    "InternalFailureException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "RequestTimeout",
];

impl Failure {
    /// What kind of failure an error is.
    pub(crate) fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
        let code = match error {
            SdkError::ServiceError(service) => service.err().code(),
            SdkError::ConstructionFailure(_) => return Self::Refused,
            _ => return Self::Unanswered,
        };
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        match code {
            Some(code) if THROTTLES.contains(&code) => Self::Throttled,
            Some(code) if OUTAGES.contains(&code) => Self::Unanswered,
            _ if status == 429 => Self::Throttled,
            _ if status >= 500 => Self::Unanswered,
            _ => Self::Refused,
        }
    }
}

/// The error of a request, after what it was to do: `cannot describe table "t": ..`.
pub(crate) fn failed<E>(doing: &str, error: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let meta = match error {
        SdkError::ServiceError(service) => service.err().meta(),
        _ => {
            let text = DisplayErrorContext(error).to_string();
            return unanswered(doing, &text);
        }
    };
    let code = meta.code().unwrap_or("an error without a name");
    let words = meta.message().filter(|words| !words.is_empty()).map(|words| format!("{code}: {words}"));
    let message = format!("{doing}: {}", words.as_deref().unwrap_or(code));
    match code {
        _ if Failure::of(error) != Failure::Refused => Error::unavailable(message),
        code if DENIALS.contains(&code) => Error::new(ErrorKind::Denied, "PERMISSION_DENIED", message)
            .with_hint("check the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID) and their policy"),
        "ResourceNotFoundException" => Error::user("TABLE_NOT_FOUND", message),
        _ => Error::user("EXTERNAL", message),
    }
}

/// What the SDK says when no place has credentials.
const NO_CREDENTIALS: [&str; 3] =
    ["CredentialsNotLoaded", "no providers in chain provided credentials", "the credential provider was not enabled"];

/// A request that got no answer: no credentials, no connection, no time.
fn unanswered(doing: &str, text: &str) -> Error {
    if NO_CREDENTIALS.iter().any(|words| text.contains(words)) {
        return Error::new(ErrorKind::Denied, "PERMISSION_DENIED", format!("{doing}: no AWS credentials were found"))
            .with_hint("set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    }
    let text = text.split(" (DispatchFailure").next().unwrap_or(text);
    Error::unavailable(format!("{doing}: {text}")).with_hint("check 'aws.endpoint', 'aws.region' and the network")
}
