//! Real servers: where a virtual server's connections go.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU16;

use thiserror::Error;

/// The identity of a real server within its virtual server.
#[expect(clippy::exhaustive_structs, reason = "the kernel has these two, and every value is legal")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealKey {
    /// Its address. The kernel refuses one that is unspecified, broadcast, multicast or, with IPv6, link-local. It may be of
    /// another family than the virtual server's only behind a [tunnel](Forwarding::Tunnel).
    pub ip: IpAddr,
    /// Its port. 0 is the one that the client called, which is for virtual servers of a mark or of all ports; with direct routing
    /// and tunnels no other is ever used.
    pub port: u16,
}

/// An IPv6 address's flow label and zone do not matter.
impl From<SocketAddr> for RealKey {
    fn from(addr: SocketAddr) -> Self {
        Self { ip: addr.ip(), port: addr.port() }
    }
}

impl From<RealKey> for SocketAddr {
    fn from(key: RealKey) -> Self {
        Self::new(key.ip, key.port)
    }
}

impl fmt::Display for RealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&SocketAddr::from(*self), f)
    }
}

/// A real server: what the kernel calls a destination. Ordered by its key.
///
/// ```
/// use svcplane::ipvs::{Forwarding, RealServer, Thresholds, Weight};
///
/// let mut pod = RealServer::new("10.1.0.1:8080".parse()?, Forwarding::Masquerade);
/// // As `ipvsadm -S -n` has it, without the virtual server.
/// assert_eq!(pod.to_string(), "-r 10.1.0.1:8080 -m -w 1");
///
/// // From 100 connections on it gets none, until it has fewer than 50.
/// pod.thresholds = Thresholds::new(50, 100)?;
/// // Nothing new for one that is to go.
/// pod.weight = Weight::ZERO;
/// assert_eq!(pod.to_string(), "-r 10.1.0.1:8080 -m -w 0 -x 100 -y 50");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct RealServer {
    /// Where it listens.
    pub key: RealKey,
    /// How packets get there.
    pub forwarding: Forwarding,
    /// Its share. Defaults to 1.
    pub weight: Weight,
    /// From how many connections on it gets none. Defaults to none.
    pub thresholds: Thresholds,
}

impl RealServer {
    /// A real server of weight 1, without thresholds.
    pub const fn new(addr: SocketAddr, forwarding: Forwarding) -> Self {
        let key = RealKey { ip: addr.ip(), port: addr.port() };
        Self { key, forwarding, weight: Weight(1), thresholds: Thresholds::NONE }
    }

    /// The same real server with another weight.
    #[must_use]
    pub const fn with_weight(self, weight: Weight) -> Self {
        Self { weight, ..self }
    }
}

/// As `ipvsadm -S -n` has it, without the `-a` and the virtual server.
///
/// `DIFFERENCE`: `ipvsadm` leaves out thresholds. It has no option for [`Local`](Forwarding::Local) and
/// [`Other`](Forwarding::Other), which print as what it takes for granted, `-g`.
impl fmt::Display for RealServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, forwarding, weight, thresholds } = self;
        let option = match forwarding {
            Forwarding::Masquerade => "-m",
            Forwarding::Tunnel(_) => "-i",
            Forwarding::Local | Forwarding::Direct | Forwarding::Other(_) => "-g",
        };
        write!(f, "-r {key} {option} -w {weight}")?;
        if let Forwarding::Tunnel(tunnel) = forwarding {
            write!(f, " {tunnel}")?;
        }
        if thresholds.upper != 0 {
            write!(f, " -x {}", thresholds.upper)?;
        }
        if thresholds.lower != 0 {
            write!(f, " -y {}", thresholds.lower)?;
        }
        Ok(())
    }
}

/// How packets get to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Forwarding {
    /// Their destination is translated, and the answers come back this way.
    Masquerade,
    /// They are delivered here, as they are by [`Direct`](Self::Direct) if the real server's address is this machine's.
    Local,
    /// They are wrapped, and the real server answers itself.
    Tunnel(Tunnel),
    /// They are sent to the real server's link address as they are, and it answers itself.
    Direct,
    /// None of these. The kernel lists it if somebody said so.
    Other(OtherForwarding),
}

/// A number of a way that no real server should have: 4 is the kernel's own, for connections that go past IPVS, and 5 to 7 mean
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherForwarding(u8);

impl OtherForwarding {
    /// A number of 4 to 7; `None` if it is another.
    pub const fn new(number: u8) -> Option<Self> {
        if matches!(number, 4..=7) { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// How packets are wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Tunnel {
    /// In IP.
    #[default]
    Ipip,
    /// In UDP, by Generic UDP Encapsulation. From Linux 5.2 on.
    Gue {
        /// The UDP port that the real server unwraps at.
        port: NonZeroU16,
        /// Whether the UDP checksum is set. From Linux 5.3 on.
        checksum: bool,
        /// Whether the inner checksum is left to the other end. From Linux 5.3 on.
        remote_checksum: bool,
    },
    /// By Generic Routing Encapsulation. From Linux 5.3 on.
    Gre {
        /// Whether its checksum is set.
        checksum: bool,
    },
}

/// As `ipvsadm` takes it: `--tun-type ipip`.
impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checksums = |checksum, remote| match (checksum, remote) {
            (false, false) => "--tun-nocsum",
            (true, false) => "--tun-csum",
            (false, true) => "--tun-remcsum",
            (true, true) => "--tun-csum --tun-remcsum",
        };
        match *self {
            Self::Ipip => f.write_str("--tun-type ipip"),
            Self::Gue { port, checksum, remote_checksum } => {
                let checksums = checksums(checksum, remote_checksum);
                write!(f, "--tun-type gue --tun-port {port} {checksums}")
            }
            Self::Gre { checksum } => {
                write!(f, "--tun-type gre {}", checksums(checksum, false))
            }
        }
    }
}

/// A real server's share, 0 to 2³¹−1, for the schedulers that heed weights. With 0 it gets nothing new, whatever the scheduler; its
/// connections go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    /// Nothing new.
    pub const ZERO: Self = Self(0);
    /// The greatest one.
    pub const MAX: Self = Self(i32::MAX.unsigned_abs());

    /// A weight; `None` if it is greater than [`MAX`](Self::MAX).
    pub const fn new(weight: u32) -> Option<Self> {
        if weight <= Self::MAX.0 { Some(Self(weight)) } else { None }
    }

    /// A weight, or the greatest one if it is greater.
    #[must_use]
    pub const fn saturating(weight: u32) -> Self {
        if weight <= Self::MAX.0 { Self(weight) } else { Self::MAX }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// From how many connections on a real server is overloaded and gets nothing new, and until when. Active and inactive ones count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thresholds {
    lower: u32,
    upper: u32,
}

impl Thresholds {
    /// Never overloaded.
    pub const NONE: Self = Self { lower: 0, upper: 0 };

    /// From `upper` connections on, unless that is 0, until there are fewer than `lower`, or than three quarters of `upper` if that
    /// is 0.
    ///
    /// # Errors
    ///
    /// The lower one is greater than the upper one.
    pub const fn new(lower: u32, upper: u32) -> Result<Self, ThresholdsError> {
        if lower <= upper {
            Ok(Self { lower, upper })
        } else {
            Err(ThresholdsError { lower, upper })
        }
    }

    /// It is overloaded until it has fewer connections than this; 0 is three quarters of the upper threshold.
    pub const fn lower(self) -> u32 {
        self.lower
    }

    /// From so many connections on it is overloaded; 0 is never.
    pub const fn upper(self) -> u32 {
        self.upper
    }
}

/// The lower threshold is greater than the upper one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the lower threshold {lower} is greater than the upper threshold {upper}")]
#[non_exhaustive]
pub struct ThresholdsError {
    /// The lower one.
    pub lower: u32,
    /// The upper one.
    pub upper: u32,
}
