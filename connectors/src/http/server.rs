//! Connections: accepted up to a limit, with or without TLS, HTTP/1.1 and HTTP/2.
//!
//! Invariant: a request that was taken is answered, also while the listener closes.

use std::{
    convert::Infallible,
    io::BufReader,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use axum::body::Body;
use headwater_engine::{
    error::{Error, Result},
    time::Clock,
};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_util::sync::CancellationToken;

use super::{api, listener::Listener, options::TlsFiles, reply};

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 1024;
/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests under way have when the listener closes.
const CLOSING: Duration = Duration::from_secs(10);
/// Tries to bind a port that the attempt before may still be giving back.
const BINDS: u32 = 20;

/// Opens the port.
pub(super) async fn bind(
    address: SocketAddr,
    tls: Option<&TlsFiles>,
    clock: &Arc<dyn Clock>,
) -> Result<(TcpListener, Option<TlsAcceptor>)> {
    let acceptor = tls.map(acceptor).transpose()?;
    let mut tries = 0;
    loop {
        match TcpListener::bind(address).await {
            Ok(socket) => return Ok((socket, acceptor)),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries < BINDS => {
                tries += 1;
                clock.sleep(Duration::from_millis(100)).await;
            }
            Err(error) => {
                return Err(Error::user("ADDRESS_IN_USE", format!("cannot listen on {address}: {error}"))
                    .with_hint("stop what listens there, or choose another 'listen'"));
            }
        }
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| Error::from(error).context(format!("cannot read \"{}\"", path.display())))
    };
    let certificates = rustls_pemfile::certs(&mut BufReader::new(&read(&files.cert)?[..]))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(|error| Error::from(error).context("'tls.cert' is no PEM file"))?;
    let key = rustls_pemfile::private_key(&mut BufReader::new(&read(&files.key)?[..]))
        .map_err(|error| Error::from(error).context("'tls.key' is no PEM file"))?
        .ok_or_else(|| Error::user("INVALID_TABLE_PROPERTY", "'tls.key' holds no private key"))?;
    let refused =
        |error| Error::user("INVALID_TABLE_PROPERTY", format!("'tls.cert' and 'tls.key' are refused: {error}"));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(refused)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts until the listener closes, then lets what is under way end.
pub(super) async fn serve(
    socket: TcpListener,
    acceptor: Option<TlsAcceptor>,
    listener: Weak<Listener>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let slot = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (acceptor, listener, stop) = (acceptor.clone(), listener.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, acceptor, listener, stop).await;
            drop(slot);
        });
    }
    drop(socket);
    // Whoever is not done by then loses the connection; what was not answered may or may not have arrived.
    let _done = tokio::time::timeout(CLOSING, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    listener: Weak<Listener>,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => requests(stream, listener, stop).await,
        Some(acceptor) => match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => requests(stream, listener, stop).await,
            Ok(Err(error)) => tracing::debug!("http: a TLS handshake failed: {error}"),
            Err(_) => tracing::debug!("http: a TLS handshake took too long"),
        },
    }
}

async fn requests<S>(stream: S, listener: Weak<Listener>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let listener = listener.upgrade();
        async move {
            Ok::<_, Infallible>(match listener {
                Some(listener) => api::answer(&listener, request.map(Body::new)).await,
                None => reply::unavailable("the listener is closing"),
            })
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("http: a connection ended: {error}");
    }
}
