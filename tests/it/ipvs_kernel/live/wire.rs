//! Clients and real servers, all in one namespace.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, set_socket_reuseaddr, socket_error};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, getpeername, socket_with,
};

use super::super::LONG;
use crate::kernel::netns::Netns;

/// The port of all real servers.
pub(super) const PORT: u16 = 8080;
/// One that nobody listens at.
pub(super) const DEAF: u16 = 8081;
/// The mark of packets to the virtual addresses.
pub(super) const MARK: u32 = 7;

/// Every address of some networks is the namespace's own: clients and real servers in `10.0.0.0/8` and `fd00::/16`, virtual servers in
/// `192.0.2.0/24` and `2001:db8::/64`.
pub(super) fn lay(netns: &Netns) {
    let v4 = "route add local 10.0.0.0/8 dev lo\nroute add local 192.0.2.0/24 dev lo\n";
    let v6 = "route add local fd00::/16 dev lo\nroute add local 2001:db8::/64 dev lo\n";
    netns.configure(v4, v6);
    netns.set(&[("ipv6/ip_nonlocal_bind", "1")]);
}

/// Marks what goes to virtual addresses.
pub(super) fn mark(netns: &Netns) {
    let rules = format!("*mangle\n-A OUTPUT -d 192.0.2.0/24 -j MARK --set-mark {MARK}\nCOMMIT\n");
    netns.tool("iptables-legacy-restore", &[], &rules);
}

/// What became of a call.
#[derive(Debug)]
pub(super) enum Called {
    /// The client's end, the real server's, and where that is.
    Accepted(TcpStream, TcpStream, SocketAddr),
    /// By a real server that does not listen, or because there is none.
    Refused,
}

/// All the real servers of a transport.
#[derive(Debug)]
pub(super) enum Servers {
    Tcp(TcpListener),
    Udp(Vec<(SocketAddr, UdpSocket)>),
}

impl Servers {
    pub(super) fn tcp(v6: bool) -> Self {
        let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { [0; 4].into() };
        let listener = TcpListener::bind((any, PORT)).expect("a listener");
        listener.set_nonblocking(true).expect("nonblocking");
        Self::Tcp(listener)
    }

    pub(super) fn udp(addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        let bound = |addr| {
            let socket = UdpSocket::bind(addr).expect("a socket");
            socket.set_nonblocking(true).expect("nonblocking");
            (addr, socket)
        };
        Self::Udp(addrs.into_iter().map(bound).collect())
    }

    /// Connects, from a client's address and port.
    ///
    /// Where there is no real server the kernel tells the client so, which may still be calling and not listen: it would call again after a second,
    /// and be scheduled again. So if it is to be refused, it does not wait.
    pub(super) fn call(
        &self,
        client: SocketAddr,
        to: SocketAddr,
        arrives: bool,
    ) -> Result<Called, String> {
        let Self::Tcp(listener) = self else { return Err("no TCP".to_owned()) };
        let family = if client.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let opened = || -> rustix::io::Result<OwnedFd> {
            let fd = socket_with(family, SocketType::STREAM, flags, None)?;
            set_socket_reuseaddr(&fd, true)?;
            bind(&fd, &client)?;
            match connect(&fd, &to) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
                Err(errno) => Err(errno),
            }
        };
        let fd = opened().map_err(|errno| format!("{client}: {errno}"))?;
        let look = || {
            let error = socket_error(&fd).map_err(|errno| errno.to_string())?;
            match error {
                Ok(()) => Ok(getpeername(&fd).is_ok().then_some(true)),
                Err(Errno::CONNREFUSED) => Ok(Some(false)),
                Err(errno) => Err(format!("{client} to {to}: {errno}")),
            }
        };
        let called = if arrives { until(look)? } else { look()? };
        if called != Some(true) {
            return Ok(Called::Refused);
        }
        let stream = TcpStream::from(fd);
        stream.set_nonblocking(false).map_err(|error| error.to_string())?;
        let (accepted, from) = until(|| attempt(listener.accept()))?.ok_or("nobody accepts")?;
        if from != client {
            return Err(format!("{from} is accepted instead of {client}"));
        }
        let server = accepted.local_addr().map_err(|error| error.to_string())?;
        Ok(Called::Accepted(stream, accepted, server))
    }

    /// Sends a datagram; which real server it came to. If it is to come to none, it is not waited for: should it come all the same,
    /// it is in the way of the next one.
    pub(super) fn send(
        &self,
        client: SocketAddr,
        to: SocketAddr,
        text: &str,
        arrives: bool,
    ) -> Result<Option<SocketAddr>, String> {
        let Self::Udp(servers) = self else { return Err("no UDP".to_owned()) };
        let socket = UdpSocket::bind(client).map_err(|error| format!("{client}: {error}"))?;
        match socket.send_to(text.as_bytes(), to) {
            // It is told at once that there is none.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
            sent => _ = sent.map_err(|error| format!("{to}: {error}"))?,
        }
        let look = || {
            let mut buffer = [0; 64];
            for (addr, server) in servers {
                if let Some((len, from)) = attempt(server.recv_from(&mut buffer))? {
                    let got = String::from_utf8_lossy(&buffer[..len]).into_owned();
                    if (got.as_str(), from) != (text, client) {
                        return Err(format!("{got:?} of {from} instead of {text:?} of {client}"));
                    }
                    return Ok(Some(*addr));
                }
            }
            Ok(None)
        };
        if arrives { until(look) } else { look() }
    }
}

/// How an end of a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
    Reset,
    /// The client says no more, but listens.
    Half,
}

/// Ends a connection; what is left of it.
pub(super) fn end(
    how: End,
    (client, mut server): (TcpStream, TcpStream),
) -> Result<Option<(TcpStream, TcpStream)>, String> {
    let said = |error: io::Error| error.to_string();
    let awaited = |stream: &mut TcpStream| -> Result<(), String> {
        stream.set_read_timeout(Some(LONG)).map_err(said)?;
        match stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err("somebody speaks".to_owned()),
            // A segment that was sent twice on a busy machine: it has ended all the same.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(said(error)),
        }
    };
    match how {
        End::Client | End::Half => {
            client.shutdown(std::net::Shutdown::Write).map_err(said)?;
            awaited(&mut server)?;
            if how == End::Half {
                return Ok(Some((client, server)));
            }
            drop(server);
            let mut client = client;
            awaited(&mut client)?;
        }
        End::Server => {
            server.shutdown(std::net::Shutdown::Write).map_err(said)?;
            let mut client = client;
            awaited(&mut client)?;
            drop(client);
            awaited(&mut server)?;
        }
        End::Reset => {
            set_socket_linger(&client, Some(Duration::ZERO)).map_err(|errno| errno.to_string())?;
            drop(client);
        }
    }
    Ok(None)
}

fn attempt<T>(result: io::Result<T>) -> Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Looks until there is something. The kernel may have put off what it does for a moment.
pub(super) fn until<T>(
    mut look: impl FnMut() -> Result<Option<T>, String>,
) -> Result<Option<T>, String> {
    let began = Instant::now();
    loop {
        let found = look()?;
        if found.is_some() || began.elapsed() > Duration::from_secs(3) {
            return Ok(found);
        }
        std::thread::yield_now();
    }
}
