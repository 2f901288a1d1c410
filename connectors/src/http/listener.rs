//! Which tables a listener takes records for, and which listeners there are.
//!
//! Invariant: a table can be reached from the moment its reader is open until that reader goes; a listener without
//! tables closes its port.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use headwater_engine::{
    error::Result,
    memory::{MemoryBudget, MemoryLease},
    time::Clock,
};
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    budget::Bodies,
    log::Log,
    options::{HttpOptions, TlsFiles},
    server,
};

/// Bytes of request bodies in memory that a table adds to its listener, at most.
const BODY_BYTES_MAX: usize = 256 << 20;

/// The listeners of a session.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    by_address: Mutex<BTreeMap<SocketAddr, Weak<Listener>>>,
}

/// A table that records are sent to.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) options: HttpOptions,
    pub(super) log: Arc<Log>,
    pub(super) clock: Arc<dyn Clock>,
    /// What bodies count against.
    pub(super) memory: MemoryBudget,
}

/// An address with its tables.
#[derive(Debug)]
pub(super) struct Listener {
    endpoints: RwLock<Vec<Arc<Endpoint>>>,
    pub(super) bodies: Bodies,
    stop: CancellationToken,
}

/// A table's place in a listener; dropping it takes the table out.
#[derive(Debug)]
pub(super) struct Registration {
    listener: Arc<Listener>,
    endpoint: Arc<Endpoint>,
    /// The part of the job's memory its bodies may take.
    bodies: MemoryLease,
}

impl Listeners {
    /// Makes a table reachable, on a new port or on one that other tables have opened.
    pub(super) async fn register(&self, endpoint: Arc<Endpoint>) -> Result<Registration> {
        let address = endpoint.options.listen;
        let mut by_address = self.by_address.lock().await;
        let running = by_address.get(&address).and_then(Weak::upgrade);
        let listener = match running {
            Some(listener) => listener,
            None => {
                let listener = Listener::start(address, endpoint.options.tls.as_ref(), &endpoint.clock).await?;
                by_address.insert(address, Arc::downgrade(&listener));
                listener
            }
        };
        let mut endpoints = listener.endpoints.write();
        for other in endpoints.iter() {
            endpoint.options.check_beside(&other.options)?;
        }
        // One body of the largest size fits in any case, packed and unpacked.
        let wanted = (endpoint.memory.limit() / 8).min(BODY_BYTES_MAX);
        let bodies = endpoint.memory.buffer(wanted, 2 * endpoint.options.max_body + (4 << 10));
        listener.bodies.add(bodies.bytes());
        endpoints.push(Arc::clone(&endpoint));
        drop(endpoints);
        Ok(Registration { listener, endpoint, bodies })
    }
}

impl Listener {
    async fn start(address: SocketAddr, tls: Option<&TlsFiles>, clock: &Arc<dyn Clock>) -> Result<Arc<Self>> {
        let (socket, acceptor) = server::bind(address, tls, clock).await?;
        let listener =
            Arc::new(Self { endpoints: RwLock::default(), bodies: Bodies::default(), stop: CancellationToken::new() });
        tokio::spawn(server::serve(socket, acceptor, Arc::downgrade(&listener), listener.stop.clone()));
        Ok(listener)
    }

    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.endpoints.read().clone()
    }

    /// The table of a path.
    pub(super) fn by_path(&self, path: &str) -> Option<Arc<Endpoint>> {
        self.endpoints.read().iter().find(|endpoint| endpoint.options.path == path).cloned()
    }

    /// The table of a stream's name.
    pub(super) fn by_stream(&self, stream: &str) -> Option<Arc<Endpoint>> {
        self.endpoints.read().iter().find(|endpoint| endpoint.options.stream == stream).cloned()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.listener.endpoints.write().retain(|endpoint| !Arc::ptr_eq(endpoint, &self.endpoint));
        self.listener.bodies.remove(self.bodies.bytes());
    }
}
