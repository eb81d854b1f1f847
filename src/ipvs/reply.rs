//! What the kernel answers.

use core::fmt;

use crate::ipvs::request::{NEW_DAEMON, NEW_DEST, NEW_FAMILY, NEW_SERVICE, SET_CONFIG, SET_INFO};
use crate::ipvs::wire::{self, Attributes, Generic, Parsed, required};
use crate::ipvs::{Command, Daemon, DecodeError, RealServer, Timeouts, VirtualServer};

/// One thing that the kernel answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// The number of the family IPVS.
    Family(u16),
    /// The version of the kernel's IPVS.
    Version(Version),
    /// A virtual server.
    Virtual(ListedVirtual),
    /// A real server.
    Real(ListedReal),
    /// The timeouts.
    Timeouts(Timeouts),
    /// A daemon that runs.
    Daemon(Daemon),
    /// Something that this crate has no value for, such as a virtual server of another protocol. What is with it in a list can be
    /// read.
    Unreadable(DecodeError),
}

impl Reply {
    /// What answers a command; `None` if the number is not one of its answers.
    pub(super) fn decode(command: &Command, number: u8, attributes: &[u8]) -> Option<Self> {
        let expected = match command {
            Command::ResolveFamily => NEW_FAMILY,
            Command::ReadVersion => SET_INFO,
            Command::FindVirtual(_) | Command::ListVirtual => NEW_SERVICE,
            Command::ListReal(_) => NEW_DEST,
            Command::ReadTimeouts => SET_CONFIG,
            Command::ListDaemons => NEW_DAEMON,
            _ => return None,
        };
        if number != expected {
            return None;
        }
        Some(read(command, attributes).unwrap_or_else(Self::Unreadable))
    }

    pub(super) fn encode(&self, family: u16) -> Option<Generic> {
        let (mut attributes, mut version) = (Attributes::default(), 1);
        let to = &mut attributes;
        let command = match self {
            Self::Family(id) => {
                // The controller's own.
                version = 2;
                wire::put_family(to, *id);
                NEW_FAMILY
            }
            Self::Version(version) => {
                wire::put_version(to, *version);
                SET_INFO
            }
            Self::Virtual(listed) => {
                to.nest_unflagged(wire::SERVICE, |to| wire::put_listed_virtual(to, listed));
                NEW_SERVICE
            }
            Self::Real(listed) => {
                to.nest_unflagged(wire::DEST, |to| wire::put_listed_real(to, listed));
                NEW_DEST
            }
            Self::Timeouts(timeouts) => {
                wire::put_timeouts(to, timeouts);
                SET_CONFIG
            }
            Self::Daemon(daemon) => {
                to.nest_unflagged(wire::DAEMON, |to| wire::put_daemon(to, daemon));
                NEW_DAEMON
            }
            Self::Unreadable(_) => return None,
        };
        Some(Generic { family, command, version, attributes })
    }
}

fn read(command: &Command, attributes: &[u8]) -> Result<Reply, DecodeError> {
    let attributes = Parsed::new(attributes)?;
    let nested = |name| required(name, attributes.nested(name)?);
    Ok(match command {
        Command::ResolveFamily => Reply::Family(wire::family_id(&attributes)?),
        Command::ReadVersion => Reply::Version(wire::version(&attributes)?),
        Command::ListReal(_) => {
            Reply::Real(wire::listed_real(&nested(wire::DEST)?, command.family())?)
        }
        Command::ReadTimeouts => Reply::Timeouts(wire::timeouts(&attributes)?),
        Command::ListDaemons => Reply::Daemon(wire::daemon(&nested(wire::DAEMON)?)?),
        _ => Reply::Virtual(wire::listed_virtual(&nested(wire::SERVICE)?)?),
    })
}

/// A virtual server as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedVirtual {
    /// What it is.
    pub server: VirtualServer,
    /// What went through it.
    pub stats: Stats,
}

impl ListedVirtual {
    /// A virtual server that nothing went through.
    pub fn new(server: VirtualServer) -> Self {
        Self { server, stats: Stats::default() }
    }
}

/// A real server as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedReal {
    /// What it is.
    pub server: RealServer,
    /// How many TCP connections are established, or about to be.
    pub active: u32,
    /// How many other connections are remembered: TCP ones that have ended or are ending, and all of UDP.
    pub inactive: u32,
    /// How many clients are to come back to it. They are no connections: the counts above, and thresholds, do not have them.
    pub persistent: u32,
    /// What went to it.
    pub stats: Stats,
}

impl ListedReal {
    /// A real server that has no connections and has had none.
    pub fn new(server: RealServer) -> Self {
        Self { server, active: 0, inactive: 0, persistent: 0, stats: Stats::default() }
    }
}

/// What went through a virtual server or to a real server since it was made, or since [`Command::Zero`], and at which rate lately.
/// "In" is from clients, "out" is back to them, of which only masquerading knows.
///
/// Kernels before 4.1 count in 32 bits, all but bytes, and begin at 0 again after 2³²−1.
#[expect(clippy::exhaustive_structs, reason = "the kernel has these, in any combination")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stats {
    /// Connections.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes from clients, headers of IP included.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Connections in a second.
    pub connections_per_second: u64,
    /// Packets from clients in a second.
    pub packets_in_per_second: u64,
    /// Packets to clients in a second.
    pub packets_out_per_second: u64,
    /// Bytes from clients in a second.
    pub bytes_in_per_second: u64,
    /// Bytes to clients in a second.
    pub bytes_out_per_second: u64,
}

/// The version of the kernel's IPVS: 1.2.1 since 2005. What a kernel can do does not follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Version {
    /// Its first number.
    pub major: u8,
    /// Its second number.
    pub minor: u8,
    /// Its third number.
    pub patch: u8,
    /// How many rows the table of connections has.
    pub connection_table_size: u32,
}

impl Version {
    /// A version, with the size of the table of connections.
    pub const fn new(major: u8, minor: u8, patch: u8, connection_table_size: u32) -> Self {
        Self { major, minor, patch, connection_table_size }
    }
}

/// `1.2.1`
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
