//! The options of an HTTP table.
//!
//! Invariant: who may send is decided here; a listener that anyone can reach without credentials is refused.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
};

use headwater_engine::{
    connector::TableSpec,
    error::{Error, Result},
};

use super::budget::MAX_BODY;
use crate::{
    aws::standard_keys,
    formats::{self, Part, TableFormat},
    options::Options,
};

/// Who may send.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Auth {
    /// Anyone on this machine.
    None,
    /// Whoever signs with one of these keys (id to secret); with none of them, the key of the environment counts.
    SigV4(BTreeMap<String, String>),
    /// Whoever has this token.
    Bearer(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::SigV4(_) => "SigV4",
            Self::Bearer(_) => "Bearer",
        })
    }
}

/// Certificate chain and key, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// All options of a table.
#[derive(Debug, Clone)]
pub(super) struct HttpOptions {
    pub(super) table: String,
    pub(super) listen: SocketAddr,
    pub(super) path: String,
    /// Its name in the APIs of Kinesis and Firehose.
    pub(super) stream: String,
    pub(super) auth: Auth,
    pub(super) tls: Option<TlsFiles>,
    pub(super) max_body: usize,
    pub(super) buffer_bytes: u64,
    pub(super) log_dir: Option<PathBuf>,
    /// Whether some column is made of the request's headers.
    pub(super) keeps_headers: bool,
    pub(super) format: TableFormat,
}

const MAX_BODY_DEFAULT: u64 = 16 << 20;
const BUFFER_DEFAULT: u64 = 256 << 20;

impl HttpOptions {
    pub(super) fn parse(table: &TableSpec) -> Result<Self> {
        let mut options = Options::new(&table.name, &table.options);
        options.accept(&["connector"]);
        let listen = listen(&mut options)?;
        let path = options.text("path").unwrap_or_else(|| format!("/{}", table.name));
        if !path.starts_with('/') {
            return Err(options.invalid("path", &path, "a path such as '/events'"));
        }
        let stream = options.text("stream").unwrap_or_else(|| table.name.clone());
        let auth = auth(&mut options, &table.name, listen.ip())?;
        let tls = tls(&mut options, &table.name)?;
        let max_body = max_body(&mut options)?;
        let buffer_bytes = options.size("buffer.max-size")?.unwrap_or(BUFFER_DEFAULT);
        let log_dir = options.text("log.dir").map(PathBuf::from);
        let format =
            formats::from_options(&mut options, &["format"], "", &Part::of_table(table))?.ok_or_else(|| {
                Error::user("INVALID_TABLE_PROPERTY", format!("table \"{}\" needs the option 'format'", table.name))
                    .with_hint("add 'format' = 'json' to its WITH clause")
            })?;
        options.finish()?;
        Ok(Self {
            table: table.name.clone(),
            listen,
            path,
            stream,
            auth,
            tls,
            max_body,
            buffer_bytes,
            log_dir,
            keeps_headers: table.metadata.iter().any(|field| field.key == "headers"),
            format,
        })
    }
}

impl HttpOptions {
    /// Whether the two tables can share an address.
    pub(super) fn check_beside(&self, other: &Self) -> Result<()> {
        if self.table == other.table {
            return Ok(());
        }
        let both = format!("tables \"{}\" and \"{}\" listen on {}", other.table, self.table, self.listen);
        let refuse = |what: &str, hint: &str| {
            Err(Error::user("INVALID_TABLE_PROPERTY", format!("{both}, {what}")).with_hint(hint.to_owned()))
        };
        if self.tls != other.tls {
            return refuse("with different certificates", "give both the same 'tls.cert' and 'tls.key'");
        }
        if self.path == other.path {
            return refuse(&format!("both at the path '{}'", self.path), "give each a 'path' of its own");
        }
        if self.stream == other.stream {
            return refuse(&format!("both as the stream '{}'", self.stream), "give each a 'stream' of its own");
        }
        Ok(())
    }
}

fn max_body(options: &mut Options) -> Result<usize> {
    let bytes = options.size("max-body")?.unwrap_or(MAX_BODY_DEFAULT);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if (1..=MAX_BODY).contains(&bytes) {
        return Ok(bytes);
    }
    let wanted = format!("at most {} MB, so that bodies have room in memory", MAX_BODY >> 20);
    Err(options.invalid("max-body", &format!("{bytes} bytes"), &wanted))
}

fn listen(options: &mut Options) -> Result<SocketAddr> {
    let text = options.required("listen")?;
    let wanted = "an address such as '127.0.0.1:8080'";
    text.to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(|| options.invalid("listen", &text, wanted))
}

#[derive(Clone, Copy)]
enum Kind {
    None,
    SigV4,
    Bearer,
}

fn auth(options: &mut Options, table: &str, ip: IpAddr) -> Result<Auth> {
    let kind = options.choice("auth", &[("none", Kind::None), ("sigv4", Kind::SigV4), ("bearer", Kind::Bearer)])?;
    let (id, secret) = (options.text("auth.access-key-id"), options.text("auth.secret-access-key"));
    let (listed, token) = (options.text("auth.keys"), options.text("auth.token"));
    let needs = |what: &str, hint: &str| {
        Err(Error::user("INVALID_TABLE_PROPERTY", format!("table \"{table}\" {what}")).with_hint(hint))
    };
    match kind.unwrap_or(Kind::None) {
        Kind::None if ip.is_loopback() => Ok(Auth::None),
        Kind::None => needs(
            &format!("listens on {ip}, which other machines can reach, without 'auth'"),
            "set 'auth' = 'sigv4' or 'bearer', or listen on 127.0.0.1",
        ),
        Kind::Bearer => match token.filter(|token| !token.is_empty()) {
            Some(token) => Ok(Auth::Bearer(token)),
            None => needs("has 'auth' = 'bearer' but no 'auth.token'", "add 'auth.token' = '${env:NAME}'"),
        },
        Kind::SigV4 => {
            if id.is_some() != secret.is_some() {
                let hint = "give both, or neither to use the key of the environment";
                return needs("has one of 'auth.access-key-id' and 'auth.secret-access-key'", hint);
            }
            let pairs = listed.unwrap_or_default();
            let pair = |pair: &str| {
                let (id, secret) = pair.trim().split_once(':')?;
                Some((id.to_owned(), secret.to_owned()))
            };
            let listed = pairs.split(',').filter(|pair| !pair.trim().is_empty()).map(pair);
            let keys: Option<BTreeMap<String, String>> = listed.chain(id.zip(secret).map(Some)).collect();
            match keys {
                Some(keys) => Ok(Auth::SigV4(keys)),
                None => needs("has 'auth.keys' that are no keys", "write 'auth.keys' = 'id:secret,..'"),
            }
        }
    }
}

impl Auth {
    /// The same, with the key of the environment or of the profile's file where the table names none.
    pub(super) async fn resolved(self, table: &str) -> Result<Self> {
        match self {
            Self::SigV4(keys) if keys.is_empty() => match standard_keys().await {
                Some((id, secret)) => Ok(Self::SigV4(BTreeMap::from([(id, secret)]))),
                None => {
                    let message = format!("table \"{table}\" has 'auth' = 'sigv4' but no keys");
                    Err(Error::user("INVALID_TABLE_PROPERTY", message).with_hint(
                        "add 'auth.access-key-id' and 'auth.secret-access-key', or 'auth.keys' = 'id:secret,..', or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                    ))
                }
            },
            other => Ok(other),
        }
    }
}

fn tls(options: &mut Options, table: &str) -> Result<Option<TlsFiles>> {
    match (options.text("tls.cert"), options.text("tls.key")) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert: cert.into(), key: key.into() })),
        _ => Err(Error::user(
            "INVALID_TABLE_PROPERTY",
            format!("table \"{table}\": 'tls.cert' and 'tls.key' go together"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<HttpOptions> {
        let options = [("format", "raw")].iter().chain(pairs).copied();
        let schema = Arc::new(Schema::new(vec![Field::new("raw", DataType::Utf8, true)]));
        HttpOptions::parse(&TableSpec::new("t", schema, options))
    }

    #[test]
    fn a_listener_others_can_reach_needs_credentials() {
        let open = parsed(&[("listen", "0.0.0.0:1")]).unwrap_err();
        assert!(open.message().contains("without 'auth'"), "{open}");
        assert_eq!(parsed(&[("listen", "127.0.0.1:1")]).unwrap().auth, Auth::None);
        let keys = [("listen", "0.0.0.0:1"), ("auth", "sigv4"), ("auth.keys", "a:1, b:2")];
        let Auth::SigV4(keys) = parsed(&keys).unwrap().auth else { panic!("keys") };
        assert_eq!(keys.len(), 2);
        let of_environment = parsed(&[("listen", "0.0.0.0:1"), ("auth", "sigv4")]).unwrap().auth;
        assert_eq!(of_environment, Auth::SigV4(BTreeMap::new()));
        for wrong in [("auth.access-key-id", "a"), ("auth.keys", "a")] {
            assert!(parsed(&[("listen", "0.0.0.0:1"), ("auth", "sigv4"), wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_body_that_never_has_room_in_memory_is_refused_at_once() {
        let with = |size| parsed(&[("listen", "127.0.0.1:1"), ("max-body", size)]);
        assert_eq!(with("128 MB").unwrap().max_body, 128 << 20);
        assert!(with("300 MB").unwrap_err().message().contains("at most 128 MB"));
    }

    #[test]
    fn tables_of_one_address_have_one_certificate_and_paths_of_their_own() {
        let table = |name: &str, more: &[(&str, &str)]| {
            let mut parsed = parsed(&[&[("listen", "127.0.0.1:1")], more].concat()).unwrap();
            parsed.table = name.to_owned();
            parsed
        };
        let first = table("a", &[("path", "/a"), ("stream", "a"), ("tls.cert", "c"), ("tls.key", "k")]);
        let beside = |more: &[(&str, &str)]| {
            table("b", more).check_beside(&first).err().map(|error| error.message().to_owned()).unwrap_or_default()
        };
        let tls = [("tls.cert", "c"), ("tls.key", "k")];
        let (path, stream) = (("path", "/b"), ("stream", "b"));
        assert_eq!(beside(&[path, stream, tls[0], tls[1]]), "");
        let other = beside(&[path, stream, ("tls.cert", "other"), tls[1]]);
        assert_eq!(other, "tables \"a\" and \"b\" listen on 127.0.0.1:1, with different certificates");
        assert!(beside(&[path, stream]).ends_with("with different certificates"), "plain beside TLS");
        assert!(beside(&[("path", "/a"), stream, tls[0], tls[1]]).ends_with("both at the path '/a'"));
        assert!(beside(&[path, ("stream", "a"), tls[0], tls[1]]).ends_with("both as the stream 'a'"));
    }

    #[test]
    fn names_default_to_the_table_and_secrets_are_not_shown() {
        let options = parsed(&[("listen", "127.0.0.1:1"), ("auth", "bearer"), ("auth.token", "verysecret")]).unwrap();
        assert_eq!((options.path.as_str(), options.stream.as_str()), ("/t", "t"));
        assert!(!format!("{options:?}").contains("verysecret"));
    }
}
