//! Servers that say who they are and who they saw, and clients that listen to them.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use svcplane::net::Protocol;
use svcplane::plan::Packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::topology::Topology;

/// Servers, for as long as the value lives.
pub(crate) struct Servers(JoinSet<()>);

impl Servers {
    pub(crate) fn none() -> Self {
        Self(JoinSet::new())
    }

    /// Starts one, unless there is one already. To be called within a runtime.
    pub(crate) fn start(&mut self, topology: &Topology, protocol: Protocol, at: SocketAddr) {
        let home = topology.home(at.ip());
        let started = match protocol {
            Protocol::Tcp => {
                home.run(|| nonblocking(std::net::TcpListener::bind(at)?)).and_then(|listener| {
                    let listener = TcpListener::from_std(listener)?;
                    self.0.spawn(serve_tcp(listener));
                    Ok(())
                })
            }
            Protocol::Udp => home.run(|| udp(at)).and_then(|socket| {
                let socket = UdpSocket::from_std(socket)?;
                self.0.spawn(serve_udp(socket, at));
                Ok(())
            }),
            Protocol::Sctp => Ok(()),
        };
        started.unwrap_or_else(|error| panic!("{at}/{protocol}: {error}"));
    }
}

fn nonblocking(listener: std::net::TcpListener) -> io::Result<std::net::TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn udp(at: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(at)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn serve_tcp(listener: TcpListener) {
    loop {
        // A connection that is gone before it is taken is nobody's loss.
        let Ok((mut stream, peer)) = listener.accept().await else { continue };
        if let Ok(local) = stream.local_addr() {
            let _ = stream.write_all(format!("{local} {peer}").as_bytes()).await;
        }
    }
}

async fn serve_udp(socket: UdpSocket, at: SocketAddr) {
    let mut buffer = [0; 64];
    loop {
        if let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(format!("{at} {peer}").as_bytes(), peer).await;
        }
    }
}

/// What a client met.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Met {
    /// A server, and as whom it saw the client.
    Server {
        server: SocketAddr,
        client: IpAddr,
    },
    Refusal,
    Silence,
    Other(String),
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { server, client } => write!(f, "{server} saw {client}"),
            Self::Refusal => f.write_str("reject"),
            Self::Silence => f.write_str("drop"),
            Self::Other(error) => f.write_str(error),
        }
    }
}

impl Met {
    fn answer(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let read = text.split_once(' ').and_then(|(server, client)| {
            let client: SocketAddr = client.parse().ok()?;
            Some((server.parse().ok()?, client.ip()))
        });
        match read {
            Some((server, client)) => Self::Server { server, client },
            None => Self::Other(format!("the answer {text:?}")),
        }
    }

    fn error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refusal,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Sends the first packet of a new flow, and the rest of it. Silence is no answer within `patience`.
pub(crate) async fn call(topology: &Topology, packet: &Packet, patience: Duration) -> Met {
    let met = async {
        match packet.protocol {
            Protocol::Tcp => call_tcp(topology, packet).await,
            Protocol::Udp => {
                UdpClient::new(topology, packet.source, packet.destination).await?.call().await
            }
            Protocol::Sctp => Err(io::Error::other("no client for SCTP")),
        }
    };
    match timeout(patience, met).await {
        Ok(Ok(answer)) => Met::answer(&answer),
        Ok(Err(error)) => Met::error(&error),
        Err(_) => Met::Silence,
    }
}

async fn call_tcp(topology: &Topology, packet: &Packet) -> io::Result<Vec<u8>> {
    let from = SocketAddr::new(packet.source, 0);
    let socket = topology.home(packet.source).run(|| {
        let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(from)?;
        io::Result::Ok(socket)
    })?;
    let mut stream = socket.connect(packet.destination).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// A client that keeps its port.
pub(crate) struct UdpClient(UdpSocket);

impl UdpClient {
    pub(crate) async fn new(topology: &Topology, from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = topology.home(from).run(|| udp(SocketAddr::new(from, 0)))?;
        let socket = UdpSocket::from_std(socket)?;
        socket.connect(to).await?;
        Ok(Self(socket))
    }

    async fn call(&self) -> io::Result<Vec<u8>> {
        // What is refused within this kernel is so at once; what is dropped there, as well.
        match self.0.send(b"hello").await {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            sent => _ = sent?,
        }
        let mut buffer = [0; 128];
        let len = self.0.recv(&mut buffer).await?;
        Ok(buffer[..len].to_vec())
    }

    pub(crate) async fn met(&self, patience: Duration) -> Met {
        match timeout(patience, self.call()).await {
            Ok(Ok(answer)) => Met::answer(&answer),
            Ok(Err(error)) => Met::error(&error),
            Err(_) => Met::Silence,
        }
    }
}
