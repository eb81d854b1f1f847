//! Virtual servers: what clients call, and how their connections are scheduled.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::num::NonZeroU32;
use core::time::Duration;

use thiserror::Error;

use crate::ipvs::{EngineName, SchedulerName};
use crate::net::{IpFamily, Protocol};
use crate::sched;

/// Which packets a virtual server is for: its identity.
///
/// Prints as `ipvsadm` takes it: `-t 10.96.0.10:80`, `-f 7 -6`.
#[expect(clippy::exhaustive_enums, reason = "the kernel has these two, and every value is legal")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VirtualKey {
    /// Those of a protocol to an address and port.
    Address {
        /// The protocol.
        protocol: Protocol,
        /// The address.
        ip: IpAddr,
        /// The port. With 0, those to all ports that have no virtual server of their own; only a persistent one schedules then.
        port: u16,
    },
    /// Those that a firewall has marked so.
    Mark {
        /// The mark.
        mark: NonZeroU32,
        /// The family of the packets.
        family: IpFamily,
    },
}

impl VirtualKey {
    /// The packets of a protocol to an address and port. An IPv6 address's flow label and zone do not matter.
    pub const fn new(protocol: Protocol, addr: SocketAddr) -> Self {
        Self::Address { protocol, ip: addr.ip(), port: addr.port() }
    }

    /// The TCP connections to an address and port.
    pub const fn tcp(addr: SocketAddr) -> Self {
        Self::new(Protocol::Tcp, addr)
    }

    /// The UDP datagrams to an address and port.
    pub const fn udp(addr: SocketAddr) -> Self {
        Self::new(Protocol::Udp, addr)
    }

    /// The packets with a firewall's mark.
    pub const fn mark(mark: NonZeroU32, family: IpFamily) -> Self {
        Self::Mark { mark, family }
    }

    /// The family of the packets.
    pub const fn family(&self) -> IpFamily {
        match *self {
            Self::Address { ip, .. } => IpFamily::of(ip),
            Self::Mark { family, .. } => family,
        }
    }
}

impl fmt::Display for VirtualKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address { protocol, ip, port } => {
                let option = match protocol {
                    Protocol::Tcp => "-t",
                    Protocol::Udp => "-u",
                    Protocol::Sctp => "--sctp-service",
                };
                write!(f, "{option} {}", SocketAddr::new(ip, port))
            }
            Self::Mark { mark, family: IpFamily::V4 } => write!(f, "-f {mark}"),
            Self::Mark { mark, family: IpFamily::V6 } => write!(f, "-f {mark} -6"),
        }
    }
}

/// A virtual server: what the kernel calls a service. Ordered by its key.
///
/// ```
/// use svcplane::ipvs::{Netmask, Persistence, Seconds, VirtualKey, VirtualServer};
///
/// let key = VirtualKey::tcp("10.96.0.10:80".parse()?);
/// let mut web = VirtualServer::new(key, "rr".parse()?).persistent(Seconds(10_800));
/// // As `ipvsadm -S -n` has it, without the `-A`.
/// assert_eq!(web.to_string(), "-t 10.96.0.10:80 -s rr -p 10800");
///
/// // Clients of one /24 go to one server.
/// web.set_persistence(Some(Persistence::new(Seconds(360), Netmask::v4(24)?)))?;
/// assert_eq!(web.to_string(), "-t 10.96.0.10:80 -s rr -p 360 -M 255.255.255.0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct VirtualServer {
    key: VirtualKey,
    /// Of the key's family.
    persistence: Option<Persistence>,
    /// How connections are scheduled.
    pub scheduler: SchedulerName,
    /// What the scheduler is told. Defaults to nothing.
    pub flags: SchedulerFlags,
    /// Whether each datagram is scheduled by itself; UDP only, else it is not heeded. Defaults to false.
    pub one_packet: bool,
    /// What tells clients apart, if not their addresses. Defaults to none.
    pub engine: Option<EngineName>,
}

impl VirtualServer {
    /// A virtual server without persistence.
    pub const fn new(key: VirtualKey, scheduler: SchedulerName) -> Self {
        let flags = SchedulerFlags { fallback: false, port: false, third: false };
        Self { key, persistence: None, scheduler, flags, one_packet: false, engine: None }
    }

    /// The same virtual server, which keeps each client with its real server until it has not connected for so long.
    #[must_use]
    pub const fn persistent(self, timeout: Seconds) -> Self {
        let netmask = Netmask::host(self.key.family());
        Self { persistence: Some(Persistence::new(timeout, netmask)), ..self }
    }

    /// Which packets it is for.
    pub const fn key(&self) -> VirtualKey {
        self.key
    }

    /// How clients keep to their real servers, if they do.
    pub const fn persistence(&self) -> Option<Persistence> {
        self.persistence
    }

    /// Sets how clients keep to their real servers.
    ///
    /// # Errors
    ///
    /// The netmask is of the other family. Nothing is changed then.
    pub fn set_persistence(
        &mut self,
        persistence: Option<Persistence>,
    ) -> Result<(), MismatchedNetmask> {
        let expected = self.key.family();
        if persistence.is_some_and(|persistence| persistence.netmask.family() != expected) {
            return Err(MismatchedNetmask { expected });
        }
        self.persistence = persistence;
        Ok(())
    }
}

/// As `ipvsadm -S -n` has it, without the `-A`.
impl fmt::Display for VirtualServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -s {}", self.key, self.scheduler)?;
        if let Some(Persistence { timeout, netmask }) = self.persistence {
            write!(f, " -p {timeout}")?;
            if netmask != Netmask::host(netmask.family()) {
                write!(f, " -M {netmask}")?;
            }
        }
        if let Some(engine) = self.engine {
            write!(f, " --pe {engine}")?;
        }
        if self.one_packet {
            f.write_str(" -o")?;
        }
        let names = match self.scheduler.as_str() {
            "sh" => ["sh-fallback", "sh-port", "flag-3"],
            "mh" => ["mh-fallback", "mh-port", "flag-3"],
            _ => ["flag-1", "flag-2", "flag-3"],
        };
        let set = [self.flags.fallback, self.flags.port, self.flags.third];
        let mut before = " -b ";
        for (name, _) in names.iter().zip(set).filter(|(_, set)| *set) {
            write!(f, "{before}{name}")?;
            before = ",";
        }
        Ok(())
    }
}

/// Flags that a scheduler may give a meaning: `sh` and `mh` do, to the first two.
#[expect(clippy::exhaustive_structs, reason = "the kernel has these three, in any combination")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchedulerFlags {
    /// The first, `sh-fallback` and `mh-fallback`: another real server is looked for where the chosen one takes nothing new.
    pub fallback: bool,
    /// The second, `sh-port` and `mh-port`: the client's port counts as well as its address.
    pub port: bool,
    /// The third, to which no scheduler gives a meaning.
    pub third: bool,
}

impl From<sched::Flags> for SchedulerFlags {
    fn from(flags: sched::Flags) -> Self {
        Self { fallback: flags.fallback, port: flags.port, third: false }
    }
}

/// How clients keep to their real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Persistence {
    /// For how long after its last new connection a client is remembered.
    pub timeout: Seconds,
    /// Which clients are remembered as one.
    pub netmask: Netmask,
}

impl Persistence {
    /// Persistence with a timeout, for the clients that agree in a netmask.
    pub const fn new(timeout: Seconds, netmask: Netmask) -> Self {
        Self { timeout, netmask }
    }
}

/// A timeout in whole seconds, of which the kernel takes any number.
///
/// It counts in ticks, of which there are 100 to 1000 a second, and a number of seconds that makes 2³² ticks or more wraps around:
/// what is sure to hold is up to 4,294,967, 49 days. `ipvsadm` takes 1 to 2,678,400, 31 days.
#[expect(clippy::exhaustive_structs, reason = "every number is legal")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub u32);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        Self::from_secs(seconds.0.into())
    }
}

/// A part of a second counts as a whole one, and what is too long as [`u32::MAX`].
impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Self {
        let whole = duration.as_secs().saturating_add((duration.subsec_nanos() > 0).into());
        Self(u32::try_from(whole).unwrap_or(u32::MAX))
    }
}

/// Which of a client's address counts: those that agree in it are one client.
///
/// Prints as the option `-M` of `ipvsadm` takes it: IPv4 as a mask, IPv6 as a length.
///
/// ```
/// use svcplane::ipvs::Netmask;
///
/// assert_eq!(Netmask::v4(24)?.to_string(), "255.255.255.0");
/// assert_eq!(Netmask::v6(64)?.to_string(), "64");
/// // All IPv4 clients can be as one, all IPv6 clients cannot.
/// assert!(Netmask::v4(0).is_ok() && Netmask::v6(0).is_err());
/// # Ok::<(), svcplane::ipvs::NetmaskError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Netmask(Bits);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Bits {
    V4(Ipv4Addr),
    /// 1 to 128.
    V6(u8),
}

impl Netmask {
    /// Each client for itself: all bits count.
    pub const fn host(family: IpFamily) -> Self {
        match family {
            IpFamily::V4 => Self(Bits::V4(Ipv4Addr::BROADCAST)),
            IpFamily::V6 => Self(Bits::V6(128)),
        }
    }

    /// So many leading bits of an IPv4 address.
    ///
    /// # Errors
    ///
    /// There are 0 to 32.
    pub const fn v4(prefix_len: u8) -> Result<Self, NetmaskError> {
        match prefix_len {
            0 => Ok(Self(Bits::V4(Ipv4Addr::UNSPECIFIED))),
            1..=32 => Ok(Self(Bits::V4(Ipv4Addr::from_bits(u32::MAX << (32 - prefix_len))))),
            _ => Err(NetmaskError { family: IpFamily::V4, prefix_len }),
        }
    }

    /// So many leading bits of an IPv6 address.
    ///
    /// # Errors
    ///
    /// There are 1 to 128; the kernel refuses 0.
    pub const fn v6(prefix_len: u8) -> Result<Self, NetmaskError> {
        match prefix_len {
            1..=128 => Ok(Self(Bits::V6(prefix_len))),
            _ => Err(NetmaskError { family: IpFamily::V6, prefix_len }),
        }
    }

    /// Any bits of an IPv4 address: the kernel takes masks with gaps, too.
    pub const fn from_mask(mask: Ipv4Addr) -> Self {
        Self(Bits::V4(mask))
    }

    /// The family of the clients.
    pub const fn family(self) -> IpFamily {
        match self.0 {
            Bits::V4(_) => IpFamily::V4,
            Bits::V6(_) => IpFamily::V6,
        }
    }

    /// How many leading bits count; `None` for a mask with gaps.
    pub const fn prefix_len(self) -> Option<u8> {
        match self.0 {
            Bits::V4(mask) => {
                let ones = mask.to_bits().leading_ones();
                let whole = ones == mask.to_bits().count_ones();
                #[expect(clippy::cast_possible_truncation, reason = "at most 32")]
                if whole { Some(ones as u8) } else { None }
            }
            Bits::V6(prefix_len) => Some(prefix_len),
        }
    }

    /// The number that stands for it in a message.
    pub(super) fn to_wire(self) -> [u8; 4] {
        match self.0 {
            Bits::V4(mask) => mask.octets(),
            Bits::V6(prefix_len) => u32::from(prefix_len).to_ne_bytes(),
        }
    }
}

impl fmt::Display for Netmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Bits::V4(mask) => fmt::Display::fmt(&mask, f),
            Bits::V6(prefix_len) => fmt::Display::fmt(&prefix_len, f),
        }
    }
}

/// An address does not have so many bits that could count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a netmask of {prefix_len} bits of an {family} address: expected 0 to 32 for IPv4, 1 to 128 for IPv6"
)]
#[non_exhaustive]
pub struct NetmaskError {
    /// The family.
    pub family: IpFamily,
    /// How many bits were asked for.
    pub prefix_len: u8,
}

/// A netmask is of another family than the virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the netmask is of the other family: expected one for {expected}")]
#[non_exhaustive]
pub struct MismatchedNetmask {
    /// The virtual server's family.
    pub expected: IpFamily,
}
