//! One socket for each address, port and protocol of the plan.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use svcplane::net::{IpFamily, Protocol};
use svcplane::plan::{Plan, ServicePortName};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::task::JoinHandle;

use crate::shared::Shared;
use crate::{tcp, udp};

/// Ports below 1024 move up by so many where they may not be bound.
const MOVE: u16 = 10_000;

/// A socket, for the table.
pub(crate) struct Listening {
    pub(crate) wanted: SocketAddr,
    pub(crate) protocol: Protocol,
    /// Where it really is; `None` if it could not be bound.
    pub(crate) bound: Option<SocketAddr>,
    pub(crate) name: ServicePortName,
    pub(crate) backends: usize,
    pub(crate) note: String,
}

#[derive(Default)]
pub(crate) struct Listeners(BTreeMap<Key, Listener>);

type Key = (SocketAddr, Protocol);

struct Listener {
    bound: Option<SocketAddr>,
    note: String,
    task: Option<JoinHandle<()>>,
}

impl Listeners {
    /// Opens what the plan adds and closes what it no longer has. Open connections live on.
    pub(crate) async fn update(&mut self, shared: &Arc<Shared>) -> Vec<Listening> {
        let mut wanted = wanted(&shared.plan());
        wanted.sort_by(|a, b| (&a.name, a.wanted).cmp(&(&b.name, b.wanted)));
        let keys: BTreeSet<Key> = wanted.iter().map(|w| (w.wanted, w.protocol)).collect();
        let before = std::mem::take(&mut self.0);
        for (key, listener) in before {
            // One that could not be bound is tried again; what goes makes room first.
            if keys.contains(&key) && listener.bound.is_some() {
                self.0.insert(key, listener);
            } else {
                listener.stop().await;
            }
        }
        // Those that may have to move come last, so that they take no place from one that stays.
        for &key in keys.iter().filter(|(addr, _)| addr.port() >= 1024) {
            self.open(shared, key, &keys).await;
        }
        for &key in keys.iter().filter(|(addr, _)| addr.port() < 1024) {
            self.open(shared, key, &keys).await;
        }
        for socket in &mut wanted {
            if let Some(listener) = self.0.get(&(socket.wanted, socket.protocol)) {
                socket.bound = listener.bound;
                socket.note.clone_from(&listener.note);
            }
        }
        wanted
    }

    async fn open(&mut self, shared: &Arc<Shared>, key: Key, keys: &BTreeSet<Key>) {
        if let Entry::Vacant(vacant) = self.0.entry(key) {
            vacant.insert(open(shared, key, keys).await);
        }
    }

    /// Closes all; open TCP connections live on.
    pub(crate) async fn stop(self) {
        for listener in self.0.into_values() {
            listener.stop().await;
        }
    }
}

impl Listener {
    /// Returns when the socket is closed.
    async fn stop(self) {
        if let Some(task) = self.task {
            task.abort();
            let _ = task.await;
        }
    }
}

fn wanted(plan: &Plan) -> Vec<Listening> {
    let mut sockets = Vec::new();
    for port in plan.ports() {
        for frontend in &port.frontends {
            let node = match port.family {
                IpFamily::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpFamily::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            sockets.push(Listening {
                wanted: SocketAddr::new(frontend.ip.unwrap_or(node), frontend.port),
                protocol: port.name.protocol,
                bound: None,
                name: port.name.clone(),
                backends: port.cluster.backends.len().max(port.local.backends.len()),
                note: String::new(),
            });
        }
    }
    sockets
}

async fn open(shared: &Arc<Shared>, (wanted, protocol): Key, keys: &BTreeSet<Key>) -> Listener {
    let mut note = String::new();
    let mut result = bind(shared, wanted, wanted, protocol).await;
    let denied =
        result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    if denied && wanted.port() < 1024 {
        let moved = SocketAddr::new(wanted.ip(), wanted.port() + MOVE);
        note = format!("moved from port {}, which needs privilege", wanted.port());
        result = if keys.contains(&(moved, protocol)) {
            Err(io::Error::other(format!("needs privilege, and {moved} is another Service port's")))
        } else {
            bind(shared, moved, wanted, protocol).await
        };
    }
    match result {
        Ok((bound, task)) => Listener { bound: Some(bound), note, task: Some(task) },
        Err(error) => {
            let why = match error.kind() {
                io::ErrorKind::AddrNotAvailable => {
                    "this machine does not have the address".to_owned()
                }
                _ => error.to_string(),
            };
            Listener { bound: None, note: format!("{wanted} is not bound: {why}"), task: None }
        }
    }
}

/// Binds a socket; flows count as addressed to `wanted`, wherever that is.
async fn bind(
    shared: &Arc<Shared>,
    addr: SocketAddr,
    wanted: SocketAddr,
    protocol: Protocol,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    match protocol {
        Protocol::Tcp => {
            let listener = listen(addr)?;
            let bound = listener.local_addr()?;
            Ok((bound, tokio::spawn(tcp::serve(Arc::clone(shared), listener, wanted))))
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind(addr).await?;
            let bound = socket.local_addr()?;
            Ok((bound, tokio::spawn(udp::serve(Arc::clone(shared), socket, wanted))))
        }
        Protocol::Sctp => Err(io::Error::new(io::ErrorKind::Unsupported, "SCTP is not proxied")),
    }
}

/// As [`TcpListener::bind`], but for more clients at once than its 128: whoever finds the queue full tries again after a second.
fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    /// The kernel takes net.core.somaxconn if that is less.
    const QUEUE: u32 = 4096;
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(QUEUE)
}
