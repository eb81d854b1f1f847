//! What the compilers of rules share: names, slots, ranges, and text that is written fast.
//!
//! Names follow from a Service port's identity as kube-proxy forms them, so that the same port has the same name on every node and
//! in every run:
//!
//! ```
//! use svcplane::name::ObjectName;
//! use svcplane::net::Protocol;
//! use svcplane::plan::ServicePortName;
//! use svcplane::rules;
//!
//! let mut service = svcplane::service::Service::new(ObjectName::new("ns1", "svc1")?);
//! let mut port = svcplane::service::ServicePort::new(80);
//! port.name = Some("p80".parse()?);
//! let name = ServicePortName::new(&service, &port);
//! assert_eq!(rules::port_hash(&name), "XPGD46QRK7WJZT7O");
//! assert_eq!(rules::endpoint_hash(&name, "10.180.0.1:80".parse()?), "SXIVWICOYRO3J4NJ");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A name costs one SHA-256 of a short text.

#[cfg(feature = "nftables")]
mod slots;
mod text;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;
use core::time::Duration;

use data_encoding::BASE32_NOPAD;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::net::InterfaceName;
use crate::plan::ServicePortName;

#[cfg(feature = "nftables")]
pub(crate) use slots::Slots;
pub(crate) use text::Text;

/// The name of a Service's port in rules: 16 letters and digits, the beginning of the SHA-256 of `namespace/name:port` and the
/// transport in lower case, in base 32.
pub fn port_hash(name: &ServicePortName) -> String {
    Hashes::of(name).port().as_str().into()
}

/// The name of an endpoint of a Service's port in rules: the same with the endpoint's address and port added.
pub fn endpoint_hash(name: &ServicePortName, addr: SocketAddr) -> String {
    Hashes::of(name).endpoint(addr).as_str().into()
}

/// The names of a port and of its endpoints.
pub(crate) struct Hashes {
    text: Text,
    port: usize,
}

impl Hashes {
    pub(crate) fn of(name: &ServicePortName) -> Self {
        let mut text = Text::default();
        text.display(name).str(name.protocol.as_lower_str());
        let port = text.len();
        Self { text, port }
    }

    pub(crate) fn port(&self) -> Hash {
        Hash::of(&self.text.as_bytes()[..self.port])
    }

    pub(crate) fn endpoint(&mut self, addr: SocketAddr) -> Hash {
        self.text.truncate(self.port);
        self.text.addr(addr);
        Hash::of(self.text.as_bytes())
    }
}

/// The first letters of a text's hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hash([u8; 16]);

impl Hash {
    pub(crate) fn of(text: &[u8]) -> Self {
        let digest = Sha256::digest(text);
        let mut letters = [0; 16];
        // Five bits a letter.
        BASE32_NOPAD.encode_mut(&digest[..10], &mut letters);
        Self(letters)
    }

    #[cfg(feature = "iptables")]
    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        // They are letters and digits.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A timeout as rules have it: not 0, which would be none, and no more than a Service may have.
pub(crate) fn seconds(timeout: Duration) -> u64 {
    timeout.as_secs().clamp(1, 86_400)
}

/// What the names of chains and sets begin with: 1 to 7 upper-case letters and digits, a letter first. The kernel takes names of 28
/// bytes, of which the rest needs 21.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Box<str>);

impl Default for Prefix {
    /// `SVCP`
    fn default() -> Self {
        Self("SVCP".into())
    }
}

impl Prefix {
    /// The prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The text is no prefix of chain names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a prefix of chain names: 1 to 7 upper-case letters and digits, a letter first")]
#[non_exhaustive]
pub struct ParsePrefixError;

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    fn from_str(text: &str) -> Result<Self, ParsePrefixError> {
        let legal = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
        let well_formed = text.starts_with(|c: char| c.is_ascii_uppercase());
        if !well_formed || text.len() > 7 || !text.chars().all(legal) {
            return Err(ParsePrefixError);
        }
        Ok(Self(text.into()))
    }
}

/// The name of a set for `ipset`, which takes 31 bytes.
#[cfg(feature = "iptables")]
pub(crate) fn set_name(prefix: &Prefix, family: crate::net::IpFamily, set: &str) -> String {
    let family = if family == crate::net::IpFamily::V6 { "6-" } else { "" };
    alloc::format!("{prefix}-{family}{set}")
}

/// The names of interfaces that begin with one, with what stands for any rest. No name is longer than 15 bytes: one of 15 is all
/// there is, and tools refuse more.
pub(crate) fn interfaces(prefix: InterfaceName, rest: char) -> String {
    let mut names = String::from(prefix.as_str());
    if names.len() < 15 {
        names.push(rest);
    }
    names
}

/// Those of some ranges that are not within another, sorted: they do not overlap and hold the same addresses.
pub(crate) fn disjoint(ranges: &[IpNet]) -> Vec<IpNet> {
    let mut ranges: Vec<IpNet> = ranges.iter().map(IpNet::trunc).collect();
    // Of two that begin alike the longer prefix is within the shorter, which comes first.
    ranges.sort_unstable_by_key(|net| (net.network(), net.prefix_len()));
    let mut kept: Vec<IpNet> = Vec::new();
    for range in ranges {
        if !kept.last().is_some_and(|last| last.contains(&range)) {
            kept.push(range);
        }
    }
    kept
}

/// As rules have it: an address alone without a length.
#[cfg(feature = "iptables")]
pub(crate) struct Source(pub(crate) IpNet);

#[cfg(feature = "iptables")]
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(net) = self;
        if net.prefix_len() == net.max_prefix_len() {
            write!(f, "{}", net.addr())
        } else {
            write!(f, "{net}")
        }
    }
}
