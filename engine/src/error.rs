//! The one error type of Headwater: what is wrong, where, and what to do about it.
//!
//! Invariant: every error carries the code a Trino user would look up, and an [`ErrorKind`] that says what a caller
//! should do with it. Messages are lower case, quote the names they speak of and never contain a credential.

use std::fmt;

use datafusion::error::DataFusionError;

/// Result with Headwater's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the receiver of an error should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The statement, option or setting is wrong; the user changes it.
    User,
    /// A row or file cannot be read as declared; the user repairs it or chooses another policy.
    Data,
    /// Something outside did not answer; trying again may help.
    Unavailable,
    /// The outside refused for want of permission or credentials.
    Denied,
    /// Another writer was first; read again and decide.
    Conflict,
    /// A larger generation holds the job; stop with exit code 3.
    Fenced,
    /// A stated limit (memory, disk, open files) was reached.
    Limit,
    /// The user asked to stop.
    Cancelled,
    /// A broken invariant: a defect of Headwater.
    Internal,
}

/// Trino's name of an error, such as `COLUMN_NOT_FOUND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub &'static str);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Position in the text of a statement file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// An error with its code, its kind, a position where one is known and a hint what to do.
pub struct Error(Box<Detail>);

struct Detail {
    kind: ErrorKind,
    code: Code,
    message: String,
    hint: Option<String>,
    location: Option<Location>,
    file: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind with its code and message.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Detail {
            kind,
            code: Code(code),
            message: message.into(),
            hint: None,
            location: None,
            file: None,
            source: None,
        }))
    }

    /// The user's statement or option is wrong.
    pub fn user(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::User, code, message)
    }

    /// The statement asks for something that does not exist here.
    pub fn not_supported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::User, "NOT_SUPPORTED", message)
    }

    /// Data does not read as declared.
    pub fn data(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, code, message)
    }

    /// A broken invariant, saying what was expected.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, "GENERIC_INTERNAL_ERROR", message)
    }

    /// Something outside did not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, "EXTERNAL", message)
    }

    /// Adds what the reader can do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds where in the statement it is, unless a closer position is known already.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.0.location.get_or_insert(location);
        self
    }

    /// Says in which of several files it is, and where there.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>, location: Location) -> Self {
        self.0.file = Some(file.into());
        self.0.location = Some(location);
        self
    }

    /// Adds the error this one came from; its text is shown after ours.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts a name in front of the message, once, where the name is known: `"file x: .."`.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// Says whose text it is in, other than the statement's: its own place would be one of that text, and goes.
    #[must_use]
    pub fn within(mut self, what: impl fmt::Display) -> Self {
        self.0.location = None;
        self.context(what)
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Trino's name of the error.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do, if known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Where in the statement, if known.
    pub fn location(&self) -> Option<Location> {
        self.0.location
    }

    /// Name of the file it is in, where a statement may come from several.
    pub fn file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// Takes Headwater's own error out of the layers DataFusion and Arrow put around it, if there is one.
    pub fn find_in(error: &DataFusionError) -> Option<&Error> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(current) = next {
            if let Some(ours) = current.downcast_ref::<Error>() {
                return Some(ours);
            }
            if let Some(DataFusionError::External(inner)) = current.downcast_ref::<DataFusionError>()
                && let Some(ours) = inner.downcast_ref::<Error>()
            {
                return Some(ours);
            }
            next = current.source();
        }
        None
    }

    /// The same error again, without its source, for a second reader of one failure.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let Detail { kind, code, message, hint, location, file, source } = &*self.0;
        let message = source.as_ref().map_or_else(|| message.clone(), |source| format!("{message}: {source}"));
        Self(Box::new(Detail {
            kind: *kind,
            code: *code,
            message,
            hint: hint.clone(),
            location: *location,
            file: file.clone(),
            source: None,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}] {self}", self.0.code)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<DataFusionError> for Error {
    /// Ours comes out as it went in; anything else is classified by `sql`'s diagnostics, or is internal.
    fn from(error: DataFusionError) -> Self {
        match Error::find_in(&error) {
            Some(ours) => ours.duplicate(),
            None => Error::internal(error.to_string()).caused_by(error).without_repeated_text(),
        }
    }
}

impl From<arrow::error::ArrowError> for Error {
    /// What a disk says while Arrow writes to it is no defect.
    fn from(error: arrow::error::ArrowError) -> Self {
        match error {
            arrow::error::ArrowError::IoError(_, error) => Error::from(error),
            error => Error::from(DataFusionError::from(error)),
        }
    }
}

impl Error {
    fn without_repeated_text(mut self) -> Self {
        if self.0.source.as_ref().is_some_and(|source| source.to_string() == self.0.message) {
            self.0.source = None;
        }
        self
    }
}

/// A name that a store cannot have, however often it is asked.
const INVALID_NAME: &str = "INVALID_NAME";

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as Store;
        let kind = match &error {
            Store::AlreadyExists { .. } | Store::Precondition { .. } => ErrorKind::Conflict,
            Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => ErrorKind::Denied,
            Store::NotFound { .. } => ErrorKind::User,
            Store::InvalidPath { .. } => return Self::user(INVALID_NAME, error.to_string()),
            _ => ErrorKind::Unavailable,
        };
        let code = match kind {
            ErrorKind::Denied => "PERMISSION_DENIED",
            ErrorKind::User => "NOT_FOUND",
            _ => "EXTERNAL",
        };
        Error::new(kind, code, with_cause(&error))
    }
}

/// The text of a failed request with the last of its reasons, which clients of HTTP keep to themselves.
pub fn with_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let (text, mut last) = (error.to_string(), error);
    while let Some(source) = last.source() {
        last = source;
    }
    let cause = last.to_string();
    if text.contains(&cause) { text } else { format!("{text}: {cause}") }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let (kind, code) = match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                (ErrorKind::Denied, "PERMISSION_DENIED")
            }
            std::io::ErrorKind::NotFound => (ErrorKind::User, "NOT_FOUND"),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => (ErrorKind::Limit, "NO_SPACE"),
            std::io::ErrorKind::AlreadyExists => (ErrorKind::Conflict, "ALREADY_EXISTS"),
            std::io::ErrorKind::InvalidFilename => (ErrorKind::User, INVALID_NAME),
            _ => (ErrorKind::Unavailable, "EXTERNAL"),
        };
        Error::new(kind, code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_one_whoever_writes_to_it() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let of_arrow = arrow::error::ArrowError::from(full());
        for error in [Error::from(full()), Error::from(of_arrow)] {
            assert_eq!((error.kind(), error.code().0), (ErrorKind::Limit, "NO_SPACE"), "{error}");
        }
    }

    #[test]
    fn a_failed_request_says_what_its_client_keeps_to_itself() {
        let refused = Error::unavailable("error sending request").caused_by(std::io::Error::other("refused"));
        let store = object_store::Error::Generic { store: "S3", source: Box::new(Quiet(refused)) };
        assert_eq!(Error::from(store).message(), "Generic S3 error: sending: refused");
    }

    /// An error that does not tell its reason.
    #[derive(Debug)]
    struct Quiet(Error);

    impl fmt::Display for Quiet {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("sending")
        }
    }

    impl std::error::Error for Quiet {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
}
