//! The backends that the program was told last.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::Extensions;
use pingora_core::Result;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_load_balancing::discovery::ServiceDiscovery;
use svcplane::backend::Backend;

/// A list of backends that somebody keeps up to date: from a watch, a file, an endpoint set. Clones share it. A change is taken up by the
/// next `LoadBalancer::update`, which runs each `update_frequency` where the load balancer is a background service.
#[derive(Clone, Debug, Default)]
pub struct Listed(Arc<Mutex<Vec<Backend>>>);

impl Listed {
    /// From now on these are the backends.
    pub fn set(&self, backends: impl IntoIterator<Item = Backend>) {
        let backends = backends.into_iter().collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = backends;
    }
}

#[async_trait]
impl ServiceDiscovery for Listed {
    async fn discover(
        &self,
    ) -> Result<(BTreeSet<pingora_load_balancing::Backend>, HashMap<u64, bool>)> {
        let backends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = |backend: &Backend| pingora_load_balancing::Backend {
            addr: SocketAddr::Inet(backend.addr),
            weight: backend.weight as usize,
            ext: Extensions::new(),
        };
        // All are enabled.
        Ok((backends.iter().map(theirs).collect(), HashMap::new()))
    }
}
