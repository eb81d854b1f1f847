//! Records, and the kinds of them.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::Name;

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Record<'a> {
    /// Whose it is. That of an answer is the question's name, as it was written there.
    pub name: Name<'a>,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: RecordData<'a>,
}

impl<'a> Record<'a> {
    pub(super) const fn new(name: Name<'a>, ttl: u32, data: RecordData<'a>) -> Self {
        Self { name, ttl, data }
    }
}

impl fmt::Display for Record<'_> {
    /// As in a zone file: `redis.default.svc.cluster.local. 5 IN A 10.96.0.10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} IN {} {}", self.name, self.ttl, self.data.kind(), self.data)
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordData<'a> {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// The name that this one is an alias of.
    Cname(Name<'a>),
    /// The name of an address, where the record's own name is the address.
    Ptr(Name<'a>),
    /// A name server of the zone.
    Ns(Name<'a>),
    /// Where a service is: of targets of one priority each gets a part as its weight says. This crate's have priority 0.
    Srv {
        /// 1 to 100.
        weight: u16,
        /// The port.
        port: u16,
        /// The name that has the addresses.
        target: Name<'a>,
    },
    /// A text.
    Txt(&'a str),
    /// The zone itself.
    Soa(Soa<'a>),
}

impl RecordData<'_> {
    /// Which kind of record it is.
    pub const fn kind(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::Aaaa,
            Self::Cname(_) => RecordType::Cname,
            Self::Ptr(_) => RecordType::Ptr,
            Self::Ns(_) => RecordType::Ns,
            Self::Srv { .. } => RecordType::Srv,
            Self::Txt(_) => RecordType::Txt,
            Self::Soa(_) => RecordType::Soa,
        }
    }

    /// How many bytes it takes on the wire, without the length before it and without compression.
    pub const fn wire_len(&self) -> usize {
        match self {
            Self::A(_) => 4,
            Self::Aaaa(_) => 16,
            Self::Cname(name) | Self::Ptr(name) | Self::Ns(name) => name.wire_len(),
            Self::Srv { target, .. } => 6 + target.wire_len(),
            Self::Txt(text) => 1 + text.len(),
            Self::Soa(soa) => soa.name_server.wire_len() + soa.mailbox.wire_len() + 20,
        }
    }
}

impl fmt::Display for RecordData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(ip) => write!(f, "{ip}"),
            Self::Aaaa(ip) => write!(f, "{ip}"),
            Self::Cname(name) | Self::Ptr(name) | Self::Ns(name) => write!(f, "{name}"),
            Self::Srv { weight, port, target } => write!(f, "0 {weight} {port} {target}"),
            Self::Txt(text) => write!(f, "\"{text}\""),
            Self::Soa(soa) => {
                let Soa { name_server, mailbox, serial, refresh, retry, expire, minimum } = soa;
                write!(f, "{name_server} {mailbox} {serial} {refresh} {retry} {expire} {minimum}")
            }
        }
    }
}

/// What a zone says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Soa<'a> {
    /// Its name server: `ns.dns` in the zone.
    pub name_server: Name<'a>,
    /// Its owner's mailbox: `hostmaster` in the zone.
    pub mailbox: Name<'a>,
    /// Which state of the zone it is; of two the later has the greater one, but for wrapping.
    pub serial: u32,
    /// How often other servers should look for a new state, in seconds.
    pub refresh: u32,
    /// How soon they should try again, in seconds.
    pub retry: u32,
    /// How long they may go on without, in seconds.
    pub expire: u32,
    /// How long an answer that there is nothing may be kept, in seconds.
    pub minimum: u32,
}

/// The kinds of record that can be asked for.
#[expect(clippy::exhaustive_enums, reason = "every number is one of them")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// Name servers.
    Ns,
    /// An alias.
    Cname,
    /// A zone.
    Soa,
    /// The name of an address.
    Ptr,
    /// Texts.
    Txt,
    /// IPv6 addresses.
    Aaaa,
    /// Where a service is.
    Srv,
    /// Any other, by its number.
    Other(u16),
}

impl RecordType {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Cname => 5,
            Self::Soa => 6,
            Self::Ptr => 12,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Srv => 33,
            Self::Other(number) => number,
        }
    }
}

impl From<u16> for RecordType {
    fn from(number: u16) -> Self {
        match number {
            1 => Self::A,
            2 => Self::Ns,
            5 => Self::Cname,
            6 => Self::Soa,
            12 => Self::Ptr,
            16 => Self::Txt,
            28 => Self::Aaaa,
            33 => Self::Srv,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for RecordType {
    /// `AAAA`; one that has no name here as `TYPE255`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::A => "A",
            Self::Ns => "NS",
            Self::Cname => "CNAME",
            Self::Soa => "SOA",
            Self::Ptr => "PTR",
            Self::Txt => "TXT",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
            Self::Other(number) => return write!(f, "TYPE{number}"),
        })
    }
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The name exists; without records it has none of the kind that was asked for (NODATA).
    NoError,
    /// The name would not exist, but not all objects are known yet.
    ServFail,
    /// The name does not exist.
    NxDomain,
    /// The question is not for this zone, or not to be answered.
    Refused,
}

impl Code {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::NoError => 0,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::Refused => 5,
        }
    }
}

impl fmt::Display for Code {
    /// `NOERROR`, `SERVFAIL`, `NXDOMAIN`, `REFUSED`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoError => "NOERROR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::Refused => "REFUSED",
        })
    }
}
