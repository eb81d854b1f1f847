//! IP families, transport protocols and address classes, and the lenient text forms that stored
//! Kubernetes objects may hold.
//!
//! Addresses and prefixes themselves are [`core::net`] and [`ipnet`].
//!
//! ```
//! use svcplane::net::{self, IpFamily, SpecialAddress};
//!
//! // Old objects hold IPv4 addresses with leading zeros; they are decimal, never octal.
//! let ip = net::parse_ip("172.30.0.041").unwrap();
//! assert_eq!(ip.to_string(), "172.30.0.41");
//! assert_eq!(IpFamily::of(ip), IpFamily::V4);
//!
//! // An endpoint may not be a loopback address.
//! let loopback = net::parse_ip("127.0.0.1").unwrap();
//! assert_eq!(net::special_address(loopback), Some(SpecialAddress::Loopback));
//! ```
//!
//! Parsing is O(length), the rest a few comparisons.

use alloc::string::String;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

/// IPv4 or IPv6, written as Kubernetes writes it.
#[expect(clippy::exhaustive_enums, reason = "there are two")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// `IPv4`
    V4,
    /// `IPv6`
    V6,
}

impl IpFamily {
    /// The family of an address. An IPv4-mapped IPv6 address counts as IPv6; [`parse_ip`] never yields one.
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The other family.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// `IPv4` or `IPv6`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for IpFamily {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "IPv4" => Ok(Self::V4),
            "IPv6" => Ok(Self::V6),
            _ => Err(UnknownName { expected: "IPv4 or IPv6" }),
        }
    }
}

/// A transport protocol that a Service can have.
#[expect(clippy::exhaustive_enums, reason = "the API has had these three since 1.12")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `TCP`, the default.
    #[default]
    Tcp,
    /// `UDP`
    Udp,
    /// `SCTP`
    Sctp,
}

impl Protocol {
    /// `TCP`, `UDP` or `SCTP`, as in Kubernetes objects.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// `tcp`, `udp` or `sctp`, as in rules and DNS names.
    pub const fn as_lower_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = UnknownName;

    /// Exact, upper case, as the API server has it.
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "SCTP" => Ok(Self::Sctp),
            _ => Err(UnknownName { expected: "TCP, UDP or SCTP" }),
        }
    }
}

/// The name of a network interface: 1 to 15 letters, digits and `. _ - + @`, neither `.` nor `..`. Linux would take nearly any
/// character, rules would not.
///
/// ```
/// use svcplane::net::InterfaceName;
///
/// let bridge: InterfaceName = "cni0".parse()?;
/// assert_eq!(bridge.as_str(), "cni0");
/// assert!("a-name-of-16-byte".parse::<InterfaceName>().is_err());
/// # Ok::<(), svcplane::net::ParseInterfaceNameError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName {
    /// Zeros behind the name.
    bytes: [u8; 15],
}

impl InterfaceName {
    /// `svcp-ipvs0`
    #[cfg(feature = "ipvs")]
    pub(crate) const SVCP_IPVS0: Self = Self { bytes: *b"svcp-ipvs0\0\0\0\0\0" };

    /// The name.
    pub fn as_str(&self) -> &str {
        let len = self.bytes.iter().position(|&byte| byte == 0).unwrap_or(self.bytes.len());
        core::str::from_utf8(&self.bytes[..len]).unwrap_or_default()
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for InterfaceName {
    type Err = ParseInterfaceNameError;

    fn from_str(text: &str) -> Result<Self, ParseInterfaceNameError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '@');
        let mut bytes = [0; 15];
        let room = bytes.get_mut(..text.len()).ok_or(ParseInterfaceNameError)?;
        if matches!(text, "" | "." | "..") || !text.chars().all(legal) {
            return Err(ParseInterfaceNameError);
        }
        room.copy_from_slice(text.as_bytes());
        Ok(Self { bytes })
    }
}

/// The text is not the name of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected the name of a network interface: 1 to 15 letters, digits and . _ - + @")]
#[non_exhaustive]
pub struct ParseInterfaceNameError;

/// The text names none of the values that a field may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected {expected}")]
#[non_exhaustive]
pub struct UnknownName {
    /// The values there are, in words.
    pub expected: &'static str,
}

/// A class of addresses that may be neither an endpoint nor an external IP.
///
/// Source: Kubernetes `ValidateNonSpecialIP`. Ordinary multicast and broadcast are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpecialAddress {
    /// `0.0.0.0`, `::`
    Unspecified,
    /// `127.0.0.0/8`, `::1`
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`
    LinkLocal,
    /// `224.0.0.0/24`, and IPv6 multicast of link-local scope
    LinkLocalMulticast,
}

impl fmt::Display for SpecialAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback (127.0.0.0/8, ::1/128)",
            Self::LinkLocal => "link-local (169.254.0.0/16, fe80::/10)",
            Self::LinkLocalMulticast => "link-local multicast (224.0.0.0/24, ff02::/16)",
        })
    }
}

/// The special class of an address, if it has one; of an IPv4-mapped IPv6 address, that of the IPv4 address.
pub fn special_address(ip: IpAddr) -> Option<SpecialAddress> {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let link_local_multicast = match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.octets()[0] == 0xff && v6.octets()[1] & 0x0f == 2,
    };
    if ip.is_unspecified() {
        Some(SpecialAddress::Unspecified)
    } else if ip.is_loopback() {
        Some(SpecialAddress::Loopback)
    } else if link_local {
        Some(SpecialAddress::LinkLocal)
    } else if link_local_multicast {
        Some(SpecialAddress::LinkLocalMulticast)
    } else {
        None
    }
}

/// The text is not an address in any form that a stored object may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected an IPv4 or IPv6 address without port, brackets or zone")]
#[non_exhaustive]
pub struct ParseIpError;

/// The text is not a prefix in any form that a stored object may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a CIDR such as 10.96.0.0/12 or fd00:96::/108")]
#[non_exhaustive]
pub struct ParseCidrError;

/// Reads an address as leniently as kube-proxy: leading zeros are decimal, and an IPv4-mapped
/// IPv6 address (`::ffff:1.1.1.1`) is the IPv4 address in it.
///
/// # Errors
///
/// Anything else: ports, brackets, zones, fewer than four parts.
pub fn parse_ip(text: &str) -> Result<IpAddr, ParseIpError> {
    let Some((head, tail)) = text.rsplit_once(':') else {
        return parse_ipv4(text).map(IpAddr::V4);
    };
    let ip: Ipv6Addr = if tail.contains('.') {
        let mut canonical = String::with_capacity(text.len());
        canonical.push_str(head);
        canonical.push(':');
        fmt::Write::write_fmt(&mut canonical, format_args!("{}", parse_ipv4(tail)?))
            .map_err(|_| ParseIpError)?;
        canonical.parse().map_err(|_| ParseIpError)?
    } else {
        text.parse().map_err(|_| ParseIpError)?
    };
    Ok(IpAddr::V6(ip).to_canonical())
}

/// Reads a prefix as leniently as kube-proxy: as [`parse_ip`], leading zeros in the length too, and
/// bits beyond the length are cut off (`1.2.3.4/24` is `1.2.3.0/24`). An IPv4-mapped IPv6 prefix is the IPv4
/// prefix in it, unless its length reaches out of the mapped part.
///
/// # Errors
///
/// No slash, a length that is not digits or is greater than the family's, or a bad address.
pub fn parse_cidr(text: &str) -> Result<IpNet, ParseCidrError> {
    let (ip, len) = text.split_once('/').ok_or(ParseCidrError)?;
    if len.is_empty() || !len.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseCidrError);
    }
    let len: u8 = len.parse().map_err(|_| ParseCidrError)?;
    let (ip, len) = match (parse_ip(ip).map_err(|_| ParseCidrError)?, ip.contains(':')) {
        (IpAddr::V4(mapped), true) => match len.checked_sub(96) {
            Some(len) => (IpAddr::V4(mapped), len),
            None => (IpAddr::V6(mapped.to_ipv6_mapped()), len),
        },
        (ip, _) => (ip, len),
    };
    IpNet::new(ip, len).map(|net| net.trunc()).map_err(|_| ParseCidrError)
}

/// Reads an address in the forms that all software reads alike, as the API server's strict mode has it: no leading
/// zeros, no IPv4-mapped IPv6 address. What is [`parse_ip`]'s alone is read there only.
///
/// # Errors
///
/// Anything else.
pub fn parse_ip_strict(text: &str) -> Result<IpAddr, ParseIpError> {
    let ip: IpAddr = text.parse().map_err(|_| ParseIpError)?;
    if ip == ip.to_canonical() { Ok(ip) } else { Err(ParseIpError) }
}

/// Reads a prefix in the form that all software reads alike: a [strict](parse_ip_strict) address, a length without
/// leading zeros, and no bits beyond the length.
///
/// # Errors
///
/// Anything else.
pub fn parse_cidr_strict(text: &str) -> Result<IpNet, ParseCidrError> {
    let (ip, len) = text.split_once('/').ok_or(ParseCidrError)?;
    let ip = parse_ip_strict(ip).map_err(|_| ParseCidrError)?;
    let net = parse_cidr(text)?;
    let plain = net.addr() == ip && (len == "0" || !len.starts_with('0'));
    if plain { Ok(net) } else { Err(ParseCidrError) }
}

fn parse_ipv4(text: &str) -> Result<Ipv4Addr, ParseIpError> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().ok_or(ParseIpError)?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseIpError);
        }
        *octet = part.parse().map_err(|_| ParseIpError)?;
    }
    match parts.next() {
        None => Ok(octets.into()),
        Some(_) => Err(ParseIpError),
    }
}
