//! UDP: a session for each client, until it has been silent for a while or its backend goes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use svcplane::backend::BackendId;
use svcplane::net::Protocol;
use svcplane::plan::{Packet, Verdict};
use svcplane::sync::Lease;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use crate::shared::Shared;

/// A client that was silent for so long is a new one.
const IDLE: Duration = Duration::from_secs(30);
/// At most so many sessions a socket; then the one that has been silent longest ends.
const SESSIONS: usize = 4096;
const LARGEST: usize = 65_535;

pub(crate) async fn serve(shared: Arc<Shared>, socket: UdpSocket, destination: SocketAddr) {
    let mut port = Port { shared, socket: Arc::new(socket), destination, sessions: HashMap::new() };
    let mut buffer = vec![0; LARGEST];
    let mut sweep = interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            received = port.socket.recv_from(&mut buffer) => {
                // An error here is a client that went away: there is nobody to tell.
                if let Ok((length, client)) = received {
                    port.datagram(client, &buffer[..length]).await;
                }
            }
            _ = sweep.tick() => port.sessions.retain(|_, session| !session.ended()),
        }
    }
}

struct Port {
    shared: Arc<Shared>,
    socket: Arc<UdpSocket>,
    destination: SocketAddr,
    sessions: HashMap<SocketAddr, Session>,
}

struct Session {
    socket: Arc<UdpSocket>,
    backend: BackendId,
    addr: SocketAddr,
    /// The plan under which the backend was last found good.
    generation: u64,
    state: Arc<State>,
    replies: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// When the client last sent something, nanoseconds.
    last_sent: AtomicU64,
    /// The backend refused a datagram.
    failed: AtomicBool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.replies.abort();
    }
}

impl Session {
    fn ended(&self) -> bool {
        self.replies.is_finished()
    }
}

impl Port {
    async fn datagram(&mut self, client: SocketAddr, data: &[u8]) {
        let mut tried = Vec::new();
        // A backend that refuses is found out by the datagram after; each is tried once.
        loop {
            if !self.current(client, &mut tried) && !self.open(client, &mut tried).await {
                return;
            }
            // Not there if its backend cannot be reached: then the next is tried.
            let Some(session) = self.sessions.get(&client) else { continue };
            session.state.last_sent.store(self.shared.now().as_nanos(), Ordering::Relaxed);
            match session.socket.send(data).await {
                Ok(_) => return,
                Err(_) => session.state.failed.store(true, Ordering::Relaxed),
            }
        }
    }

    /// Whether the client has a session whose backend is still good. A session that is not is ended.
    fn current(&mut self, client: SocketAddr, tried: &mut Vec<BackendId>) -> bool {
        let Some(session) = self.sessions.get_mut(&client) else { return false };
        let failed = session.state.failed.load(Ordering::Relaxed);
        if failed {
            tried.push(session.backend);
        }
        let generation = self.shared.generation();
        let mut good = !failed && !session.ended();
        if good && session.generation != generation {
            let packet = Packet::new(Protocol::Udp, client.ip(), self.destination);
            good = matches!(self.shared.plan().route(&packet),
                Verdict::Forward(route) if route.backends.iter().any(|b| b.addr == session.addr));
            session.generation = generation;
        }
        if !good {
            self.sessions.remove(&client);
        }
        good
    }

    /// Opens a session, or notes a backend that cannot be reached as tried. False if there is none left.
    async fn open(&mut self, client: SocketAddr, tried: &mut Vec<BackendId>) -> bool {
        let generation = self.shared.generation();
        let packet = Packet::new(Protocol::Udp, client.ip(), self.destination);
        let destination = self.destination;
        let lease = match self.shared.pick(&packet, client, tried) {
            Ok(lease) => lease,
            Err(why) => {
                self.report(|| format!("udp {client} -> {destination}: {why}"));
                return false;
            }
        };
        let (backend, addr) = (lease.backend(), lease.addr());
        let socket = match self.dial(addr).await {
            Ok(socket) => Arc::new(socket),
            Err(error) => {
                self.report(|| format!("udp {client} -> {destination} -> {addr}: {error}"));
                tried.push(backend);
                return true;
            }
        };
        self.report(|| format!("udp {client} -> {destination} -> {addr}"));
        if self.sessions.len() >= SESSIONS {
            let last_sent = |session: &Session| session.state.last_sent.load(Ordering::Relaxed);
            let silent = self.sessions.iter().min_by_key(|(_, session)| last_sent(session));
            if let Some(silent) = silent.map(|(&client, _)| client) {
                self.sessions.remove(&silent);
            }
        }
        let state = Arc::new(State::default());
        let replies = tokio::spawn(replies(
            Arc::clone(&self.shared),
            lease,
            (Arc::clone(&socket), Arc::clone(&self.socket)),
            client,
            Arc::clone(&state),
        ));
        let session = Session { socket, backend, addr, generation, state, replies };
        self.sessions.insert(client, session);
        true
    }

    async fn dial(&self, addr: SocketAddr) -> io::Result<UdpSocket> {
        if self.shared.options.demo && !addr.ip().is_loopback() {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let any: SocketAddr = match addr {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(addr).await?;
        Ok(socket)
    }

    fn report(&self, text: impl FnOnce() -> String) {
        if self.shared.options.verbose {
            println!("{}", text());
        }
    }
}

/// Carries replies back until both sides have been silent for a while or the backend refuses. The lease is
/// released with it.
async fn replies(
    shared: Arc<Shared>,
    _lease: Lease,
    (backend, clients): (Arc<UdpSocket>, Arc<UdpSocket>),
    client: SocketAddr,
    state: Arc<State>,
) {
    loop {
        match timeout(IDLE, backend.readable()).await {
            Ok(Ok(())) => match receive(&backend) {
                Ok(data) => {
                    let _ = clients.send_to(&data, client).await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    state.failed.store(true, Ordering::Relaxed);
                    return;
                }
            },
            Ok(Err(_)) => return,
            Err(_) => {
                let sent =
                    svcplane::time::Instant::from_nanos(state.last_sent.load(Ordering::Relaxed));
                if shared.now().saturating_duration_since(sent) >= IDLE {
                    return;
                }
            }
        }
    }
}

/// One datagram. The buffer for the largest is the thread's, not the session's.
fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    thread_local!(static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LARGEST]));
    BUFFER.with_borrow_mut(|buffer| socket.try_recv(buffer).map(|length| buffer[..length].to_vec()))
}
