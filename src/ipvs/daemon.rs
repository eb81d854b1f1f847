//! What a network namespace has once: timeouts, and the daemons that tell other machines of its connections.

use core::fmt;
use core::net::IpAddr;
use core::num::{NonZeroU8, NonZeroU16, NonZeroU32};

use crate::net::InterfaceName;

/// For how many seconds connections are remembered that say no more. `None` leaves one as it is, and is a protocol that the kernel
/// does not have.
///
/// Prints as `ipvsadm --set` takes it: `900 120 300`.
#[expect(clippy::exhaustive_structs, reason = "the kernel has these three, in any combination")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeouts {
    /// Established TCP connections: 900 at first. The greatest that every kernel takes is 2,147,483.
    pub tcp: Option<NonZeroU32>,
    /// TCP connections of which one end has closed: 120 at first.
    pub tcp_fin: Option<NonZeroU32>,
    /// UDP flows: 300 at first.
    pub udp: Option<NonZeroU32>,
}

impl fmt::Display for Timeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [tcp, tcp_fin, udp] =
            [self.tcp, self.tcp_fin, self.udp].map(|timeout| timeout.map_or(0, NonZeroU32::get));
        write!(f, "{tcp} {tcp_fin} {udp}")
    }
}

/// A daemon of the kernel that shares connections with other machines by multicast, so that one of them can go on where this one
/// ends.
///
/// Prints as `ipvsadm --start-daemon` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Daemon {
    /// Whether it tells or listens.
    pub role: DaemonRole,
    /// The interface that it does so at.
    pub interface: InterfaceName,
    /// What its messages are numbered with. One that listens with 0 heeds all numbers.
    pub sync_id: u8,
    /// The length of a message, at most. Defaults to the kernel's, which follows from the interface.
    pub max_len: Option<NonZeroU16>,
    /// The multicast group. Defaults to the kernel's, 224.0.0.81.
    pub group: Option<IpAddr>,
    /// The UDP port. Defaults to the kernel's, 8848.
    pub port: Option<NonZeroU16>,
    /// How far its messages go. Defaults to the kernel's, 1.
    pub ttl: Option<NonZeroU8>,
}

impl Daemon {
    /// A daemon with the kernel's defaults.
    pub const fn new(role: DaemonRole, interface: InterfaceName, sync_id: u8) -> Self {
        Self { role, interface, sync_id, max_len: None, group: None, port: None, ttl: None }
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, interface, sync_id, max_len, group, port, ttl } = self;
        write!(f, "{role} --mcast-interface {interface} --syncid {sync_id}")?;
        if let Some(max_len) = max_len {
            write!(f, " --sync-maxlen {max_len}")?;
        }
        if let Some(group) = group {
            write!(f, " --mcast-group {group}")?;
        }
        if let Some(port) = port {
            write!(f, " --mcast-port {port}")?;
        }
        if let Some(ttl) = ttl {
            write!(f, " --mcast-ttl {ttl}")?;
        }
        Ok(())
    }
}

/// Whether a daemon tells or listens. There can be one of each.
#[expect(clippy::exhaustive_enums, reason = "there are two")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DaemonRole {
    /// It tells of this machine's connections.
    Master,
    /// It listens to another machine's.
    Backup,
}

impl DaemonRole {
    /// `master` or `backup`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
        }
    }
}

impl fmt::Display for DaemonRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
